"""Cursors on the segments: reading while writing goes on.

A reader has file handles of its own and sees one thing of the writer's: what `Published` holds at the moment.

A trim publishes the segments that stay before it removes the others. So a file that is missing is either
no longer published, and the read begins anew with what is, or it is damage: whoever is told that a sequence
was trimmed finds it below the oldest one that the log names.

A read takes windows of at most 1 MiB (or one frame, if that is larger), checks every frame that it passes,
and remembers positions 64 KiB apart for those who come later.
"""

from __future__ import annotations

import bisect
import errno
from typing import Final

from rstmdb_storage.errors import CorruptionError, LogClosed, SequenceTrimmed
from rstmdb_storage.filesystem import File, FileSystem
from rstmdb_storage.frame import FRAME_HEADER_BYTES, KIND_GROUP
from rstmdb_storage.frame_decoder import WINDOW_BYTES, Frame, decode_records, follows, take_frames
from rstmdb_storage.interface import LogRecord
from rstmdb_storage.published import Published
from rstmdb_storage.segment import SEGMENT_HEADER_BYTES, Segment, read_part
from rstmdb_storage.statistics import Traffic

__all__ = ["READ_BYTES_MAX", "READ_RECORDS_MAX", "SegmentReader"]

READ_BYTES_MAX: Final = 8 << 20
READ_RECORDS_MAX: Final = 10_000
_WINDOW_BYTES_MIN: Final = 64 * 1024


class SegmentReader:
    """A `LogReader` on segments."""

    __slots__ = (
        "_epoch",
        "_expected",
        "_file",
        "_fs",
        "_next",
        "_position",
        "_published",
        "_segment",
        "_traffic",
    )

    def __init__(self, fs: FileSystem, published: Published, traffic: Traffic) -> None:
        """Make a cursor that stands nowhere yet; `traffic` counts what it reads."""
        self._fs = fs
        self._published = published
        self._traffic = traffic
        self._segment: Segment | None = None
        self._file: File | None = None
        self._position = 0
        # The sequence at `_position`, the epoch there, and the `from_sequence` that goes on from there.
        self._expected = 0
        self._epoch = 0
        self._next = -1

    def read(
        self,
        from_sequence: int,
        *,
        bytes_max: int = READ_BYTES_MAX,
        records_max: int = READ_RECORDS_MAX,
    ) -> list[LogRecord]:
        """See `LogReader.read`."""
        if self._published.closed:
            raise LogClosed
        while True:
            durable, segments, tail_end = self._published.state
            if from_sequence > durable or records_max < 1:
                return []
            try:
                return self._read(from_sequence, segments, tail_end, bytes_max, records_max)
            except _SegmentGone:
                # Trimmed since the list was taken; each turn of this loop takes another trim.
                continue

    def _read(
        self,
        from_sequence: int,
        segments: tuple[Segment, ...],
        tail_end: int,
        bytes_max: int,
        records_max: int,
    ) -> list[LogRecord]:
        """Read from these segments; what is asked for is durable."""
        records: list[LogRecord] = []
        if from_sequence != self._next or self._segment is None:
            self._seek(from_sequence, segments)
        # Should this raise, the next read has to look for its place anew.
        self._next = -1
        active = segments[-1].header.number
        while True:
            segment = self._segment
            assert segment is not None
            if segment.header.number == active:
                end = tail_end
            else:
                assert segment.end is not None
                end = segment.end
            if self._position < end:
                bytes_max -= self._read_frames(records, end, from_sequence, bytes_max, records_max)
                if bytes_max <= 0 or len(records) >= records_max:
                    break
            elif segment.header.number == active:
                break
            else:
                self._enter_next(segment, segments, from_sequence)
        if records:
            last = records[-1]
            self._next = last.first_sequence + last.count
        else:
            self._next = from_sequence
        return records

    def _read_frames(
        self, records: list[LogRecord], end: int, from_sequence: int, bytes_max: int, records_max: int
    ) -> int:
        """Add the records of the next window to `records`; return the bytes of their bodies."""
        segment = self._segment
        assert segment is not None
        position = self._position
        window = self._window(min(end - position, WINDOW_BYTES, max(bytes_max, _WINDOW_BYTES_MIN)))
        # Records before `from_sequence` do not count, and may still stand in front.
        wanted = records_max - len(records) + max(0, from_sequence - self._expected)
        frames, stop, needed = take_frames(window, 0, wanted)
        if not frames and position + needed <= end and needed > len(window):
            window = self._window(needed)
            frames, stop, _ = take_frames(window, 0, wanted)
        if not frames:
            raise CorruptionError(
                segment.path, position, f"no valid frame, where sequence {self._expected} should follow"
            )
        expected, epoch = self._expected, self._epoch
        new = tuple.__new__
        taken = 0
        for frame in frames:
            # By position: this loop is what a recovery spends its time in.
            offset, size, kind, first, effects, count, _, _, frame_epoch, _, body_bytes = frame
            if kind != KIND_GROUP or first != expected or frame_epoch != epoch:
                if kind == KIND_GROUP or not follows(frame, expected, epoch):
                    raise _misplaced(segment, position + offset, frame, expected, epoch)
                expected, epoch = first, frame_epoch
                continue
            if position + offset >= segment.index_from:
                segment.remember(expected, position + offset, epoch)
            if first + effects > from_sequence:
                if count == 1:
                    complete = taken + body_bytes <= bytes_max or not records
                    if complete:
                        body = offset + FRAME_HEADER_BYTES
                        records.append(new(LogRecord, (first, effects, window[body : body + body_bytes])))
                        taken += body_bytes
                else:
                    found = decode_records(window, frame)
                    if found is None:
                        raise CorruptionError(
                            segment.path, position + offset, "the tables of a group contradict its header"
                        )
                    taken, complete = _take(records, found, from_sequence, taken, bytes_max, records_max)
                if not complete:
                    self._position, self._expected, self._epoch = position + offset, expected, epoch
                    return max(taken, bytes_max)
            expected = first + effects
            if taken >= bytes_max or len(records) >= records_max:
                stop = offset + size
                break
        self._position, self._expected, self._epoch = position + stop, expected, epoch
        return taken

    def _window(self, size: int) -> bytes:
        assert self._file is not None
        assert self._segment is not None
        window = read_part(self._file, self._segment.path, size, self._position)
        self._traffic.read(len(window))
        return window

    def _seek(self, sequence: int, segments: tuple[Segment, ...]) -> None:
        if _trimmed(sequence, segments):
            raise SequenceTrimmed(sequence, segments[0].header.first_sequence)
        at = bisect.bisect_right(segments, sequence, key=lambda segment: segment.header.first_sequence)
        segment = segments[max(0, at - 1)]
        if self._segment is not segment:
            self._enter(segment)
        self._expected, self._position, self._epoch = segment.position_before(sequence)

    def _enter(self, segment: Segment) -> None:
        """Stand at the beginning of a segment.

        Raises:
            _SegmentGone: It was trimmed, and the list that led here is out of date.
        """
        self.close()
        try:
            self._file = self._fs.open(segment.path)
        except OSError as error:
            if error.errno != errno.ENOENT:
                # Too many open files, for one: that is no damage.
                raise
            if segment.header.number >= self._published.state[1][0].header.number:
                raise CorruptionError(segment.path, 0, "the file is missing, and was not trimmed") from None
            raise _SegmentGone from None
        self._segment = segment
        self._expected, self._position, self._epoch = (
            segment.header.first_sequence,
            SEGMENT_HEADER_BYTES,
            segment.header.epoch,
        )

    def _enter_next(self, segment: Segment, segments: tuple[Segment, ...], sequence: int) -> None:
        """Go over from the end of one segment to the next."""
        if segment.header.number + 1 < segments[0].header.number and _trimmed(self._expected, segments):
            raise SequenceTrimmed(sequence, segments[0].header.first_sequence)
        # What was trimmed in between, if anything was, held no effect.
        following = segments[max(0, segment.header.number + 1 - segments[0].header.number)]
        header = following.header
        if header.first_sequence < self._expected or (
            header.first_sequence > self._expected and header.after_sequence >= self._expected
        ):
            raise CorruptionError(
                segment.path,
                self._position,
                f"the segment ends before sequence {self._expected}, the next one begins at "
                f"{header.first_sequence}",
            )
        self._enter(following)

    def close(self) -> None:
        """See `LogReader.close`."""
        file, self._file, self._segment, self._next = self._file, None, None, -1
        if file is not None:
            file.close()


