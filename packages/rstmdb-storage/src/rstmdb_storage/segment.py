"""One file of the log: its name, its header, how it is prepared and put in place.

Segments are numbered without gaps and named by that number, 16 hexadecimal digits and `.wal`. A segment is
*active* (the last one, written to) or *sealed*. Its header is written and synced before the file gets its
name, and never again::

      0  magic             8 bytes   "RSTMDBWL"
      8  format version    u32       1
     12  flags             u32       as in a frame
     16  number            u64       of this segment
     24  first sequence    u64       the next sequence when it was created
     32  after sequence    u64       of the last effect in the segments before, 0 for none; below
                                     `first sequence` - 1 when the sequence has jumped in between
     40  epoch             u64       of the writer that created it
     48  file bytes        u64       preallocated when it was created
     56  previous end      u64       where the frames of the segment before end, 0 for none
     64  time              u64       what the host said its time was, in milliseconds
     72  zero              52 bytes
    124  checksum          u32       CRC32C of bytes 0..123
    128  frames, then zeros

A new segment is prepared under a temporary name (`*.tmp`), at leisure and off the loop: created, its
blocks reserved, synced. At rotation the segment before is synced, the header is written and synced, the
file renamed, and the directory synced, in this order; so a segment that exists proves all before it.
"""

from __future__ import annotations

import bisect
import re
import threading
from dataclasses import dataclass, field
from struct import Struct
from typing import Final

from rstmdb_storage.checksum import crc32c
from rstmdb_storage.errors import CorruptionError, FormatError
from rstmdb_storage.filesystem import File, FileSystem
from rstmdb_storage.frame import CONTROL_FRAME_BYTES

__all__ = [
    "CONTROL_RESERVE_BYTES",
    "FORMAT_VERSION",
    "SEGMENT_BYTES_MIN",
    "SEGMENT_HEADER_BYTES",
    "TEMPORARY_SUFFIX",
    "Prepared",
    "Segment",
    "SegmentHeader",
    "put_in_place",
    "read_header",
    "read_part",
    "segment_name",
    "segment_number",
    "write_fully",
]

FORMAT_VERSION: Final = 1
SEGMENT_HEADER_BYTES: Final = 128
CONTROL_RESERVE_BYTES: Final = 16 * CONTROL_FRAME_BYTES
"""The end of each segment is kept for marks and epochs, so that a full disk does not block a restart."""
SEGMENT_BYTES_MIN: Final = 2048
TEMPORARY_SUFFIX: Final = ".tmp"
INDEX_STEP_BYTES: Final = 64 * 1024

_MAGIC: Final = b"RSTMDBWL"
_FIELDS: Final = Struct("<8sIIQQQQQQQ52x")
_CHECKSUM: Final = Struct("<I")
_NAME: Final = re.compile(r"([0-9a-f]{16})\.wal")


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentHeader:
    """The header of a segment; the fields are those of the module's drawing."""

    number: int
    first_sequence: int
    after_sequence: int
    epoch: int
    file_bytes: int
    previous_end: int
    time_ms: int
    flags: int

    def encode(self) -> bytes:
        """Return the header's bytes."""
        fields = _FIELDS.pack(
            _MAGIC,
            FORMAT_VERSION,
            self.flags,
            self.number,
            self.first_sequence,
            self.after_sequence,
            self.epoch,
            self.file_bytes,
            self.previous_end,
            self.time_ms,
        )
        return fields + _CHECKSUM.pack(crc32c(0, fields))


