"""The commit loop: inline and in a thread alike, one at a time, and what must not wait for a quiet moment."""

from collections.abc import Callable
from typing import Any

import pytest

from rstmdb_server.commit_loop import CommitLoop
from rstmdb_storage import CommitPolicy, EmbeddedLog, FsyncPolicy, LogConfig, LogPoisoned
from tests.simulation.filesystem import Fault, FaultKind, Operation, SimulatedFileSystem


class Jobs:
    """A host whose blocking jobs run, and end, when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waiting: list[tuple[Callable[[], Any], Callable[[Any, BaseException | None], None], bool]] = []

    def monotonic(self) -> float:
        return self.now

    def run_blocking(
        self,
        job: Callable[[], Any],
        done: Callable[[Any, BaseException | None], None],
        *,
        urgent: bool = False,
    ) -> None:
        self.waiting.append((job, done, urgent))

    def finish(self) -> None:
        """Run the oldest job to its end."""
        job, done, _ = self.waiting.pop(0)
        done(job(), None)


class Bench:
    """A commit loop on a simulated disk, and what it reported."""

    def __init__(
        self, *, inline: bool, fsync: str = "every_write", fs: SimulatedFileSystem | None = None
    ) -> None:
        self.host = Jobs()
        self.log, _ = EmbeddedLog.open(
            fs or SimulatedFileSystem(),
            "/wal",
            LogConfig(segment_bytes=1 << 20, reserve_bytes=0, fill=False, fsync=FsyncPolicy.parse(fsync)),
        )
        self.durable: list[int] = []
        self.failures: list[BaseException] = []
        self.commits: list[int] = []
        policy = CommitPolicy()
        policy.inline_allowed = inline
        self.loop = CommitLoop(
            self.log,
            policy,
            self.host,  # type: ignore[arg-type]  # what a commit loop asks of a host, and no more
            on_durable=self.durable.append,
            on_failure=self.failures.append,
            on_commit=lambda _seconds, records: self.commits.append(records),
        )

    def append(self, records: int = 1) -> None:
        for _ in range(records):
            self.log.append(b"record", 1)


@pytest.fixture
def directory() -> SimulatedFileSystem:
    fs = SimulatedFileSystem()
    fs.make_directory("/wal")
    return fs


@pytest.mark.parametrize("inline", [True, False])
def test_a_turn_is_one_commit(inline: bool, directory: SimulatedFileSystem) -> None:
    bench = Bench(inline=inline, fs=directory)
    syncs = bench.log.statistics.syncs
    bench.append(5)
    bench.loop.end_turn()
    assert bench.loop.in_flight is not inline
    if not inline:
        assert bench.durable == []
        assert bench.host.waiting[0][2], "nobody's commit stands behind other jobs"
        bench.host.finish()
    assert (bench.durable, bench.commits) == ([5], [5])
    assert bench.log.statistics.syncs == syncs + 1
    assert not bench.loop.in_flight


def test_a_turn_without_records_commits_nothing(directory: SimulatedFileSystem) -> None:
    bench = Bench(inline=True, fs=directory)
    bench.loop.end_turn()
    assert (bench.durable, bench.commits) == ([], [])


def test_what_comes_while_a_commit_is_in_flight_is_the_next_one(directory: SimulatedFileSystem) -> None:
    bench = Bench(inline=False, fs=directory)
    bench.append()
    bench.loop.end_turn()
    for _ in range(3):
        bench.append()
        bench.loop.end_turn()
    assert len(bench.host.waiting) == 1, "one commit in flight"
    bench.host.finish()
    assert (bench.durable, len(bench.host.waiting)) == ([1], 1)
    bench.host.finish()
    assert (bench.durable, bench.commits) == ([1, 4], [1, 3])


@pytest.mark.parametrize("inline", [True, False])
def test_a_failed_sync_is_told_once_and_never_tried_again(
    inline: bool, directory: SimulatedFileSystem
) -> None:
    def drop(operation: Operation) -> Fault | None:
        return Fault(FaultKind.SYNC_DROP) if armed and operation.name == "sync" else None

    armed: list[bool] = []
    bench = Bench(inline=inline, fs=SimulatedFileSystem(directory.disk, fault_for=drop))
    armed.append(True)
    bench.append()
    bench.loop.end_turn()
    if not inline:
        bench.host.finish()
    assert bench.loop.poisoned
    assert [type(error) for error in bench.failures] == [LogPoisoned]
    bench.loop.end_turn()
    bench.loop.sync_if_due()
    bench.loop.sync_soon()
    assert (bench.durable, bench.host.waiting, len(bench.failures)) == ([], [], 1)


def test_a_background_sync_runs_off_the_loop_and_is_no_commit(directory: SimulatedFileSystem) -> None:
    bench = Bench(inline=True, fsync="every_ms:100", fs=directory)
    bench.append()
    bench.loop.end_turn()
    bench.loop.sync_if_due()
    assert bench.host.waiting == [], "not yet due"
    bench.host.now += 0.2
    bench.loop.sync_if_due()
    assert bench.loop.in_flight
    bench.host.finish()
    assert bench.log.synced_sequence == 1
    assert bench.commits == [1]


def test_a_sync_that_was_asked_for_comes_before_the_next_turn(directory: SimulatedFileSystem) -> None:
    """Under steady load there is always a commit in flight, and a snapshot would wait for ever."""
    bench = Bench(inline=False, fsync="never", fs=directory)
    bench.append()
    bench.loop.end_turn()
    bench.loop.sync_soon()
    bench.append()  # the load goes on
    bench.loop.end_turn()
    assert bench.log.synced_sequence == 0
    bench.host.finish()
    bench.host.finish()
    assert bench.log.synced_sequence == 1
    assert len(bench.host.waiting) == 1, "and then the next turn's records"
    bench.host.finish()
    assert (bench.durable[-1], bench.log.synced_sequence) == (2, 1), "asked for once, synced once"
