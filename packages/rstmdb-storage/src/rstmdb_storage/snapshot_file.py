"""The bytes of one snapshot file: written piece by piece, and proved when read.

::

    header    8  magic "RSTMSNAP"
              2  version                      these 36 bytes keep their meaning in every version
              2  flags (none yet)
              4  length of the metadata m
              8  sequence                     the state is that after this effect
              8  created, ms since 1970
              4  CRC32C of the 32 bytes above and the metadata
    metadata  m  bytes of the host
    chunk     4  "CHNK"                       any number of these
              4  number, from 0
              4  length stored s
              4  length of the contents
              4  CRC32C of the 16 bytes above and the stored bytes, continued from the header's CRC
              s  contents, compressed (zstd)
    footer    4  "FOOT"
              4  number of chunks
              8  bytes of all contents
              8  position of this footer
              8  sequence
              4  CRC32C of the CRCs of all chunks, in order
              4  CRC32C of the 36 bytes above, continued from the header's CRC

All integers are little-endian, every byte is under a checksum, and nothing stands behind the footer.
Continuing each checksum from the header's keeps a chunk of another snapshot, left on the disk, from being
taken for one of this.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import zstandard

from rstmdb_storage.checksum import crc32c
from rstmdb_storage.errors import CorruptionError, FormatError
from rstmdb_storage.filesystem import File

__all__ = [
    "CHUNK_BYTES_MAX",
    "METADATA_BYTES_MAX",
    "VERSION",
    "SnapshotEncoder",
    "SnapshotHeader",
    "read_chunks",
    "read_footer_checksum",
    "read_header",
]

MAGIC = b"RSTMSNAP"
VERSION = 1
HEADER = struct.Struct("<8sHHIQQI")
CHUNK = struct.Struct("<4sIIII")
FOOTER = struct.Struct("<4sIQQQII")
HEADER_CHECKED = HEADER.size - 4
CHUNK_CHECKED = CHUNK.size - 4
FOOTER_CHECKED = FOOTER.size - 4

# Measured on rows like instances, 192 KiB a chunk: level 1 compresses 690 MB/s to a ratio of 4.3, level 3
# 475 MB/s to 4.0, level -5 960 MB/s to 2.7. Bytes cost the disk more than level 1 costs the processor.
ZSTD_LEVEL = 1

# A chunk is one slice of work between turns; a host makes them of 64 to 256 KiB. The limits only keep a
# damaged length from asking for all memory.
CHUNK_BYTES_MAX = 64 << 20
STORED_BYTES_MAX = CHUNK_BYTES_MAX + (1 << 20)
METADATA_BYTES_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class SnapshotHeader:
    """The header of a snapshot that was read and verified.

    Attributes:
        sequence: The last sequence whose effect is in the state.
        created_ms: When it was begun, in ms since 1970.
        metadata: The bytes of the host.
        crc: The checksum from which all others of the file continue.
    """

    sequence: int
    created_ms: int
    metadata: bytes
    crc: int

    @property
    def size(self) -> int:
        """Where the first chunk begins."""
        return HEADER.size + len(self.metadata)


class SnapshotEncoder:
    """Turns a state, chunk by chunk, into the bytes of a snapshot file.

    Attributes:
        header: Header and metadata, the first bytes of the file.
        raw_bytes: Length of all chunks so far, uncompressed.
        size: Length of the file so far.
    """

    __slots__ = (
        "_chunks_crc",
        "_compressor",
        "_count",
        "_header_crc",
        "_sequence",
        "header",
        "raw_bytes",
        "size",
    )

    def __init__(self, sequence: int, created_ms: int, metadata: bytes) -> None:
        checked = HEADER.pack(MAGIC, VERSION, 0, len(metadata), sequence, created_ms, 0)[:HEADER_CHECKED]
        self._header_crc = crc32c(crc32c(0, checked), metadata)
        self._sequence = sequence
        self._compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL)
        self._count = 0
        self._chunks_crc = 0
        self.raw_bytes = 0
        self.header = checked + self._header_crc.to_bytes(4, "little") + metadata
        self.size = len(self.header)

    def chunk(self, contents: bytes) -> bytes:
        """Return the stored form of one chunk.

        Raises:
            ValueError: It is larger than `CHUNK_BYTES_MAX`.
        """
        if len(contents) > CHUNK_BYTES_MAX:
            raise ValueError(f"a chunk of {len(contents)} bytes is larger than {CHUNK_BYTES_MAX}")
        stored = self._compressor.compress(contents)
        checked = CHUNK.pack(b"CHNK", self._count, len(stored), len(contents), 0)[:CHUNK_CHECKED]
        crc = crc32c(crc32c(self._header_crc, checked), stored)
        crc_bytes = crc.to_bytes(4, "little")
        self._chunks_crc = crc32c(self._chunks_crc, crc_bytes)
        self._count += 1
        self.raw_bytes += len(contents)
        self.size += CHUNK.size + len(stored)
        return b"".join((checked, crc_bytes, stored))

    def footer(self) -> bytes:
        """Return the last bytes of the file."""
        checked = FOOTER.pack(
            b"FOOT", self._count, self.raw_bytes, self.size, self._sequence, self._chunks_crc, 0
        )[:FOOTER_CHECKED]
        crc = crc32c(self._header_crc, checked)
        self.size += FOOTER.size
        return checked + crc.to_bytes(4, "little")


def read_header(file: File, path: str) -> SnapshotHeader:
    """Read and verify header and metadata.

    Raises:
        CorruptionError: It is damaged.
        FormatError: It is whole, and of another version.
    """
    data = file.pread(HEADER.size, 0)
    if len(data) < HEADER.size:
        raise CorruptionError(path, 0, "the header of the snapshot is cut short")
    magic, version, flags, metadata_length, sequence, created_ms, crc = HEADER.unpack(data)
    if magic != MAGIC:
        raise CorruptionError(path, 0, "this is no snapshot")
    metadata = file.pread(metadata_length, HEADER.size) if metadata_length <= METADATA_BYTES_MAX else b""
    if crc32c(crc32c(0, data[:HEADER_CHECKED]), metadata) != crc:
        raise CorruptionError(path, 0, "the checksum of the header does not match")
    if version != VERSION or flags:
        raise FormatError(path, f"snapshot version {version}, flags {flags}; this is for version {VERSION}")
    return SnapshotHeader(sequence, created_ms, metadata, crc)


def read_chunks(file: File, path: str, header: SnapshotHeader, *, contents: bool = True) -> Iterator[bytes]:
    """Verify chunk after chunk, then the footer and the end of the file; yield the contents of each chunk.

    Args:
        file: The file.
        path: Its path, for messages.
        header: What `read_header` returned.
        contents: Without, checksums are verified but nothing is decompressed, and `b""` is yielded.

    Raises:
        CorruptionError: Something does not match; names the first byte of the damaged part.
    """
    decompressor = zstandard.ZstdDecompressor()
    position = header.size
    count = raw_bytes = chunks_crc = 0
    while True:
        data = file.pread(CHUNK.size, position)
        if data[:4] == b"FOOT":
            break
        if len(data) < CHUNK.size:
            raise CorruptionError(path, position, "the snapshot ends without a footer")
        kind, number, stored_length, raw_length, crc = CHUNK.unpack(data)
        if kind != b"CHNK" or stored_length > STORED_BYTES_MAX or raw_length > CHUNK_BYTES_MAX:
            raise CorruptionError(path, position, "neither a chunk nor the footer")
        stored = file.pread(stored_length, position + CHUNK.size)
        found = crc32c(crc32c(header.crc, data[:CHUNK_CHECKED]), stored)
        if found != crc or len(stored) != stored_length:
            raise CorruptionError(path, position, f"the checksum of chunk {count} does not match")
        if number != count:
            raise CorruptionError(path, position, f"chunk {number} stands where chunk {count} belongs")
        count += 1
        raw_bytes += raw_length
        chunks_crc = crc32c(chunks_crc, data[CHUNK_CHECKED:])
        if contents:
            try:
                chunk = decompressor.decompress(stored, max_output_size=raw_length)
            except zstandard.ZstdError as error:
                raise CorruptionError(
                    path, position, f"chunk {number} does not decompress: {error}"
                ) from None
            if len(chunk) != raw_length:
                raise CorruptionError(
                    path, position, f"chunk {number} has {len(chunk)} of {raw_length} bytes"
                )
            yield chunk
        else:
            yield b""
        position += CHUNK.size + stored_length
    data = file.pread(FOOTER.size + 1, position)
    _check_footer(path, data, position, header, (count, raw_bytes, header.sequence, chunks_crc))


def read_footer_checksum(file: File, path: str, header: SnapshotHeader) -> int:
    """Verify the footer alone and return the checksum of the file, which follows from all its bytes.

    Raises:
        CorruptionError: The file does not end with its footer.
    """
    position = file.size() - FOOTER.size
    if position < header.size:
        raise CorruptionError(path, header.size, "the snapshot ends without a footer")
    return _check_footer(path, file.pread(FOOTER.size, position), position, header, None)


def _check_footer(
    path: str, data: bytes, position: int, header: SnapshotHeader, expected: tuple[int, int, int, int] | None
) -> int:
    """Return the footer's checksum; `expected` is count, bytes, sequence and CRC of the chunks read."""
    if len(data) < FOOTER.size:
        raise CorruptionError(path, position, "the footer of the snapshot is cut short")
    if len(data) > FOOTER.size:
        raise CorruptionError(path, position + FOOTER.size, "there are bytes behind the footer")
    kind, count, raw_bytes, own_position, sequence, chunks_crc, crc = FOOTER.unpack(data)
    if kind != b"FOOT" or crc32c(header.crc, data[:FOOTER_CHECKED]) != crc:
        raise CorruptionError(path, position, "the footer of the snapshot is missing or does not match")
    totals = (count, raw_bytes, sequence, chunks_crc)
    if own_position != position or (expected is not None and totals != expected):
        raise CorruptionError(path, position, "the totals of the footer do not match the chunks")
    return int(crc)
