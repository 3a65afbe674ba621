"""The outbox by itself: what leaves when, in which order, and what counts as waiting."""

import json
from typing import Any

import pytest

from rstmdb_core import PutMachine
from rstmdb_protocol import Framing
from rstmdb_server.answers import Deferred, bad_request
from rstmdb_server.counters import OPERATION_INDEX
from rstmdb_server.outbox import DEFERRED_RESERVE_BYTES, LARGE_ANSWER_BYTES, Outbox
from rstmdb_server.session import Phase, Session
from rstmdb_server.settings import LoggingSettings, NetworkSettings, Settings
from rstmdb_storage import LogConfig
from tests.in_process import InProcessServer, TestWire
from tests.simulation.filesystem import SimulatedFileSystem
from tests.wire import ORDER

SMALL = LogConfig(segment_bytes=256 << 10, reserve_bytes=0, fill=False)
PING = OPERATION_INDEX["PING"]


class Fixture:
    """An outbox on a real database; nothing of the reactor."""

    def __init__(self) -> None:
        server = InProcessServer(SimulatedFileSystem(), "/data", log_config=SMALL)
        self.host = server.host
        self.database = server.database
        self.counters = server.counters
        self.turns: list[float] = []
        self.with_room: list[Session] = []
        self.outbox = Outbox(
            server.services,
            open_turn=self.turns.append,
            on_room=lambda session, _now: self.with_room.append(session),
        )
        self.version = 0

    def session(self) -> tuple[Session, TestWire]:
        wire = TestWire()
        return Session(wire, "peer", self.host.monotonic()), wire

    def append(self) -> None:
        """Change something, so that what is decided from now on has a later hold."""
        self.version += 1
        definition = json.dumps(ORDER).encode()
        command = PutMachine(machine="m", version=self.version, definition=definition, checksum=None)
        assert isinstance(self.database.execute(command), bytes)

    def commit(self) -> None:
        log = self.database.log
        commit = log.begin_commit(self.host.monotonic())
        assert commit is not None
        commit.run()
        self.outbox.release(log.finish_commit(commit))

    def answer(self, session: Session, request_id: str, result: bytes = b"{}") -> None:
        now = self.host.monotonic()
        self.outbox.answer(session, request_id, Framing.FRAME, PING, now, result)

    def defer(self, session: Session, request_id: str, deferred: Deferred) -> None:
        self.outbox.defer(session, request_id, Framing.FRAME, PING, self.host.monotonic(), deferred)


@pytest.fixture
def it() -> Fixture:
    return Fixture()


def ids(wire: TestWire) -> list[str]:
    return [json.loads(payload)["id"] for payload in wire.take()]


def test_an_answer_leaves_when_its_hold_is_durable_and_not_before(it: Fixture) -> None:
    (reader, to_reader), (writer, to_writer) = it.session(), it.session()
    it.answer(reader, "early")
    it.append()
    it.answer(writer, "write")
    it.answer(reader, "late")
    it.outbox.flush()
    assert (ids(to_reader), ids(to_writer)) == (["early"], []), "a read that saw nothing unsynced waits not"
    it.outbox.flush()
    assert not to_reader.data
    it.commit()
    assert (ids(to_reader), ids(to_writer)) == (["late"], ["write"])
    assert not it.database.unpublished
    assert sum(it.counters.requests) == 3


def test_a_commit_lets_go_what_was_appended_before_it(it: Fixture) -> None:
    session, wire = it.session()
    it.append()
    it.answer(session, "first")
    commit = it.database.log.begin_commit(it.host.monotonic())
    assert commit is not None
    it.append()
    it.answer(session, "second")
    commit.run()
    it.outbox.release(it.database.log.finish_commit(commit))
    assert ids(wire) == ["first"]
    assert len(it.database.unpublished) == 1
    it.commit()
    assert ids(wire) == ["second"]


def test_answers_wait_behind_one_that_is_to_come(it: Fixture) -> None:
    session, wire = it.session()
    deferred = Deferred()
    it.defer(session, "slow", deferred)
    it.answer(session, "quick")
    it.outbox.flush()
    assert not wire.data
    assert not it.turns
    deferred.complete(bad_request("no"))
    assert it.turns == [it.host.now], "it asks for a turn"
    it.outbox.flush()
    assert ids(wire) == ["slow", "quick"]


