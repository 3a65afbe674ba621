"""Watches: the hand-over between reading the log and being fed, without gap or repeat, for the slowest."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from rstmdb_server.catch_up import PAGE_BYTES, READERS_OPEN_MAX, READS_AT_ONCE, RECENT_BYTES_MAX
from rstmdb_server.session import Session
from rstmdb_server.settings import CompactionSettings, RetentionSettings, Settings
from rstmdb_server.subscription import Phase
from rstmdb_server.watch_filter import FILTER_BYTES_MAX
from rstmdb_storage import CommitPolicy, LogConfig
from tests.in_process import InProcessServer, TestWire, VirtualHost
from tests.simulation.filesystem import SimulatedFileSystem
from tests.trimming_host import TrimmingHost
from tests.wire import ORDER, frame, request

TURNS = {"states": ["on"], "initial": "on", "transitions": [{"from": "on", "event": "TURN", "to": "on"}]}
SMALL = Settings(
    compaction=CompactionSettings(enabled=False), retention=RetentionSettings(history_mb=0, history_secs=0)
)


class CountingHost(VirtualHost):
    """Counts the jobs that are under way."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs = 0

    def run_blocking(
        self,
        job: Callable[[], Any],
        done: Callable[[Any, BaseException | None], None],
        *,
        urgent: bool = False,
    ) -> None:
        def counted(result: Any, error: BaseException | None) -> None:
            self.jobs -= 1
            done(result, error)

        self.jobs += 1
        super().run_blocking(job, counted, urgent=urgent)


class Watched:
    """A server with an instance that turns, and sessions that watch it."""

    def __init__(self, *, policy: CommitPolicy | None = None, host: VirtualHost | None = None) -> None:
        self.host = host or VirtualHost()
        self.fs = SimulatedFileSystem()
        self.server = InProcessServer(
            self.fs,
            "/data",
            host=self.host,
            settings=SMALL,
            policy=policy,
            log_config=LogConfig(segment_bytes=256 << 10, reserve_bytes=0, fill=False),
        )
        self.worker = self.server.connect()
        self.ask(self.worker, "PUT_MACHINE", machine="turns", version=1, definition=TURNS)
        self.ask(self.worker, "PUT_MACHINE", machine="order", version=1, definition=ORDER)
        self.ask(self.worker, "CREATE_INSTANCE", machine="turns", version=1, instance_id="i")
        self.first = self.server.database.appended_sequence + 1

    def send(self, session: tuple[Session, TestWire], op: str, **params: Any) -> None:
        self.server.reactor.receive(session[0], frame(request(op, params)))

    def ask(self, session: tuple[Session, TestWire], op: str, **params: Any) -> list[dict[str, Any]]:
        self.send(session, op, **params)
        self.host.settle()
        return self.messages(session)

    def messages(self, session: tuple[Session, TestWire]) -> list[dict[str, Any]]:
        return [json.loads(payload) for payload in session[1].take()]

    def turn(self, times: int = 1, *, junk: int = 0, settle: bool = True) -> None:
        for _ in range(times):
            self.send(self.worker, "APPLY_EVENT", instance_id="i", event="TURN", payload={"junk": "x" * junk})
            if settle:
                self.host.settle()
        self.worker[1].take()

    def offsets(self, session: tuple[Session, TestWire]) -> list[int]:
        return [message["wal_offset"] for message in self.messages(session) if message["type"] == "event"]

    def watch(self, op: str = "WATCH_ALL", **params: Any) -> tuple[tuple[Session, TestWire], list[int]]:
        """Watch in a new session; returns it and what came with the answer."""
        session = self.server.connect()
        self.send(session, op, **params)
        self.host.settle()
        answer, *events = self.messages(session)
        assert answer["status"] == "ok", answer
        return session, [event["wal_offset"] for event in events]

    def phase(self, session: tuple[Session, TestWire]) -> Phase:
        (subscription,) = session[0].subscriptions.values()
        return subscription.phase


def test_live_only_is_fed_from_memory() -> None:
    it = Watched()
    it.turn(3)
    reads = it.server.database.log.statistics.reads
    watcher, at_once = it.watch()
    assert at_once == []
    assert it.phase(watcher) is Phase.LIVE
    it.turn(2)
    assert it.offsets(watcher) == [it.first + 3, it.first + 4]
    assert it.server.database.log.statistics.reads == reads


