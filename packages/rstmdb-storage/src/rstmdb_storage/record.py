"""Frames and records: the bytes of the log.

Everything that one commit writes is one *frame*, 8-byte aligned, little-endian::

     0  magic            4 bytes   D7 'r' 's' 'f'
     4  header checksum  u32       CRC32C of bytes 12..55
     8  checksum         u32       the same CRC32C carried on over body and padding
    12  body bytes       u32       without the padding
    16  first sequence   u64       of the first effect; of the next one in a mark or an epoch
    24  durable sequence u64       the last known to be synced when this was written
    32  epoch            u64       of the writer; raised at each open
    40  synced bytes     u32       this file was synced up to here when this was written
    44  records          u32
    48  effects          u32       sequences taken by all records together
    52  flags            u16       bit 0: the writer shows what is not yet synced (relaxed policy)
    54  zero             u8
    55  kind             u8        'G' group, 'M' mark, 'C' mark of a clean close, 'E' epoch
    56  body, then 1 to 8 bytes FF up to the next multiple of 8

The body of a group of one record is the record. With more of them, a table of their lengths (u32 each)
comes first, then, unless each record takes one sequence, a table of their counts (u32 each), then the
records. Marks and epochs have no body.

Three properties carry the recovery. The header has a checksum of its own, so the extent of a damaged frame
is known as long as its header is whole. The last byte of a header (its kind) and of a frame (its padding)
is never zero, so a write that ended early shows. And no sector's part of a frame is all zero, save where a
record has 512 zero bytes in a row, so a sector that was never written shows as well. See `Shape`.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from enum import Enum
from itertools import accumulate
from struct import Struct
from typing import Final, NamedTuple

import google_crc32c

__all__ = [
    "CONTROL_FRAME_BYTES",
    "FLAG_RELAXED",
    "FRAME_HEADER_BYTES",
    "KIND_CLOSE",
    "KIND_EPOCH",
    "KIND_GROUP",
    "KIND_MARK",
    "SECTOR_BYTES",
    "Frame",
    "LogRecord",
    "Shape",
    "crc32c",
    "decode_records",
    "encode_control",
    "encode_group",
    "find_frames",
    "frame_bytes",
    "group_body_bytes",
    "shape_at",
    "take_frames",
]

MAGIC: Final = b"\xd7rsf"
FRAME_HEADER_BYTES: Final = 56
CONTROL_FRAME_BYTES: Final = 64
"""The size of a mark or an epoch."""
SECTOR_BYTES: Final = 512
"""What a disk writes whole or not at all."""

KIND_GROUP: Final = 0x47
KIND_MARK: Final = 0x4D
KIND_CLOSE: Final = 0x43
KIND_EPOCH: Final = 0x45
# No two kinds and no kind and zero are one bit apart, so one flipped bit never makes a kind of another.
_KINDS: Final = frozenset((KIND_GROUP, KIND_MARK, KIND_CLOSE, KIND_EPOCH))
FLAG_RELAXED: Final = 1

_FRONT: Final = Struct("<4sII")
_REST: Final = Struct("<IQQQIIIHBB")
_HEADER: Final = Struct("<4sIIIQQQIIIHBB")
_PADDING: Final = tuple(b"\xff" * (8 - size % 8) for size in range(8))

# The C function itself: the public wrapper of the package adds a call per frame and accepts no more.
crc32c = google_crc32c.extend


class Frame(NamedTuple):
    """One verified frame, without its body.

    Attributes:
        offset: Where it begins in the window it was found in.
        size: Its bytes, padding included.
        body_bytes: The bytes of its body.
    """

    offset: int
    size: int
    kind: int
    first_sequence: int
    effects: int
    records: int
    durable_sequence: int
    synced_bytes: int
    epoch: int
    flags: int
    body_bytes: int


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


class Shape(Enum):
    """What stands where a frame should begin, when no whole frame does."""

    BLANK = "blank"
    """The bytes of the header are all zero, or the file ends."""
    PARTIAL = "partial"
    """A sector's part of the header, or its end, is zero or missing; the rest is not."""
    GARBLED = "garbled"
    """A header is there in all its parts, and fails its check."""
    HOLED = "holed"
    """The header is sound; a sector's part of the body, or its end, is zero or missing."""
    WHOLE = "whole"
    """The header is sound, the body is there in all its parts, and fails the check."""


