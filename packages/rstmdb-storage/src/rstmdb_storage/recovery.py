"""Recovery: finds the end of the log, and makes what it found true before anyone relies on it.

**Look** (`survey`). The headers of all segments form a chain: numbers without gaps, each saying where the one
before ends. A segment is sealed only after it was synced, so only the last one can hold anything unproven.
It is read to the first place where no valid frame follows, and `rstmdb_storage.decision` says what that
means: the end, a torn write to cut, or damage to refuse. Nothing is changed by looking.

**Repair.** The zeros behind the end are restored, and what is valid and not proven is written again, as a
sync may have failed after it was written, and the kernel then takes it for clean; then file and directory
are synced. Each step leaves a log with the same decision, so a crash in the middle changes nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from rstmdb_storage.decision import DECISIONS, REASONS, Behind, Place, Verdict
from rstmdb_storage.errors import CorruptionError
from rstmdb_storage.filesystem import File, FileSystem
from rstmdb_storage.jobs import Preparation
from rstmdb_storage.reader import WINDOW_BYTES, follows
from rstmdb_storage.record import (
    FLAG_RELAXED,
    FRAME_HEADER_BYTES,
    KIND_CLOSE,
    KIND_GROUP,
    Frame,
    decode_records,
    find_frames,
    shape_at,
    take_frames,
)
from rstmdb_storage.segment import (
    SEGMENT_HEADER_BYTES,
    TEMPORARY_SUFFIX,
    Segment,
    put_in_place,
    read_header,
    segment_number,
    write_fully,
)

__all__ = ["Progress", "RecoveryReport", "Survey", "repair", "survey"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a recovery has come.

    Attributes:
        path: The file at hand.
        bytes_done: Bytes looked at.
        bytes_total: Bytes to look at.
    """

    path: str
    bytes_done: int
    bytes_total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryReport:
    """What recovery found and did.

    Attributes:
        created: Whether there was no log before.
        clean: Whether the log had been closed.
        segments: How many segments there are.
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


@dataclass(slots=True, kw_only=True)
class Survey:
    """What a look at the log has shown; nothing was changed.

    Attributes:
        segments: All segments, oldest first.
        leftovers: Temporary files that a crash left behind.
        end: Where the frames of the last segment end.
        data_end: Where anything but zeros ends in it.
        proven_bytes: Up to where it is known to have been synced.
        last_sequence: The last effect in the log; 0 for none.
        next_sequence: The sequence that follows.
        epoch: The last epoch.
        flags: Those of the last writer.
        clean: Whether the last frame marks a clean close.
        frames: How many valid frames the last segment holds.
        place: What stands at `end`.
        verdict: What is to be done about it.
    """

    segments: list[Segment] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    end: int = 0
    data_end: int = 0
    proven_bytes: int = 0
    proven_sequence: int = 0
    last_sequence: int = 0
    next_sequence: int = 1
    epoch: int = 0
    flags: int = 0
    clean: bool = False
    frames: int = 0
    place: Place = Place.BLANK
    verdict: Verdict = Verdict.END

    @property
    def relaxed(self) -> bool:
        """Whether the last writer showed what was not yet synced."""
        return bool(self.flags & FLAG_RELAXED)


def survey(
    fs: FileSystem,
    directory: str,
    *,
    snapshot_sequence: int = 0,
    first_sequence: int = 1,
    on_progress: Callable[[Progress], None] | None = None,
) -> Survey:
    """Find the end of the log, and decide about what stands there.

    Args:
        fs: The file system.
        directory: Where the segments are.
        snapshot_sequence: The last sequence that the newest snapshot holds; 0 without one.
        first_sequence: The next sequence, if there is no log yet.
        on_progress: Called after each window that was read.

    Raises:
        CorruptionError: The log is damaged.
        FormatError: It is of a format that this version does not read.
    """
    found = Survey()
    numbers = []
    for name in fs.list(directory):
        number = segment_number(name)
        if number is not None:
            numbers.append((number, name))
        elif name.endswith(TEMPORARY_SUFFIX):
            found.leftovers.append(f"{directory}/{name}")
    if not numbers:
        if snapshot_sequence >= first_sequence:
            raise CorruptionError(
                directory, 0, f"no segment is there, and the newest snapshot ends at {snapshot_sequence}"
            )
        found.last_sequence = snapshot_sequence
        found.next_sequence = first_sequence
        return found
    for number, name in numbers:
        path = f"{directory}/{name}"
        file = fs.open(path)
        try:
            header = read_header(file, path, number)
            if file.size() < header.file_bytes:
                # The size was synced before the file got its name: no crash makes it shorter.
                raise CorruptionError(
                    path, file.size(), f"the file ends here, and was created with {header.file_bytes} bytes"
                )
            _check_chain(found.segments, path, number, header.epoch, header.first_sequence)
            if found.segments:
                found.segments[-1].end = header.previous_end
            found.segments.append(Segment(path, header, None))
        finally:
            file.close()
    oldest = found.segments[0].header
    if oldest.after_sequence > snapshot_sequence:
        raise CorruptionError(
            found.segments[0].path,
            0,
            f"the log begins behind sequence {oldest.after_sequence}, and the newest snapshot ends at "
            f"{snapshot_sequence}: segments are missing",
        )
    segment = found.segments[-1]
    file = fs.open(segment.path)
    try:
        _walk(found, file, segment, on_progress)
        _decide(found, file, segment, snapshot_sequence)
    finally:
        file.close()
    return found


def _check_chain(segments: list[Segment], path: str, number: int, epoch: int, first_sequence: int) -> None:
    if not segments:
        return
    before = segments[-1].header
    if number != before.number + 1:
        raise CorruptionError(path, 0, f"segment {before.number + 1:016x} is missing before it")
    if epoch < before.epoch or first_sequence < before.first_sequence:
        raise CorruptionError(path, 0, "the header of the segment contradicts the one before")


def _walk(
    found: Survey, file: File, segment: Segment, on_progress: Callable[[Progress], None] | None
) -> None:
    """Read the valid frames of the last segment."""
    header = segment.header
    size = file.size()
    position = SEGMENT_HEADER_BYTES
    expected = header.first_sequence
    epoch = header.epoch
    found.last_sequence = header.after_sequence
    found.flags = header.flags
    found.proven_bytes = position
    window_bytes = WINDOW_BYTES
    misplaced = False
    while position < size and not misplaced:
        window = _read(file, segment.path, window_bytes, position)
        window_bytes = WINDOW_BYTES
        frames, stop, needed = take_frames(window, 0, sys.maxsize)
        last = None
        for frame in frames:
            at = position + frame.offset
            if not _sound(window, frame, at, expected, epoch):
                misplaced = True
                stop = frame.offset
                break
            if frame.kind == KIND_GROUP:
                if at >= segment.index_from:
                    segment.remember(expected, at, epoch)
                expected = frame.first_sequence + frame.effects
                found.last_sequence = expected - 1
            else:
                expected = frame.first_sequence
                epoch = frame.epoch
            found.clean = frame.kind == KIND_CLOSE
            last = frame
        if last is not None:
            # What frames prove only grows, so the last of a window speaks for all of it.
            _learn(found, last)
            found.frames += len(frames)
            found.flags = last.flags
        position += stop
        if on_progress is not None:
            on_progress(Progress(path=segment.path, bytes_done=position, bytes_total=size))
        if not stop:
            if len(window) < needed <= size - position:
                window_bytes = needed
            else:
                break
    found.end = min(position, size)
    found.next_sequence = expected
    found.epoch = epoch
    if misplaced:
        found.place = Place.MISPLACED


def _sound(window: bytes, frame: Frame, at: int, expected: int, epoch: int) -> bool:
    """Say whether a valid frame follows on the one before, and says nothing impossible."""
    return (
        follows(frame, expected, epoch)
        and frame.synced_bytes <= at
        and frame.durable_sequence < frame.first_sequence
        and (frame.kind != KIND_GROUP or frame.records == 1 or decode_records(window, frame) is not None)
    )


def _learn(found: Survey, frame: Frame) -> None:
    """Take note of what a frame proves."""
    found.proven_bytes = max(found.proven_bytes, frame.synced_bytes)
    found.proven_sequence = max(found.proven_sequence, frame.durable_sequence)


def _read(file: File, path: str, size: int, position: int) -> bytes:
    try:
        return file.pread(size, position)
    except OSError as error:
        raise CorruptionError(path, position, f"cannot be read: {error}") from error


def _decide(found: Survey, file: File, segment: Segment, snapshot_sequence: int) -> None:
    """Look at the place where the frames end, and at what is behind it."""
    end = found.end
    found.data_end = _data_end(file, segment.path, end)
    misplaced = found.place is Place.MISPLACED
    extent = 0
    if not misplaced:
        window = _read(file, segment.path, FRAME_HEADER_BYTES, end)
        shape, extent = shape_at(window, 0, end)
        if extent:
            # The extent is from a header that passed its check; no frame is larger than its file.
            window = _read(file, segment.path, min(extent, file.size() - end), end)
            shape, extent = shape_at(window, 0, end)
        found.place = Place(shape.value)
    # Frames inside of the extent would be bytes of a record that only look like frames.
    behind_at = end + max(extent, 8)
    if _frames_behind(found, file, segment.path, behind_at):
        behind = Behind.FRAMES
    else:
        behind = Behind.JUNK if found.data_end > behind_at else Behind.ZEROS
    proven = (
        found.proven_bytes > end
        or found.proven_sequence >= found.next_sequence
        or snapshot_sequence >= found.next_sequence
    )
    found.verdict = DECISIONS[proven, found.place, behind]
    if found.verdict is Verdict.REFUSE:
        reason = f"{REASONS[found.place]}, where sequence {found.next_sequence} should follow"
        if proven:
            reason += ", and this place was synced once"
        elif found.place is not Place.MISPLACED:
            reason += ", and no part of it is missing, as it would be after an unfinished write"
        raise CorruptionError(segment.path, end, reason)
    if found.verdict is Verdict.CUT:
        found.clean = False


def _data_end(file: File, path: str, position: int) -> int:
    """Return where anything but zeros ends behind a position; the position itself if nothing is there."""
    end = position
    while True:
        window = _read(file, path, WINDOW_BYTES, position)
        if not window:
            return end
        if window.count(0) != len(window):
            end = position + len(window.rstrip(b"\0"))
        position += len(window)


def _frames_behind(found: Survey, file: File, path: str, position: int) -> int:
    """Count the valid frames behind a place, and learn what they prove."""
    size = file.size()
    count = 0
    window_bytes = WINDOW_BYTES
    while position + FRAME_HEADER_BYTES <= found.data_end:
        window = _read(file, path, window_bytes, position)
        window_bytes = WINDOW_BYTES
        frames, offset, needed = find_frames(window)
        for frame in frames:
            if frame.synced_bytes <= position + frame.offset and frame.epoch >= found.epoch:
                _learn(found, frame)
                count += 1
        position += offset
        if needed:
            if position + needed <= size:
                window_bytes = max(WINDOW_BYTES, needed)
            else:
                position += 8
    return count


def repair(fs: FileSystem, directory: str, found: Survey) -> tuple[int, int]:
    """Make true what a survey has found; return the bytes cut and the bytes written again.

    Args:
        fs: The file system.
        directory: Where the segments are.
        found: What `survey` has returned.
    """
    for path in found.leftovers:
        fs.unlink(path)
    if not found.segments:
        return 0, 0
    segment = found.segments[-1]
    file = fs.open(segment.path, write=True)
    try:
        zeros = bytes(WINDOW_BYTES)
        for position in range(found.end, found.data_end, WINDOW_BYTES):
            write_fully(file, zeros[: found.data_end - position], position)
        for position in range(found.proven_bytes, found.end, WINDOW_BYTES):
            data = _read(file, segment.path, min(WINDOW_BYTES, found.end - position), position)
            write_fully(file, data, position)
        file.sync()
    finally:
        file.close()
    if not found.frames:
        _make_again(fs, directory, segment)
    fs.sync_directory(directory)
    return max(0, found.data_end - found.end), max(0, found.end - found.proven_bytes)


def _make_again(fs: FileSystem, directory: str, segment: Segment) -> None:
    """Replace a segment that holds no frame yet by another one like it.

    Nothing in it proves that its name was ever synced, and after a sync of the directory that failed,
    another one may succeed without having done anything.
    """
    job = Preparation(fs, segment.path + TEMPORARY_SUFFIX, segment.header.file_bytes, fill=False)
    job.run()
    if job.result is not None:
        put_in_place(fs, directory, job.result, segment.header)
        job.result.file.close()
    elif not job.disk_full:
        assert job.error is not None
        raise job.error
    # Without space for it the name has to be trusted: a full disk must not keep the server from starting.
