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
from rstmdb_storage.filesystem import File, FileSystem
from rstmdb_storage.record import CONTROL_FRAME_BYTES, FLAG_RELAXED, KIND_EPOCH, encode_control
from rstmdb_storage.recovery import Progress, RecoveryReport, Survey, repair, survey
from rstmdb_storage.segment import (
    SEGMENT_HEADER_BYTES,
    Segment,
    SegmentHeader,
    put_in_place,
    segment_name,
    write_fully,
)
from rstmdb_storage.space import SegmentSpace

__all__ = ["SEQUENCE_JUMP", "Opened", "open_log"]

SEQUENCE_JUMP = UNSYNCED_EFFECTS_MAX
"""How far the sequence moves on after an unclean end under a relaxed policy."""


@dataclass(slots=True, kw_only=True)
class Opened:
    """A log that has been recovered, and belongs to this epoch.

    Attributes:
        segments: All segments, oldest first.
        file: The active one, open for writing.
        position: Where the next frame goes; everything before is synced.
        file_bytes: The size of the active file.
        last_sequence: The last effect in the log; 0 for none.
        next_sequence: The sequence of the next effect.
        epoch: The new epoch.
        space: The next segment and the reserve.
        report: What recovery found and did.
    """

    segments: list[Segment]
    file: File
    position: int
    file_bytes: int
    last_sequence: int
    next_sequence: int
    epoch: int
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
    found.next_sequence += jumped
    path = f"{directory}/{segment_name(1)}" if created else found.segments[-1].path
    end, segments = found.end, len(found.segments)

    epoch = found.epoch + 1
    flags = FLAG_RELAXED if config.fsync.relaxed else 0
    space = SegmentSpace(fs, directory, config)
    file, size = (None, 0) if created else _reopen(fs, found)
    if file is not None and found.end + CONTROL_FRAME_BYTES <= size:
        _write_epoch(file, found, epoch, flags)
    else:
        if file is not None:
            file.close()
        file, size = _add_segment(fs, directory, config, found, space, epoch, flags, time_ms)
    space.restore_reserve()
    report = RecoveryReport(
        created=created,
        clean=created or found.clean,
        segments=max(1, segments),
        path=path,
        end=end,
        place=found.place,
        verdict=found.verdict,
        cut_bytes=cut_bytes,
        rewritten_bytes=rewritten_bytes,
        last_sequence=found.last_sequence,
        next_sequence=found.next_sequence,
        jumped=jumped,
        epoch=epoch,
    )
    return Opened(
        segments=found.segments,
        file=file,
        position=found.end,
        file_bytes=size,
        last_sequence=found.last_sequence,
        next_sequence=found.next_sequence,
        epoch=epoch,
        space=space,
        report=report,
    )


def _reopen(fs: FileSystem, found: Survey) -> tuple[File, int]:
    """Open the last segment for writing."""
    segment = found.segments[-1]
    return fs.open(segment.path, write=True), segment.header.file_bytes


def _write_epoch(file: File, found: Survey, epoch: int, flags: int) -> None:
    frame = encode_control(
        KIND_EPOCH,
        next_sequence=found.next_sequence,
        durable_sequence=found.next_sequence - 1,
        synced_bytes=found.end,
        epoch=epoch,
        flags=flags,
    )
    write_fully(file, frame, found.end)
    file.sync()
    found.end += CONTROL_FRAME_BYTES


def _add_segment(
    fs: FileSystem,
    directory: str,
    config: LogConfig,
    found: Survey,
    space: SegmentSpace,
    epoch: int,
    flags: int,
    time_ms: int,
) -> tuple[File, int]:
    """Begin the epoch with a segment of its own."""
    # A new log has the time to fill its first segment; an old one has clients that wait for it.
    space.require_at_open(config.segment_bytes, fill=not found.segments)
    prepared = space.take()
    last = found.segments[-1] if found.segments else None
    header = SegmentHeader(
        number=last.header.number + 1 if last else 1,
        first_sequence=found.next_sequence,
        after_sequence=found.last_sequence,
        epoch=epoch,
        file_bytes=prepared.size,
        previous_end=found.end,
        time_ms=time_ms or (last.header.time_ms if last else 0),
        flags=flags,
    )
    path = put_in_place(fs, directory, prepared, header)
    if last is not None:
        last.end = found.end
    found.segments.append(Segment(path, header, None))
    found.end = SEGMENT_HEADER_BYTES
    return prepared.file, prepared.size
