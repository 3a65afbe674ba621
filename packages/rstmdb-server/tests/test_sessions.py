"""All sessions: who may come, how long one may stay, how it goes."""

import json
from collections.abc import Iterator
from itertools import pairwise

import pytest

from rstmdb_protocol import Framing
from rstmdb_server.answers import Held
from rstmdb_server.auth import Authenticator
from rstmdb_server.session import Phase, Session
from rstmdb_server.sessions import (
    CLOSE_GRACE_SECONDS,
    LOOKED_AT_MIN,
    REFUSED_SESSIONS_MAX,
    ROUND_CALLS,
    Sessions,
)
from rstmdb_server.settings import NetworkSettings, Settings
from rstmdb_storage import LogConfig
from tests.in_process import InProcessServer, TestWire
from tests.simulation.filesystem import SimulatedFileSystem
from tests.wire import frame, request

SMALL = LogConfig(segment_bytes=256 << 10, reserve_bytes=0, fill=False)
NETWORK = NetworkSettings(max_connections=2, handshake_timeout_secs=5, idle_timeout_secs=60)


class Opened:
    """The sessions of a server that requires authentication; ``touched`` are to leave with this turn."""

    def __init__(self) -> None:
        self.server = InProcessServer(
            SimulatedFileSystem(),
            "/data",
            log_config=SMALL,
            settings=Settings(network=NETWORK),
            authenticator=Authenticator((), True),
        )
        self.counters = self.server.counters
        self.touched: list[Session] = []
        self.sessions = Sessions(self.server.services, touch=self.touched.append)

    def open(self) -> tuple[Session, TestWire]:
        wire = TestWire()
        session = self.sessions.open(wire, "peer")
        assert session is not None
        return session, wire

    def later(self, seconds: float) -> None:
        self.server.host.now += seconds
        self.sessions.check_deadlines(self.server.host.now, self.server.host.wall_ms())


@pytest.fixture
def it() -> Iterator[Opened]:
    opened = Opened()
    yield opened
    for session in opened.sessions:
        opened.sessions.remove(session)
    assert opened.counters.connections_active == 0
    assert len(opened.sessions) == 0


def test_those_over_the_limit_are_told_and_beyond_that_nobody(it: Opened) -> None:
    served = [it.open()[0] for _ in range(2)]
    refused = [it.open()[0] for _ in range(REFUSED_SESSIONS_MAX)]
    assert [s.phase for s in served] == [Phase.NEW] * 2
    assert {s.phase for s in refused} == {Phase.REFUSED}
    assert it.sessions.open(TestWire(), "peer") is None
    assert it.counters.connections_refused == {"limit": REFUSED_SESSIONS_MAX + 1}
    assert it.counters.connections_active == 2
    it.sessions.remove(refused[0])
    assert it.open()[0].phase is Phase.REFUSED, "the place of a refused one is no place"
    it.sessions.remove(served[0])
    assert it.open()[0].phase is Phase.NEW


def test_finish_waits_for_what_was_received(it: Opened) -> None:
    session, wire = it.open()
    session.inbox.append((b"{}", Framing.LINE))
    it.sessions.finish(session)
    assert not wire.reading
    assert session.end_of_stream
    assert session.phase is Phase.NEW
    assert not it.touched
    session.inbox.clear()
    it.sessions.finish(session)
    assert session.phase is Phase.CLOSING
    assert it.touched == [session], "whoever flushes it closes it"


def test_lost_framing_is_counted_once(it: Opened) -> None:
    session, _ = it.open()
    session.decoder.feed(b"nonsense")
    it.sessions.framing_lost(session)
    it.sessions.framing_lost(session)
    assert it.counters.framing_errors == 1
    assert session.phase is Phase.CLOSING


def test_handshake_deadline(it: Opened) -> None:
    _, wire = it.open()
    it.later(NETWORK.handshake_timeout_secs)
    assert not wire.closed
    it.later(0.1)
    assert wire.closed


def test_idle_sessions_end_and_those_that_wait_for_an_answer_do_not(it: Opened) -> None:
    (idle, _), (busy, _) = it.open(), it.open()
    for session in (idle, busy):
        session.phase = Phase.READY
    busy.out.append(Held(1, b"", "1", Framing.FRAME, 0, 0.0))
    it.later(NETWORK.idle_timeout_secs + 0.5)
    assert (idle.phase, busy.phase) == (Phase.CLOSING, Phase.READY)


def test_a_peer_that_does_not_read_its_last_answers_is_cut_off(it: Opened) -> None:
    session, wire = it.open()
    it.sessions.close_after_answers(session)
    it.later(CLOSE_GRACE_SECONDS)
    assert not wire.closed
    it.later(0.1)
    assert wire.closed


def test_drained_when_the_last_one_has_gone(it: Opened) -> None:
    drained: list[bool] = []
    (first, _), (second, _) = it.open(), it.open()
    it.sessions.drain(lambda: drained.append(True))
    assert {first.phase, second.phase} == {Phase.CLOSING}
    it.sessions.remove(first)
    late, _ = it.open()
    assert late.phase is Phase.CLOSING
    it.sessions.remove(second)
    assert not drained
    it.sessions.remove(late)
    assert drained == [True]


def test_draining_nobody_is_done_at_once(it: Opened) -> None:
    drained: list[bool] = []
    it.sessions.drain(lambda: drained.append(True))
    assert drained == [True]


def test_a_refused_session_gets_one_answer_and_its_end() -> None:
    settings = Settings(network=NetworkSettings(max_connections=1))
    server = InProcessServer(SimulatedFileSystem(), "/data", log_config=SMALL, settings=settings)
    server.connect()
    session, wire = server.connect()
    server.reactor.receive(session, frame(request("PING")) * 2)
    server.host.settle()
    [answer] = [json.loads(payload) for payload in wire.take()]
    assert answer["error"]["code"] == "RATE_LIMITED"
    assert answer["error"]["details"] == {"reason": "MAX_CONNECTIONS", "limit": 1}
    assert wire.closed


def test_of_very_many_sessions_a_portion_is_looked_at_each_time() -> None:
    """All of ten thousand were, twenty times a second."""
    server = InProcessServer(
        SimulatedFileSystem(),
        "/data",
        log_config=SMALL,
        settings=Settings(network=NetworkSettings(max_connections=10_000, handshake_timeout_secs=5)),
        authenticator=Authenticator((), True),
    )
    sessions = Sessions(server.services, touch=lambda _: None)
    wires = [TestWire() for _ in range(3_000)]
    opened = [sessions.open(wire, "peer") for wire in wires]
    server.host.now += 6
    cut: list[int] = []
    for call in range(ROUND_CALLS):
        sessions.check_deadlines(server.host.now, server.host.wall_ms())
        cut.append(sum(wire.closed for wire in wires))
        if call == 3:
            gone = opened[0]
            assert gone is not None
            sessions.remove(gone)
    steps = [after - before for before, after in pairwise([0, *cut])]
    assert max(steps) <= LOOKED_AT_MIN
    assert cut[-1] == 3_000 - 1
