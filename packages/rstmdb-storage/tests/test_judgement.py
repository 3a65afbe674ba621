"""What stands where no valid frame does; the verdicts are walked through in `test_decision.py`."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from storage_frames import RECORDS, group

from rstmdb_storage.decision import Place
from rstmdb_storage.frame import FRAME_HEADER_BYTES
from rstmdb_storage.judgement import SECTOR_BYTES, place_at


@given(RECORDS)
def test_one_flipped_bit_never_looks_torn(records: list[tuple[bytes, int]]) -> None:
    data = group([(bytes(b | 1 for b in body), count) for body, count in records[:2]])
    for position in range(0, len(data), 7):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            place, _ = place_at(bytes(damaged), 128)
            assert place in (Place.GARBLED, Place.WHOLE)


@given(st.binary(min_size=1, max_size=1500), st.integers(0, 255))
def test_each_write_that_ended_early_looks_torn(body: bytes, at: int) -> None:
    data = group([(body, 1)])
    position = 128 + 8 * at
    for landed in range(len(data)):
        place, extent = place_at(data[:landed].ljust(len(data), b"\0"), position)
        if not any(data[: min(landed, FRAME_HEADER_BYTES)]):
            assert place is Place.BLANK
        elif landed < FRAME_HEADER_BYTES:
            assert place is Place.PARTIAL
        else:
            assert place is Place.HOLED
            assert extent == len(data)
        # The same where the file ends instead.
        assert place_at(data[:landed], position) == (place, extent)


@given(st.binary(min_size=600, max_size=2500).map(lambda b: b.replace(b"\0", b"x")), st.integers(0, 255))
def test_each_missing_sector_looks_torn(body: bytes, at: int) -> None:
    data = group([(body, 1)])
    position = 128 + 8 * at
    edges = [0, *range(SECTOR_BYTES - position % SECTOR_BYTES, len(data), SECTOR_BYTES), len(data)]
    for start, end in pairwise(edges):
        holed = data[:start] + bytes(end - start) + data[end:]
        place, _ = place_at(holed, position)
        assert place in (Place.BLANK, Place.PARTIAL, Place.HOLED)
        assert (place is Place.HOLED) == (start >= FRAME_HEADER_BYTES)


def test_what_fails_in_all_its_parts_is_told_by_where_it_fails() -> None:
    data = group([(b"x" * 900, 1)])
    header = bytearray(data)
    header[20] ^= 1
    assert place_at(bytes(header), 128) == (Place.GARBLED, 0)
    body = bytearray(data)
    body[400] ^= 1
    assert place_at(bytes(body), 128) == (Place.WHOLE, len(data))
    assert place_at(bytes(100), 128) == (Place.BLANK, 0)
    assert place_at(b"", 128) == (Place.BLANK, 0)
