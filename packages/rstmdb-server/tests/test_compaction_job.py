"""The compaction job: slices between turns, a sync before publishing, failures that hold compaction back."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from rstmdb_server.session import Session
from rstmdb_server.settings import CompactionSettings, RetentionSettings, Settings
from rstmdb_storage import CommitPolicy, EmbeddedLog, FsyncPolicy, LogConfig
from tests.in_process import InProcessServer, TestWire, VirtualHost
from tests.simulation.filesystem import Fault, FaultKind, Operation, SimulatedFileSystem
from tests.wire import ORDER, frame, request

NO_HISTORY = RetentionSettings(history_mb=0, history_secs=0)
BY_HAND = Settings(compaction=CompactionSettings(enabled=False), retention=NO_HISTORY)


class Compacted:
    """A server with a session that works and one that asks for COMPACT."""

    def __init__(
        self,
        *,
        settings: Settings = BY_HAND,
        fsync: str = "every_write",
        host: VirtualHost | None = None,
        policy: CommitPolicy | None = None,
        fault_for: Callable[[Operation], Fault | None] | None = None,
    ) -> None:
        self.fs = SimulatedFileSystem(fault_for=fault_for)
        self.server = InProcessServer(
            self.fs,
            "/data",
            host=host,
            settings=settings,
            policy=policy,
            log_config=LogConfig(
                segment_bytes=64 << 10, reserve_bytes=0, fill=False, fsync=FsyncPolicy.parse(fsync)
            ),
        )
        self.host = self.server.host
        self.job = self.server.compaction
        self.worker = self.server.connect()
        self.asker = self.server.connect()
        self.count = 0
        self.send(self.worker, "PUT_MACHINE", machine="order", version=1, definition=ORDER)
        self.host.settle()

    def send(self, session: tuple[Session, TestWire], op: str, **params: Any) -> None:
        self.server.reactor.receive(session[0], frame(request(op, params, str(self.count))))

    def work(self, records: int = 1, *, settle: bool = True) -> None:
        for _ in range(records):
            self.count += 1
            self.send(
                self.worker,
                "CREATE_INSTANCE",
                machine="order",
                version=1,
                instance_id=f"i-{self.count}",
                initial_ctx={"junk": "x" * 1000},
            )
            if settle:
                self.host.settle()

    def compact(self, **params: Any) -> None:
        self.send(self.asker, "COMPACT", **params)
        self.host.settle()

    def answers(self) -> list[dict[str, Any]]:
        return [json.loads(payload) for payload in self.asker[1].take()]

    def result(self) -> dict[str, Any]:
        (answer,) = self.answers()
        assert answer["status"] == "ok", answer
        result: dict[str, Any] = answer["result"]
        return result

    def error(self) -> dict[str, Any]:
        (answer,) = self.answers()
        error: dict[str, Any] = answer["error"]
        return error

    def temporary_files(self) -> list[str]:
        return [path for path in self.fs.disk.files() if path.endswith(".tmp") and "/snapshots/" in path]


def test_compact_snapshots_trims_and_counts() -> None:
    it = Compacted()
    for _ in range(2):  # the log goes from the older of the two kept snapshots on
        it.work(150)
        it.compact()
    first, second = (answer["result"] for answer in it.answers())
    assert (first["snapshots_created"], first["segments_deleted"], first["total_snapshots"]) == (1, 0, 1)
    assert (second["snapshots_created"], second["total_snapshots"]) == (1, 2)
    assert second["segments_deleted"] > 0
    assert second["bytes_reclaimed"] > 0
    assert it.server.database.log.oldest_sequence > 1
    assert (it.job.written, it.job.failed, it.job.running) == (2, 0, False)


def test_nothing_new_makes_no_snapshot_unless_forced() -> None:
    it = Compacted()
    it.work()
    it.compact()
    it.compact()
    it.compact(force_snapshot=True)
    assert [answer["result"]["snapshots_created"] for answer in it.answers()] == [1, 0, 1]


def test_who_asks_meanwhile_is_answered_by_the_next_run() -> None:
    host = VirtualHost()
    it = Compacted(host=host)
    it.work(5)
    host.job_seconds = lambda: 0.1
    it.compact()
    assert it.job.running
    it.compact(force_snapshot=True)
    it.compact(force_snapshot=True)
    for _ in range(40):
        host.advance(0.1)
    assert [answer["status"] for answer in it.answers()] == ["ok", "ok", "ok"]
    assert it.job.written == 2, "the two that waited share one"


def test_answers_go_on_between_slices_and_the_snapshot_is_of_the_beginning() -> None:
    host = VirtualHost()
    it = Compacted(host=host)
    it.work(50)
    at = it.server.database.appended_sequence
    host.job_seconds = lambda: 0.01
    it.compact()
    answered = 0
    while it.job.running:
        it.work()
        host.advance(0.01)
        answered += len(it.worker[1].take())
    assert answered > 1
    newest = it.job.newest
    assert newest is not None
    assert newest.sequence == at


def test_segments_that_could_not_be_removed_go_with_the_next_run() -> None:
    """They are no part of the log meanwhile, and a run that finds nothing else to do still tries again."""
    broken: list[bool] = []

    def fault_for(at: Operation) -> Fault | None:
        stubborn = broken and at.name == "unlink" and at.path.endswith("0000000000000002.wal")
        return Fault(FaultKind.ERROR) if stubborn else None

    def on_disk() -> int:
        return sum(1 for path in it.fs.disk.files() if path.endswith(".wal"))

    it = Compacted(fault_for=fault_for)
    it.work(400)
    it.compact()
    it.work()
    assert it.result()["segments_deleted"] == 0
    everything = on_disk()
    broken.append(True)
    it.compact()
    failed = it.result()
    oldest = it.server.database.log.oldest_sequence
    assert failed["segments_deleted"] == 1
    assert failed["wal_segments"] < on_disk() == everything - 1
    broken.clear()
    it.compact()
    done = it.result()
    assert (done["snapshots_created"], done["wal_segments"]) == (0, failed["wal_segments"])
    assert done["segments_deleted"] == everything - 1 - failed["wal_segments"] > 1
    assert on_disk() == done["wal_segments"]
    assert it.server.database.log.oldest_sequence == oldest
    it.compact()
    assert it.result()["segments_deleted"] == 0


@pytest.mark.parametrize("fsync", ["every_write", "never"])
def test_asking_while_a_commit_is_in_flight_neither_spins_nor_starves(fsync: str) -> None:
    """The load never pauses: as soon as one commit has ended the next one begins, always in a thread."""
    host = VirtualHost()
    it = Compacted(
        host=host, fsync=fsync, policy=CommitPolicy(slow_sync_seconds=-1.0, calm_seconds=1e9)
    )  # fmt: skip
    it.work(20)
    host.job_seconds = lambda: 0.003
    it.work(settle=False)
    host.settle()
    assert it.server.reactor.commits.in_flight
    turns = 0
    it.compact()
    while it.job.running:
        it.work(settle=False)
        while host.turn():
            turns += 1
            assert turns < 10_000, "spinning"
        assert it.server.reactor.commits.in_flight, "the load pauses, so this shows nothing"
        host.now += 0.001
        assert host.now < 1010.0, "starving"
    assert it.job.written == 1


def test_a_relaxed_policy_syncs_before_publishing() -> None:
    """A snapshot proves to recovery that the log was synced up to it."""
    it = Compacted(fsync="never")
    it.work(10)
    log = it.server.database.log
    assert log.synced_sequence < it.server.database.appended_sequence
    seen: list[bool] = []
    publish = it.server.database.snapshots.begin

    def begin(sequence: int) -> Any:
        writer = publish(sequence)
        finish = writer.finish

        def finished() -> Any:
            seen.append(log.synced_sequence >= sequence)
            return finish()

        writer.finish = finished  # type: ignore[method-assign]  # to look at the moment of publishing
        return writer

    it.server.database.snapshots.begin = begin  # type: ignore[method-assign, assignment]
    it.compact()
    for _ in range(20):
        it.host.advance(0.01)
    assert it.result()["snapshots_created"] == 1
    assert seen == [True]


@pytest.mark.parametrize("operation", ["create", "pwrite", "sync", "rename"])
def test_a_failed_snapshot_holds_compaction_back(operation: str) -> None:
    broken: list[bool] = []

    def fault_for(at: Operation) -> Fault | None:
        if broken and at.name == operation and "/snapshots/" in at.path:
            return Fault(FaultKind.SYNC_DROP if operation == "sync" else FaultKind.ERROR)
        return None

    it = Compacted(fault_for=fault_for)
    it.work(150)
    it.compact()
    assert it.result()["snapshots_created"] == 1
    it.work(150)
    oldest = it.server.database.log.oldest_sequence
    broken.append(True)
    it.compact()
    error = it.error()
    assert error["code"] == "WAL_IO_ERROR"
    assert error["details"] == {"reason": "SNAPSHOT_FAILED", "outcome": "not_applied"}
    assert it.server.database.log.oldest_sequence == oldest
    assert (it.job.failed, it.job.running) == (1, False)
    assert it.temporary_files() == []
    broken.clear()
    it.work()  # the server serves on
    it.compact()
    assert it.result()["snapshots_created"] == 1


def test_the_next_try_by_itself_waits_after_a_failure() -> None:
    broken = [True]

    def fault_for(at: Operation) -> Fault | None:
        return Fault(FaultKind.ERROR) if broken and at.name == "create" and "/snapshots/" in at.path else None

    every_ten = CompactionSettings(events_threshold=10, size_threshold_mb=0, min_interval_secs=60)
    it = Compacted(settings=Settings(compaction=every_ten), fault_for=fault_for)
    it.work(20)
    for _ in range(10):
        it.server.tick()
        it.host.advance(1.0)
    assert (it.job.failed, it.job.written) == (1, 0)
    broken.clear()
    it.host.advance(60.0)
    it.server.tick()
    assert (it.job.failed, it.job.written) == (1, 1)


def test_it_starts_by_itself_by_events_and_not_sooner_than_allowed() -> None:
    every_ten = CompactionSettings(events_threshold=10, size_threshold_mb=0, min_interval_secs=60)
    it = Compacted(settings=Settings(compaction=every_ten))
    it.work(5)
    it.server.tick()
    assert it.job.written == 0
    it.work(5)
    it.server.tick()
    assert it.job.written == 1
    it.work(50)
    it.server.tick()
    assert it.job.written == 1
    it.host.advance(61.0)
    it.server.tick()
    assert it.job.written == 2


def test_switched_off_it_only_runs_when_asked() -> None:
    off = CompactionSettings(enabled=False, events_threshold=1, min_interval_secs=0)
    it = Compacted(settings=Settings(compaction=off))
    it.work(50)
    it.server.tick()
    assert it.job.written == 0
    it.compact()
    assert it.result()["snapshots_created"] == 1


@pytest.mark.parametrize("slices", [0, 1])
def test_stopping_answers_what_waits(slices: int) -> None:
    host = VirtualHost()
    it = Compacted(host=host)
    it.work(5)
    host.job_seconds = lambda: 0.1
    it.compact()
    it.compact(force_snapshot=True)
    for _ in range(slices):
        host.advance(0.1)
    it.job.stop()
    for _ in range(5):
        host.advance(0.1)
    for answer in it.answers():
        assert answer["error"]["details"]["reason"] == "SNAPSHOT_FAILED"
        assert "stopping" in answer["error"]["message"]
    assert not it.job.running
    assert it.job.failed == 0, "nothing is wrong with the disk"
    assert it.temporary_files() == []
    it.compact()
    assert "stopping" in it.error()["message"]


def test_a_log_that_failed_publishes_nothing() -> None:
    broken: list[bool] = []

    def fault_for(at: Operation) -> Fault | None:
        return Fault(FaultKind.SYNC_DROP) if broken and at.name == "sync" and "/wal/" in at.path else None

    host = VirtualHost()
    it = Compacted(host=host, fsync="never", fault_for=fault_for)
    it.work(10)
    broken.append(True)
    it.compact()
    for _ in range(5):
        host.advance(0.01)
    assert host.failure is not None
    assert it.error()["details"] == {"reason": "SYNC_FAILED", "outcome": "unknown"}
    assert (it.job.written, it.job.running) == (0, False)


def test_looking_whether_it_is_time_does_not_look_at_every_segment(monkeypatch: pytest.MonkeyPatch) -> None:
    """It did, twenty times a second: nine milliseconds each time with five thousand segments."""
    it = Compacted(settings=Settings())
    it.work(3)

    def walked(_: EmbeddedLog) -> None:
        raise AssertionError("every segment was looked at")

    monkeypatch.setattr(EmbeddedLog, "statistics", property(walked))
    it.job.check()
    assert not it.job.running
