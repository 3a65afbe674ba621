from __future__ import annotations

import sys
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from rstmdb_storage.record import (
    CONTROL_FRAME_BYTES,
    FLAG_RELAXED,
    FRAME_HEADER_BYTES,
    KIND_CLOSE,
    KIND_EPOCH,
    KIND_GROUP,
    KIND_MARK,
    SECTOR_BYTES,
    LogRecord,
    Shape,
    decode_records,
    encode_control,
    encode_group,
    find_frames,
    frame_bytes,
    group_body_bytes,
    shape_at,
    take_frames,
)

RECORDS = st.lists(st.tuples(st.binary(max_size=200), st.integers(1, 5)), min_size=1, max_size=20)


def group(records: list[tuple[bytes, int]], *, first: int = 7, durable: int = 6, flags: int = 0) -> bytes:
    return encode_group(
        [body for body, _ in records],
        [count for _, count in records],
        first_sequence=first,
        durable_sequence=durable,
        synced_bytes=128,
        epoch=3,
        flags=flags,
    )


def control(kind: int, *, sequence: int = 9) -> bytes:
    return encode_control(
        kind,
        next_sequence=sequence,
        durable_sequence=sequence - 1,
        synced_bytes=512,
        epoch=4,
        flags=FLAG_RELAXED,
    )


@given(RECORDS, st.integers(1, 2**53))
def test_a_group_reads_back_as_written(records: list[tuple[bytes, int]], first: int) -> None:
    data = group(records, first=first, durable=first - 1, flags=FLAG_RELAXED)
    frames, end, needed = take_frames(data, 0, sys.maxsize)
    assert (end, needed) == (len(data), 0)
    (frame,) = frames
    assert frame.kind == KIND_GROUP
    assert frame.first_sequence == first
    assert frame.durable_sequence == first - 1
    assert (frame.synced_bytes, frame.epoch, frame.flags) == (128, 3, FLAG_RELAXED)
    expected = []
    for body, count in records:
        expected.append(LogRecord(first, count, body))
        first += count
    assert decode_records(data, frame) == expected


@given(RECORDS)
def test_the_size_is_known_before_the_frame_is_made(records: list[tuple[bytes, int]]) -> None:
    body_bytes = group_body_bytes(len(records), sum(c for _, c in records), sum(len(b) for b, _ in records))
    data = group(records)
    assert len(data) == frame_bytes(body_bytes)
    assert len(data) % 8 == 0
    assert data[-1] == 0xFF


def test_control_frames_read_back_as_written() -> None:
    for kind in (KIND_MARK, KIND_CLOSE, KIND_EPOCH):
        data = control(kind)
        assert len(data) == CONTROL_FRAME_BYTES
        ((frame,), _, _) = take_frames(data, 0, 1)
        assert frame.kind == kind
        assert frame.first_sequence == 9
        assert frame.durable_sequence == 8
        assert (frame.synced_bytes, frame.epoch, frame.flags, frame.effects) == (512, 4, FLAG_RELAXED, 0)


@settings(max_examples=20)
@given(RECORDS)
def test_each_flipped_bit_shows(records: list[tuple[bytes, int]]) -> None:
    data = group(records[:3])
    for position in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            frames, end, _ = take_frames(bytes(damaged), 0, sys.maxsize)
            assert frames == []
            assert end == 0


@given(RECORDS)
def test_one_flipped_bit_never_looks_torn(records: list[tuple[bytes, int]]) -> None:
    data = group([(bytes(b | 1 for b in body), count) for body, count in records[:2]])
    for position in range(0, len(data), 7):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            shape, _ = shape_at(bytes(damaged), 0, 128)
            assert shape in (Shape.GARBLED, Shape.WHOLE)


