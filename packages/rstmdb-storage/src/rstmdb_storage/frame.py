"""Frames: the layout of what one commit writes, and how it is encoded.

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
record has 512 zero bytes in a row, so a sector that was never written shows as well.

`rstmdb_storage.frame_decoder` reads what is written here.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable
from struct import Struct
from typing import Final

from rstmdb_storage.checksum import crc32c

__all__ = [
    "CONTROL_FRAME_BYTES",
    "FLAG_RELAXED",
    "FRAME_HEADER",
    "FRAME_HEADER_BYTES",
    "FRAME_KINDS",
    "FRAME_MAGIC",
    "KIND_CLOSE",
    "KIND_EPOCH",
    "KIND_GROUP",
    "KIND_MARK",
    "encode_control",
    "encode_group",
    "frame_bytes",
    "group_tables_bytes",
]

FRAME_MAGIC: Final = b"\xd7rsf"
FRAME_HEADER: Final = Struct("<4sIIIQQQIIIHBB")
FRAME_HEADER_BYTES: Final = FRAME_HEADER.size
CONTROL_FRAME_BYTES: Final = 64
"""The size of a mark or an epoch."""

KIND_GROUP: Final = 0x47
KIND_MARK: Final = 0x4D
KIND_CLOSE: Final = 0x43
KIND_EPOCH: Final = 0x45
FRAME_KINDS: Final = frozenset((KIND_GROUP, KIND_MARK, KIND_CLOSE, KIND_EPOCH))
FLAG_RELAXED: Final = 1

# The header in two parts: the first holds the checksum of the second.
_FRONT: Final = Struct("<4sII")
_REST: Final = Struct("<IQQQIIIHBB")
_PADDING: Final = tuple(b"\xff" * (8 - size % 8) for size in range(8))


def frame_bytes(body_bytes: int) -> int:
    """Return the size of a frame with a body of this size, padding included."""
    return (FRAME_HEADER_BYTES + body_bytes + 8) & ~7


def group_tables_bytes(records: int, effects: int) -> int:
    """Return the size of the tables in front of the records of a group.

    Args:
        records: How many records it holds.
        effects: How many sequences they take together.
    """
    if records == 1:
        return 0
    return 4 * records if records == effects else 8 * records


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
    if records == 1:
        effects = counts[0]
        payload = bodies[0]
    else:
        effects = sum(counts)
        lengths = _table(map(len, bodies))
        payload = b"".join((lengths, *bodies) if records == effects else (lengths, _table(counts), *bodies))
    size = len(payload)
    payload += _PADDING[size & 7]
    rest = _REST.pack(
        size, first_sequence, durable_sequence, epoch, synced_bytes, records, effects, flags, 0, KIND_GROUP
    )
    header_checksum = crc32c(0, rest)
    return _FRONT.pack(FRAME_MAGIC, header_checksum, crc32c(header_checksum, payload)) + rest + payload


def encode_control(kind: int, *, next_sequence: int, synced_bytes: int, epoch: int, flags: int) -> bytes:
    """Return a mark or an epoch, `CONTROL_FRAME_BYTES` long: it says that all effects before it are synced.

    Args:
        kind: `KIND_MARK`, `KIND_CLOSE` or `KIND_EPOCH`.
        next_sequence: The sequence that the next effect takes; in an epoch it may have jumped.
        synced_bytes: Up to where the file is known to be synced.
        epoch: The epoch of the writer.
        flags: `FLAG_RELAXED` or 0.
    """
    rest = _REST.pack(0, next_sequence, next_sequence - 1, epoch, synced_bytes, 0, 0, flags, 0, kind)
    padding = _PADDING[0]
    header_checksum = crc32c(0, rest)
    return _FRONT.pack(FRAME_MAGIC, header_checksum, crc32c(header_checksum, padding)) + rest + padding


def _table(values: Iterable[int]) -> bytes:
    table = array("I", values)
    if sys.byteorder == "big":
        table.byteswap()
    return table.tobytes()
