"""The server in one thread, under a virtual clock: what cannot be seen, or not be timed, over a socket."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from rstmdb_server.auth import Authenticator
from rstmdb_server.permissions import PERMISSIONS
from rstmdb_server.settings import NetworkSettings, Settings, TokenEntry
from rstmdb_storage import CommitPolicy, LogConfig
from tests.in_process import InProcessServer, TestWire, VirtualHost
from tests.simulation.filesystem import SimulatedFileSystem
from tests.wire import ORDER, frame, request

SECRET = TokenEntry(hash="2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b", name="secret")


def started(**options: Any) -> InProcessServer:
    config = LogConfig(segment_bytes=1024 * 1024)
    return InProcessServer(SimulatedFileSystem(), "/data", log_config=config, **options)


def in_threads() -> CommitPolicy:
    """Every commit after the first one runs off the loop."""
    return CommitPolicy(slow_sync_seconds=-1.0, calm_seconds=1e9)


def answers(server: InProcessServer, wire: TestWire) -> list[dict[str, Any]]:
    server.host.settle()
    return [json.loads(payload) for payload in wire.take()]


def furnished(**options: Any) -> tuple[InProcessServer, Callable[..., list[dict[str, Any]]]]:
    """A server with one instance, and a session that asks."""
    server = started(**options)
    session, wire = server.connect()

    def ask(op: str, **params: Any) -> list[dict[str, Any]]:
        server.reactor.receive(session, frame(request(op, params)))
        return answers(server, wire)

    ask("PUT_MACHINE", machine="order", version=1, definition=ORDER)
    ask("CREATE_INSTANCE", machine="order", version=1, instance_id="i")
    return server, ask


@pytest.mark.parametrize("cut", [1, 17, 40, 100, 70_000])
def test_a_large_message_behind_its_authentication(cut: int) -> None:
    server = started(authenticator=Authenticator((SECRET,), True))
    session, wire = server.connect()
    large = frame(request("LIST_MACHINES", {"junk": "x" * 70_000}, "large"))
    stream = frame(request("AUTH", {"token": "secret"}, "auth")) + large
    server.reactor.receive(session, stream[:cut])
    server.reactor.receive(session, stream[cut:])
    assert [a["id"] for a in answers(server, wire)] == ["auth", "large"]
    assert not wire.closed


def test_a_large_message_without_it_ends_the_stream() -> None:
    server = started(authenticator=Authenticator((SECRET,), True))
    session, wire = server.connect()
    large = frame(request("LIST_MACHINES", {"junk": "x" * 70_000}))
    server.reactor.receive(session, frame(request("PING")) * 100 + large)
    assert len(answers(server, wire)) == 100, "what came before is answered"
    assert wire.closed
    assert server.counters.framing_errors == 1


def test_pages_of_the_log_are_read_a_few_at_a_time() -> None:
    server, _ = furnished()
    running = most = 0
    original = server.host.run_blocking

    def counted(
        job: Callable[[], Any], done: Callable[[Any, BaseException | None], None], *, urgent: bool = False
    ) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)

        def ended(result: Any, error: BaseException | None) -> None:
            nonlocal running
            running -= 1
            done(result, error)

        original(job, ended, urgent=urgent)

    server.host.run_blocking = counted  # type: ignore[method-assign]
    server.host.job_seconds = lambda: 1.0
    session, wire = server.connect()
    server.reactor.receive(session, frame(request("WAL_READ", {"from_offset": 0})) * 60)
    server.host.settle()
    assert 1 <= most <= 4
    assert not wire.reading, "what waits is not added to"
    for _ in range(100):
        server.host.advance(1.0)
    assert len(answers(server, wire)) == 60
    assert wire.reading
    assert session.held_bytes == 0


def test_large_answers_are_held_in_bounded_bytes_while_the_disk_is_slow() -> None:
    server, ask = furnished(policy=in_threads())
    ask("CREATE_INSTANCE", machine="order", version=1, instance_id="big", initial_ctx={"t": "x" * 500_000})
    ask("APPLY_EVENT", instance_id="i", event="NOTE")
    server.host.job_seconds = lambda: 5.0
    session, wire = server.connect()
    stream = frame(request("APPLY_EVENT", {"instance_id": "i", "event": "NOTE"}))
    stream += frame(request("GET_INSTANCE", {"instance_id": "big"})) * 200
    server.reactor.receive(session, stream)
    server.host.settle()
    assert session.held_bytes < server.settings.network.write_buffer_bytes_max + 600_000
    assert not wire.reading
    assert not wire.data
    server.host.job_seconds = lambda: 0.0
    for _ in range(10):
        server.host.advance(1.0)
    assert len(answers(server, wire)) == 201
    assert wire.reading


def test_many_backlogs_do_not_make_an_endless_turn() -> None:
    server, _ = furnished()
    sessions = [server.connect() for _ in range(20)]
    request_frames = frame(request("APPLY_EVENT", {"instance_id": "i", "event": "NOTE"})) * 130
    for session, _wire in sessions:
        server.reactor.receive(session, request_frames)
    commits = sum(server.counters.commit_buckets)
    server.host.look_seconds = 0.001
    server.host.settle()
    assert sum(server.counters.commit_buckets) - commits > 10, "a turn of 2 ms is a turn"
    assert all(len(answers(server, wire)) == 130 for _, wire in sessions)


def test_answers_wait_for_a_slow_disk_however_long_after_the_end_of_the_stream() -> None:
    server, ask = furnished(policy=in_threads())
    ask("APPLY_EVENT", instance_id="i", event="NOTE")
    server.host.job_seconds = lambda: 30.0
    session, wire = server.connect()
    server.reactor.receive(session, frame(request("APPLY_EVENT", {"instance_id": "i", "event": "NOTE"})))
    server.reactor.end_of_stream(session)
    for _ in range(29):
        server.host.advance(1.0)
        server.reactor.tick()
        assert not wire.closed
    server.host.advance(2.0)
    assert [a["status"] for a in answers(server, wire)] == ["ok"]
    assert wire.closed


def test_reload_swaps_tokens_limits_and_scope() -> None:
    token = msgspec.structs.replace(SECRET, roles=("admin",), expires_ms=2**52)
    server = started(authenticator=Authenticator((token,), True))
    session, wire = server.connect()

    def ask(op: str, **params: Any) -> dict[str, Any]:
        server.reactor.receive(session, frame(request(op, params)))
        return next(a for a in answers(server, wire) if a["type"] == "response")

    ask("AUTH", token="secret")
    for machine in ("order", "vault"):
        ask("PUT_MACHINE", machine=machine, version=1, definition=ORDER)
        ask("CREATE_INSTANCE", machine=machine, version=1, instance_id=machine[0])
    ask("WATCH_ALL")
    narrowed = msgspec.structs.replace(token, machines=("order",))
    server.reactor.reload(
        Settings(network=NetworkSettings(subscriptions_max=1)), Authenticator((narrowed,), True)
    )
    assert ask("GET_INSTANCE", instance_id="v")["error"]["code"] == "INSTANCE_NOT_FOUND"
    assert ask("WATCH_ALL")["error"]["details"]["reason"] == "SUBSCRIPTIONS_MAX"
    boss, boss_wire = server.connect()
    server.reactor.reload(
        Settings(), Authenticator((narrowed, msgspec.structs.replace(SECRET, hash="0" * 64)), True)
    )
    assert ask("APPLY_EVENT", instance_id="v", event="PAY")["error"]["code"] == "INSTANCE_NOT_FOUND"
    server.reactor.receive(session, frame(request("APPLY_EVENT", {"instance_id": "o", "event": "PAY"})))
    kinds = [a["type"] for a in answers(server, wire)]
    assert kinds == ["response", "event"], "the subscription has lived through both"
    server.reactor.reload(Settings(), Authenticator((msgspec.structs.replace(SECRET, hash="0" * 64),), True))
    [end] = answers(server, wire)
    assert (end["type"], end["reason"]) == ("end", "TOKEN_REVOKED")
    assert ask("LIST_MACHINES")["error"]["details"]["reason"] == "TOKEN_REVOKED"
    server.reactor.disconnect(boss)
    assert not boss_wire.data


def test_operations_that_are_slow_are_counted_and_wrong_tokens_are_not() -> None:
    server, ask = furnished(policy=in_threads())
    ask("APPLY_EVENT", instance_id="i", event="NOTE")
    server.host.job_seconds = lambda: 2.0
    ask("APPLY_EVENT", instance_id="i", event="NOTE")
    server.host.advance(3.0)
    assert server.counters.slow_operations == 1
    guarded = started(authenticator=Authenticator((SECRET,), True))
    session, wire = guarded.connect()
    for _ in range(8):
        guarded.reactor.receive(session, frame(request("AUTH", {"token": "wrong"})))
        guarded.host.advance(3.0)
    assert len(answers(guarded, wire)) == 8
    assert guarded.counters.slow_operations == 0


def test_every_operation_refuses_params_that_are_no_object() -> None:
    server, _ = furnished()
    for operation in PERMISSIONS:
        wrong: tuple[Any, ...] = ([], "x", 1, True)
        for params in wrong:
            session, wire = server.connect()
            server.reactor.receive(session, frame(request(operation, params)))
            [answer] = answers(server, wire)
            assert answer["error"]["code"] == "BAD_REQUEST", operation
            assert not wire.closed
            server.reactor.disconnect(session)


def test_sessions_leave_nothing_behind() -> None:
    server, _ = furnished()
    for number in range(300):
        session, _ = server.connect()
        server.reactor.receive(
            session, frame(request("WATCH_ALL", {"from": "oldest"})) * 3 + frame(b"x")[: number % 19]
        )
        if number % 2:
            server.host.settle()
        server.reactor.disconnect(session)
    server.host.settle()
    assert len(server.reactor.sessions) == 1
    assert len(server.hub) == 0
    assert server.counters.connections_active == 1


def test_an_unknown_operation_is_counted_as_one() -> None:
    server, ask = furnished()
    ask("NOTHING")
    assert server.counters.requests[0] == 1
    assert isinstance(server.host, VirtualHost)
