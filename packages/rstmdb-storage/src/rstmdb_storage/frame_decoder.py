"""Taking frames from a window, which is a piece of a segment in memory.

::

    window   │ ... │ frame │ frame │ frame │ a frame that begins in the window │ and ends behind it
                   ▲ from                  ▲ to here
                                           ◀─────────── needed, if its header is sound ───────────▶

A frame is taken only if both of its checksums are right. That it `follows` on the one before is a question of
its own: a valid frame in a wrong place is damage as well.
"""

from __future__ import annotations

import sys
from array import array
from itertools import accumulate
from typing import Final, NamedTuple

from rstmdb_storage.checksum import crc32c
from rstmdb_storage.frame import (
    FRAME_HEADER,
    FRAME_HEADER_BYTES,
    FRAME_KINDS,
    FRAME_MAGIC,
    KIND_EPOCH,
    group_tables_bytes,
)
from rstmdb_storage.interface import LogRecord

__all__ = ["WINDOW_BYTES", "Frame", "decode_records", "find_frames", "follows", "take_frames"]

WINDOW_BYTES: Final = 1 << 20
"""How much of a segment is read at once, unless a frame is larger."""


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


def follows(frame: Frame, expected: int, epoch: int) -> bool:
    """Say whether a valid frame may stand where this sequence should follow, in this epoch."""
    if frame.kind == KIND_EPOCH:
        return frame.epoch > epoch and frame.first_sequence >= expected
    return frame.epoch == epoch and frame.first_sequence == expected


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
    unpack = FRAME_HEADER.unpack_from
    new = tuple.__new__
    end = len(window)
    last_header = end - FRAME_HEADER_BYTES
    records_left = records_max
    while offset <= last_header and records_left > 0:
        (magic, header_checksum, checksum, body_bytes, first, durable, epoch, synced, records, effects, flags, zero, kind) = unpack(window, offset)  # fmt: skip  # noqa: E501
        if magic != FRAME_MAGIC:
            break
        body = offset + FRAME_HEADER_BYTES
        if crc32c(0, window[offset + 12 : body]) != header_checksum or kind not in FRAME_KINDS or zero:
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
    while (offset := window.find(FRAME_MAGIC, offset)) >= 0:
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


def decode_records(window: bytes, frame: Frame) -> list[LogRecord] | None:
    """Return the records of a group frame, or None when its tables contradict its header."""
    start = frame.offset + FRAME_HEADER_BYTES
    end = start + frame.body_bytes
    records = frame.records
    if records == 1:
        return [LogRecord(frame.first_sequence, frame.effects, window[start:end])]
    table = array("I")
    tables_end = start + group_tables_bytes(records, frame.effects)
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