@given(st.binary(min_size=1, max_size=1500), st.integers(0, 255))
def test_each_write_that_ended_early_looks_torn(body: bytes, at: int) -> None:
    data = group([(body, 1)])
    position = 128 + 8 * at
    for landed in range(len(data)):
        shape, extent = shape_at(data[:landed].ljust(len(data), b"\0"), 0, position)
        if not any(data[: min(landed, FRAME_HEADER_BYTES)]):
            assert shape is Shape.BLANK
        elif landed < FRAME_HEADER_BYTES:
            assert shape is Shape.PARTIAL
        else:
            assert shape is Shape.HOLED
            assert extent == len(data)
        # The same where the file ends instead.
        assert shape_at(data[:landed], 0, position) == (shape, extent)


@given(st.binary(min_size=600, max_size=2500).map(lambda b: b.replace(b"\0", b"x")), st.integers(0, 255))
def test_each_missing_sector_looks_torn(body: bytes, at: int) -> None:
    data = group([(body, 1)])
    position = 128 + 8 * at
    edges = [0, *range(SECTOR_BYTES - position % SECTOR_BYTES, len(data), SECTOR_BYTES), len(data)]
    for start, end in pairwise(edges):
        holed = data[:start] + bytes(end - start) + data[end:]
        shape, _ = shape_at(holed, 0, position)
        assert shape in (Shape.BLANK, Shape.PARTIAL, Shape.HOLED)
        assert (shape is Shape.HOLED) == (start >= FRAME_HEADER_BYTES)


def test_what_fails_in_all_its_parts_is_told_by_where_it_fails() -> None:
    data = group([(b"x" * 900, 1)])
    header = bytearray(data)
    header[20] ^= 1
    assert shape_at(bytes(header), 0, 128) == (Shape.GARBLED, 0)
    body = bytearray(data)
    body[400] ^= 1
    assert shape_at(bytes(body), 0, 128) == (Shape.WHOLE, len(data))
    assert shape_at(bytes(100), 0, 128) == (Shape.BLANK, 0)
    assert shape_at(b"", 0, 128) == (Shape.BLANK, 0)


def test_a_window_yields_whole_frames_and_says_what_it_lacks() -> None:
    one, two = group([(b"a" * 50, 1)], first=1), group([(b"b" * 90, 2), (b"c", 1)], first=2)
    frames, end, needed = take_frames(one + two[:-1], 0, sys.maxsize)
    assert [frame.first_sequence for frame in frames] == [1]
    assert (end, needed) == (len(one), len(two))
    frames, end, needed = take_frames(one + two[: FRAME_HEADER_BYTES - 1], 0, sys.maxsize)
    assert (len(frames), end, needed) == (1, len(one), 0)
    frames, end, needed = take_frames(one + two + one, 0, 2)
    assert [frame.first_sequence for frame in frames] == [1, 2]


def test_tables_that_contradict_the_header_are_refused() -> None:
    data = group([(b"aa", 1), (b"bbb", 2)])
    ((frame,), _, _) = take_frames(data, 0, 9)
    assert decode_records(data, frame) is not None
    assert decode_records(data, frame._replace(records=0)) is None
    assert decode_records(data, frame._replace(effects=4)) is None
    assert decode_records(data, frame._replace(body_bytes=frame.body_bytes - 1)) is None
    assert decode_records(data, frame._replace(records=4)) is None
    ((frame,), _, _) = take_frames(zero_count := group([(b"aa", 3), (b"b", 0)]), 0, 9)
    assert decode_records(zero_count, frame) is None


def test_frames_are_found_behind_anything() -> None:
    one = group([(b"a" * 50, 1)], first=1)
    mark = control(KIND_MARK)
    window = b"junk8888" + one[4:] + b"\xd7rsf" + b"\0" * 8 + one + bytes(64) + mark + b"x" * 8
    frames, resume, needed = find_frames(window)
    assert [frame.kind for frame in frames] == [KIND_GROUP, KIND_MARK]
    assert needed == 0
    assert len(window) - FRAME_HEADER_BYTES < resume <= len(window) - FRAME_HEADER_BYTES + 8
    # Not aligned, so no frame of a log.
    assert find_frames(b"1234" + one + b"1234")[0] == []
    frames, resume, needed = find_frames(bytes(80) + one[:-8])
    assert (frames, resume, needed) == ([], 80, len(one))
