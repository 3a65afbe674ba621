"""The embedded log: one writer, segments on a local disk.

Where things are while records come in::

    append ─▶ pending ─begin_commit─▶ SegmentCommit.run ─finish_commit─▶ published to readers
                                        │ pwrite, fdatasync
              ┌─────────────────────────▼──────────────────────────────────┐   ┌──────────────┐
    segments  │ header │ frame │ frame │ ... │ zeros         │ for control │   │ next segment │
              └──────────────────────────▲─────────────────▲───────────────┘   └──────────────┘
                                     position          group end                 has its blocks

The states: *open*, *poisoned* (a write or a sync has failed; nothing but reading and closing is left, and
nothing is ever tried again), *closed*. A full disk is not a state of the log: an append is refused, the next
one may succeed (`rstmdb_storage.space`).

This module owns the positions, the sequences and what is durable. Bytes are laid out in `record` and
`segment`, blocking work is done in `jobs`, the end of the log is found in `recovery`.
"""

from __future__ import annotations

from collections.abc import Callable

from rstmdb_storage.config import LogConfig
from rstmdb_storage.errors import LogClosed, LogPoisoned
from rstmdb_storage.filesystem import FileSystem
from rstmdb_storage.interface import Commit, LogRecord, LogStatistics, SegmentInfo, TrimResult
from rstmdb_storage.jobs import Preparation, Rotation, SegmentCommit, Trimming
from rstmdb_storage.opening import Opened, open_log
from rstmdb_storage.reader import READ_BYTES_MAX, READ_RECORDS_MAX, Published, SegmentReader
from rstmdb_storage.record import (
    CONTROL_FRAME_BYTES,
    FLAG_RELAXED,
    FRAME_HEADER_BYTES,
    KIND_CLOSE,
    KIND_MARK,
    encode_control,
    frame_bytes,
    group_body_bytes,
)
from rstmdb_storage.recovery import Progress, RecoveryReport
from rstmdb_storage.schedule import SyncSchedule
from rstmdb_storage.segment import (
    CONTROL_RESERVE_BYTES,
    SEGMENT_HEADER_BYTES,
    Segment,
    SegmentHeader,
    segment_name,
)

__all__ = ["RECORD_BYTES_MAX", "EmbeddedLog"]

RECORD_BYTES_MAX = 256 << 20
"""Far above what a request may carry; a frame's length must fit 32 bits."""
_GROUP_BYTES_MAX = 1 << 31
# What a frame adds to its group's bytes at most, and to each record: a length and a count.
_FRAME_OVERHEAD = FRAME_HEADER_BYTES + 8
_RECORD_OVERHEAD = 8
_NOTHING: list[bytes] = []