@dataclass(eq=False, slots=True)
class Segment:
    """What is known of a segment that is in place.

    Attributes:
        path: Its file.
        header: Its header.
        end: Where its frames end, as the header of the segment behind says; None for the last segment.
        index_from: From which position on the next frame is worth noting.
        index: Some of its frames as (first sequence, position, epoch), at least 64 KiB apart, in order.
    """

    path: str
    header: SegmentHeader
    end: int | None = None
    index_from: int = SEGMENT_HEADER_BYTES + INDEX_STEP_BYTES
    index: list[tuple[int, int, int]] = field(default_factory=list)
    _index_lock: threading.Lock = field(default_factory=threading.Lock)

    def remember(self, sequence: int, position: int, epoch: int) -> None:
        """Note where a frame begins, if that is far enough behind the last one noted; from any thread."""
        if position < self.index_from:
            return
        with self._index_lock:
            if position >= self.index_from:
                self.index.append((sequence, position, epoch))
                self.index_from = position + INDEX_STEP_BYTES

    def position_before(self, sequence: int) -> tuple[int, int, int]:
        """Return sequence, position and epoch of a frame at or before the one that holds `sequence`."""
        at = bisect.bisect_right(self.index, (sequence, 1 << 63, 0))
        if at:
            return self.index[at - 1]
        return self.header.first_sequence, SEGMENT_HEADER_BYTES, self.header.epoch


@dataclass(eq=False, slots=True)
class Prepared:
    """A segment that has its blocks, but neither header nor name yet."""

    path: str
    file: File
    size: int


def segment_name(number: int) -> str:
    """Return the file name of a segment."""
    return f"{number:016x}.wal"


def segment_number(name: str) -> int | None:
    """Return the number of a segment from its file name, or None if it is not such a name."""
    match = _NAME.fullmatch(name)
    return int(match[1], 16) if match else None


def read_header(file: File, path: str, number: int) -> SegmentHeader:
    """Read and check the header of a segment.

    Args:
        file: The open file.
        path: Its path, for the messages.
        number: The number in its name.

    Raises:
        CorruptionError: The header is damaged, or is that of another segment.
        FormatError: It is of a format that this version does not read.
    """
    data = file.pread(SEGMENT_HEADER_BYTES, 0)
    if len(data) < SEGMENT_HEADER_BYTES:
        raise CorruptionError(path, len(data), "the file ends inside the header of the segment")
    magic, version, flags, *numbers = _FIELDS.unpack_from(data)
    if crc32c(0, data[:124]) != _CHECKSUM.unpack_from(data, 124)[0]:
        raise CorruptionError(path, 0, "the header of the segment fails its check")
    if magic != _MAGIC:
        raise FormatError(path, "not a segment of an rstmdb log")
    if version != FORMAT_VERSION:
        raise FormatError(path, f"segment format {version}; this version reads format {FORMAT_VERSION}")
    found, first, after, epoch, file_bytes, previous_end, time_ms = numbers
    if found != number:
        raise CorruptionError(path, 16, f"the header is that of segment {found:016x}")
    return SegmentHeader(
        number=number,
        first_sequence=first,
        after_sequence=after,
        epoch=epoch,
        file_bytes=file_bytes,
        previous_end=previous_end,
        time_ms=time_ms,
        flags=flags,
    )


def read_part(file: File, path: str, size: int, position: int) -> bytes:
    """Read `size` bytes of a segment, fewer at its end.

    Raises:
        CorruptionError: The disk does not give them back.
    """
    try:
        return file.pread(size, position)
    except OSError as error:
        raise CorruptionError(path, position, f"cannot be read: {error}") from error


def write_fully(file: File, data: bytes, position: int) -> None:
    """Write all of `data`, however many calls it takes."""
    written = file.pwrite(data, position)
    while written < len(data):
        data = data[written:]
        position += written
        written = file.pwrite(data, position)


def put_in_place(
    fs: FileSystem, directory: str, prepared: Prepared, header: SegmentHeader
) -> str:  # fmt: skip
    """Give a prepared segment its header and its name, durably; return its path.

    The segment before must have been synced.
    """
    path = f"{directory}/{segment_name(header.number)}"
    write_fully(prepared.file, header.encode(), 0)
    prepared.file.sync()
    fs.rename(prepared.path, path)
    fs.sync_directory(directory)
    return path
