"""The smallest host that a storage engine can have: a state that is the list of its records.

It does what the server does, in the same order: open the directory, the log, the newest snapshot, apply what
follows; then append and commit, take snapshots, compact, let the background syncs run. All of it
on a simulated file system, with a clock that only `tick` moves, and with every promise told to a `Shadow`.
"""

from __future__ import annotations

import contextlib
import marshal
from collections.abc import Sequence
from dataclasses import dataclass, field

from rstmdb_storage.commit import FsyncMode, FsyncPolicy
from rstmdb_storage.compaction import Retention, compact
from rstmdb_storage.config import LogConfig
from rstmdb_storage.datadir import DataDirectory
from rstmdb_storage.errors import DiskFull, LogPoisoned
from rstmdb_storage.interface import Commit
from rstmdb_storage.log import EmbeddedLog
from rstmdb_storage.snapshot import SnapshotFailed, SnapshotStore
from tests.simulation.filesystem import SimulatedFileSystem
from tests.simulation.history import Entry, Shadow, Violation

__all__ = ["Host", "Settings", "Stopped"]

DIRECTORY = "/data"
EPOCH_MS = 1_700_000_000_000


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a host is configured.

    Attributes:
        policy: When commits are synced.
        segment_bytes: The size of a segment; the smallest makes rotations cheap to reach.
        reserve_bytes: The log's reserve for a full disk.
        retention: The history that compaction leaves.
        capacity: The size of the disk.
    """

    policy: FsyncPolicy = field(default_factory=FsyncPolicy.every_write)
    segment_bytes: int = 2048
    reserve_bytes: int = 0
    retention: Retention = field(default_factory=lambda: Retention(bytes=0, seconds=0))
    capacity: int | None = None


class Stopped(Exception):  # noqa: N818 - the end of a process, not a mistake
    """The process has given up, as it must after a failed write or sync."""


class Host:
    """One process that uses the storage engine.

    Attributes:
        records: The state: every record that may be shown.
        refusals: How often the disk was full.
    """

    def __init__(self, fs: SimulatedFileSystem, settings: Settings, shadow: Shadow) -> None:
        self.fs = fs
        self.settings = settings
        self.shadow = shadow
        self.now = 1000.0
        self.records: list[Entry] = []
        self.refusals = 0
        self._acknowledged_at: list[float] = []
        self._number = 0

    # Start and end

    def open(self) -> None:
        """Recover, and hold what was found to the promises.

        Raises:
            Violation: A promise is broken.
            StorageError: The directory was refused.
            OSError: The disk failed.
        """
        self.data = DataDirectory.open(self.fs, DIRECTORY)
        self.store = SnapshotStore(self.fs, self.data.snapshots, now_ms=self.now_ms)
        infos = self.store.infos()
        settings = self.settings
        config = LogConfig(
            segment_bytes=settings.segment_bytes, fsync=settings.policy, reserve_bytes=settings.reserve_bytes
        )
        self.log, self.report = EmbeddedLog.open(
            self.fs,
            self.data.wal,
            config,
            snapshot_sequence=infos[-1].sequence if infos else 0,
            now=self.now,
            time_ms=self.now_ms(),
        )
        self.records = []
        reached = 0
        snapshot = self.store.newest(log_begins_at=self.log.oldest_sequence)
        if snapshot is not None:
            reached = snapshot.sequence
            for chunk in snapshot.chunks():
                self.records += [Entry(*fields) for fields in marshal.loads(chunk)]
            snapshot.close()
        self.records += self.read(reached + 1)
        self.shadow.judge(self.records, self.log.next_sequence)
        self._check_snapshots()
        left = [name for place in (self.data.wal, self.data.snapshots) for name in self.fs.list(place)]
        if any(name.endswith(".tmp") for name in left):
            raise Violation(f"what a crash has left unfinished stays: {left} (15)")
        self.check_history()
        self._acknowledged_at = [self.now] * len(self.records)
        self._number = len(self.records)

    def now_ms(self) -> int:
        """Return the wall clock."""
        return EPOCH_MS + int(self.now * 1000)

    def close(self) -> None:
        """End cleanly."""
        self.log.close()
        self.data.close()
        self.shadow.secure(self.shadow.acknowledged)

    # Writing

    def append(self, *sizes: int, lengths: Sequence[int] = (), filler: bytes = b"x") -> None:
        """Append records of these sizes and commit them as one group.

        Args:
            sizes: Bytes of each body; each begins with a text of its own.
            lengths: How many sequences each takes; one each when left out.
            filler: What fills the bodies.
        """
        for size, length in zip(sizes, lengths or [1] * len(sizes), strict=True):
            self._issue(size, length, filler)
        self.commit()

    def overlap(self, *sizes: int) -> None:
        """Append each record while the one before is being committed."""
        job = None
        for size in sizes:
            self._issue(size)
            if job is not None:
                self._run(job)
            job = self.log.begin_commit(self.now)
        self._run(job)
        self.poll()

    def commit(self) -> None:
        """Commit what is pending, and let due background work run."""
        self._run(self.log.begin_commit(self.now))
        self.poll()

    def _issue(self, size: int, length: int = 1, filler: bytes = b"x") -> None:
        self._number += 1
        body = b"%d:%d." % (self._number, self.log.epoch)
        body += filler * (size - len(body))
        try:
            first = self.log.append(body, length)
        except DiskFull:
            self.refusals += 1
        else:
            self.shadow.issue(first, length, body)

    def poll(self) -> None:
        """Run the background sync if one is due."""
        due = self.log.sync_due_in(self.now)
        if due is not None and due <= 0:
            self._run(self.log.begin_sync(self.now))
        self._secure_by_policy()

    def sync(self) -> None:
        """Make everything that was committed safe."""
        self._run(self.log.begin_sync(self.now, force=True))
        self.shadow.secure(self.shadow.acknowledged)

    def tick(self, seconds: float) -> None:
        """Let time pass, and the background work of that time run."""
        self.now += seconds
        self.poll()

    def _run(self, job: Commit | None) -> None:
        if job is None:
            return
        job.run()
        try:
            durable = self.log.finish_commit(job)
        except LogPoisoned:
            self._check_poison()
            raise Stopped from None
        before = self.shadow.acknowledged
        self.shadow.acknowledge(durable)
        self.records += self.shadow.issued[len(self.records) : self.shadow.acknowledged]
        self._acknowledged_at += [self.now] * (self.shadow.acknowledged - before)
        self._secure_by_policy()

    def prepare(self) -> None:
        """Prepare the next segment, as hosts do off the loop."""
        job = self.log.segment_to_prepare()
        if job is not None:
            job.run()
            self.log.finish_preparation(job)

    def _check_poison(self) -> None:
        """See that a poisoned log takes nothing, promises nothing, and can still be read."""
        before = self.log.durable_sequence
        try:
            self.log.append(b"after the failure", 1)
        except LogPoisoned:
            pass
        else:
            raise Violation("a poisoned log has taken a record (10)")
        jobs = [self.log.begin_commit(self.now), self.log.begin_sync(self.now + 9, force=True)]
        if any(jobs) or self.log.durable_sequence != before:
            raise Violation("a poisoned log goes on (10)")
        self.check_history()
        with contextlib.suppress(LogPoisoned):
            self.log.close()

    def _secure_by_policy(self) -> None:
        """Promise what the documentation of the policy promises."""
        shadow, policy = self.shadow, self.settings.policy
        if policy.mode is FsyncMode.EVERY_WRITE:
            shadow.secure(shadow.acknowledged)
        elif policy.mode is FsyncMode.EVERY_N:
            shadow.secure(shadow.acknowledged - policy.amount + 1)
        elif policy.mode is FsyncMode.EVERY_MS:
            limit = self.now - policy.amount / 1000
            shadow.secure(sum(1 for at in self._acknowledged_at if at <= limit))

    # Snapshots and compaction

    def snapshot(self) -> bool:
        """Take a snapshot of the state; say whether it succeeded."""
        sequence = self.records[-1].last_sequence if self.records else 0
        if self.log.synced_sequence < sequence:
            self.sync()
        self.shadow.attempted |= {sequence}
        try:
            writer = self.store.begin(sequence, metadata=b"about")
            half = (len(self.records) + 1) // 2
            for part in (self.records[:half], self.records[half:]):
                writer.write(marshal.dumps([tuple(entry) for entry in part]))
            writer.finish()
        except (DiskFull, SnapshotFailed):
            return False
        self.shadow.secure(len(self.records))
        self.shadow.snapshots = (*self.shadow.snapshots, sequence)
        return True

    def compact(self) -> int:
        """Trim the log as far as it is allowed; return how many segments went."""
        # Set before, as a crash may come in the middle: what may go, may be gone.
        kept = sorted(set(self.shadow.snapshots))[-2:]
        if len(kept) == 2:
            self.shadow.trimmed = max(self.shadow.trimmed, kept[0] + 1)
        result = compact(self.log, self.store, self.settings.retention, now_ms=self.now_ms())
        self.check_history()
        return result.segments_deleted

    # Looking

    def read(self, from_sequence: int) -> list[Entry]:
        """Read the log from a sequence on, a little at a time."""
        entries: list[Entry] = []
        reader = self.log.reader()
        try:
            while batch := reader.read(from_sequence, bytes_max=1000, records_max=3):
                entries += [Entry(*record) for record in batch]
                from_sequence = batch[-1].first_sequence + batch[-1].count
        finally:
            reader.close()
        return entries

    def _check_snapshots(self) -> None:
        """See that no crash has damaged a snapshot, and that the two newest finished ones are there."""
        if self.store.damage:
            raise Violation(f"a crash has left a damaged snapshot: {self.store.damage[0]} (12)")
        finished = sorted(set(self.shadow.snapshots))[-2:]
        found = [info.sequence for info in self.store.infos()]
        if finished and sum(1 for sequence in found if sequence >= finished[0]) < len(finished):
            raise Violation(f"of the finished snapshots {finished} there are only {found} (13)")
        if not set(found) <= self.shadow.attempted:
            raise Violation(f"of the snapshots {found} some were never begun (2)")
        # One whose end nobody saw, as its process died or a sync failed, counts from here on.
        self.shadow.snapshots = tuple(sorted({*self.shadow.snapshots, *found}))

    def check_history(self) -> None:
        """Hold all that the log can still show to what was issued, and the state likewise."""
        oldest = self.log.oldest_sequence
        shadow = self.shadow
        visible = shadow.copy()
        visible.issued = shadow.issued[: shadow.acknowledged]
        visible.judge_history(oldest, self.read(oldest))
        if tuple(self.records) != visible.issued:
            raise Violation("the state is not the fold of the log (3)")
