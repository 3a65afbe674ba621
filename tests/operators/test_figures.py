"""Figures of a real server tell the truth: what was done is what is counted, and what ended is gone."""

import contextlib
import re
import socket
import urllib.request

import pytest


@pytest.fixture
def figures_of():
    def figures_of(server):
        with urllib.request.urlopen(f"{server.url}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        return {
            name: float(value)
            for name, value in (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        }

    return figures_of


def requests(figures, operation):
    counted = figures.get(f'rstmdb_requests_total{{operation="{operation}"}}', 0)
    assert counted == figures.get(f'rstmdb_request_duration_seconds_count{{operation="{operation}"}}', 0)
    return counted


def test_what_was_done_is_what_is_counted(start, session_of, busy, figures_of):
    server = start()
    before = figures_of(server)
    assert before["rstmdb_ready"] == 1
    assert before["rstmdb_wal_entries"] == 0
    call = session_of(server)
    busy(call, orders=30)
    after = figures_of(server)
    assert requests(after, "CREATE_INSTANCE") == 30
    assert requests(after, "APPLY_EVENT") == 32
    assert requests(after, "WATCH_ALL") == requests(after, "WATCH_INSTANCE") == 1, "watches are counted, too"
    assert after['rstmdb_errors_total{code="INVALID_TRANSITION"}'] == 1
    assert after['rstmdb_errors_total{code="INSTANCE_NOT_FOUND"}'] == 1
    assert after["rstmdb_connections_total"] == after["rstmdb_connections_active"] == 1
    assert after['rstmdb_subscriptions_active{type="all"}'] == 1
    assert after['rstmdb_subscriptions_active{type="instance"}'] == 1
    # WATCH_ALL hears 31 changes, WATCH_INSTANCE the last of them.
    assert after['rstmdb_events_forwarded_total{type="all"}'] == 31
    assert after['rstmdb_events_forwarded_total{type="instance"}'] == 1
    assert after["rstmdb_instances_total"] == 30
    assert after["rstmdb_machines_total"] == 1
    changes = 1 + 30 + 31
    assert after["rstmdb_wal_entries"] == after["rstmdb_durable_sequence"] == changes
    assert after["rstmdb_commit_records_sum"] == changes
    assert 0 < after["rstmdb_commit_duration_seconds_count"] <= changes
    assert after["rstmdb_wal_fsyncs_total"] >= after["rstmdb_commit_duration_seconds_count"]
    assert after["rstmdb_wal_bytes_written_total"] > before["rstmdb_wal_bytes_written_total"]
    assert after["rstmdb_wal_size_bytes"] > 0
    assert after["rstmdb_wal_segments"] >= 1
    assert after["rstmdb_wal_bytes_read_total"] > 0, "WAL_READ reads"
    assert after["rstmdb_idempotency_keys"] == 1
    assert after["rstmdb_idempotency_bytes"] > 0
    assert after["rstmdb_watch_lag_effects"] == 0
    assert after["rstmdb_disk_free_bytes"] > 0
    call("COMPACT", force_snapshot=True)
    compacted = figures_of(server)
    assert compacted["rstmdb_snapshots_total"] == 1
    assert compacted["rstmdb_snapshot_sequence"] == changes
    assert compacted["rstmdb_snapshot_size_bytes"] > 0
    assert compacted["rstmdb_snapshot_timestamp_seconds"] > compacted["process_start_time_seconds"] - 1


def test_what_ended_is_gone(start, busy, figures_of):
    server = start()
    call = server.connect()
    busy(call, orders=2)
    call.close()
    with server.connect()._socket as lost:  # gone without a word
        lost.sendall(b"RCPX")
    figures = figures_of(server)
    # The second one has to be accepted before it can be gone.
    while figures["rstmdb_connections_active"] or figures["rstmdb_connections_total"] < 2:
        figures = figures_of(server)
    assert figures["rstmdb_connections_total"] == 2
    assert figures['rstmdb_subscriptions_active{type="all"}'] == 0
    assert figures['rstmdb_subscriptions_active{type="instance"}'] == 0


def test_figures_survive_a_restart_where_they_describe_the_data(start, session_of, busy, figures_of):
    server = start()
    busy(session_of(server), orders=5)
    before = figures_of(server)
    assert server.stop() == 0
    after = figures_of(start())
    for name in ("instances_total", "machines_total", "wal_entries", "durable_sequence", "idempotency_keys"):
        assert after[f"rstmdb_{name}"] == before[f"rstmdb_{name}"], name
    # The clean close left a mark in the log.
    size = before["rstmdb_wal_size_bytes"]
    assert size <= after["rstmdb_wal_size_bytes"] <= size + 1024
    assert not any(name.startswith("rstmdb_requests_total{") for name in after), "counters start again"
    assert after["rstmdb_recovery_seconds"] > 0


def test_who_was_turned_away_is_counted(start, session_of, figures_of):
    server = start(environ={"RSTMDB_MAX_CONNECTIONS": "2", "RSTMDB_AUTH_REQUIRED": "1",
                            "RSTMDB_AUTH_TOKEN_HASH": "0" * 64})  # fmt: skip
    call = session_of(server)
    call.answer("AUTH", token="wrong")
    call.answer("NO_SUCH_OPERATION")
    with contextlib.closing(socket.create_connection(("127.0.0.1", server.port), timeout=10)) as broken:
        broken.sendall(b"RCPX" + b"\xff" * 60)
        assert broken.recv(100) == b""
    session_of(server)
    extra = session_of(server)
    refused = extra.answer("PING")
    assert refused["error"]["code"] == "RATE_LIMITED"
    figures = figures_of(server)
    assert figures["rstmdb_auth_failures_total"] == 1
    assert figures["rstmdb_framing_errors_total"] == 1
    assert figures["rstmdb_requests_unknown_total"] >= 1
    assert figures['rstmdb_connections_refused_total{reason="limit"}'] == 1
    assert figures["rstmdb_connections_total"] == 3, "who was refused was not accepted"


def test_slow_operations_are_counted_and_told(start, session_of, figures_of):
    server = start(environ={"RSTMDB_LOGGING_SLOW_OPERATION_MS": "1"})
    call = session_of(server)
    call(
        "PUT_MACHINE", machine="m", version=1, definition={"states": ["a"], "initial": "a", "transitions": []}
    )
    documents = [{"text": "x" * 100_000, "number": number} for number in range(8)]
    operations = [
        {"op": "CREATE_INSTANCE", "params": {"machine": "m", "version": 1, "initial_ctx": document}}
        for document in documents
    ]
    call("BATCH", mode="atomic", ops=operations)
    said = server.wait_for(r"slow operation.*BATCH|BATCH.*slow operation").string
    assert re.search(r'"ms":\d', said)
    assert figures_of(server)["rstmdb_slow_operations_total"] >= 1
