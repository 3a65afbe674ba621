"""Writing to the segments: where the next frame goes, and what it says is synced before it.

::

              ┌────────────────────────────────────────────────────────────┐   ┌──────────────┐
    segments  │ header │ frame │ frame │ ... │ zeros         │ for control │   │ next segment │
              └────────────────▲─────────────▲───────────────▲─────────────┘   └──────────────┘
                          synced bytes    position       groups end              has its blocks

A group that does not fit before `groups end` goes into the next segment: the job that writes it makes the
*rotation* first, and once that is planned, all positions are in the next segment. So positions are ahead of
what is stored by what is in flight; should that fail, the log is poisoned, and they are not used again.

What is not decided here: when to write, when to sync, and what may be shown (`rstmdb_storage.log`).
"""

from __future__ import annotations

from rstmdb_storage.config import LogConfig
from rstmdb_storage.filesystem import FileSystem
from rstmdb_storage.frame import (
    CONTROL_FRAME_BYTES,
    FLAG_RELAXED,
    FRAME_HEADER_BYTES,
    KIND_CLOSE,
    KIND_MARK,
    encode_control,
    encode_group,
)
from rstmdb_storage.jobs import Rotation, SegmentCommit
from rstmdb_storage.opening import Opened
from rstmdb_storage.segment import CONTROL_RESERVE_BYTES, SEGMENT_HEADER_BYTES, Segment, SegmentHeader

__all__ = ["RECORD_BYTES_MAX", "RECORD_OVERHEAD_BYTES", "SegmentWriter"]

RECORD_BYTES_MAX = 256 << 20
"""Far above what a request may carry; a frame's length must fit 32 bits."""
RECORD_OVERHEAD_BYTES = 8
"""What a group adds to each of its records at most: a length and a count."""
_GROUP_BYTES_MAX = 1 << 31
_FRAME_OVERHEAD_BYTES = FRAME_HEADER_BYTES + 8
_SEGMENT_OVERHEAD_BYTES = SEGMENT_HEADER_BYTES + CONTROL_RESERVE_BYTES


