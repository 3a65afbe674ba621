from __future__ import annotations

from typing import Any

import pytest

from rstmdb_storage import CorruptionError, FormatError
from rstmdb_storage.checksum import crc32c
from rstmdb_storage.segment import (
    SEGMENT_HEADER_BYTES,
    Prepared,
    Segment,
    SegmentHeader,
    put_in_place,
    read_header,
    segment_name,
    segment_number,
    write_fully,
)

HEADER = SegmentHeader(
    number=3,
    first_sequence=2**40,
    after_sequence=77,
    epoch=12,
    file_bytes=8192,
    previous_end=4040,
    time_ms=1_700_000_000_123,
    flags=1,
)


def write(path: Any, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


def test_names_are_numbers() -> None:
    assert segment_name(0x1F) == "000000000000001f.wal"
    assert segment_number("000000000000001f.wal") == 0x1F
    for other in ("1f.wal", "000000000000001F.wal", "000000000000001f.wal.tmp", "next-1.tmp", "reserve"):
        assert segment_number(other) is None


def test_a_header_reads_back_as_written(fs: Any, tmp_path: Any) -> None:
    data = HEADER.encode()
    assert len(data) == SEGMENT_HEADER_BYTES
    path = write(tmp_path / "s", data + bytes(100))
    assert read_header(fs.open(path), path, 3) == HEADER


def test_each_flipped_bit_of_a_header_is_refused(fs: Any, tmp_path: Any) -> None:
    for position in range(SEGMENT_HEADER_BYTES):
        for bit in range(8):
            data = bytearray(HEADER.encode())
            data[position] ^= 1 << bit
            path = write(tmp_path / "s", bytes(data))
            with pytest.raises(CorruptionError, match="fails its check"):
                read_header(fs.open(path), path, 3)


def test_a_header_of_another_kind_is_refused(fs: Any, tmp_path: Any) -> None:
    path = write(tmp_path / "s", HEADER.encode())
    with pytest.raises(CorruptionError, match="that of segment 0000000000000003"):
        read_header(fs.open(path), path, 4)
    path = write(tmp_path / "s", HEADER.encode()[:100])
    with pytest.raises(CorruptionError, match="ends inside") as refused:
        read_header(fs.open(path), path, 3)
    assert refused.value.position == 100

    def with_check(data: bytearray) -> bytes:
        return bytes(data[:124]) + crc32c(0, bytes(data[:124])).to_bytes(4, "little")

    data = bytearray(HEADER.encode())
    data[8] = 9
    path = write(tmp_path / "s", with_check(data))
    with pytest.raises(FormatError, match="format 9; this version reads format 1"):
        read_header(fs.open(path), path, 3)
    data = bytearray(HEADER.encode())
    data[:4] = b"ELSE"
    path = write(tmp_path / "s", with_check(data))
    with pytest.raises(FormatError, match="not a segment"):
        read_header(fs.open(path), path, 3)


def test_a_segment_gets_its_name_only_when_its_header_is_synced(fs: Any, wal: str) -> None:
    file = fs.open(f"{wal}/next.tmp", create=True)
    fs.journal.clear()
    path = put_in_place(fs, wal, Prepared(f"{wal}/next.tmp", file, 8192), HEADER)
    name = segment_name(3)
    assert path == f"{wal}/{name}"
    assert fs.journal == [
        ("pwrite", "next.tmp"),
        ("sync", "next.tmp"),
        ("rename", name),
        ("sync_directory", "wal"),
    ]
    assert read_header(fs.open(path), path, 3) == HEADER


def test_short_writes_are_carried_on(fs: Any, tmp_path: Any) -> None:
    fs.short_writes = True
    file = fs.open(str(tmp_path / "f"), create=True)
    data = bytes(range(200))
    write_fully(file, data, 10)
    assert file.pread(300, 0) == bytes(10) + data
    assert len(fs.journal) > 5


def test_positions_are_remembered_far_enough_apart() -> None:
    segment = Segment("s", HEADER, None)
    first = HEADER.first_sequence
    assert segment.position_before(first + 5) == (first, SEGMENT_HEADER_BYTES, 12)
    for sequence in range(100):
        segment.remember(first + sequence, SEGMENT_HEADER_BYTES + sequence * 8192, 12)
    assert [entry[0] - first for entry in segment.index] == list(range(8, 100, 8))
    assert segment.position_before(first + 7)[0] == first
    assert segment.position_before(first + 8) == (first + 8, SEGMENT_HEADER_BYTES + 8 * 8192, 12)
    assert segment.position_before(first + 1000)[0] == first + 96
    # Someone who comes later and is behind adds nothing.
    segment.remember(first + 50, SEGMENT_HEADER_BYTES + 50 * 8192, 12)
    assert [entry[0] - first for entry in segment.index] == list(range(8, 100, 8))
