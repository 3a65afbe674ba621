"""Reading the last segment: frame by frame, up to where no valid frame follows any more.

Only the last segment can hold anything that was not synced, since one is sealed after a sync. What its frames
say besides their records is gathered on the way::

    │ header │ frame │ frame │ frame │ frame │ whatever stands there: see `rstmdb_storage.judgement`
             ◀──── proof.position ───▶       ▲ end
                   synced once, by what frames say

What frames prove only grows, and so do sequences and epochs: a frame that goes back does not follow.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

from rstmdb_storage.filesystem import File
from rstmdb_storage.frame import FLAG_RELAXED, KIND_CLOSE, KIND_GROUP
from rstmdb_storage.frame_decoder import WINDOW_BYTES, Frame, decode_records, follows, take_frames
from rstmdb_storage.segment import SEGMENT_HEADER_BYTES, Segment, read_part

__all__ = ["Progress", "Proof", "Tail", "read_tail"]


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


@dataclass(slots=True)
class Proof:
    """What is known to have been synced once: damage there cannot be an unfinished write.

    Attributes:
        position: The last segment was synced up to here.
        sequence: The effects were durable up to this one.
    """

    position: int
    sequence: int

    def learn(self, frame: Frame) -> None:
        """Take note of what a frame says was synced before it was written."""
        self.position = max(self.position, frame.synced_bytes)
        self.sequence = max(self.sequence, frame.durable_sequence)


@dataclass(slots=True, kw_only=True)
class Tail:
    """What the frames of the last segment say.

    Attributes:
        end: Where they end.
        last_sequence: The last effect in the log; 0 for none.
        next_sequence: The sequence that follows.
        epoch: The last epoch.
        flags: Those of the last frame, or of the segment before the first one.
        clean: Whether the last frame marks a clean close.
        misplaced: Whether a valid frame stands at `end`, which does not follow.
        proof: What is known to have been synced.
    """

    end: int
    last_sequence: int
    next_sequence: int
    epoch: int
    flags: int
    clean: bool
    misplaced: bool
    proof: Proof

    @property
    def relaxed(self) -> bool:
        """Whether the last writer showed what was not yet synced."""
        return bool(self.flags & FLAG_RELAXED)


def read_tail(
    file: File,
    segment: Segment,
    *,
    snapshot_sequence: int,
    on_progress: Callable[[Progress], None] | None = None,
) -> Tail:
    """Read the valid frames of the last segment, and note some of their places in it.

    Args:
        file: The open file.
        segment: What it is.
        snapshot_sequence: The last sequence that the newest snapshot holds, which therefore was durable.
        on_progress: Called after each window that was read.

    Raises:
        CorruptionError: The disk does not give back what is there.
    """
    header = segment.header
    tail = Tail(
        end=SEGMENT_HEADER_BYTES,
        last_sequence=header.after_sequence,
        next_sequence=header.first_sequence,
        epoch=header.epoch,
        flags=header.flags,
        clean=False,
        misplaced=False,
        proof=Proof(SEGMENT_HEADER_BYTES, snapshot_sequence),
    )
    size = file.size()
    while tail.end < size:
        window = read_part(file, segment.path, WINDOW_BYTES, tail.end)
        frames, _, needed = take_frames(window, 0, sys.maxsize)
        if not frames and len(window) < needed <= size - tail.end:
            window = read_part(file, segment.path, needed, tail.end)
            frames, _, _ = take_frames(window, 0, sys.maxsize)
        _follow(tail, segment, window, frames)
        if on_progress is not None:
            on_progress(Progress(path=segment.path, bytes_done=tail.end, bytes_total=size))
        if tail.misplaced or not frames:
            break
    return tail


def _follow(tail: Tail, segment: Segment, window: bytes, frames: list[Frame]) -> None:
    """Go along the frames of a window that begins where the tail ended so far."""
    start = tail.end
    expected = tail.next_sequence
    epoch = tail.epoch
    last = None
    for frame in frames:
        at = start + frame.offset
        if not _sound(window, frame, at, expected, epoch):
            tail.misplaced = True
            break
        if frame.kind == KIND_GROUP:
            if at >= segment.index_from:
                segment.remember(expected, at, epoch)
            expected = frame.first_sequence + frame.effects
            tail.last_sequence = expected - 1
        else:
            expected = frame.first_sequence
            epoch = frame.epoch
        last = frame
    tail.next_sequence = expected
    tail.epoch = epoch
    if last is not None:
        tail.end = start + last.offset + last.size
        tail.flags = last.flags
        tail.clean = last.kind == KIND_CLOSE
        # Of all frames here the last one proves most.
        tail.proof.learn(last)


def _sound(window: bytes, frame: Frame, at: int, expected: int, epoch: int) -> bool:
    """Say whether a valid frame follows on the one before, and says nothing impossible."""
    return (
        follows(frame, expected, epoch)
        and frame.synced_bytes <= at
        and frame.durable_sequence < frame.first_sequence
        and (frame.kind != KIND_GROUP or frame.records == 1 or decode_records(window, frame) is not None)
    )