class SegmentWriter:
    """Makes the jobs that write to the active segment, and knows what of it is synced.

    Attributes:
        synced_sequence: The last effect that a power loss cannot take.
    """

    __slots__ = (
        "_directory",
        "_epoch",
        "_file",
        "_flags",
        "_fs",
        "_groups_end",
        "_header",
        "_last_effect",
        "_next_sequence",
        "_position",
        "_segment_bytes",
        "_space",
        "_synced_bytes",
        "synced_sequence",
    )

    def __init__(self, fs: FileSystem, directory: str, config: LogConfig, opened: Opened) -> None:
        """Go on writing behind what was recovered; the new epoch has proven all of it."""
        self._fs = fs
        self._directory = directory
        self._segment_bytes = config.segment_bytes
        self._flags = FLAG_RELAXED if config.fsync.relaxed else 0
        self._space = opened.space
        self._epoch = opened.report.epoch
        self._last_effect = opened.report.last_sequence
        self._next_sequence = opened.report.next_sequence
        self.synced_sequence = opened.report.next_sequence - 1
        self._header = opened.segments[-1].header
        self._file = opened.file
        self._groups_end = self._header.file_bytes - CONTROL_RESERVE_BYTES
        self._position = opened.position
        self._synced_bytes = opened.position

    # Room

    def room(self) -> int:
        """Return how many bytes the records of the next group may take, overhead included."""
        room = self._groups_end - self._position
        prepared = self._space.prepared
        if prepared is not None and prepared.size - _SEGMENT_OVERHEAD_BYTES > room:
            room = prepared.size - _SEGMENT_OVERHEAD_BYTES
        return room - _FRAME_OVERHEAD_BYTES if room > _FRAME_OVERHEAD_BYTES else 0

    def make_room(self, size: int, *, record_bytes: int) -> None:
        """See to it that the next segment has room for a group.

        Args:
            size: The bytes of its records, overhead included.
            record_bytes: Those of the last of them, which makes the group so large.

        Raises:
            DiskFull: The segment cannot have that room now.
            ValueError: The record is larger than any may be.
        """
        if record_bytes > RECORD_BYTES_MAX:
            raise ValueError(f"a record of {record_bytes} bytes is above the limit of {RECORD_BYTES_MAX}")
        assert size < _GROUP_BYTES_MAX, "more is appended than a frame can hold; commit sooner"
        needed = size + _FRAME_OVERHEAD_BYTES + _SEGMENT_OVERHEAD_BYTES
        self._space.require(max(self._segment_bytes, (needed + 4095) & ~4095))

    @property
    def half_full(self) -> bool:
        """Whether it is time to prepare the next segment."""
        return self._position * 2 >= self._groups_end

    # Jobs

    def group(
        self, bodies: list[bytes], counts: list[int], last_sequence: int, sync: bool, time_ms: int
    ) -> SegmentCommit:
        """Return the job that writes records as one group; there must be room for it.

        Args:
            bodies: The records.
            counts: The sequences that each takes.
            last_sequence: The last of these sequences.
            sync: Whether to sync behind it.
            time_ms: The host's time, for the header of a new segment.
        """
        rotation = None
        data = self._frame_of(bodies, counts, self.synced_sequence, self._synced_bytes)
        if self._position + len(data) > self._groups_end:
            # The rotation comes before the write, and syncs all that is before this group.
            data = self._frame_of(bodies, counts, self._next_sequence - 1, SEGMENT_HEADER_BYTES)
            rotation = self._rotate(time_ms)
        self._next_sequence = last_sequence + 1
        self._last_effect = last_sequence
        return self._job(data, sync, len(bodies), rotation)

    def sync(self) -> SegmentCommit:
        """Return the job that syncs what is written."""
        return self._job(b"", True, 0, None)

    def mark(self, *, sync_first: bool) -> SegmentCommit:
        """Return the job that writes a mark, and syncs it.

        Args:
            sync_first: Whether anything before it is not synced yet; a mark says that all of it is.
        """
        return self._mark(KIND_MARK, sync_first)

    def close_mark(self, *, sync_first: bool) -> SegmentCommit:
        """Return the job that marks a clean close; without a place for the mark it only syncs."""
        if self._position + CONTROL_FRAME_BYTES > self._header.file_bytes:
            return self.sync()
        return self._mark(KIND_CLOSE, sync_first)

    @property
    def mark_fits(self) -> bool:
        """Whether there is a place for a mark; the last few are for epochs and the mark of a clean close."""
        return self._position + CONTROL_FRAME_BYTES <= self._header.file_bytes - CONTROL_RESERVE_BYTES // 2

    # What has been done

    def synced(self, sequence: int, end: int) -> None:
        """Take note that all effects up to a sequence are synced, and the file up to a position."""
        self.synced_sequence = sequence
        self._synced_bytes = end

    def rotated(self, rotation: Rotation) -> Segment:
        """Take note that a rotation was made, and all before it is synced; return the new segment."""
        rotation.before.close()
        self.synced_sequence = rotation.header.first_sequence - 1
        return Segment(rotation.path, rotation.header)

    def close(self) -> None:
        """Close the active segment."""
        self._file.close()

    # Inside

    def _frame_of(
        self, bodies: list[bytes], counts: list[int], durable_sequence: int, synced_bytes: int
    ) -> bytes:
        return encode_group(
            bodies,
            counts,
            first_sequence=self._next_sequence,
            durable_sequence=durable_sequence,
            synced_bytes=synced_bytes,
            epoch=self._epoch,
            flags=self._flags,
        )

    def _mark(self, kind: int, sync_first: bool) -> SegmentCommit:
        data = encode_control(
            kind,
            next_sequence=self._next_sequence,
            synced_bytes=self._position,
            epoch=self._epoch,
            flags=self._flags,
        )
        job = self._job(data, True, 0, None)
        job.sync_first = sync_first
        return job

    def _job(self, data: bytes, sync: bool, records: int, rotation: Rotation | None) -> SegmentCommit:
        """Return a job that writes `data` at the position, which moves on behind it."""
        job = SegmentCommit()
        job.rotation = rotation
        job.sync_first = False
        job.data = data
        job.file = self._file
        job.position = self._position
        job.sync = sync
        job.records = records
        job.last_sequence = self._next_sequence - 1
        job.error = None
        job.done = False
        self._position += len(data)
        return job

    def _rotate(self, time_ms: int) -> Rotation:
        """Plan to go over to the next segment; from here on positions are in that one."""
        prepared = self._space.take()
        header = SegmentHeader(
            number=self._header.number + 1,
            first_sequence=self._next_sequence,
            after_sequence=self._last_effect,
            epoch=self._epoch,
            file_bytes=prepared.size,
            previous_end=self._position,
            time_ms=time_ms,
            flags=self._flags,
        )
        rotation = Rotation(self._fs, self._directory, self._file, prepared, header)
        self._header = header
        self._file = prepared.file
        self._groups_end = prepared.size - CONTROL_RESERVE_BYTES
        self._position = SEGMENT_HEADER_BYTES
        self._synced_bytes = SEGMENT_HEADER_BYTES
        return rotation