@pytest.mark.parametrize(("op", "params"), [("WATCH_ALL", {}), ("WATCH_INSTANCE", {"instance_id": "i"})])
def test_from_an_offset_the_past_comes_first_and_then_the_present(op: str, params: dict[str, Any]) -> None:
    it = Watched()
    it.turn(5)
    watcher, past = it.watch(op, from_offset=it.first + 1, **params)
    it.turn(2)
    assert past + it.offsets(watcher) == [it.first + n for n in range(1, 7)]
    assert it.phase(watcher) is Phase.LIVE


def test_what_is_written_while_a_page_is_read_comes_once() -> None:
    """And a log that is always written to has a tail that can be reached."""
    it = Watched()
    it.turn(50, junk=PAGE_BYTES // 20)
    it.host.job_seconds = lambda: 0.01
    watcher, _ = it.watch(from_offset=it.first)
    seen: list[int] = []
    written = 50
    while it.phase(watcher) is not Phase.LIVE:
        it.turn(3, junk=10_000)
        written += 3
        it.host.advance(0.01)
        seen += it.offsets(watcher)
        assert written < 10_000, "it never catches up"
    it.turn(1)
    it.host.advance(0.01)
    seen += it.offsets(watcher)
    assert seen == list(range(it.first, it.first + written + 1))


def test_commits_that_are_on_their_way_when_it_begins_come_once() -> None:
    """Appended, shown to nobody yet: the log has not got them, and memory has them for nobody else."""
    it = Watched(policy=CommitPolicy(slow_sync_seconds=-1.0, calm_seconds=1e9))
    it.turn(2)
    it.host.job_seconds = lambda: 0.05
    it.turn(3, settle=False)
    it.host.settle()
    assert it.server.reactor.commits.in_flight
    watcher = it.server.connect()
    it.send(watcher, "WATCH_ALL", from_offset=it.first)
    seen: list[int] = []
    for _ in range(10):
        it.host.advance(0.05)
        seen += it.offsets(watcher)
    assert seen == list(range(it.first, it.first + 5))


def test_a_watcher_that_does_not_read_costs_a_cursor_and_loses_nothing() -> None:
    it = Watched()
    watcher, _ = it.watch()
    it.server.reactor.pause_writing(watcher[0])
    it.turn(300, junk=1000)
    assert it.phase(watcher) is Phase.LAGGING
    assert len(watcher[1].data) < 100_000, "nothing piles up"
    it.server.reactor.resume_writing(watcher[0])
    it.host.settle()
    it.turn(1)
    assert it.offsets(watcher) == list(range(it.first, it.first + 301))
    assert it.phase(watcher) is Phase.LIVE


def test_ever_so_many_that_do_not_read_hold_few_files_and_lose_nothing() -> None:
    """Each held a file of its own: who only reads could take the descriptor that the log needs to go on."""
    it = Watched()
    it.turn(60, junk=2_000)
    watchers = []
    for _ in range(5):
        watcher = it.server.connect()
        for _ in range(40):
            it.send(watcher, "WATCH_ALL", from_offset=it.first)
        it.server.reactor.pause_writing(watcher[0])
        watchers.append(watcher)
    it.host.settle()
    it.turn(5)
    assert it.server.hub.lagging() > READERS_OPEN_MAX
    assert it.server.hub.readers_open() <= READERS_OPEN_MAX
    for watcher in watchers:
        it.server.reactor.resume_writing(watcher[0])
    it.host.settle()
    it.turn(1)
    assert (it.server.hub.lagging(), it.server.hub.readers_open()) == (0, 0)
    for watcher in watchers:
        offsets: dict[str, list[int]] = {}
        for message in it.messages(watcher):
            if message["type"] == "event":
                offsets.setdefault(message["subscription_id"], []).append(message["wal_offset"])
        assert list(offsets.values()) == [list(range(it.first, it.first + 66))] * 40


def test_few_pages_are_read_at_a_time_and_each_has_its_turn() -> None:
    """A thousand reads in the threads' queue kept snapshots and pages of WAL_READ waiting."""
    host = CountingHost()
    it = Watched(host=host)
    it.turn(40, junk=PAGE_BYTES // 4)
    it.host.job_seconds = lambda: 0.01
    watchers = [it.watch(from_offset=it.first)[0] for _ in range(10)]
    seen: dict[int, list[int]] = {number: [] for number in range(10)}
    for _ in range(300):
        assert host.jobs <= READS_AT_ONCE
        it.host.advance(0.01)
        for number, watcher in enumerate(watchers):
            seen[number] += it.offsets(watcher)
        progress = [len(offsets) for offsets in seen.values()]
        assert max(progress) - min(progress) <= 10
    assert list(seen.values()) == [list(range(it.first, it.first + 40))] * 10


def test_what_is_published_while_a_page_is_read_is_kept_up_to_a_limit() -> None:
    """Only the number of records was limited, and each may take megabytes."""
    it = Watched()
    it.turn(3)
    it.host.job_seconds = lambda: 1.0
    watcher, _ = it.watch(from_offset=it.first)
    it.host.job_seconds = lambda: 0.0
    it.turn(200, junk=100_000)
    effects = [effect for record in it.server.hub._catch_up._recent.records for effect in record.effects]
    assert 0 < sum(len(effect.ctx) + len(effect.payload) for effect in effects) < RECENT_BYTES_MAX
    it.host.advance(1.0)
    it.turn(1)
    assert it.offsets(watcher) == list(range(it.first, it.first + 204))
    assert it.phase(watcher) is Phase.LIVE


def test_many_live_watches_of_a_session_are_not_looked_through_for_every_event() -> None:
    class NotWalked(dict[str, Any]):
        def values(self) -> Any:
            raise AssertionError("all subscriptions were looked through")

    it = Watched()
    watcher, _ = it.watch("WATCH_INSTANCE", instance_id="i")
    watcher[0].subscriptions = NotWalked(watcher[0].subscriptions)
    it.server.hub._by_id = NotWalked(it.server.hub._by_id)
    it.turn(3)
    assert it.offsets(watcher) == [it.first, it.first + 1, it.first + 2]
    hub = it.server.hub
    assert (hub.count("instance"), hub.count("all"), hub.lagging(), hub.lag_max()) == (1, 0, 0, 0)
    watcher[0].subscriptions = dict(watcher[0].subscriptions)


def test_history_that_goes_from_under_a_cursor_ends_the_watch_and_says_so() -> None:
    it = Watched()
    it.turn(100, junk=5000)
    watcher, _ = it.watch()
    it.server.reactor.pause_writing(watcher[0])
    for _ in range(2):
        it.turn(200, junk=5000)
        it.ask(it.worker, "COMPACT")
    oldest = it.server.database.log.oldest_sequence
    assert oldest > it.first + 100
    it.server.reactor.resume_writing(watcher[0])
    it.host.settle()
    (end,) = it.messages(watcher)[-1:]
    assert (end["type"], end["reason"], end["oldest_offset"]) == ("end", "OFFSET_COMPACTED", oldest), end
    assert len(it.server.hub) == 0


def test_a_page_that_meets_a_trim_under_way_ends_the_watch_with_the_oldest_there_is() -> None:
    host = TrimmingHost()
    it = Watched(host=host)
    it.turn(200, junk=5000)
    it.ask(it.worker, "COMPACT")
    it.turn(200, junk=5000)
    host.job_seconds = lambda: 1.0
    watcher, _ = it.watch(from_offset=it.first)
    host.job_seconds = lambda: 0.0
    assert it.ask(it.worker, "COMPACT") == []
    assert host.trims, "nobody is to know yet that the files are gone"
    host.advance(1.0)
    oldest = it.server.database.log.oldest_sequence
    (end,) = it.messages(watcher)
    assert (end["type"], end["reason"], end["oldest_offset"]) == ("end", "OFFSET_COMPACTED", oldest), end
    assert oldest > it.first
    host.finish_trims()
    (answer,) = it.messages(it.worker)
    assert answer["result"]["segments_deleted"] > 0
    assert it.server.database.log.oldest_sequence == oldest
    _, past = it.watch(from_offset=oldest)
    assert past[0] == oldest


def test_the_lag_is_that_of_who_is_behind() -> None:
    it = Watched()
    it.watch("WATCH_INSTANCE", instance_id="i")
    it.ask(it.worker, "CREATE_INSTANCE", machine="turns", version=1, instance_id="other")
    for _ in range(20):
        it.ask(it.worker, "APPLY_EVENT", instance_id="other", event="TURN")
    assert it.server.hub.lag_max() == 0, "nothing that concerns it has not been sent"
    watcher, _ = it.watch()
    it.server.reactor.pause_writing(watcher[0])
    it.turn(7)
    assert (it.server.hub.lag_max(), it.server.hub.lagging()) == (7, 1)


def test_a_log_that_cannot_be_read_ends_the_watch_and_is_told() -> None:
    it = Watched()
    it.turn(3)
    it.fs._read_fault_for = lambda path: "/wal/" in path
    session = it.server.connect()
    with pytest.raises(OSError, match="Input/output"):
        it.ask(session, "WATCH_ALL", from_offset=it.first)
    it.host.settle()
    (end,) = it.messages(session)[-1:]
    assert (end["type"], end["reason"]) == ("end", "LOG_UNREADABLE")
    assert len(it.server.hub) == 0


def test_ending_in_the_middle_of_a_page_sends_nothing_more() -> None:
    it = Watched()
    it.turn(20)
    it.host.job_seconds = lambda: 0.01
    watcher, _ = it.watch(from_offset=it.first)
    (subscription,) = watcher[0].subscriptions.values()
    assert it.server.hub.readers_open() == 1
    it.ask(watcher, "UNWATCH", subscription_id=subscription.id)
    for _ in range(5):
        it.host.advance(0.01)
    assert it.offsets(watcher) == []
    assert it.server.hub.readers_open() == 0, "its files are closed"
    assert len(it.server.hub) == 0


def test_a_session_that_goes_takes_its_subscriptions_along() -> None:
    it = Watched()
    watcher, _ = it.watch()
    it.send(watcher, "WATCH_INSTANCE", instance_id="i")
    it.host.settle()
    assert len(it.server.hub) == 2
    it.server.reactor.disconnect(watcher[0])
    it.turn(3)
    assert len(it.server.hub) == 0


def test_filters_are_or_inside_and_across() -> None:
    it = Watched()
    by_state, _ = it.watch(machines=["order", "other"], to_states=["paid"])
    by_event, _ = it.watch(machines=["order"], events=["PAY", "TURN"])
    nothing, _ = it.watch(machines=["turns"], events=["PAY"])
    it.ask(it.worker, "CREATE_INSTANCE", machine="order", version=1, instance_id="o")
    it.ask(it.worker, "APPLY_EVENT", instance_id="o", event="PAY", payload={"amount": 1})
    paid = it.server.database.appended_sequence
    it.turn()
    assert [it.offsets(session) for session in (by_state, by_event, nothing)] == [[paid], [paid], []]


def test_a_watch_from_the_future_is_refused() -> None:
    it = Watched()
    session = it.server.connect()
    (answer,) = it.ask(session, "WATCH_ALL", from_offset=it.first + 1000)
    assert answer["error"]["details"]["reason"] == "OFFSET_AHEAD"


def test_the_filters_of_a_session_take_what_fits() -> None:
    """Names of megabytes, a thousand times: a client that may only read could take all memory."""
    it = Watched()
    session = it.server.connect()
    names = [f"machine-{number:04}" for number in range(1_000)]
    accepted = 0
    while (answer := it.ask(session, "WATCH_ALL", machines=names)[0])["status"] == "ok":
        accepted += 1
        assert accepted < 1_000
    assert answer["error"]["code"] == "BAD_REQUEST"
    assert answer["error"]["details"] == {"reason": "FILTERS_TOO_LARGE", "limit": FILTER_BYTES_MAX}
    assert 1 < accepted < FILTER_BYTES_MAX / (1_000 * 60)
    assert it.ask(session, "WATCH_ALL", events=["TURN"])[0]["status"] == "ok"
    for subscription in list(session[0].subscriptions.values()):
        it.ask(session, "UNWATCH", subscription_id=subscription.id)
    assert it.ask(session, "WATCH_ALL", machines=names)[0]["status"] == "ok"
    huge = ["x" * 3_000_000]
    for name in ("machines", "from_states", "to_states", "events"):
        assert it.ask(session, "WATCH_ALL", **{name: huge})[0]["status"] == "error"
