"""Compaction: when a snapshot is due, and how much of the log may go. Decisions first, then the deed.

The decisions are pure functions of figures::

      oldest segment                                                     active segment
      ├──────────────┼──────────────┼──────────────┼──────────────┼──────────▶
                            ▲ older kept snapshot        ▲ newest snapshot
      ◀── may go, if outside ──▶◀── never: recovery needs it ───────────────▶
          the promised history

A segment goes only when all of it lies at or below the *older* of the two kept snapshots, so that a damaged
newest snapshot costs nothing, and when the history promised to watchers and readers does not need it. With
one snapshot or none nothing goes. A snapshot that failed is not among the kept ones, and so holds
compaction back by itself.

History is what is newer than `Retention.seconds`, as far as `Retention.bytes` reach: the smaller of the two
counts, as a limit on the disk must hold whatever the load is. Sizes are bytes of records, never of
preallocated files.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from rstmdb_storage.interface import Log, SegmentInfo
from rstmdb_storage.snapshot import SNAPSHOTS_KEPT, SnapshotInfo, SnapshotStore

__all__ = [
    "CompactionResult",
    "LogProgress",
    "Retention",
    "SnapshotTriggers",
    "compact",
    "should_snapshot",
    "trim_point",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How much history is kept for those who read the log, beyond what recovery needs.

    Attributes:
        bytes: As many bytes of the newest records; `None` for no limit by size.
        seconds: As old as this; `None` for no limit by age.
    """

    bytes: int | None = 256 << 20
    seconds: float | None = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotTriggers:
    """When the next snapshot is due.

    Attributes:
        events: After as many effects; 0 switches this trigger off.
        bytes: After as many bytes of records; 0 switches this trigger off.
        interval_seconds: Never sooner than this after the last one was begun.
        size_ratio: Never before the log since the last one has this share of its size. It bounds the
            snapshot bytes written to a multiple of the log's, however large the state is.
    """

    events: int = 100_000
    bytes: int = 64 << 20
    interval_seconds: float = 60.0
    size_ratio: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class LogProgress:
    """What the log has gained since the last snapshot.

    Attributes:
        events: Effects after the last snapshot.
        bytes: Bytes of their records.
    """

    events: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactionResult:
    """What one compaction did, counted and not estimated.

    Attributes:
        snapshots_created: Snapshots that were verified and published.
        segments_deleted: Segments that were removed.
        bytes_reclaimed: Bytes that the removed segments took up on the disk.
        snapshots_total: Good snapshots there are now.
        segments_total: Segments there are now, the active one among them.
    """

    snapshots_created: int
    segments_deleted: int
    bytes_reclaimed: int
    snapshots_total: int
    segments_total: int


def should_snapshot(
    triggers: SnapshotTriggers, progress: LogProgress, last: SnapshotInfo | None, *, now_ms: int
) -> bool:
    """Say whether the automatic snapshot is due.

    Args:
        triggers: As configured.
        progress: The log since `last`, or since its beginning.
        last: The newest good snapshot, if there is one.
        now_ms: The wall clock, in ms since 1970. Should it have gone back behind `last`, the interval does
            not hold the snapshot up.
    """
    if progress.events <= 0:
        return False
    enough_events = 0 < triggers.events <= progress.events
    enough_bytes = 0 < triggers.bytes <= progress.bytes
    if not (enough_events or enough_bytes):
        return False
    if last is None:
        return True
    if 0 <= now_ms - last.created_ms < triggers.interval_seconds * 1000:
        return False
    return progress.bytes >= last.size_bytes * triggers.size_ratio


def trim_point(
    snapshots: Sequence[SnapshotInfo], segments: Sequence[SegmentInfo], retention: Retention, *, now_ms: int
) -> int:
    """Return the sequence before which the log may be trimmed.

    The result is the first sequence of a segment, and the segments wholly before it may be removed. It is
    the first sequence of all when nothing may go, and 1 for a log without segments.

    Args:
        snapshots: The good snapshots, oldest first.
        segments: All segments in order, the active one last.
        retention: The history that is promised.
        now_ms: The wall clock, in ms since 1970.
    """
    if not segments:
        return 1
    point = segments[0].first_sequence
    if len(snapshots) < SNAPSHOTS_KEPT:
        return point
    needed_after = snapshots[-SNAPSHOTS_KEPT].sequence
    newer_bytes = sum(segment.record_bytes for segment in segments)
    for segment, following in itertools.pairwise(segments):
        newer_bytes -= segment.record_bytes
        if following.first_sequence > needed_after + 1 or segment.last_sequence > needed_after:
            break
        in_bytes = retention.bytes is None or newer_bytes < retention.bytes
        in_seconds = retention.seconds is None or now_ms - segment.newest_ms < retention.seconds * 1000
        if in_bytes and in_seconds:
            break
        point = following.first_sequence
    return point


def compact(
    log: Log, store: SnapshotStore, retention: Retention, *, now_ms: int, snapshots_created: int = 0
) -> CompactionResult:
    """Trim the log as far as the kept snapshots and the promised history allow.

    Belongs to the thread of the log. A snapshot that should count must have been finished before.

    Args:
        log: The log.
        store: Its snapshots.
        retention: The history that is promised.
        now_ms: The wall clock, in ms since 1970.
        snapshots_created: How many snapshots the caller has just taken, for the figures.
    """
    snapshots = store.infos()
    trimmed = log.trim(trim_point(snapshots, log.statistics.segments, retention, now_ms=now_ms))
    return CompactionResult(
        snapshots_created=snapshots_created,
        segments_deleted=trimmed.segments_removed,
        bytes_reclaimed=trimmed.bytes_reclaimed,
        snapshots_total=len(snapshots),
        segments_total=len(log.statistics.segments),
    )
