from __future__ import annotations

from hypothesis import given
from storage_frames import RECORDS

from rstmdb_storage.frame import (
    CONTROL_FRAME_BYTES,
    FRAME_KINDS,
    encode_control,
    encode_group,
    frame_bytes,
    group_tables_bytes,
)


@given(RECORDS)
def test_the_size_follows_from_those_of_the_records(records: list[tuple[bytes, int]]) -> None:
    bodies, counts = [body for body, _ in records], [count for _, count in records]
    data = encode_group(
        bodies, counts, first_sequence=7, durable_sequence=6, synced_bytes=128, epoch=3, flags=0
    )
    tables = group_tables_bytes(len(records), sum(counts))
    assert len(data) == frame_bytes(tables + sum(map(len, bodies)))
    assert len(data) % 8 == 0
    assert data[-1] == 0xFF


def test_control_frames_have_one_size_and_do_not_end_with_zero() -> None:
    for kind in FRAME_KINDS:
        data = encode_control(kind, next_sequence=9, synced_bytes=512, epoch=4, flags=0)
        assert len(data) == CONTROL_FRAME_BYTES == frame_bytes(0)
        # Neither does the header: a write that ended early shows.
        assert data[55] == kind != 0
        assert data[-1] == 0xFF