class _SegmentGone(Exception):  # noqa: N818 - never leaves this module
    """A segment had been trimmed before it could be opened."""


def _trimmed(sequence: int, segments: tuple[Segment, ...]) -> bool:
    """Say whether an effect of this sequence may have been in a segment that was trimmed."""
    oldest = segments[0].header
    return sequence < oldest.first_sequence and sequence <= oldest.after_sequence


def _misplaced(segment: Segment, at: int, frame: Frame, expected: int, epoch: int) -> CorruptionError:
    return CorruptionError(
        segment.path,
        at,
        f"a frame of sequence {frame.first_sequence}, epoch {frame.epoch} stands where sequence {expected}, "
        f"epoch {epoch} should follow",
    )


def _take(
    records: list[LogRecord],
    found: list[LogRecord],
    from_sequence: int,
    taken: int,
    bytes_max: int,
    records_max: int,
) -> tuple[int, bool]:
    """Move records over until a limit; return the bytes taken so far, and whether all records went."""
    if found[0].first_sequence < from_sequence:
        found = [record for record in found if record.first_sequence + record.count > from_sequence]
    size = sum(map(len, [record.body for record in found]))
    if taken + size <= bytes_max and len(records) + len(found) <= records_max:
        records += found
        return taken + size, True
    for record in found:
        if (records and taken + len(record.body) > bytes_max) or len(records) >= records_max:
            return taken, False
        records.append(record)
        taken += len(record.body)
    return taken, True
