"""Frames for the tests of those who read them: some records, and the group that holds them."""

from __future__ import annotations

from hypothesis import strategies as st

from rstmdb_storage.frame import encode_group

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
