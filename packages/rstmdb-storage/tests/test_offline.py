from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rstmdb_storage import CorruptionError, OsFileSystem, open_offline
from rstmdb_storage.decision import Verdict
from rstmdb_storage.segment import SEGMENT_HEADER_BYTES, segment_name


def everything(reader: Any, oldest: int) -> list[Any]:
    records: list[Any] = []
    sequence = oldest
    while page := reader.read(sequence, records_max=5):
        records += page
        sequence = page[-1].first_sequence + page[-1].count
    return records


def test_a_log_is_read_and_nothing_is_written(open_log: Any, commit: Any, fs: Any, wal: str) -> None:
    log = open_log()
    for at in range(20):
        commit(log, b"%03d" % at * 100)
    expected = log.read(1)
    log.close()
    before = {path.name: path.read_bytes() for path in Path(wal).iterdir()}
    fs.journal.clear()
    reader, found = open_offline(fs, wal)
    assert found.clean
    assert found.verdict is Verdict.END
    assert everything(reader, 1) == expected
    reader.close()
    assert fs.journal == []
    assert {path.name: path.read_bytes() for path in Path(wal).iterdir()} == before


def test_a_torn_log_is_read_to_where_it_would_be_cut(open_log: Any, commit: Any, wal: str) -> None:
    log = open_log()
    commit(log, b"whole")
    start = SEGMENT_HEADER_BYTES + log.statistics.segments[-1].record_bytes
    commit(log, b"torn" * 100)
    path = Path(wal, segment_name(1))
    path.write_bytes(path.read_bytes()[: start + 100].ljust(4096, b"\0"))
    reader, found = open_offline(OsFileSystem(), wal)
    assert (found.verdict, found.end, found.clean) == (Verdict.CUT, start, False)
    assert [record.body for record in everything(reader, 1)] == [b"whole"]


def test_damage_anywhere_is_found(open_log: Any, commit: Any, wal: str, flip: Any) -> None:
    log = open_log()
    for at in range(20):
        commit(log, b"%03d" % at * 100)
    log.close()
    flip(str(Path(wal, segment_name(2))), 700)
    reader, found = open_offline(OsFileSystem(), wal)
    with pytest.raises(CorruptionError, match=segment_name(2)):
        everything(reader, found.segments[0].header.first_sequence)


def test_an_empty_directory_is_an_empty_log(wal: str) -> None:
    reader, found = open_offline(OsFileSystem(), wal)
    assert found.segments == []
    assert reader.read(1) == []
