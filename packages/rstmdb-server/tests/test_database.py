"""The database: append before apply, refusals that leave nothing behind, recovery from log and snapshots."""

import json
from typing import Any

import pytest

from rstmdb_core import ApplyEvent, CreateInstance, EngineSettings, PutMachine, Refusal, digest
from rstmdb_server.database import Database, open_database
from rstmdb_storage import CorruptionError, FsyncPolicy, LockedError, LogConfig
from tests.in_process import InProcessServer, VirtualHost
from tests.simulation.filesystem import Disk, SimulatedFileSystem
from tests.wire import ORDER, frame, request

SMALL = LogConfig(segment_bytes=1 << 20, reserve_bytes=0, fill=False)


def opened(fs: SimulatedFileSystem, *, host: VirtualHost | None = None, **options: Any) -> Database:
    return open_database(
        host or VirtualHost(), fs, "/data", log_config=SMALL, engine_settings=EngineSettings(), **options
    )


def ok(database: Database, command: Any) -> dict[str, Any]:
    outcome = database.execute(command)
    assert isinstance(outcome, bytes), outcome
    result: dict[str, Any] = json.loads(outcome)
    return result


def commit(database: Database) -> None:
    group = database.log.begin_commit(0.0)
    assert group is not None
    group.run()
    database.log.finish_commit(group)
    database.unpublished.clear()


def furnished(fs: SimulatedFileSystem) -> Database:
    database = opened(fs)
    ok(database, PutMachine("order", 1, json.dumps(ORDER).encode()))
    ok(database, CreateInstance("i", "order", 1))
    commit(database)
    return database


def test_a_new_directory_begins_at_one() -> None:
    database = opened(SimulatedFileSystem())
    assert (database.appended_sequence, database.durable_sequence) == (0, 0)
    assert database.recovered.records == 0
    assert database.recovered.log.created


def test_what_was_executed_is_read_before_it_is_durable() -> None:
    database = furnished(SimulatedFileSystem())
    first = ok(database, ApplyEvent("i", "PAY"))
    assert first["wal_offset"] == database.appended_sequence == 3
    assert database.durable_sequence == 2, "its answer is held"
    refusal = database.execute(ApplyEvent("i", "PAY"))
    assert isinstance(refusal, Refusal)
    assert refusal.code == "INVALID_TRANSITION", "a later command sees it"
    assert [record.first_sequence for record in database.unpublished] == [3]


def test_a_refusal_leaves_nothing_behind() -> None:
    database = furnished(SimulatedFileSystem())
    assert isinstance(database.execute(ApplyEvent("nobody", "PAY")), Refusal)
    assert (database.appended_sequence, database.log.pending_records, len(database.unpublished)) == (2, 0, 0)


def test_a_full_disk_refuses_before_anything_happens() -> None:
    database = furnished(SimulatedFileSystem(Disk(capacity=4096)))
    payload = json.dumps({"junk": "x" * 100_000}).encode()
    created: list[str] = []
    while True:
        instance_id = f"i-{len(created)}"
        outcome = database.execute(CreateInstance(instance_id, "order", 1, payload))
        if isinstance(outcome, Refusal):
            break
        created.append(instance_id)
        commit(database)
    assert outcome.code == "WAL_IO_ERROR"
    assert outcome.details == {"reason": "DISK_FULL", "outcome": "not_applied"}
    assert database.state.next_sequence == database.log.next_sequence == 3 + len(created)
    assert instance_id not in database.state.instances
    assert not database.unpublished


def test_nothing_is_written_after_a_failure() -> None:
    database = furnished(SimulatedFileSystem())
    database.poison("the disk is gone")
    refusal = database.execute(ApplyEvent("i", "PAY"))
    assert isinstance(refusal, Refusal)
    assert refusal.details == {"reason": "SYNC_FAILED", "outcome": "unknown"}
    assert database.log.pending_records == 0


def test_reopening_replays_the_log() -> None:
    fs = SimulatedFileSystem()
    database = furnished(fs)
    before = digest(database.state)
    database.close()
    again = opened(fs)
    assert digest(again.state) == before
    assert (again.recovered.records, again.recovered.effects, again.recovered.snapshot) == (2, 2, None)
    assert again.recovered.log.clean


def test_one_process_a_directory_and_a_failed_open_holds_nothing() -> None:
    fs = SimulatedFileSystem()
    database = furnished(fs)
    with pytest.raises(LockedError):
        opened(fs)
    database.close()
    (segment,) = [path for path in fs.disk.files() if path.endswith("1.wal")]
    fs.disk.flip_bit(segment, 8 * 20)
    for _ in range(2):  # the second time it is not "in use"
        with pytest.raises(CorruptionError):
            opened(fs)


