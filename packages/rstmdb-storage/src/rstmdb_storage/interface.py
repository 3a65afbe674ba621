"""The log as everything above it sees it.

Nothing here knows of files. The embedded log of segments (`rstmdb_storage.log`) is one implementation; a
replicated log will be another, and the conformance tests hold for each.

The life of a record::

    append ──▶ pending ──begin_commit──▶ in flight ──run──▶ stored ──finish_commit──▶ durable: may be shown
                  │                          │
        DiskFull: nothing was appended       failed: LogPoisoned, for ever; the outcome is unknown

`append`, `begin_*`, `finish_*` and the attributes belong to one thread, the loop's. `run` of a job may be
called in any thread, or at once; it blocks and touches nothing shared. One commit is in flight at a time;
what is appended meanwhile goes into the next. Nothing may be read or shown above `durable_sequence`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

__all__ = ["Commit", "Log", "LogReader", "LogRecord", "LogStatistics", "SegmentInfo", "TrimResult"]


class LogRecord(NamedTuple):
    """One record as it was appended.

    Attributes:
        first_sequence: The sequence of its first effect.
        count: How many sequences it takes.
        body: Its bytes, opaque here.
    """

    first_sequence: int
    count: int  # type: ignore[assignment]  # hides `tuple.count`, which nobody wants here
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentInfo:
    """One piece of the log, the unit that `Log.trim` drops.

    Attributes:
        name: Of the file, or whatever names it.
        first_sequence: The sequence of its first effect.
        last_sequence: The sequence of its last durable effect; below `first_sequence` when it is empty.
        record_bytes: The bytes of its frames, without what is only reserved.
        file_bytes: The bytes that it takes up.
        newest_ms: The host's time when its last record was written (see `Log.time_ms`).
        sealed: Whether it is finished.
    """

    name: str
    first_sequence: int
    last_sequence: int
    record_bytes: int
    file_bytes: int
    newest_ms: int
    sealed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LogStatistics:
    """Figures of the log; the first five count since it was opened.

    A segment that was trimmed is not in them, even if its file could not be removed yet.

    Attributes:
        bytes_written: Bytes given to the disk.
        bytes_read: Bytes asked back from it.
        writes: Write calls.
        reads: Read calls.
        syncs: Syncs of files.
        total_bytes: Bytes of frames in all segments.
        segments: Oldest first; the last one is active.
    """

    bytes_written: int
    bytes_read: int
    writes: int
    reads: int
    syncs: int
    total_bytes: int
    segments: tuple[SegmentInfo, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrimResult:
    """What a trim did.

    Attributes:
        segments_removed: How many segments are gone from the disk, with those that an earlier trim left.
        bytes_reclaimed: The bytes they took up.
        oldest_sequence: The oldest sequence that can still be read.
    """

    segments_removed: int
    bytes_reclaimed: int
    oldest_sequence: int


class Commit(Protocol):
    """The blocking part of a commit or of a sync."""

    @property
    def last_sequence(self) -> int:
        """The last sequence that is durable once this has been finished."""
        ...

    @property
    def lengthy(self) -> bool:
        """Whether this does more than a write and a sync, and had better not run in the loop."""
        ...

    def run(self) -> None:
        """Write, and sync when the policy wants it; blocks, may run in any thread, does not raise."""
        ...


class LogReader(Protocol):
    """A cursor on the log, for one thread at a time, which need not be the writer's."""

    def read(
        self, from_sequence: int, *, bytes_max: int = ..., records_max: int = ...
    ) -> list[LogRecord]:  # fmt: skip
        """Return durable records in order; cheap when it goes on where the last call stopped.

        Args:
            from_sequence: The first record returned is the first one whose last sequence reaches this.
            bytes_max: Stop when the bodies hold so many bytes; one record is returned even if it is larger.
            records_max: Stop after so many records.

        Returns:
            The records; none when nothing durable lies there yet.

        Raises:
            SequenceTrimmed: `from_sequence` is older than the log, whose `oldest_sequence` lies above it.
            CorruptionError: What is stored there is damaged or cannot be read.
            OSError: The store cannot be opened now.
        """
        ...

    def close(self) -> None:
        """Give back what the cursor holds."""
        ...


@runtime_checkable
class Log(Protocol):
    """An ordered, durable sequence of records."""

    @property
    def next_sequence(self) -> int:
        """The sequence that the next effect takes."""
        ...

    @property
    def durable_sequence(self) -> int:
        """The last sequence that may be shown, under the promise of the fsync policy."""
        ...

    @property
    def synced_sequence(self) -> int:
        """The last sequence that a power loss cannot take; what a snapshot may rest on."""
        ...

    @property
    def oldest_sequence(self) -> int:
        """The oldest sequence that can be read."""
        ...

    @property
    def epoch(self) -> int:
        """The fencing epoch of this writer; each open raises it."""
        ...

    @property
    def pending_bytes(self) -> int:
        """About the bytes that the next commit will write."""
        ...

    @property
    def pending_records(self) -> int:
        """The records that the next commit will write."""
        ...

    @property
    def bytes_written(self) -> int:
        """The bytes given to the disk since the log was opened; unlike `statistics`, it costs nothing."""
        ...

    @property
    def statistics(self) -> LogStatistics:
        """The figures of the log."""
        ...

    time_ms: int
    """The host's wall clock of the newest record, in ms; set by the host whenever it likes, and kept with
    the segments, so that retention by age needs not read records."""

    def append(self, body: bytes, count: int) -> int:
        """Buffer a record; its space is reserved.

        Args:
            body: The record.
            count: How many sequences it takes, at least one.

        Returns:
            Its first sequence.

        Raises:
            DiskFull: There is no room; nothing was appended.
            LogPoisoned: A write or sync has failed before.
            StaleEpoch: Another writer has taken over.
            LogClosed: The log was closed.
        """
        ...

    def begin_commit(self, now: float | None = None) -> Commit | None:
        """Take everything that is pending as one group.

        Args:
            now: Monotonic seconds, if at hand; lets a commit take over a sync that is due.

        Returns:
            The commit to run and finish; None when nothing is pending, one is in flight, or the log is
            poisoned.
        """
        ...

    def finish_commit(self, commit: Commit) -> int:
        """Take note of a commit or sync that has run, and return the durable sequence.

        Raises:
            LogPoisoned: It has failed; so will everything from now on.
        """
        ...

    def sync_due_in(self, now: float) -> float | None:
        """Return in how many seconds `begin_sync` has something to do, or None; ask after each commit.

        Args:
            now: Monotonic seconds.
        """
        ...

    def begin_sync(self, now: float, *, force: bool = False) -> Commit | None:
        """Begin the background sync that is due, if one is; it runs and finishes like a commit.

        Args:
            now: Monotonic seconds.
            force: Sync whatever has been committed and is not synced, due or not.
        """
        ...

    def read(
        self, from_sequence: int, *, bytes_max: int = ..., records_max: int = ...
    ) -> list[LogRecord]:  # fmt: skip
        """Read as `LogReader.read` does, in the thread of the writer."""
        ...

    def reader(self) -> LogReader:
        """Return a cursor of its own."""
        ...

    def trim(self, before_sequence: int) -> TrimResult:
        """Drop the sealed segments whose effects all lie below a sequence.

        Args:
            before_sequence: The oldest sequence that must stay.
        """
        ...

    def close(self) -> None:
        """Commit what is pending, sync, note that the end was clean, and give everything back."""
        ...
