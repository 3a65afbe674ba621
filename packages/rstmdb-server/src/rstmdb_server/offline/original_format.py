"""Reads the data directory of the original server (0.1 and 0.2): its log, and its snapshots of instances.

::

    wal/<16 hex digits>.wal        records one behind the other, big-endian:
        0  "WLOG"   4  type   5  flags   6  zero   8  length u32   12  CRC32C of payload   16  sequence u64
        24 payload: JSON with the member "type"
    snapshots/index.json           instance -> {snapshot_id, wal_offset, checksum, ...}
    snapshots/<snapshot id>.snap   {instance_id, machine, version, state, ctx, wal_offset, created_at, ...}

The original writes on behind the bytes of a write that a crash cut short, and the record it writes there
takes the sequence of the one that was cut. So where no valid record stands:

=========================================================  =======================================
what follows                                               verdict
=========================================================  =======================================
zeros, or less than the record says, to the end            torn: the segment ends here
a valid record with the sequence that was due here         torn, and written on behind: go on there
anything else                                              corrupt: file, position, reason
=========================================================  =======================================
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Iterator
from struct import Struct
from typing import Final, NamedTuple

import msgspec

from rstmdb_storage import CorruptionError
from rstmdb_storage.checksum import crc32c

HEADER_BYTES: Final = 24
PAYLOAD_BYTES_MAX: Final = 16 << 20
OFFSET_SHIFT: Final = 40
_MAGIC: Final = b"WLOG"
_HEADER: Final = Struct(">4sBBHIIQ")
_NAME: Final = re.compile(r"([0-9a-fA-F]{16})\.wal")
_TYPES: Final = {
    1: "put_machine",
    2: "create_instance",
    3: "apply_event",
    4: "delete_instance",
    5: "snapshot",
    6: "checkpoint",
}


class PutMachineEntry(msgspec.Struct, tag_field="type", tag="put_machine"):
    """A machine version was registered; very old logs lack the definition."""

    machine: str
    version: int
    definition: msgspec.Raw = msgspec.Raw(b"null")


class CreateEntry(msgspec.Struct, tag_field="type", tag="create_instance"):
    """An instance was created."""

    instance_id: str
    machine: str
    version: int
    initial_state: str
    initial_ctx: msgspec.Raw = msgspec.Raw(b"null")
    idempotency_key: str | None = None


class ApplyEntry(msgspec.Struct, tag_field="type", tag="apply_event"):
    """An event was applied; `ctx` is whole, after the merge."""

    instance_id: str
    event: str
    from_state: str
    to_state: str
    payload: msgspec.Raw = msgspec.Raw(b"null")
    ctx: msgspec.Raw = msgspec.Raw(b"null")
    event_id: str | None = None
    idempotency_key: str | None = None


class DeleteEntry(msgspec.Struct, tag_field="type", tag="delete_instance"):
    """An instance was marked as deleted."""

    instance_id: str
    idempotency_key: str | None = None


class SnapshotEntry(msgspec.Struct, tag_field="type", tag="snapshot"):
    """Says nothing that is not known."""


class CheckpointEntry(msgspec.Struct, tag_field="type", tag="checkpoint"):
    """Says nothing that is not known."""


Entry = PutMachineEntry | CreateEntry | ApplyEntry | DeleteEntry | SnapshotEntry | CheckpointEntry
_DECODER: Final[msgspec.json.Decoder[Entry]] = msgspec.json.Decoder(Entry)


class OriginalRecord(NamedTuple):
    """One record of the log.

    Attributes:
        offset: Its offset on the original's wire.
        time_ms: When its segment was written last; the log itself knows no times.
        entry: What happened.
    """

    offset: int
    time_ms: int
    entry: Entry


class InstanceSnapshot(msgspec.Struct):
    """A snapshot that the original took of one instance."""

    instance_id: str
    machine: str
    version: int
    state: str
    wal_offset: int
    ctx: msgspec.Raw = msgspec.Raw(b"null")
    created_at: int = 0


class _IndexEntry(msgspec.Struct):
    snapshot_id: str
    checksum: str = ""


class _Segment(NamedTuple):
    number: int
    path: str
    size: int
    time_ms: int


class _Raw(NamedTuple):
    """A record whose checksum is right."""

    kind: int
    sequence: int
    payload: bytes
    size: int


class OriginalDirectory:
    """A data directory of the original server.

    Attributes:
        root: Where it is.
        torn: Places where an unfinished write was passed over, as sentences.
        gaps: Sequences that are missing between records, which the format allows.
        snapshot_faults: Snapshots that could not be read, as sentences.
    """

    def __init__(self, root: str) -> None:
        """Look at a directory.

        Raises:
            OSError: It cannot be read.
            CorruptionError: A segment is missing.
        """
        self.root = root
        self.torn: list[str] = []
        self.gaps = 0
        self.snapshot_faults: list[str] = []
        self._last: int | None = None
        self._segments = self._list()
        for before, segment in zip(self._segments, self._segments[1:], strict=False):
            if segment.number != before.number + 1:
                raise CorruptionError(
                    segment.path, 0, f"segment {before.number + 1:016x} before it is missing"
                )

    @property
    def segments(self) -> int:
        """How many segments there are."""
        return len(self._segments)

    @property
    def bytes_total(self) -> int:
        """Bytes of all segments."""
        return sum(segment.size for segment in self._segments)

    @property
    def end_offset(self) -> int:
        """The offset behind the last record: everything below may have been shown."""
        last = self._segments[-1]
        return last.number << OFFSET_SHIFT | last.size

    def records(self) -> Iterator[OriginalRecord]:
        """Yield the records in order.

        Raises:
            CorruptionError: A record is damaged.
        """
        self._last = None
        for segment in self._segments:
            if not segment.size:
                continue
            with (
                open(segment.path, "rb") as file,
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
            ):
                yield from self._records_of(segment, data)

    def snapshots(self) -> Iterator[InstanceSnapshot]:
        """Yield the snapshots of instances; those that cannot be read are told in `snapshot_faults`."""
        folder = os.path.join(self.root, "snapshots")
        path = os.path.join(folder, "index.json")
        if not os.path.exists(path):
            return
        with open(path, "rb") as file:
            text = file.read()
        try:
            index = msgspec.json.decode(text, type=dict[str, _IndexEntry])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise CorruptionError(path, 0, f"not an index of snapshots: {error}") from None
        for instance_id, entry in index.items():
            name = f"{entry.snapshot_id}.snap"
            path = os.path.join(folder, name)
            if os.path.basename(name) != name:
                self.snapshot_faults.append(f"instance {instance_id!r}: {name!r} is no file name")
                continue
            try:
                with open(path, "rb") as file:
                    text = file.read()
                if entry.checksum and f"{crc32c(0, text):08x}" != entry.checksum.lower():
                    raise ValueError("its checksum does not match")
                yield msgspec.json.decode(text, type=InstanceSnapshot)
            except (OSError, ValueError) as error:
                self.snapshot_faults.append(f"{path}: {error}")

    def _list(self) -> list[_Segment]:
        folder = os.path.join(self.root, "wal")
        found = []
        for name in os.listdir(folder):
            match = _NAME.fullmatch(name)
            if match is not None:
                path = os.path.join(folder, name)
                status = os.stat(path)
                found.append(
                    _Segment(int(match[1], 16), path, status.st_size, status.st_mtime_ns // 1_000_000)
                )
        return sorted(found)

    def _records_of(self, segment: _Segment, data: mmap.mmap) -> Iterator[OriginalRecord]:
        position = 0
        while position < segment.size:
            found = _record_at(data, position)
            if isinstance(found, str):
                resumed = self._resume(segment, data, position, found)
                if resumed is None:
                    return
                position = resumed
                continue
            if self._last is not None:
                if found.sequence <= self._last:
                    raise CorruptionError(
                        segment.path, position, f"sequence {found.sequence} follows on {self._last}"
                    )
                self.gaps += found.sequence - self._last - 1
            self._last = found.sequence
            if found.kind in _TYPES:
                entry = _entry(segment.path, position, found)
                yield OriginalRecord(segment.number << OFFSET_SHIFT | position, segment.time_ms, entry)
            position += found.size

    def _resume(self, segment: _Segment, data: mmap.mmap, position: int, reason: str) -> int | None:
        """Decide about a place where no valid record stands; see the module docstring.

        Returns:
            Where to go on; None when the segment ends there.

        Raises:
            CorruptionError: It is damage.
        """
        claimed = _claimed_sequence(data, position)
        at, behind = _next_record(data, position + 1)
        if behind is not None:
            due = claimed if self._last is None else self._last + 1
            if behind.sequence == due and (at - position < HEADER_BYTES or claimed in (due, None)):
                self.torn.append(
                    f"{segment.path}: {at - position} bytes of an unfinished write at {position}"
                )
                return at
            raise CorruptionError(
                segment.path,
                position,
                f"{reason}, and the record of sequence {behind.sequence} stands behind it",
            )
        if _zeros(data, position):
            return None
        if reason is not _SHORT or _whole_but_for_its_length(data, position):
            raise CorruptionError(segment.path, position, reason)
        self.torn.append(
            f"{segment.path}: {segment.size - position} bytes of an unfinished write at {position}, its end"
        )
        return None


_SHORT: Final = "the record ends behind the file"


def _record_at(data: mmap.mmap, position: int) -> _Raw | str:
    """Return the record at a place, or why there is none."""
    header = data[position : position + HEADER_BYTES]
    if header[:4] != _MAGIC[: len(header)]:
        return "no record begins here"
    if len(header) < HEADER_BYTES:
        return _SHORT
    _, kind, _, _, length, checksum, sequence = _HEADER.unpack(header)
    if kind not in _TYPES and kind != 255:
        return f"record type {kind} is unknown"
    if length > PAYLOAD_BYTES_MAX:
        return f"a record of {length} bytes is above the limit of {PAYLOAD_BYTES_MAX}"
    payload = data[position + HEADER_BYTES : position + HEADER_BYTES + length]
    if len(payload) < length:
        return _SHORT
    if crc32c(0, payload) != checksum:
        return f"the checksum of the record with sequence {sequence} does not match"
    return _Raw(kind, sequence, payload, HEADER_BYTES + length)


def _next_record(data: mmap.mmap, position: int) -> tuple[int, _Raw | None]:
    """Find the next valid record behind a place. JSON has no zero bytes, so no payload holds one."""
    while (position := data.find(_MAGIC, position)) >= 0:
        found = _record_at(data, position)
        if not isinstance(found, str):
            return position, found
        position += 1
    return -1, None


def _claimed_sequence(data: mmap.mmap, position: int) -> int | None:
    header = data[position : position + HEADER_BYTES]
    if len(header) < HEADER_BYTES or header[:4] != _MAGIC:
        return None
    sequence: int = _HEADER.unpack(header)[-1]
    return sequence


def _whole_but_for_its_length(data: mmap.mmap, position: int) -> bool:
    """Say whether the payload up to the end of the file has the checksum: only the length is wrong."""
    header = data[position : position + HEADER_BYTES]
    if len(header) < HEADER_BYTES:
        return False
    checksum: int = _HEADER.unpack(header)[5]
    return bool(crc32c(0, data[position + HEADER_BYTES :]) == checksum)


def _zeros(data: mmap.mmap, position: int) -> bool:
    for start in range(position, len(data), 1 << 20):
        window = data[start : start + (1 << 20)]
        if window.count(0) != len(window):
            return False
    return True


def _entry(path: str, position: int, found: _Raw) -> Entry:
    try:
        entry = _DECODER.decode(found.payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptionError(
            path, position, f"the record of sequence {found.sequence} holds no entry: {error}"
        ) from None
    tag: object = type(entry).__struct_config__.tag
    if tag != _TYPES[found.kind]:
        raise CorruptionError(path, position, f"the header says {_TYPES[found.kind]!r}, the record {tag!r}")
    return entry
