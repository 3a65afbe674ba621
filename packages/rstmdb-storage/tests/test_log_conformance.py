"""What every `Log` does, whatever it is built on: run for each implementation.

A new implementation adds a harness and passes unchanged. The log in memory below is there to show that the
tests ask for nothing that only a local disk has.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from typing import Any, Protocol

import pytest

from rstmdb_storage import (
    Commit,
    DataDirectory,
    EmbeddedLog,
    FsyncPolicy,
    LockedError,
    Log,
    LogClosed,
    LogConfig,
    LogPoisoned,
    LogReader,
    LogRecord,
    LogStatistics,
    OsFileSystem,
    SegmentInfo,
    SequenceTrimmed,
    StaleEpoch,
    TrimResult,
)


class Harness(Protocol):
    """What a conformance test needs of an implementation."""

    def open(self) -> Log:
        """Open the log, as the next process would."""
        ...

    def kill(self, log: Log) -> None:
        """Let the process that has the log open end at once."""
        ...

    def break_storage(self) -> None:
        """Let the next commit fail."""
        ...


class MemoryStore:
    def __init__(self) -> None:
        self.records: list[LogRecord] = []
        self.next_sequence = 1
        self.oldest = 1
        self.epoch = 0
        self.broken = False


class MemoryCommit:
    def __init__(self, store: MemoryStore, records: list[LogRecord], last: int, epoch: int) -> None:
        self._store = store
        self._records = records
        self._epoch = epoch
        self.last_sequence = last
        self.lengthy = False
        self.error: Exception | None = None

    def run(self) -> None:
        if self._epoch != self._store.epoch:
            self.error = StaleEpoch(self._epoch, self._store.epoch)
        elif self._store.broken:
            self.error = OSError("broken")
        else:
            self._store.records += self._records
            self._store.next_sequence = self.last_sequence + 1


class MemoryReader:
    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    def read(
        self, from_sequence: int, *, bytes_max: int = 1 << 23, records_max: int = 10_000
    ) -> list[LogRecord]:
        return self._log.read(from_sequence, bytes_max=bytes_max, records_max=records_max)

    def close(self) -> None:
        pass


class MemoryLog:
    """A log as short as the protocol allows; its pieces are single records."""

    def __init__(self, store: MemoryStore) -> None:
        store.epoch += 1
        self._store = store
        self.epoch = store.epoch
        self.next_sequence = store.next_sequence
        self.durable_sequence = store.next_sequence - 1
        self.pending_bytes = 0
        self.time_ms = 0
        self._pending: list[LogRecord] = []
        self._in_flight: MemoryCommit | None = None
        self._poison: str | None = None
        self._closed = False

    @property
    def synced_sequence(self) -> int:
        return self.durable_sequence

    @property
    def oldest_sequence(self) -> int:
        return self._store.oldest

    @property
    def pending_records(self) -> int:
        return len(self._pending)

    @property
    def bytes_written(self) -> int:
        return sum(len(record.body) for record in self._store.records)

    @property
    def statistics(self) -> LogStatistics:
        records = self._store.records
        infos = tuple(
            SegmentInfo(
                name=str(record.first_sequence),
                first_sequence=record.first_sequence,
                last_sequence=record.first_sequence + record.count - 1,
                record_bytes=len(record.body),
                file_bytes=len(record.body),
                newest_ms=0,
                sealed=record is not records[-1],
            )
            for record in records
        )
        total = self.bytes_written
        return LogStatistics(
            bytes_written=total, bytes_read=0, writes=0, reads=0, syncs=0, total_bytes=total, segments=infos
        )

    def append(self, body: bytes, count: int) -> int:
        if self._poison is not None:
            raise LogPoisoned(self._poison)
        if self._closed:
            raise LogClosed
        first = self.next_sequence
        self._pending.append(LogRecord(first, count, body))
        self.pending_bytes += len(body)
        self.next_sequence += count
        return first

    def begin_commit(self, now: float | None = None) -> Commit | None:
        if not self._pending or self._in_flight is not None or self._poison is not None or self._closed:
            return None
        self._in_flight = MemoryCommit(self._store, self._pending, self.next_sequence - 1, self.epoch)
        self._pending = []
        self.pending_bytes = 0
        return self._in_flight

    def finish_commit(self, commit: Commit) -> int:
        assert commit is self._in_flight
        self._in_flight = None
        if commit.error is not None:
            self._poison = str(commit.error)
            raise LogPoisoned(self._poison)
        self.durable_sequence = commit.last_sequence
        return self.durable_sequence

    def sync_due_in(self, now: float) -> float | None:
        return None

    def begin_sync(self, now: float, *, force: bool = False) -> Commit | None:
        return None

    def read(
        self, from_sequence: int, *, bytes_max: int = 1 << 23, records_max: int = 10_000
    ) -> list[LogRecord]:
        if self._closed:
            raise LogClosed
        if from_sequence > self.durable_sequence:
            return []
        if 1 < self._store.oldest > from_sequence:
            raise SequenceTrimmed(from_sequence, self._store.oldest)
        records = self._store.records
        at = bisect_right(records, from_sequence, key=lambda record: record.first_sequence + record.count - 1)
        if at and records[at - 1].first_sequence + records[at - 1].count > from_sequence:
            at -= 1
        taken: list[LogRecord] = []
        size = 0
        for record in records[at : at + records_max]:
            size += len(record.body)
            if record.first_sequence > self.durable_sequence or (taken and size > bytes_max):
                break
            taken.append(record)
        return taken

    def reader(self) -> LogReader:
        return MemoryReader(self)

    def trim(self, before_sequence: int) -> TrimResult:
        records = self._store.records
        removed = 0
        size = 0
        while len(records) > 1 and records[0].first_sequence + records[0].count <= before_sequence:
            size += len(records.pop(0).body)
            removed += 1
        if removed:
            self._store.oldest = records[0].first_sequence
        return TrimResult(segments_removed=removed, bytes_reclaimed=size, oldest_sequence=self._store.oldest)

    def close(self) -> None:
        if self._closed:
            return
        while (commit := self.begin_commit()) is not None:
            commit.run()
            self.finish_commit(commit)
        self._closed = True


class MemoryHarness:
    def __init__(self, tmp_path: Any) -> None:
        self._store = MemoryStore()

    def open(self) -> Log:
        return MemoryLog(self._store)

    def kill(self, log: Log) -> None:
        pass

    def break_storage(self) -> None:
        self._store.broken = True


class FailingFile:
    def __init__(self, file: Any) -> None:
        self._file = file
        self.broken = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def sync(self) -> None:
        if self.broken:
            raise OSError("broken")
        self._file.sync()


class EmbeddedHarness:
    policy = "every_write"

    def __init__(self, tmp_path: Any) -> None:
        self._path = str(tmp_path / "data")
        self._directory: DataDirectory | None = None
        self._log: EmbeddedLog | None = None

    def open(self) -> Log:
        if self._log is not None and self._log._published.closed and self._directory is not None:
            self._directory.close()
        self._directory = DataDirectory.open(OsFileSystem(), self._path)
        config = LogConfig(segment_bytes=4096, reserve_bytes=0, fsync=FsyncPolicy.parse(self.policy))
        self._log, _ = EmbeddedLog.open(OsFileSystem(), self._directory.wal, config)
        return self._log

    def kill(self, log: Log) -> None:
        assert self._directory is not None
        self._directory.close()

    def break_storage(self) -> None:
        assert self._log is not None
        self._log._writer._file = FailingFile(self._log._writer._file)
        self._log._writer._file.broken = True


class RelaxedHarness(EmbeddedHarness):
    policy = "every_n:1000000"

    def break_storage(self) -> None:
        assert self._log is not None
        self._log._writer.close()


@pytest.fixture(
    params=[EmbeddedHarness, RelaxedHarness, MemoryHarness], ids=["embedded", "relaxed", "memory"]
)
def harness(request: pytest.FixtureRequest, tmp_path: Any) -> Harness:
    made: Harness = request.param(tmp_path)
    return made


def commit(log: Log, *bodies: bytes, count: int = 1) -> int:
    for body in bodies:
        log.append(body, count)
    job = log.begin_commit()
    assert job is not None
    job.run()
    return log.finish_commit(job)


def test_it_is_a_log(harness: Harness) -> None:
    log = harness.open()
    assert isinstance(log, Log)
    assert (log.next_sequence, log.durable_sequence, log.oldest_sequence) == (1, 0, 1)
    assert (log.pending_records, log.pending_bytes, log.read(1)) == (0, 0, [])


def test_sequences_are_dense_and_records_come_back(harness: Harness) -> None:
    log = harness.open()
    assert log.append(b"a", 1) == 1
    assert log.append(b"b", 3) == 2
    assert log.append(b"", 1) == 5
    assert (log.next_sequence, log.pending_records) == (6, 3)
    assert commit(log, b"c") == 6
    assert log.read(1) == [(1, 1, b"a"), (2, 3, b"b"), (5, 1, b""), (6, 1, b"c")]
    assert log.read(4)[0] == (2, 3, b"b")
    assert log.read(5)[0] == (5, 1, b"")
    assert log.read(7) == []


def test_nothing_is_shown_before_it_is_durable(harness: Harness) -> None:
    log = harness.open()
    reader = log.reader()
    commit(log, b"shown")
    log.append(b"pending", 1)
    assert (log.durable_sequence, len(log.read(1)), len(reader.read(1))) == (1, 1, 1)
    job = log.begin_commit()
    assert job is not None
    assert job.last_sequence == 2
    job.run()
    assert (log.durable_sequence, log.read(2), reader.read(2)) == (1, [], [])
    assert log.finish_commit(job) == 2
    assert reader.read(2) == log.read(2) == [(2, 1, b"pending")]
    reader.close()


def test_one_commit_is_in_flight(harness: Harness) -> None:
    log = harness.open()
    assert log.begin_commit() is None
    log.append(b"a", 1)
    job = log.begin_commit()
    assert job is not None
    log.append(b"b", 1)
    assert log.begin_commit() is None
    job.run()
    assert log.finish_commit(job) == 1
    assert commit(log) == 2


def test_a_commit_may_run_in_a_thread(harness: Harness) -> None:
    log = harness.open()
    for at in range(50):
        log.append(b"%d" % at * 50, 1)
        job = log.begin_commit()
        assert job is not None
        thread = threading.Thread(target=job.run)
        thread.start()
        log.append(b"meanwhile", 1)
        thread.join()
        log.finish_commit(job)
        commit(log)
    assert len(log.read(1)) == 100


def test_limits_end_a_read_and_it_goes_on(harness: Harness) -> None:
    log = harness.open()
    for group in range(20):
        commit(log, *[b"%02d" % group * 50] * (group % 5 + 1), count=1 + group % 2)
    everything = log.read(1)
    assert len(everything) == 60
    assert log.read(1, records_max=7) == everything[:7]
    assert log.read(1, bytes_max=350) == everything[:3]
    assert log.read(1, bytes_max=1) == everything[:1]
    assert log.read(1, records_max=0) == []
    for limits in ({"records_max": 4}, {"bytes_max": 250}, {"bytes_max": 450, "records_max": 3}):
        reader = log.reader()
        got: list[LogRecord] = []
        while page := reader.read(got[-1].first_sequence + got[-1].count if got else 1, **limits):
            got += page
        assert got == everything
        for at in (30, 3, 59, 31):
            assert reader.read(everything[at].first_sequence, records_max=2) == everything[at : at + 2]
        reader.close()


def test_a_reader_follows_the_writer_from_another_thread(harness: Harness) -> None:
    log = harness.open()
    got: list[LogRecord] = []
    failures: list[BaseException] = []
    total = 400

    def follow() -> None:
        reader = log.reader()
        try:
            sequence = 1
            while sequence <= total:
                for record in reader.read(sequence, records_max=17):
                    got.append(record)
                    sequence = record.first_sequence + record.count
        except BaseException as error:
            failures.append(error)
        finally:
            reader.close()

    thread = threading.Thread(target=follow)
    thread.start()
    for at in range(total // 4):
        commit(log, *[b"%d" % at * 20] * 4)
    thread.join(60)
    assert not failures
    assert got == log.read(1)
    assert len(got) == total


def test_a_closed_log_opens_where_it_ended(harness: Harness) -> None:
    log = harness.open()
    commit(log, b"a", count=2)
    log.append(b"pending at the close", 1)
    epoch = log.epoch
    log.close()
    log.close()
    with pytest.raises(LogClosed):
        log.append(b"x", 1)
    with pytest.raises(LogClosed):
        log.read(1)
    log = harness.open()
    assert log.epoch > epoch
    assert (log.next_sequence, log.durable_sequence) == (4, 3)
    assert log.read(1) == [(1, 2, b"a"), (3, 1, b"pending at the close")]
    commit(log, b"b")
    assert log.read(4) == [(4, 1, b"b")]


def test_a_killed_log_has_what_was_durable(harness: Harness) -> None:
    log = harness.open()
    for at in range(30):
        commit(log, b"%d" % at * 100)
    log.append(b"never committed", 1)
    expected = log.read(1)
    harness.kill(log)
    log = harness.open()
    assert log.read(1) == expected
    assert log.next_sequence == log.durable_sequence + 1 >= 31
    first = log.append(b"next", 1)
    assert first > 30
    commit(log)
    assert log.read(31) == [(first, 1, b"next")]


def test_a_second_writer_is_kept_out_or_fences_the_first(harness: Harness) -> None:
    log = harness.open()
    commit(log, b"a")
    try:
        second = harness.open()
    except LockedError:
        commit(log, b"b")
        assert [record.body for record in log.read(1)] == [b"a", b"b"]
        return
    assert second.epoch > log.epoch
    log.append(b"stale", 1)
    job = log.begin_commit()
    assert job is not None
    job.run()
    with pytest.raises((StaleEpoch, LogPoisoned)):
        log.finish_commit(job)
    assert [record.body for record in second.read(1)] == [b"a"]


def test_a_failure_poisons_for_ever(harness: Harness) -> None:
    log = harness.open()
    commit(log, b"good")
    harness.break_storage()
    log.append(b"lost", 1)
    job = log.begin_commit()
    assert job is not None
    job.run()
    with pytest.raises(LogPoisoned):
        log.finish_commit(job)
    with pytest.raises(LogPoisoned):
        log.append(b"more", 1)
    assert log.begin_commit() is None
    assert log.durable_sequence == 1


def test_trimming_drops_what_lies_below_and_no_more(harness: Harness) -> None:
    log = harness.open()
    for at in range(40):
        commit(log, b"%02d" % at * 150)
    assert log.trim(1).segments_removed == 0
    result = log.trim(25)
    assert result.segments_removed > 0
    assert result.bytes_reclaimed > 0
    assert 1 < result.oldest_sequence == log.oldest_sequence <= 25
    with pytest.raises(SequenceTrimmed):
        log.read(log.oldest_sequence - 1)
    assert [record.first_sequence for record in log.read(25)] == list(range(25, 41))
    commit(log, b"on it goes")
    assert log.read(41) == [(41, 1, b"on it goes")]
    log.trim(1000)
    assert log.read(41) == [(41, 1, b"on it goes")]


def test_figures_describe_the_log(harness: Harness) -> None:
    log = harness.open()
    for at in range(20):
        commit(log, b"%02d" % at * 150, count=2)
    statistics = log.statistics
    assert statistics.total_bytes >= 20 * 300
    assert statistics.bytes_written == log.bytes_written > 0
    assert statistics.segments[0].first_sequence == 1
    assert statistics.segments[-1].last_sequence == 40
    assert [info.sealed for info in statistics.segments] == [True] * (len(statistics.segments) - 1) + [False]


def test_background_work_runs_like_a_commit_and_ends(harness: Harness) -> None:
    log = harness.open()
    commit(log, b"a")
    now = 0.0
    rounds = 0
    while (due := log.sync_due_in(now)) is not None:
        rounds += 1
        assert rounds < 5
        now += due + 0.001
        job = log.begin_sync(now)
        if job is not None:
            job.run()
            assert log.finish_commit(job) == 1
    job = log.begin_sync(now, force=True)
    if job is not None:
        job.run()
        log.finish_commit(job)
    assert log.synced_sequence == log.durable_sequence == 1
    assert log.read(1) == [(1, 1, b"a")]