def test_a_log_that_begins_after_every_snapshot_is_refused() -> None:
    fs = SimulatedFileSystem()
    server = InProcessServer(
        fs, "/data", log_config=LogConfig(segment_bytes=64 << 10, reserve_bytes=0, fill=False)
    )
    session, _ = server.connect()
    server.reactor.receive(session, frame(request("PUT_MACHINE", machine())))
    for number in range(200):
        create = {
            "machine": "order",
            "version": 1,
            "instance_id": f"i-{number}",
            "initial_ctx": {"x": "y" * 1000},
        }
        server.reactor.receive(session, frame(request("CREATE_INSTANCE", create)))
        server.host.settle()
    segments = sorted(path for path in fs.disk.files() if path.endswith(".wal") and "/wal/0" in path)
    assert len(segments) > 2
    server.database.close()
    fs.unlink(segments[0])
    with pytest.raises(CorruptionError):
        opened(fs)


def machine() -> dict[str, Any]:
    return {"machine": "order", "version": 1, "definition": ORDER}


def test_progress_is_told_in_words() -> None:
    fs = SimulatedFileSystem()
    furnished(fs).close()
    told: list[str] = []
    opened(fs, on_progress=told.append).close()
    assert told
    for text in told:
        assert text.startswith(("checked ", "loaded ", "replayed ")), text
        assert "(" not in text


def test_loading_a_large_snapshot_is_told_and_can_be_stopped() -> None:
    """It may take longer than a service manager waits for a sign of life."""
    fs = SimulatedFileSystem()
    server = InProcessServer(fs, "/data", log_config=SMALL)
    session, _ = server.connect()
    server.reactor.receive(session, frame(request("PUT_MACHINE", machine())))
    for number in range(1000):
        create = {"machine": "order", "version": 1, "initial_ctx": {"x": f"{number} {'y' * 1000}"}}
        server.reactor.receive(session, frame(request("CREATE_INSTANCE", create)))
        server.host.settle()
    server.reactor.receive(session, frame(request("COMPACT")))
    server.host.settle()
    server.database.close()
    told: list[str] = []
    opened(fs, on_progress=told.append).close()
    assert sum(text.startswith("loaded ") for text in told) > 1, told


def test_a_recovery_can_be_stopped() -> None:
    class Enough(Exception):  # noqa: N818 - not an error
        pass

    def stop(_: str) -> None:
        raise Enough

    fs = SimulatedFileSystem()
    furnished(fs).close()
    with pytest.raises(Enough):
        opened(fs, on_progress=stop)
    opened(fs).close()


def test_a_relaxed_policy_jumps_after_an_unclean_end() -> None:
    fs = SimulatedFileSystem()
    relaxed = LogConfig(segment_bytes=1 << 20, reserve_bytes=0, fill=False, fsync=FsyncPolicy.never())
    database = open_database(VirtualHost(), fs, "/data", log_config=relaxed, engine_settings=EngineSettings())
    ok(database, PutMachine("order", 1, json.dumps(ORDER).encode()))
    commit(database)
    again = open_database(
        VirtualHost(),
        SimulatedFileSystem(fs.disk.after_kill()),
        "/data",
        log_config=relaxed,
        engine_settings=EngineSettings(),
    )
    assert again.state.next_sequence == again.log.next_sequence == 2 + again.recovered.log.jumped
    assert again.recovered.log.jumped > 0


def test_a_record_that_cannot_be_applied_ends_the_process_and_is_never_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = Disk()
    server = InProcessServer(SimulatedFileSystem(disk), "/data", log_config=SMALL)
    session, wire = server.connect()
    server.reactor.receive(
        session, frame(request("PUT_MACHINE", {"machine": "order", "version": 1, "definition": ORDER}))
    )
    create = request("CREATE_INSTANCE", {"machine": "order", "version": 1, "instance_id": "i"})
    server.reactor.receive(session, frame(create))
    server.host.settle()
    wire.take()

    def fails(*_: object) -> None:
        raise RuntimeError("planted")

    with monkeypatch.context() as patched:
        patched.setattr("rstmdb_server.database.apply", fails)
        server.reactor.receive(session, frame(request("APPLY_EVENT", {"instance_id": "i", "event": "PAY"})))
        server.host.settle()
    (answer,) = map(json.loads, wire.take())
    assert answer["error"]["details"] == {"reason": "SYNC_FAILED", "outcome": "unknown"}
    assert server.host.failure is not None
    assert wire.closed
    after = opened(SimulatedFileSystem(disk.after_kill()))
    assert after.appended_sequence == 2
