"""The settings of the embedded log, each with its unit and its reason."""

from __future__ import annotations

from dataclasses import dataclass, field

from rstmdb_storage.commit import FsyncPolicy
from rstmdb_storage.segment import SEGMENT_BYTES_MIN

__all__ = ["LogConfig"]

_SEGMENT_BYTES_MAX = 1 << 31


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """How the embedded log behaves.

    Attributes:
        segment_bytes: The size of a segment file, preallocated. Larger ones rotate more rarely, smaller ones
            are given back sooner. A group that is larger gets a segment of its own size.
        fsync: When commits end with a sync.
        reserve_bytes: Kept aside, so that a snapshot and a compaction can run on a full disk.
        idle_seconds: After a rest of this long a mark is written, which proves what is before it.
        fill: Whether the first segment, and each next one that is prepared off the loop, is written full of
            zeros rather than only reserved (see `docs/decisions/0003-preallocation.md`).
    """

    segment_bytes: int = 64 << 20
    fsync: FsyncPolicy = field(default_factory=FsyncPolicy)
    reserve_bytes: int = 64 << 20
    idle_seconds: float = 1.0
    fill: bool = True

    def __post_init__(self) -> None:
        if not SEGMENT_BYTES_MIN <= self.segment_bytes <= _SEGMENT_BYTES_MAX:
            raise ValueError(
                f"segment_bytes must be from {SEGMENT_BYTES_MIN} to {_SEGMENT_BYTES_MAX}, "
                f"not {self.segment_bytes}"
            )
        if self.reserve_bytes < 0:
            raise ValueError(f"reserve_bytes must not be negative, as {self.reserve_bytes} is")