def test_a_deferred_answer_holds_what_was_appended_when_it_came(it: Fixture) -> None:
    session, wire = it.session()
    deferred = Deferred()
    it.defer(session, "slow", deferred)
    it.append()
    deferred.complete(b"{}")
    it.outbox.flush()
    assert not wire.data
    it.commit()
    assert ids(wire) == ["slow"]


def test_an_answer_that_comes_after_the_end_of_its_session_asks_for_nothing(it: Fixture) -> None:
    session, wire = it.session()
    deferred = Deferred()
    it.defer(session, "slow", deferred)
    session.closed = True
    deferred.complete(b"{}")
    it.outbox.flush()
    assert not it.turns
    assert not wire.data


def test_only_large_answers_and_those_to_come_count_as_held_bytes(it: Fixture) -> None:
    session, _ = it.session()
    deferred = Deferred()
    it.append()
    it.answer(session, "small", b'"%b"' % (b"x" * 100))
    assert session.held_bytes == 0
    it.defer(session, "slow", deferred)
    it.answer(session, "large", b'"%b"' % (b"x" * LARGE_ANSWER_BYTES))
    large = len(session.out[-1].frame)
    assert session.held_bytes == DEFERRED_RESERVE_BYTES + large
    it.commit()
    assert session.held_bytes == DEFERRED_RESERVE_BYTES + large, "the small one has left"
    deferred.complete(b"{}")
    it.outbox.flush()
    assert session.held_bytes == 0


@pytest.mark.parametrize("limits", [{"requests_in_flight_max": 2}, {"write_buffer_bytes_max": 70_000}])
def test_a_session_has_room_again_when_enough_has_left(it: Fixture, limits: dict[str, Any]) -> None:
    it.outbox.limit(Settings(network=NetworkSettings(**limits)))
    session, _ = it.session()
    session.inbox.append((b"waits", Framing.FRAME))
    large = b'"%b"' % (b"x" * 40_000)
    it.answer(session, "1", large)
    it.append()
    it.answer(session, "2", large)
    it.append()
    it.answer(session, "3", large)
    it.outbox.flush()
    assert not it.with_room, "two are left"
    session.writing_paused = True
    it.commit()
    assert not it.with_room, "its peer does not read"
    session.writing_paused = False
    it.outbox.touch(session)
    it.outbox.flush()
    assert it.with_room == [session]


def test_callbacks_wait_for_their_sequence(it: Fixture) -> None:
    called = []
    it.outbox.after_durable(it.database.appended_sequence, lambda: called.append("now"))
    assert called == ["now"]
    it.append()
    it.outbox.after_durable(it.database.appended_sequence, lambda: called.append("first"))
    it.outbox.after_durable(it.database.appended_sequence + 1, lambda: called.append("second"))
    it.commit()
    assert called == ["now", "first"]
    it.append()
    it.commit()
    assert called == ["now", "first", "second"]


def test_events_go_behind_the_answers(it: Fixture) -> None:
    session, wire = it.session()
    session.events.append(b"RAW-EVENT")
    session.events_bytes = 9
    it.answer(session, "1")
    it.outbox.flush()
    assert wire.data.endswith(b"RAW-EVENT")
    assert wire.data.startswith(b"RCPX")
    assert not session.events
    assert session.events_bytes == 0


def test_a_closing_session_closes_with_its_last_answer(it: Fixture) -> None:
    session, wire = it.session()
    it.append()
    it.answer(session, "1")
    session.phase = Phase.CLOSING
    it.outbox.flush()
    assert not wire.closed
    it.commit()
    assert ids(wire) == ["1"]
    assert wire.closed


def test_refuse_all_tells_everyone_the_same(it: Fixture) -> None:
    session, wire = it.session()
    it.answer(session, "1")
    it.defer(session, "2", Deferred())
    session.events.append(b"dropped")
    it.outbox.refuse_all(session, bad_request("it is over"))
    answers = [json.loads(payload) for payload in wire.take()]
    assert [a["id"] for a in answers] == ["1", "2"]
    assert {a["error"]["message"] for a in answers} == {"it is over"}
    it.outbox.flush()
    assert not wire.data


def test_slow_operations_are_counted_from_the_limit_on(it: Fixture) -> None:
    it.outbox.limit(Settings(logging=LoggingSettings(slow_operation_ms=500)))
    session, _ = it.session()
    for seconds in (0.4, 0.6):
        it.answer(session, "1")
        it.host.now += seconds
        it.outbox.flush()
    assert it.counters.slow_operations == 1
