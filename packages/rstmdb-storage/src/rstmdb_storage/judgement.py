"""Judging the end of the log: what stands where its frames end, what stands behind, and the verdict.

::

    │ frame │ frame │ the place │ what is behind                 │ zeros to the end of the file
                    ▲ end       ▲ end + extent of the frame,     ▲ data end
                                  if its header is sound

`rstmdb_storage.decision` is the table; here is what finds out which of its cells it is. Nothing is changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rstmdb_storage.checksum import crc32c
from rstmdb_storage.decision import DECISIONS, REASONS, Behind, Place, Verdict
from rstmdb_storage.errors import CorruptionError
from rstmdb_storage.filesystem import File
from rstmdb_storage.frame import FRAME_HEADER, FRAME_HEADER_BYTES, FRAME_KINDS, FRAME_MAGIC, frame_bytes
from rstmdb_storage.frame_decoder import WINDOW_BYTES, find_frames
from rstmdb_storage.segment import read_part
from rstmdb_storage.tail import Tail

__all__ = ["SECTOR_BYTES", "Judgement", "judge", "place_at"]

SECTOR_BYTES: Final = 512
"""What a disk writes whole or not at all."""
_FRAME_ALIGNMENT: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What is there at the end of the log, and what is to be done about it.

    Attributes:
        place: What stands where the frames end.
        verdict: What to do: nothing, or to cut it; damage is raised.
        data_end: Where anything but zeros ends in the file; the end of the frames if nothing is behind it.
    """

    place: Place
    verdict: Verdict
    data_end: int


def judge(file: File, path: str, tail: Tail) -> Judgement:
    """Look at the place where the frames end, and at what is behind it.

    Args:
        file: The last segment.
        path: Its path, for the messages.
        tail: What its frames say. Frames that are found behind the end may add to its proof.

    Raises:
        CorruptionError: What is there was safe once, or is nothing that an unfinished write leaves.
    """
    end = tail.end
    data_end = _data_end(file, path, end)
    place, extent = (Place.MISPLACED, 0) if tail.misplaced else _place(file, path, end)
    # Frames inside of the extent would be bytes of a record that only look like frames.
    behind_at = end + max(extent, _FRAME_ALIGNMENT)
    if _frames_behind(file, path, behind_at, data_end, tail):
        behind = Behind.FRAMES
    else:
        behind = Behind.JUNK if data_end > behind_at else Behind.ZEROS
    proven = tail.proof.position > end or tail.proof.sequence >= tail.next_sequence
    verdict = DECISIONS[proven, place, behind]
    if verdict is Verdict.REFUSE:
        reason = f"{REASONS[place]}, where sequence {tail.next_sequence} should follow"
        if proven:
            reason += ", and this place was synced once"
        elif place is not Place.MISPLACED:
            reason += ", and no part of it is missing, as it would be after an unfinished write"
        raise CorruptionError(path, end, reason)
    return Judgement(place=place, verdict=verdict, data_end=data_end)


def place_at(data: bytes, position: int) -> tuple[Place, int]:
    """Say what stands where a frame should begin, and no valid one does.

    Args:
        data: The bytes of the segment from there on, to the end of the frame if its header is sound. What is
            missing counts as zero.
        position: Where they stand in the file.

    Returns:
        What it is, and the extent of the frame in bytes when its header is sound, else 0.
    """
    header = data[:FRAME_HEADER_BYTES].ljust(FRAME_HEADER_BYTES, b"\0")
    if not any(header):
        return Place.BLANK, 0
    if header[-1] == 0 or _sector_missing(header, position):
        return Place.PARTIAL, 0
    magic, header_checksum, _, body_bytes, *_, zero, kind = FRAME_HEADER.unpack(header)
    if (
        magic != FRAME_MAGIC
        or crc32c(0, header[12:]) != header_checksum
        or kind not in FRAME_KINDS
        or zero != 0
    ):
        return Place.GARBLED, 0
    size = frame_bytes(body_bytes)
    frame = data[:size].ljust(size, b"\0")
    if frame[-1] == 0 or _sector_missing(frame, position):
        return Place.HOLED, size
    return Place.WHOLE, size


def _place(file: File, path: str, end: int) -> tuple[Place, int]:
    """Read what stands at the end of the frames, and say what it is."""
    place, extent = place_at(read_part(file, path, FRAME_HEADER_BYTES, end), end)
    if extent:
        # The extent is from a header that passed its check; no frame is larger than its file.
        place, extent = place_at(read_part(file, path, min(extent, file.size() - end), end), end)
    return place, extent


def _sector_missing(data: bytes, position: int) -> bool:
    """Say whether a sector's part of `data`, which stands at `position`, is all zero."""
    start = 0
    while start < len(data):
        part = start + SECTOR_BYTES - (position + start) % SECTOR_BYTES
        if not any(data[start:part]):
            return True
        start = part
    return False


def _data_end(file: File, path: str, position: int) -> int:
    """Return where anything but zeros ends behind a position; the position itself if nothing is there."""
    end = position
    while window := read_part(file, path, WINDOW_BYTES, position):
        if window.count(0) != len(window):
            end = position + len(window.rstrip(b"\0"))
        position += len(window)
    return end


def _frames_behind(file: File, path: str, position: int, data_end: int, tail: Tail) -> bool:
    """Say whether valid frames of the last writer stand behind a place, and learn what they prove."""
    size = file.size()
    found = False
    window_bytes = WINDOW_BYTES
    while position + FRAME_HEADER_BYTES <= data_end:
        window = read_part(file, path, window_bytes, position)
        window_bytes = WINDOW_BYTES
        frames, offset, needed = find_frames(window)
        for frame in frames:
            # Any other only looks like a frame of this log: a record may hold such bytes.
            if frame.synced_bytes <= position + frame.offset and frame.epoch >= tail.epoch:
                tail.proof.learn(frame)
                found = True
        position += offset
        if needed:
            if position + needed <= size:
                window_bytes = max(WINDOW_BYTES, needed)
            else:
                position += _FRAME_ALIGNMENT
    return found
