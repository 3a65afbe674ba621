"""Opening the embedded log: recovery, then the new epoch, and only then a writer.

The steps, each durable before the next::

    survey ─▶ repair ─▶ new epoch, with the sequence jumped if need be ─▶ reserve ─▶ open
                        │ a frame behind the last one, in space that is kept for it,
                        └ or, without space for it or without a log, a new segment

After an unclean end under a relaxed policy, effects may have been shown that are gone. So the sequence
jumps by more than can be missing, and a number once shown never means another effect.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rstmdb_storage.commit import UNSYNCED_EFFECTS_MAX
from rstmdb_storage.config import LogConfig
from rstmdb_storage.decision import Place, Verdict
from rstmdb_storage.filesystem import File, FileSystem
from rstmdb_storage.frame import CONTROL_FRAME_BYTES, FLAG_RELAXED, KIND_EPOCH, encode_control
from rstmdb_storage.repair import repair
from rstmdb_storage.segment import (
    SEGMENT_HEADER_BYTES,
    Segment,
    SegmentHeader,
    put_in_place,
    segment_name,
    write_fully,
)
from rstmdb_storage.space import SegmentSpace
from rstmdb_storage.survey import Survey, survey
from rstmdb_storage.tail import Progress

__all__ = ["SEQUENCE_JUMP", "Opened", "RecoveryReport", "open_log"]

SEQUENCE_JUMP = UNSYNCED_EFFECTS_MAX
"""How far the sequence moves on after an unclean end under a relaxed policy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryReport:
    """What recovery found and did.

    Attributes:
        created: Whether there was no log before.
        clean: Whether the log had been closed.
        segments: How many segments were found; 1 for a log that was created.
        path: The last segment, as found.
        end: Where its frames ended.
        place: What stood there.
        verdict: What was decided about it.
        cut_bytes: Bytes of torn frames that were zeroed.
        rewritten_bytes: Bytes of unproven frames that were written again.
        last_sequence: The last effect in the log; 0 for none.
        next_sequence: The sequence that the next effect takes.
        jumped: By how much the sequence was moved on after an unclean end under a relaxed policy.
        epoch: The epoch of this open.
    """

    created: bool
    clean: bool
    segments: int
    path: str
    end: int
    place: Place
    verdict: Verdict
    cut_bytes: int
    rewritten_bytes: int
    last_sequence: int
    next_sequence: int
    jumped: int
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A log that has been recovered, and belongs to this epoch.

    Attributes:
        segments: All segments, oldest first; the last one is active.
        file: The active one, open for writing.
        position: Where the next frame goes; everything before is synced.
        space: The next segment and the reserve.
        report: What recovery found and did.
    """

    segments: list[Segment]
    file: File
    position: int
    space: SegmentSpace
    report: RecoveryReport


def open_log(
    fs: FileSystem,
    directory: str,
    config: LogConfig,
    *,
    snapshot_sequence: int,
    first_sequence: int,
    time_ms: int,
    on_progress: Callable[[Progress], None] | None,
) -> Opened:
    """Recover the log in a directory, or create one, and begin a new epoch; see `EmbeddedLog.open`."""
    found = survey(
        fs,
        directory,
        snapshot_sequence=snapshot_sequence,
        first_sequence=first_sequence,
        on_progress=on_progress,
    )
    cut_bytes, rewritten_bytes = repair(fs, directory, found)
    created = not found.segments
    jumped = SEQUENCE_JUMP if found.relaxed and not found.clean else 0
    report = RecoveryReport(
        created=created,
        clean=created or found.clean,
        segments=max(1, len(found.segments)),
        path=f"{directory}/{segment_name(1)}" if created else found.segments[-1].path,
        end=found.end,
        place=found.place,
        verdict=found.verdict,
        cut_bytes=cut_bytes,
        rewritten_bytes=rewritten_bytes,
        last_sequence=found.last_sequence,
        next_sequence=found.next_sequence + jumped,
        jumped=jumped,
        epoch=found.epoch + 1,
    )
    flags = FLAG_RELAXED if config.fsync.relaxed else 0
    space = SegmentSpace(fs, directory, config)
    if not created and found.end + CONTROL_FRAME_BYTES <= found.segments[-1].header.file_bytes:
        segments = found.segments
        file = _write_epoch(fs, report, flags)
        position = found.end + CONTROL_FRAME_BYTES
    else:
        # A new log has the time to fill its first segment; an old one has clients that wait for it.
        space.require_at_open(config.segment_bytes, fill=created)
        segments, file = _add_segment(fs, directory, found, report, space, flags, time_ms)
        position = SEGMENT_HEADER_BYTES
    space.restore_reserve()
    return Opened(segments=segments, file=file, position=position, space=space, report=report)


def _write_epoch(fs: FileSystem, report: RecoveryReport, flags: int) -> File:
    """Begin the epoch behind the last frame; return the last segment, open for writing."""
    file = fs.open(report.path, write=True)
    frame = encode_control(
        KIND_EPOCH,
        next_sequence=report.next_sequence,
        synced_bytes=report.end,
        epoch=report.epoch,
        flags=flags,
    )
    write_fully(file, frame, report.end)
    file.sync()
    return file


def _add_segment(
    fs: FileSystem,
    directory: str,
    found: Survey,
    report: RecoveryReport,
    space: SegmentSpace,
    flags: int,
    time_ms: int,
) -> tuple[list[Segment], File]:
    """Begin the epoch with a segment of its own; return all segments, and that one open for writing."""
    prepared = space.take()
    before = found.segments[-1] if found.segments else None
    header = SegmentHeader(
        number=before.header.number + 1 if before else 1,
        first_sequence=report.next_sequence,
        after_sequence=report.last_sequence,
        epoch=report.epoch,
        file_bytes=prepared.size,
        previous_end=report.end,
        time_ms=time_ms or (before.header.time_ms if before else 0),
        flags=flags,
    )
    path = put_in_place(fs, directory, prepared, header)
    if before is not None:
        before.end = report.end
    return [*found.segments, Segment(path, header)], prepared.file
