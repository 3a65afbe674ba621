"""The embedded log: the life of records, from when they are appended to when they may be shown.

::

    append ─▶ pending ─begin_commit─▶ in flight: one job ─finish_commit─▶ published to readers
                                        run, anywhere:
                                        write, sync

    OPEN ──a write or sync has failed──▶ POISONED   nothing but reading, trimming and closing is left, and
      │                                     │       nothing is ever tried again
      └───────────────▶ CLOSED ◀────────────┘

A full disk is not a state of the log: an append is refused, the next one may succeed (`space`).

This module owns the sequences, what is pending and what is durable. Where frames go is the matter of
`writer`, when to sync that of `schedule`; `jobs` does what blocks, `opening` finds the end of the log.
"""

from __future__ import annotations

from collections.abc import Callable

from rstmdb_storage.config import LogConfig
from rstmdb_storage.errors import LogClosed, LogPoisoned
from rstmdb_storage.filesystem import FileSystem
from rstmdb_storage.interface import Commit, LogRecord, LogStatistics, TrimResult
from rstmdb_storage.jobs import Preparation, SegmentCommit
from rstmdb_storage.opening import Opened, RecoveryReport, open_log
from rstmdb_storage.published import Published
from rstmdb_storage.reader import READ_BYTES_MAX, READ_RECORDS_MAX, SegmentReader
from rstmdb_storage.schedule import SyncSchedule
from rstmdb_storage.statistics import Traffic, log_statistics
from rstmdb_storage.tail import Progress
from rstmdb_storage.trimming import Trimmer, Trimming
from rstmdb_storage.writer import RECORD_OVERHEAD_BYTES, SegmentWriter

__all__ = ["EmbeddedLog"]


