"""One RCPX frame, both ways.

    offset  size  field        rule
         0     4  magic        ASCII RCPX
         4     2  version      1
         6     2  flags        bit 0 CRC_PRESENT, 1 COMPRESSED, 2 STREAM, 3 END_STREAM; bits 4 to 15 are 0
         8     2  header_len   length of the extension behind the header; skipped
        10     4  payload_len  at most 16 MiB
        14     4  crc32c       CRC-32C of the payload alone; 0 without CRC_PRESENT
        18     …  extension, then payload: one message as UTF-8 JSON

Integers are big-endian. COMPRESSED, STREAM and END_STREAM are accepted and change nothing: no peer has ever
given them a meaning. What is sent carries CRC_PRESENT alone and no extension.
"""

import struct
from enum import IntFlag
from typing import Final, NamedTuple

import google_crc32c

from rstmdb_protocol.errors import FramingError, FramingFault
from rstmdb_protocol.limits import FRAME_PAYLOAD_BYTES_MAX

MAGIC: Final = b"RCPX"
FRAME_VERSION: Final = 1
HEADER_BYTES: Final = 18
FLAGS_RESERVED: Final = 0xFFF0

HEADER_FORMAT: Final = struct.Struct(">4sHHHII")
"""The header's fields: magic, version, flags, header_len, payload_len, crc32c."""

_START: Final = struct.pack(">4sHHH", MAGIC, FRAME_VERSION, 1, 0)
_header: Final = struct.Struct(">10sII").pack
_unpack: Final = HEADER_FORMAT.unpack_from
_crc: Final = google_crc32c.value


def crc32c(data: bytes) -> int:
    """Return the CRC-32C (Castagnoli) of `data`: `crc32c(b"123456789") == 0xE3069283`."""
    value: int = google_crc32c.value(data)
    return value


class FrameFlags(IntFlag):
    """Flag bits of a frame header."""

    CRC_PRESENT = 1
    COMPRESSED = 2
    STREAM = 4
    END_STREAM = 8


class FrameHeader(NamedTuple):
    """The fields of a frame header that a reader needs, already judged."""

    flags: int
    extension_bytes: int
    payload_bytes: int
    checksum: int

    @property
    def frame_bytes(self) -> int:
        """Length of the whole frame in bytes."""
        return HEADER_BYTES + self.extension_bytes + self.payload_bytes


def decode_header(data: bytes | bytearray, position: int = 0, *, payload_bytes_max: int) -> FrameHeader:
    """Read and judge the header at `position`; the body need not have arrived.

    Args:
        data: Bytes that hold the whole header.
        position: Index of its first byte.
        payload_bytes_max: Largest payload that is accepted, in bytes.

    Raises:
        FramingError: Wrong magic, version, reserved flags, or a payload that is too large.
    """
    magic, version, flags, extension_bytes, payload_bytes, checksum = _unpack(data, position)
    if magic != MAGIC:
        raise FramingError(FramingFault.BAD_MAGIC, f"expected {MAGIC.hex()}, got {magic.hex()}")
    if version != FRAME_VERSION:
        raise FramingError(FramingFault.UNSUPPORTED_VERSION, f"expected {FRAME_VERSION}, got {version}")
    if flags & FLAGS_RESERVED:
        raise FramingError(FramingFault.RESERVED_FLAGS, f"flags 0x{flags:04x}")
    if payload_bytes > payload_bytes_max:
        detail = f"{payload_bytes} bytes, at most {payload_bytes_max} are accepted"
        raise FramingError(FramingFault.PAYLOAD_TOO_LARGE, detail)
    return FrameHeader(flags, extension_bytes, payload_bytes, checksum)


def verify_checksum(header: FrameHeader, payload: bytes) -> None:
    """Compare the payload with the checksum of its header, if the header carries one.

    Raises:
        FramingError: They differ.
    """
    if header.flags & 1 and crc32c(payload) != header.checksum:
        detail = f"header says {header.checksum:08x}, payload has {crc32c(payload):08x}"
        raise FramingError(FramingFault.CHECKSUM_MISMATCH, detail)


def encode_frame(payload: bytes) -> bytes:
    """Return `payload` as one frame with a checksum.

    Raises:
        FramingError: The payload is larger than a frame can be.
    """
    size = len(payload)
    if size > FRAME_PAYLOAD_BYTES_MAX:
        detail = f"{size} bytes, at most {FRAME_PAYLOAD_BYTES_MAX} fit"
        raise FramingError(FramingFault.PAYLOAD_TOO_LARGE, detail)
    return _header(_START, size, _crc(payload)) + payload