class EmbeddedLog:
    """A `Log` of segments in a directory; see the protocol for what each method promises.

    Attributes:
        next_sequence: The sequence that the next effect takes.
        durable_sequence: The last that may be shown.
        synced_sequence: The last that a power loss cannot take.
        epoch: The fencing epoch of this open.
        pending_bytes: About the bytes that the next commit will write.
        time_ms: The host's time of the newest record; goes into segment headers.
    """

    __slots__ = (
        "_active",
        "_bodies",
        "_bytes_written",
        "_closed",
        "_config",
        "_counts",
        "_directory",
        "_doomed",
        "_file",
        "_file_bytes",
        "_flags",
        "_fs",
        "_group_end",
        "_in_flight",
        "_last_effect",
        "_limit",
        "_own_reader",
        "_pending_first",
        "_poison",
        "_position",
        "_published",
        "_schedule",
        "_space",
        "_synced_bytes",
        "_syncs",
        "_trimming",
        "_writes",
        "durable_sequence",
        "epoch",
        "next_sequence",
        "pending_bytes",
        "synced_sequence",
        "time_ms",
    )

    def __init__(
        self, fs: FileSystem, directory: str, config: LogConfig, opened: Opened, *, now: float, time_ms: int
    ) -> None:
        """Go on writing a log that was opened; `open` is the way to get one."""
        self._fs = fs
        self._directory = directory
        self._config = config
        self._space = opened.space
        self._active = opened.segments[-1].header
        self._file = opened.file
        self._file_bytes = opened.file_bytes
        self._group_end = opened.file_bytes - CONTROL_RESERVE_BYTES
        self._position = opened.position
        self._synced_bytes = opened.position
        self._last_effect = opened.last_sequence
        self._flags = FLAG_RELAXED if config.fsync.relaxed else 0
        self.epoch = opened.epoch
        self.next_sequence = opened.next_sequence
        self.durable_sequence = opened.next_sequence - 1
        self.synced_sequence = opened.next_sequence - 1
        self.time_ms = time_ms or self._active.time_ms
        self._bodies: list[bytes] = []
        self._counts: list[int] = []
        self._pending_first = opened.next_sequence
        self.pending_bytes = 0
        self._in_flight: SegmentCommit | None = None
        self._trimming: Trimming | None = None
        # Files that are no longer part of the log, oldest first, and the bytes each takes up: what a trim
        # that failed could not remove, the next one tries again.
        self._doomed: tuple[tuple[str, int], ...] = ()
        self._poison: LogPoisoned | None = None
        self._closed = False
        # What was recovered is proven by the new epoch: nothing to mark.
        self._schedule = SyncSchedule(config.fsync, config.idle_seconds)
        self._schedule.note_time(now)
        self._bytes_written = 0
        self._writes = 0
        self._syncs = 0
        self._published = Published((self.durable_sequence, tuple(opened.segments), opened.position))
        self._own_reader = SegmentReader(fs, self._published)
        self._limit = self._room()

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
    def disk_full(self) -> bool:
        """Whether the last record was refused for want of space."""
        return self._space.disk_full

    def append(self, body: bytes, count: int) -> int:
        """Buffer a record; see `Log.append`."""
        pending = self.pending_bytes + len(body) + _RECORD_OVERHEAD
        if pending > self._limit:
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
        if not bodies or self._in_flight is not None or self._limit < 0:
            return None
        records = len(bodies)
        first = self._pending_first
        last = self.next_sequence - 1
        commit = self._new_commit(last)
        commit.bodies = bodies
        commit.counts = self._counts
        commit.first_sequence = first
        size = frame_bytes(
            group_body_bytes(records, last - first + 1, self.pending_bytes - _RECORD_OVERHEAD * records)
        )
        if self._position + size > self._group_end:
            commit.rotation = self._rotation(first)
            commit.file = self._file
            commit.synced_bytes = self._synced_bytes
            commit.durable_sequence = first - 1
        commit.position = self._position
        commit.sync = self._schedule.wants_sync(records, last - self.synced_sequence, now)
        self._position += size
        self._last_effect = last
        self._bodies = []
        self._counts = []
        self._pending_first = last + 1
        self.pending_bytes = 0
        self._limit = self._room()
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
            raise self._poisoned(done.error)
        durable, segments, _ = self._published.state
        end = done.position
        if done.rotation is not None:
            segments = self._rotated(done.rotation, segments)
        if done.bodies:
            segments[-1].remember(done.first_sequence, end, self.epoch)
            end += done.bytes_written
            durable = done.last_sequence
            self._schedule.committed(len(done.bodies), synced=done.sync)
            self._bytes_written += done.bytes_written
            self._writes += 1
        if done.sync:
            self._syncs += 1
            self._synced(durable, end)
        if done.mark:
            end += CONTROL_FRAME_BYTES
            self._bytes_written += CONTROL_FRAME_BYTES
            self._writes += 1
            self._syncs += 1
            self._schedule.marked = True
            self._synced(durable, end)
        self.durable_sequence = durable
        self._published.state = (durable, segments, end)
        return durable

    def sync_due_in(self, now: float) -> float | None:
        """Return in how many seconds `begin_sync` has something to do; see `Log.sync_due_in`."""
        if self._limit < 0:
            return None
        self._schedule.note_time(now)
        due = self._schedule.sync_due_at()
        mark = self._mark_due_at()
        if due is None or (mark is not None and mark < due):
            due = mark
        return None if due is None else max(0.0, due - now)

    def begin_sync(self, now: float, *, force: bool = False) -> SegmentCommit | None:
        """Begin the background sync that is due; see `Log.begin_sync`."""
        if self._limit < 0 or self._in_flight is not None:
            return None
        self._schedule.note_time(now)
        due = self._schedule.sync_due_at()
        mark_at = self._mark_due_at()
        mark = mark_at is not None and now >= mark_at and not self._bodies
        sync = self._schedule.unsynced_records > 0 and (force or mark or (due is not None and now >= due))
        if not (sync or mark):
            return None
        commit = self._new_commit(self.durable_sequence)
        commit.sync = sync
        if mark:
            self._add_mark(commit, KIND_MARK)
            # The mark takes room that records were promised; the next append has to look again.
            self._limit = self._room()
        self._in_flight = commit
        return commit

    # Reading and trimming

    @property
    def oldest_sequence(self) -> int:
        """The oldest sequence that can be read."""
        return self._published.state[1][0].header.first_sequence

    def read(
        self,
        from_sequence: int,
        *,
        bytes_max: int = READ_BYTES_MAX,
        records_max: int = READ_RECORDS_MAX,
    ) -> list[LogRecord]:
        """Read durable records; see `LogReader.read`."""
        return self._own_reader.read(from_sequence, bytes_max=bytes_max, records_max=records_max)

    def reader(self) -> SegmentReader:
        """Return a cursor of its own."""
        return SegmentReader(self._fs, self._published)

    def trim(self, before_sequence: int) -> TrimResult:
        """Drop the sealed segments below a sequence; see `Log.trim`.

        Raises:
            OSError: A file could not be removed. It and those after it are no longer read all the same;
                the next trim tries again, and until then a restart finds them as a part of the log.
        """
        job = self.begin_trim(before_sequence)
        if job is None:
            return TrimResult(segments_removed=0, bytes_reclaimed=0, oldest_sequence=self.oldest_sequence)
        job.run()
        result = self.finish_trim(job)
        if job.error is not None:
            raise job.error
        return result

    def begin_trim(self, before_sequence: int) -> Trimming | None:
        """Drop the sealed segments below a sequence; return the job that removes their files, if any.

        They stop being part of the log here, before the first file goes: a reader that meets a missing file
        finds that `oldest_sequence` says so already. Run the job off the loop.
        """
        assert self._trimming is None, "a trim is under way"
        durable, segments, end = self._published.state
        count = 0
        while count + 1 < len(segments) and segments[count + 1].header.first_sequence <= before_sequence:
            count += 1
        if count:
            self._doomed += tuple((segment.path, segment.header.file_bytes) for segment in segments[:count])
            self._published.state = (durable, segments[count:], end)
        if self._doomed:
            self._trimming = Trimming(self._fs, self._directory, self._doomed)
        return self._trimming

    def finish_trim(self, job: Trimming) -> TrimResult:
        """Take note of what a trim has removed; `job.error` says why it stopped early, if it did."""
        assert job is self._trimming, "a trim is finished that was not begun"
        self._trimming = None
        self._doomed = self._doomed[job.removed :]
        return TrimResult(
            segments_removed=job.removed,
            bytes_reclaimed=job.bytes_reclaimed,
            oldest_sequence=self.oldest_sequence,
        )

    @property
    def statistics(self) -> LogStatistics:
        """The figures of the log."""
        durable, segments, end = self._published.state
        infos = []
        for at, segment in enumerate(segments):
            header = segment.header
            following = segments[at + 1].header if at + 1 < len(segments) else None
            last = durable if following is None else following.after_sequence
            infos.append(
                SegmentInfo(
                    name=segment_name(header.number),
                    first_sequence=header.first_sequence,
                    last_sequence=max(last, header.first_sequence - 1),
                    record_bytes=(end if following is None else following.previous_end)
                    - SEGMENT_HEADER_BYTES,
                    file_bytes=header.file_bytes,
                    newest_ms=self.time_ms if following is None else following.time_ms,
                    sealed=following is not None,
                )
            )
        return LogStatistics(
            bytes_written=self._bytes_written,
            bytes_read=self._published.bytes_read,
            writes=self._writes,
            reads=self._published.reads,
            syncs=self._syncs,
            total_bytes=sum(info.record_bytes for info in infos),
            segments=tuple(infos),
        )

    # Space

    def segment_to_prepare(self) -> Preparation | None:
        """Return the job that prepares the next segment, when it is time; run it off the loop."""
        if self._limit < 0 or self._position * 2 < self._group_end:
            return None
        return self._space.to_prepare()

    def finish_preparation(self, job: Preparation) -> None:
        """Take what a preparation has made; a disk that was full is no error, the segment is made later.

        Raises:
            OSError: The disk fails.
        """
        self._space.finish_preparation(job)
        if self._closed:
            self._space.close()
        elif self._poison is None:
            self._limit = self._room()

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
        if self._closed:
            return
        assert self._in_flight is None, "the log is closed while a commit is in flight"
        try:
            if self._poison is None:
                while (commit := self.begin_commit()) is not None:
                    commit.run()
                    self.finish_commit(commit)
                commit = self._new_commit(self.durable_sequence)
                commit.sync = self._schedule.unsynced_records > 0
                if self._position + CONTROL_FRAME_BYTES <= self._file_bytes:
                    self._add_mark(commit, KIND_CLOSE)
                self._in_flight = commit
                commit.run()
                self.finish_commit(commit)
        finally:
            self._closed = True
            self._limit = -1
            self._published.closed = True
            self._own_reader.close()
            self._file.close()
            self._space.close()

    # Inside

    def _room(self) -> int:
        """Return how many bytes may be pending before `_make_room` has to look."""
        room = self._group_end - self._position
        if self._space.prepared is not None:
            room = max(room, self._space.prepared.size - CONTROL_RESERVE_BYTES - SEGMENT_HEADER_BYTES)
        return max(0, room - _FRAME_OVERHEAD)

    def _make_room(self, pending: int, body_bytes: int) -> None:
        """Reserve space for a group of `pending` bytes, or refuse the record that makes it so large."""
        if self._poison is not None:
            raise LogPoisoned(self._poison.reason)
        if self._closed:
            raise LogClosed
        if body_bytes > RECORD_BYTES_MAX:
            raise ValueError(f"a record of {body_bytes} bytes is above the limit of {RECORD_BYTES_MAX}")
        assert pending < _GROUP_BYTES_MAX, "more is appended than a frame can hold; commit sooner"
        needed = pending + _FRAME_OVERHEAD + SEGMENT_HEADER_BYTES + CONTROL_RESERVE_BYTES
        self._space.require(max(self._config.segment_bytes, (needed + 4095) & ~4095))
        self._limit = self._room()

    def _new_commit(self, last_sequence: int) -> SegmentCommit:
        commit = SegmentCommit()
        commit.bodies = _NOTHING
        commit.last_sequence = last_sequence
        commit.durable_sequence = self.synced_sequence
        commit.synced_bytes = self._synced_bytes
        commit.epoch = self.epoch
        commit.flags = self._flags
        commit.file = self._file
        commit.position = self._position
        commit.rotation = None
        commit.sync = False
        commit.mark = b""
        commit.bytes_written = 0
        commit.error = None
        commit.done = False
        return commit

    def _rotation(self, first_sequence: int) -> Rotation:
        """Plan to go over to the next segment; from here on positions are in that one."""
        prepared = self._space.take()
        header = SegmentHeader(
            number=self._active.number + 1,
            first_sequence=first_sequence,
            after_sequence=self._last_effect,
            epoch=self.epoch,
            file_bytes=prepared.size,
            previous_end=self._position,
            time_ms=self.time_ms,
            flags=self._flags,
        )
        before = self._file
        rotation = Rotation(self._fs, self._directory, before, prepared, header)
        self._active = header
        self._file = prepared.file
        self._position = SEGMENT_HEADER_BYTES
        self._synced_bytes = SEGMENT_HEADER_BYTES
        self._file_bytes = prepared.size
        self._group_end = prepared.size - CONTROL_RESERVE_BYTES
        return rotation

    def _rotated(self, rotation: Rotation, segments: tuple[Segment, ...]) -> tuple[Segment, ...]:
        """Take note of a rotation that was made; all before it is synced."""
        rotation.before.close()
        segments[-1].end = rotation.header.previous_end
        self.synced_sequence = rotation.header.first_sequence - 1
        self._schedule.synced()
        self._syncs += 2
        self._writes += 1
        self._bytes_written += SEGMENT_HEADER_BYTES
        return (*segments, Segment(rotation.path, rotation.header, None))

    def _synced(self, sequence: int, end: int) -> None:
        """Take note that everything up to a sequence, and to a position of the active file, is synced."""
        self.synced_sequence = sequence
        self._synced_bytes = end
        self._schedule.synced()

    def _mark_due_at(self) -> float | None:
        """Return when a mark is due, if there is a place for it."""
        # The last few places of a segment are for epochs and the mark of a clean close.
        if self._position + CONTROL_FRAME_BYTES > self._file_bytes - CONTROL_RESERVE_BYTES // 2:
            return None
        return self._schedule.mark_due_at()

    def _add_mark(self, commit: SegmentCommit, kind: int) -> None:
        """Let a sync end with a mark."""
        commit.mark = encode_control(
            kind,
            next_sequence=self.next_sequence,
            durable_sequence=self.next_sequence - 1,
            synced_bytes=self._position,
            epoch=self.epoch,
            flags=self._flags,
        )
        commit.mark_position = self._position
        self._position += CONTROL_FRAME_BYTES

    def _poisoned(self, error: Exception) -> LogPoisoned:
        self._poison = LogPoisoned(f"{type(error).__name__}: {error}")
        self._poison.__cause__ = error
        self._limit = -1
        return self._poison
