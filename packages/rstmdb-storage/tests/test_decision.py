"""The decision table: walked cell by cell, over bytes that make each cell true."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest

from rstmdb_storage import CorruptionError, OsFileSystem, decision
from rstmdb_storage.decision import DECISIONS, Behind, Place, Verdict
from rstmdb_storage.frame import KIND_MARK, encode_control, encode_group
from rstmdb_storage.segment import SEGMENT_HEADER_BYTES, SegmentHeader, segment_name
from rstmdb_storage.survey import survey

FILE_BYTES = 16_384
CELLS = list(itertools.product((True, False), Place, Behind))
PROOFS = ("snapshot", "durable sequence behind", "synced bytes behind")
# The table of the docstring, once more and by hand: verdicts for zeros, junk, frames behind, when not proven.
UNPROVEN = {
    Place.BLANK: "end cut cut",
    Place.PARTIAL: "cut cut cut",
    Place.GARBLED: "refuse refuse refuse",
    Place.HOLED: "cut cut cut",
    Place.WHOLE: "refuse refuse refuse",
    Place.MISPLACED: "refuse refuse refuse",
}


def group(first: int, *, durable: int, synced: int, size: int = 1200) -> bytes:
    return encode_group(
        [b"x" * size],
        [1],
        first_sequence=first,
        durable_sequence=durable,
        synced_bytes=synced,
        epoch=1,
        flags=0,
    )


def place_bytes(place: Place, next_sequence: int, position: int) -> bytes:
    whole = group(next_sequence, durable=next_sequence - 1, synced=position)
    damaged = bytearray(whole)
    if place is Place.BLANK:
        return bytes(len(whole))
    if place is Place.PARTIAL:
        return whole[:40].ljust(len(whole), b"\0")
    if place is Place.GARBLED:
        damaged[17] ^= 4
    elif place is Place.HOLED:
        damaged[600:] = bytes(len(whole) - 600)
    elif place is Place.WHOLE:
        damaged[600] ^= 4
    else:
        return group(next_sequence + 1, durable=next_sequence - 1, synced=position)
    return bytes(damaged)


def behind_bytes(behind: Behind, proof: str | None, next_sequence: int, position: int) -> bytes:
    if behind is Behind.ZEROS:
        return b""
    if behind is Behind.JUNK:
        return b"junk" * 20
    if proof == "synced bytes behind":
        # A mark takes no sequence, so nothing but its position proves what is before it.
        return encode_control(
            KIND_MARK,
            next_sequence=next_sequence,
            synced_bytes=position + 8,
            epoch=1,
            flags=0,
        )
    durable = next_sequence if proof == "durable sequence behind" else next_sequence - 1
    return group(next_sequence + 1, durable=durable, synced=position, size=100)


def write_segment(directory: Any, place: Place, behind: Behind, proof: str | None) -> tuple[str, int]:
    """Write a segment of three good groups, then the place, then what is behind; return path and position."""
    header = SegmentHeader(
        number=1,
        first_sequence=1,
        after_sequence=0,
        epoch=1,
        file_bytes=FILE_BYTES,
        previous_end=0,
        time_ms=0,
        flags=0,
    )
    data = header.encode()
    for sequence in (1, 2, 3):
        data += group(sequence, durable=sequence - 1, synced=len(data), size=300)
    position = len(data)
    data += place_bytes(place, 4, position) + behind_bytes(behind, proof, 4, position)
    path = directory / segment_name(1)
    path.write_bytes(data.ljust(FILE_BYTES, b"\0"))
    return str(path), position


def proofs(proven: bool, behind: Behind) -> list[str | None]:
    if not proven:
        return [None]
    return list(PROOFS) if behind is Behind.FRAMES else ["snapshot"]


@pytest.mark.parametrize(("proven", "place", "behind"), CELLS)
def test_each_cell_is_decided_as_the_table_says(
    tmp_path: Any, proven: bool, place: Place, behind: Behind
) -> None:
    expected = Verdict.REFUSE
    if not proven:
        expected = Verdict(UNPROVEN[place].split()[list(Behind).index(behind)])
    for proof in proofs(proven, behind):
        path, position = write_segment(tmp_path, place, behind, proof)
        assert position > SEGMENT_HEADER_BYTES
        snapshot_sequence = 4 if proof == "snapshot" else 3
        before = (tmp_path / segment_name(1)).read_bytes()
        if expected is Verdict.REFUSE:
            with pytest.raises(CorruptionError) as refused:
                survey(OsFileSystem(), str(tmp_path), snapshot_sequence=snapshot_sequence)
            assert refused.value.path == path
            assert refused.value.position == position
            assert ("synced once" in refused.value.reason) == proven
        else:
            found = survey(OsFileSystem(), str(tmp_path), snapshot_sequence=snapshot_sequence)
            assert (found.place, found.verdict, found.end) == (place, expected, position)
            assert (found.last_sequence, found.next_sequence) == (3, 4)
        assert (tmp_path / segment_name(1)).read_bytes() == before


def test_the_table_has_every_cell() -> None:
    assert set(DECISIONS) == set(CELLS)


def test_the_table_is_the_one_that_is_drawn() -> None:
    drawn = {}
    for row in re.findall(r"^([A-Z]+) +(refuse .*)$", decision.__doc__ or "", re.MULTILINE):
        place = Place[row[0]]
        proven, *unproven = (Verdict(cell.strip("*")) for cell in row[1].split())
        for behind, verdict in zip(Behind, unproven, strict=True):
            drawn[True, place, behind] = proven
            drawn[False, place, behind] = verdict
    assert drawn == DECISIONS
