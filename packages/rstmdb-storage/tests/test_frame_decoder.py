from __future__ import annotations

import sys

from hypothesis import given, settings
from hypothesis import strategies as st
from storage_frames import RECORDS, group

from rstmdb_storage import LogRecord
from rstmdb_storage.frame import (
    CONTROL_FRAME_BYTES,
    FLAG_RELAXED,
    FRAME_HEADER_BYTES,
    KIND_CLOSE,
    KIND_EPOCH,
    KIND_GROUP,
    KIND_MARK,
    encode_control,
)
from rstmdb_storage.frame_decoder import decode_records, find_frames, follows, take_frames


def control(kind: int, *, sequence: int = 9) -> bytes:
    return encode_control(
        kind,
        next_sequence=sequence,
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


def test_a_frame_follows_by_sequence_and_epoch() -> None:
    ((of_group,), _, _) = take_frames(group([(b"x", 1)], first=7), 0, 1)
    assert follows(of_group, 7, 3)
    for expected, epoch in ((6, 3), (8, 3), (7, 2), (7, 4)):
        assert not follows(of_group, expected, epoch)
    ((of_epoch,), _, _) = take_frames(control(KIND_EPOCH, sequence=9), 0, 1)
    # An epoch is above all before it, and may jump over sequences, never back.
    assert follows(of_epoch, 9, 3)
    assert follows(of_epoch, 5, 1)
    assert not follows(of_epoch, 10, 3)
    assert not follows(of_epoch, 9, 4)