def frame_bytes(body_bytes: int) -> int:
    """Return the size of a frame with a body of this size, padding included."""
    return (FRAME_HEADER_BYTES + body_bytes + 8) & ~7


def group_body_bytes(records: int, effects: int, record_bytes: int) -> int:
    """Return the size of the body of a group.

    Args:
        records: How many records it holds.
        effects: How many sequences they take together.
        record_bytes: The bytes of the records themselves.
    """
    if records == 1:
        return record_bytes
    return record_bytes + (4 * records if records == effects else 8 * records)


def _table(values: Sequence[int]) -> bytes:
    table = array("I", values)
    if sys.byteorder == "big":
        table.byteswap()
    return table.tobytes()


def encode_group(
    bodies: list[bytes],
    counts: list[int],
    *,
    first_sequence: int,
    durable_sequence: int,
    synced_bytes: int,
    epoch: int,
    flags: int,
) -> bytes:
    """Return the frame that holds these records.

    Args:
        bodies: The records, at least one.
        counts: The sequences that each takes.
        first_sequence: The sequence of the first effect.
        durable_sequence: The last sequence known to be synced.
        synced_bytes: Up to where the file is known to be synced.
        epoch: The epoch of the writer.
        flags: `FLAG_RELAXED` or 0.
    """
    records = len(bodies)
    effects = sum(counts)
    if records == 1:
        parts = bodies
    elif records == effects:
        parts = [_table([len(body) for body in bodies]), *bodies]
    else:
        parts = [_table([len(body) for body in bodies]), _table(counts), *bodies]
    payload = b"".join(parts)
    size = len(payload)
    payload += _PADDING[size & 7]
    rest = _REST.pack(
        size, first_sequence, durable_sequence, epoch, synced_bytes, records, effects, flags, 0, KIND_GROUP
    )
    header_checksum = crc32c(0, rest)
    return _FRONT.pack(MAGIC, header_checksum, crc32c(header_checksum, payload)) + rest + payload


def encode_control(
    kind: int, *, next_sequence: int, durable_sequence: int, synced_bytes: int, epoch: int, flags: int
) -> bytes:
    """Return a mark or an epoch, `CONTROL_FRAME_BYTES` long.

    Args:
        kind: `KIND_MARK`, `KIND_CLOSE` or `KIND_EPOCH`.
        next_sequence: The sequence that the next effect takes; in an epoch it may have jumped.
        durable_sequence: The last sequence known to be synced.
        synced_bytes: Up to where the file is known to be synced.
        epoch: The epoch of the writer.
        flags: `FLAG_RELAXED` or 0.
    """
    rest = _REST.pack(0, next_sequence, durable_sequence, epoch, synced_bytes, 0, 0, flags, 0, kind)
    header_checksum = crc32c(0, rest)
    padding = _PADDING[0]
    return _FRONT.pack(MAGIC, header_checksum, crc32c(header_checksum, padding)) + rest + padding


def take_frames(window: bytes, offset: int, records_max: int) -> tuple[list[Frame], int, int]:
    """Take whole, valid frames from a window, one behind the other.

    Args:
        window: Bytes of a segment.
        offset: Where the first frame begins in it.
        records_max: Stop once the frames taken hold this many records.

    Returns:
        The frames; the offset behind the last of them; and, when the frame there has a sound header but
        reaches beyond the window, the size that it needs, else 0.
    """
    frames: list[Frame] = []
    unpack = _HEADER.unpack_from
    new = tuple.__new__
    end = len(window)
    last_header = end - FRAME_HEADER_BYTES
    records_left = records_max
    while offset <= last_header and records_left > 0:
        (magic, header_checksum, checksum, body_bytes, first, durable, epoch, synced, records, effects, flags, zero, kind) = unpack(window, offset)  # fmt: skip  # noqa: E501
        if magic != MAGIC:
            break
        body = offset + FRAME_HEADER_BYTES
        if crc32c(0, window[offset + 12 : body]) != header_checksum or kind not in _KINDS or zero:
            break
        size = (FRAME_HEADER_BYTES + body_bytes + 8) & ~7
        if offset + size > end:
            return frames, offset, size
        if crc32c(header_checksum, window[body : offset + size]) != checksum:
            break
        # The constructor of a named tuple costs as much as the rest of the loop.
        frames.append(
            new(
                Frame,
                (offset, size, kind, first, effects, records, durable, synced, epoch, flags, body_bytes),
            )
        )
        offset += size
        records_left -= records
    return frames, offset, 0