class EmbeddedLog:
    """A `Log` of segments in a directory; see the protocol for what each method promises.

    Attributes:
        next_sequence: The sequence that the next effect takes.
        durable_sequence: The last that may be shown.
        epoch: The fencing epoch of this open.
        pending_bytes: About the bytes that the next commit will write.
        time_ms: The host's time of the newest record; goes into segment headers.
    """

    def __init__(
        self, fs: FileSystem, directory: str, config: LogConfig, opened: Opened, *, now: float, time_ms: int
    ) -> None:
        """Go on writing a log that was opened; `open` is the way to get one."""
        self.epoch = opened.report.epoch
        self.next_sequence = opened.report.next_sequence
        self.durable_sequence = self.next_sequence - 1
        self.time_ms = time_ms or opened.segments[-1].header.time_ms
        self.pending_bytes = 0
        self._fs = fs
        self._bodies: list[bytes] = []
        self._counts: list[int] = []
        self._in_flight: SegmentCommit | None = None
        self._poison: str | None = None
        self._schedule = SyncSchedule(config.fsync, config.idle_seconds)
        self._schedule.note_time(now)
        self._space = opened.space
        self._writer = SegmentWriter(fs, directory, config, opened)
        # What `pending_bytes` may come to without another look; below 0 once nothing is appended any more.
        self._room = self._writer.room()
        self._traffic = Traffic()
        self._published = Published((self.durable_sequence, tuple(opened.segments), opened.position))
        self._own_reader = SegmentReader(fs, self._published, self._traffic)
        self._trimmer = Trimmer(fs, directory, self._published)

    @classmethod
    def open(
        cls,
        fs: FileSystem,
        directory: str,
        config: LogConfig | None = None,
        *,
        snapshot_sequence: int = 0,
        first_sequence: int = 1,
        now: float = 0.0,
        time_ms: int = 0,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> tuple[EmbeddedLog, RecoveryReport]:
        """Recover the log in a directory, or create one there.

        The directory must exist, and its lock must be held.

        Args:
            fs: The file system.
            directory: Where the segments are.
            config: The settings.
            snapshot_sequence: The last sequence that the newest good snapshot holds; 0 without one.
            first_sequence: Where a log that is created begins (after a restore or an import).
            now: Monotonic seconds.
            time_ms: The host's wall clock in ms, for the header of a segment that is created.
            on_progress: Called while the last segment is read.

        Raises:
            CorruptionError: The log is damaged; nothing was changed.
            FormatError: It is of a format that this version does not read.
            DiskFull: There is not even space to begin.
            OSError: The disk fails.
        """
        config = config or LogConfig()
        opened = open_log(
            fs,
            directory,
            config,
            snapshot_sequence=snapshot_sequence,
            first_sequence=first_sequence,
            time_ms=time_ms,
            on_progress=on_progress,
        )
        return cls(fs, directory, config, opened, now=now, time_ms=time_ms), opened.report

    # Writing

    @property
    def pending_records(self) -> int:
        """The records that the next commit will write."""
        return len(self._bodies)

    @property
    def synced_sequence(self) -> int:
        """The last sequence that a power loss cannot take."""
        return self._writer.synced_sequence

    def append(self, body: bytes, count: int) -> int:
        """Buffer a record; see `Log.append`."""
        pending = self.pending_bytes + len(body) + RECORD_OVERHEAD_BYTES
        if pending > self._room:
            self._make_room(pending, len(body))
        assert count > 0
        self.pending_bytes = pending
        first = self.next_sequence
        self.next_sequence = first + count
        self._bodies.append(body)
        self._counts.append(count)
        return first

    def begin_commit(self, now: float | None = None) -> SegmentCommit | None:
        """Take everything that is pending as one group; see `Log.begin_commit`."""
        bodies = self._bodies
        if not bodies or self._in_flight is not None or self._room < 0:
            return None
        last = self.next_sequence - 1
        writer = self._writer
        sync = self._schedule.wants_sync(len(bodies), last - writer.synced_sequence, now)
        commit = writer.group(bodies, self._counts, last, sync, self.time_ms)
        self._bodies = []
        self._counts = []
        self.pending_bytes = 0
        self._room = writer.room()
        self._in_flight = commit
        return commit

    def finish_commit(self, commit: Commit) -> int:
        """Take note of a commit or sync that has run; see `Log.finish_commit`."""
        done = self._in_flight
        assert done is not None, "a commit is finished, and none is in flight"
        assert commit is done, "a commit is finished that is not in flight"
        assert done.done, "a commit is finished that has not run"
        self._in_flight = None
        if done.error is not None:
            self._poison = f"{type(done.error).__name__}: {done.error}"
            self._room = -1
            raise LogPoisoned(self._poison) from done.error
        _, segments, _ = self._published.state
        if done.rotation is not None:
            segments[-1].end = done.rotation.header.previous_end
            segments = (*segments, self._writer.rotated(done.rotation))
            self._schedule.synced()
        if done.records:
            segments[-1].remember(self.durable_sequence + 1, done.position, self.epoch)
            self._schedule.committed(done.records)
        elif done.data:
            # A mark: nothing else without records writes anything.
            self._schedule.marked = True
        durable = done.last_sequence
        end = done.position + len(done.data)
        if done.sync:
            self._schedule.synced()
            self._writer.synced(durable, end)
        self._traffic.committed(done)
        self._published.state = (durable, segments, end)
        self.durable_sequence = durable
        return durable

    def sync_due_in(self, now: float) -> float | None:
        """Return in how many seconds `begin_sync` has something to do; see `Log.sync_due_in`."""
        if self._room < 0:
            return None
        self._schedule.note_time(now)
        due = self._schedule.due_at(may_mark=self._writer.mark_fits)
        return None if due is None else max(0.0, due - now)

    def begin_sync(self, now: float, *, force: bool = False) -> SegmentCommit | None:
        """Begin the background sync that is due; see `Log.begin_sync`."""
        if self._room < 0 or self._in_flight is not None:
            return None
        schedule, writer = self._schedule, self._writer
        schedule.note_time(now)
        unsynced = schedule.unsynced_records > 0
        if not self._bodies and writer.mark_fits and schedule.mark_is_due(now):
            self._in_flight = writer.mark(sync_first=unsynced)
            # The mark takes room that records were promised; the next append has to look again.
            self._room = writer.room()
        elif unsynced and (force or schedule.sync_is_due(now)):
            self._in_flight = writer.sync()
        return self._in_flight

    # Reading and trimming

    @property
    def oldest_sequence(self) -> int:
        """The oldest sequence that can be read."""
        return self._published.oldest_sequence

    @property
    def bytes_written(self) -> int:
        """The bytes given to the disk since the log was opened."""
        return self._traffic.bytes_written

    @property
    def statistics(self) -> LogStatistics:
        """The figures of the log."""
        return log_statistics(self._traffic, self._published, time_ms=self.time_ms)

    def read(
        self, from_sequence: int, *, bytes_max: int = READ_BYTES_MAX, records_max: int = READ_RECORDS_MAX
    ) -> list[LogRecord]:
        """Read durable records; see `LogReader.read`."""
        return self._own_reader.read(from_sequence, bytes_max=bytes_max, records_max=records_max)

    def reader(self) -> SegmentReader:
        """Return a cursor of its own."""
        return SegmentReader(self._fs, self._published, self._traffic)

    def trim(self, before_sequence: int) -> TrimResult:
        """Drop the sealed segments below a sequence; see `Log.trim`.

        Raises:
            OSError: A file could not be removed. It and those after it are no longer read all the same;
                the next trim tries again, and until then a restart finds them as a part of the log.
        """
        return self._trimmer.trim(before_sequence)

    def begin_trim(self, before_sequence: int) -> Trimming | None:
        """Drop the sealed segments below a sequence; return the job that removes their files, if any.

        They stop being part of the log here, before the first file goes: a reader that meets a missing file
        finds that `oldest_sequence` says so already. Run the job off the loop.
        """
        return self._trimmer.begin(before_sequence)

    def finish_trim(self, job: Trimming) -> TrimResult:
        """Take note of what a trim has removed; `job.error` says why it stopped early, if it did."""
        return self._trimmer.finish(job)

    # Space

    @property
    def disk_full(self) -> bool:
        """Whether the last record was refused for want of space."""
        return self._space.disk_full

    def segment_to_prepare(self) -> Preparation | None:
        """Return the job that prepares the next segment, when it is time; run it off the loop."""
        if self._room < 0 or not self._writer.half_full:
            return None
        return self._space.to_prepare()

    def finish_preparation(self, job: Preparation) -> None:
        """Take what a preparation has made; a disk that was full is no error, the segment is made later.

        Raises:
            OSError: The disk fails.
        """
        self._space.finish_preparation(job)
        if self._room >= 0:
            self._room = self._writer.room()

    def release_reserve(self) -> bool:
        """Give up the reserve, so that a snapshot and a compaction can run; say whether there was one."""
        return self._space.release_reserve()

    def restore_reserve(self) -> bool:
        """Set the reserve aside again if there is space; say whether it is there."""
        return self._space.restore_reserve()

    # The end

    def close(self) -> None:
        """Commit what is pending, sync, mark the end as clean; see `Log.close`.

        Raises:
            LogPoisoned: That failed. Everything has been given back all the same.
        """
        if self._published.closed:
            return
        assert self._in_flight is None, "the log is closed while a commit is in flight"
        try:
            if self._poison is None:
                if (commit := self.begin_commit()) is not None:
                    commit.run()
                    self.finish_commit(commit)
                unsynced = self._schedule.unsynced_records > 0
                self._in_flight = commit = self._writer.close_mark(sync_first=unsynced)
                commit.run()
                self.finish_commit(commit)
        finally:
            self._published.closed = True
            self._room = -1
            self._own_reader.close()
            self._writer.close()
            self._space.close()

    # Inside

    def _make_room(self, pending: int, body_bytes: int) -> None:
        """Reserve space for a group of `pending` bytes, or refuse the record that makes it so large."""
        if self._poison is not None:
            raise LogPoisoned(self._poison)
        if self._published.closed:
            raise LogClosed
        self._writer.make_room(pending, record_bytes=body_bytes)
        self._room = self._writer.room()
