"""The log as a state machine: any order of what a host may do, against a list."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rstmdb_storage import EmbeddedLog, FsyncPolicy, LogConfig, OsFileSystem, SequenceTrimmed
from rstmdb_storage.opening import SEQUENCE_JUMP

POLICIES = ("every_write", "every_n:3", "every_ms:20", "never")


class StubbornFileSystem(OsFileSystem):
    """Removes segments, or syncs their directory after it, so many times and no more."""

    def __init__(self) -> None:
        super().__init__()
        self.failing = ""
        self.patience = 0

    def _lose_patience(self, call: str) -> None:
        if self.failing == call:
            self.patience -= 1
            if self.patience < 0:
                raise OSError(errno.EIO, "input/output error")

    def unlink(self, path: str) -> None:
        self._lose_patience("unlink")
        super().unlink(path)

    def sync_directory(self, path: str) -> None:
        self._lose_patience("sync_directory")
        super().sync_directory(path)


class LogMachine(RuleBasedStateMachine):
    """A host with one log, one reader, and a memory of everything it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.mkdtemp()
        self.fs = StubbornFileSystem()
        self.now = 100.0
        self.log: Any = None
        self.reader: Any = None
        self.records: list[tuple[int, int, bytes]] = []
        self.appended: list[tuple[int, int, bytes]] = []
        self.in_flight: Any = None
        self.in_flight_records: list[tuple[int, int, bytes]] = []
        self.preparation: Any = None
        self.followed: list[tuple[int, int, bytes]] = []
        self.oldest = 1
        self.snapshot = 0
        self.trimming: Any = None
        self.left_files = False

    @initialize(policy=st.sampled_from(POLICIES), segment=st.sampled_from([2048, 4096, 16384]))
    def begin(self, policy: str, segment: int) -> None:
        self.open(policy, segment)

    def open(self, policy: str, segment: int) -> None:
        self.policy = FsyncPolicy.parse(policy)
        config = LogConfig(segment_bytes=segment, fsync=self.policy, reserve_bytes=0, fill=segment == 4096)
        self.log, self.report = EmbeddedLog.open(
            self.fs, self.directory, config, snapshot_sequence=self.snapshot, now=self.now
        )
        self.reader = self.log.reader()
        self.followed = []
        self.follow_from = self.log.oldest_sequence
        self.in_flight, self.in_flight_records = None, []
        self.preparation = None
        self.trimming, self.left_files = None, False
        self.appended = []
        self.next = self.log.next_sequence

    @rule(
        bodies=st.lists(
            st.one_of(st.binary(max_size=40), st.integers(0, 3000).map(lambda n: b"z" * n)),
            min_size=1,
            max_size=8,
        ),
        count=st.integers(1, 4),
    )
    def append(self, bodies: list[bytes], count: int) -> None:
        for body in bodies:
            assert self.log.append(body, count) == self.next
            self.appended.append((self.next, count, body))
            self.next += count

    @rule(tell=st.booleans())
    def begin_commit(self, tell: bool) -> None:
        job = self.log.begin_commit(self.now if tell else None)
        assert (job is not None) == bool(self.appended and self.in_flight is None)
        if job is not None:
            self.in_flight, self.in_flight_records, self.appended = job, self.appended, []
            job.run()

    @precondition(lambda self: self.in_flight is not None)
    @rule()
    def finish_commit(self) -> None:
        durable = self.log.finish_commit(self.in_flight)
        self.records += self.in_flight_records
        self.in_flight, self.in_flight_records = None, []
        assert durable == self.log.durable_sequence
        if self.policy.mode.value == "every_write":
            assert self.log.synced_sequence == durable

    @precondition(lambda self: self.in_flight is None and not self.appended)
    @rule(groups=st.integers(1, 5))
    def fill(self, groups: int) -> None:
        """Write groups that hardly fit into one segment together, so that there is something to trim."""
        for _ in range(groups):
            self.append([b"f" * 1500], 1)
            self.begin_commit(tell=True)
            self.finish_commit()

    @rule(seconds=st.sampled_from([0.001, 0.03, 1.1]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(force=st.booleans())
    def sync(self, force: bool) -> None:
        due = self.log.sync_due_in(self.now)
        job = self.log.begin_sync(self.now, force=force)
        if due == 0 and not self.appended and self.in_flight is None:
            assert job is not None
        if job is not None:
            self.in_flight, self.in_flight_records = job, []
            job.run()

    @rule()
    def prepare(self) -> None:
        if self.preparation is not None:
            self.preparation.run()
            self.log.finish_preparation(self.preparation)
            self.preparation = None
        else:
            self.preparation = self.log.segment_to_prepare()

    @rule(records_max=st.integers(1, 9), bytes_max=st.integers(1, 4000))
    def follow(self, records_max: int, bytes_max: int) -> None:
        start = self.follow_from
        try:
            page = self.reader.read(start, records_max=records_max, bytes_max=bytes_max)
        except SequenceTrimmed as error:
            page, gone = [], error
        else:
            gone = None
        if gone is not None:
            assert gone.sequence == start < gone.oldest == self.log.oldest_sequence
            self.follow_from = gone.oldest
        self.followed += page
        if page:
            self.follow_from = page[-1].first_sequence + page[-1].count
        assert len(page) <= records_max
        assert len(page) == 1 or sum(len(record.body) for record in page) <= bytes_max

    @rule(at=st.floats(0, 1))
    def read_anywhere(self, at: float) -> None:
        if self.records:
            first, count, body = self.records[int(at * (len(self.records) - 1))]
            sequence = first + count - 1
            if sequence >= self.oldest:
                assert self.log.read(sequence, records_max=1)[0] == (first, count, body)
            reader = self.log.reader()
            gone = None
            try:
                page = reader.read(sequence, records_max=1)
            except SequenceTrimmed as error:
                gone = error
            reader.close()
            if gone is None:
                assert page[0] == (first, count, body)
            else:
                assert gone.sequence == sequence < gone.oldest == self.log.oldest_sequence

    @precondition(lambda self: self.trimming is None and self.records)
    @rule(
        at=st.sampled_from([0.3, 0.6, 1.0]),
        failing=st.sampled_from(["", "unlink", "sync_directory"]),
        patience=st.integers(0, 2),
    )
    def begin_trim(self, at: float, failing: str, patience: int) -> None:
        # As after a snapshot: never beyond what is synced.
        self.snapshot = max(self.snapshot, int(at * self.log.synced_sequence))
        before = self.log.oldest_sequence
        self.trimming = self.log.begin_trim(self.snapshot + 1)
        self.oldest = max(self.oldest, self.log.oldest_sequence)
        assert self.log.oldest_sequence >= before
        if self.trimming is None:
            assert not self.left_files
        else:
            self.fs.failing, self.fs.patience = failing, patience
            self.trimming.run()
            self.fs.failing = ""

    @precondition(lambda self: self.trimming is not None)
    @rule()
    def finish_trim(self) -> None:
        job, self.trimming = self.trimming, None
        result = self.log.finish_trim(job)
        assert result.segments_removed == job.removed
        assert result.oldest_sequence == self.log.oldest_sequence
        self.left_files = job.error is not None
        if self.in_flight is None:
            there = sorted(name for name in os.listdir(self.directory) if name.endswith(".wal"))
            shown = [info.name for info in self.log.statistics.segments]
            assert there[-len(shown) :] == shown
            assert (len(there) > len(shown)) <= self.left_files

    @precondition(lambda self: self.in_flight is None)
    @rule(policy=st.sampled_from(POLICIES), segment=st.sampled_from([2048, 4096, 16384]))
    def close_and_open(self, policy: str, segment: int) -> None:
        self.records += self.appended
        next_sequence = self.log.next_sequence
        self.log.close()
        self.open(policy, segment)
        assert self.report.clean or self.log.statistics.segments[-1].record_bytes == 0
        assert self.log.next_sequence in (next_sequence, next_sequence + SEQUENCE_JUMP)

    @rule(policy=st.sampled_from(POLICIES), segment=st.sampled_from([2048, 4096, 16384]))
    def kill_and_open(self, policy: str, segment: int) -> None:
        # What was in flight had run to its end, so it is on the disk; what was only appended is gone.
        self.records += self.in_flight_records
        relaxed = self.policy.relaxed
        self.open(policy, segment)
        assert self.report.jumped == (SEQUENCE_JUMP if relaxed else 0)

    @invariant()
    def everything_is_there(self) -> None:
        if self.log is None:
            return
        expected = [record for record in self.records if record[0] + record[1] > self.oldest]
        got: list[Any] = []
        sequence = self.oldest
        while page := self.log.read(sequence):
            got += page
            sequence = page[-1].first_sequence + page[-1].count
        assert [tuple(record) for record in got] == expected
        assert self.log.next_sequence == self.next
        if self.followed:
            followed = {record[0]: record for record in self.records}
            assert all(tuple(record) == followed[record.first_sequence] for record in self.followed)

    def teardown(self) -> None:
        shutil.rmtree(self.directory)


TestLogMachine = LogMachine.TestCase
TestLogMachine.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