def decode_records(window: bytes, frame: Frame) -> list[LogRecord] | None:
    """Return the records of a group frame, or None when its tables contradict its header."""
    start = frame.offset + FRAME_HEADER_BYTES
    end = start + frame.body_bytes
    records = frame.records
    if records == 1:
        return [LogRecord(frame.first_sequence, frame.effects, window[start:end])]
    table = array("I")
    tables_end = start + group_body_bytes(records, frame.effects, 0)
    if records == 0 or frame.effects < records or tables_end > end:
        return None
    table.frombytes(window[start:tables_end])
    if sys.byteorder == "big":
        table.byteswap()
    ends = list(accumulate(table[:records], initial=tables_end))
    if ends[-1] != end:
        return None
    first = frame.first_sequence
    new = tuple.__new__
    if records == frame.effects:
        return [
            new(LogRecord, (first + i, 1, window[ends[i] : ends[i + 1]]))
            for i in range(records)
        ]  # fmt: skip
    counts = table[records:]
    if sum(counts) != frame.effects or min(counts) < 1:
        return None
    firsts = accumulate(counts, initial=first)
    return [
        new(LogRecord, (sequence, count, window[ends[i] : ends[i + 1]]))
        for i, (sequence, count) in enumerate(zip(firsts, counts, strict=False))
    ]


def _sector_missing(data: bytes, start: int, end: int, position: int) -> bool:
    """Say whether a sector's part of `data[start:end]`, which stands at `position`, is all zero."""
    while start < end:
        part = min(end, start + SECTOR_BYTES - position % SECTOR_BYTES)
        if not any(data[start:part]):
            return True
        position += part - start
        start = part
    return False


def shape_at(window: bytes, offset: int, position: int) -> tuple[Shape, int]:
    """Say what stands where no valid frame does.

    Args:
        window: Bytes of the segment from somewhere before on; they must reach to the end of the frame, when
            its header is sound. What is missing counts as zero.
        offset: Where the frame should begin in the window.
        position: The same place, in the file.

    Returns:
        The shape, and the extent of the frame in bytes when its header is sound, else 0.
    """
    header = window[offset : offset + FRAME_HEADER_BYTES].ljust(FRAME_HEADER_BYTES, b"\0")
    if not any(header):
        return Shape.BLANK, 0
    if header[-1] == 0 or _sector_missing(header, 0, FRAME_HEADER_BYTES, position):
        return Shape.PARTIAL, 0
    fields = _HEADER.unpack(header)
    if fields[0] != MAGIC or crc32c(0, header[12:]) != fields[1] or fields[-1] not in _KINDS or fields[-2]:
        return Shape.GARBLED, 0
    size = frame_bytes(fields[3])
    if offset + size > len(window):
        window = window[offset:].ljust(size, b"\0")
        offset = 0
    if window[offset + size - 1] == 0 or _sector_missing(window, offset, offset + size, position):
        return Shape.HOLED, size
    return Shape.WHOLE, size


def find_frames(window: bytes) -> tuple[list[Frame], int, int]:
    """Find whole, valid frames at any aligned place of a window; what only looks like one is passed over.

    Args:
        window: Bytes of a segment from an aligned position on.

    Returns:
        The frames; where to go on looking; and the size that the frame there needs, when it has a sound
        header and reaches beyond the window, else 0.
    """
    found: list[Frame] = []
    offset = 0
    while (offset := window.find(MAGIC, offset)) >= 0:
        if offset % 8 == 0:
            frames, behind, needed = take_frames(window, offset, sys.maxsize)
            found += frames
            if needed:
                return found, behind, needed
            if frames:
                offset = behind
                continue
        offset += 1
    # A header may begin in the last bytes of the window.
    return found, max(0, len(window) - FRAME_HEADER_BYTES + 8) & ~7, 0
