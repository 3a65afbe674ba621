"""Data directories as this format was first written: each later version has to open them.

`tests/data/golden` is never written again. A new format gets directories of its own beside them.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from rstmdb_storage import DataDirectory, EmbeddedLog, FsyncPolicy, LogConfig, OsFileSystem
from rstmdb_storage.decision import Verdict

GOLDEN = Path(__file__).parent / "data" / "golden"
CONFIG = LogConfig(segment_bytes=4096, reserve_bytes=0, fill=False)


def records(log: EmbeddedLog) -> list[list[Any]]:
    return [
        [record.first_sequence, record.count, record.body.decode()]
        for record in log.read(log.oldest_sequence)
    ]


def write_log(path: Path, *, fsync: FsyncPolicy, close: bool) -> None:
    """Write what the golden directories hold: groups of all three layouts, marks, epochs, rotations."""
    fs = OsFileSystem()
    directory = DataDirectory.open(fs, str(path))
    config = LogConfig(segment_bytes=4096, reserve_bytes=0, fill=False, fsync=fsync)
    for run in range(2):
        log, _ = EmbeddedLog.open(fs, directory.wal, config, time_ms=1_700_000_000_000)
        for at in range(12):
            log.time_ms = 1_700_000_000_000 + run * 100 + at
            for record in range(at % 3 + 1):
                log.append(
                    f"run {run}, group {at}, record {record}. ".encode() * (at * 3 + 1), 1 + at % 4 // 3
                )
            job: Any = log.begin_commit()
            job.run()
            log.finish_commit(job)
            log.sync_due_in(float(at))
            if at % 5 == 4 and (job := log.begin_sync(at + 2.0)) is not None:
                job.run()
                log.finish_commit(job)
        if run == 0 or close:
            log.close()
    directory.close()


def closed(path: Path) -> None:
    write_log(path, fsync=FsyncPolicy.every_write(), close=True)


def torn(path: Path) -> None:
    write_log(path, fsync=FsyncPolicy.every_ms(1000), close=False)
    last = max((path / "wal").glob("*.wal"))
    data = last.read_bytes()
    end = len(data.rstrip(b"\0"))
    # The last sector was never written.
    start = (end - 1) // 512 * 512
    last.write_bytes(data[:start].ljust(4096, b"\0"))


WRITERS = {"log-1-closed": closed, "log-1-torn": torn}


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_a_directory_of_the_first_format_opens(tmp_path: Path, name: str) -> None:
    path = tmp_path / "data"
    shutil.copytree(GOLDEN / name, path)
    expected = json.loads((GOLDEN / f"{name}.json").read_text())
    directory = DataDirectory.open(OsFileSystem(), str(path))
    log, report = EmbeddedLog.open(OsFileSystem(), directory.wal, CONFIG)
    assert report.clean == (name == "log-1-closed")
    assert report.verdict is (Verdict.END if report.clean else Verdict.CUT)
    assert log.next_sequence == expected["next_sequence"]
    assert log.epoch == expected["epoch"]
    assert records(log) == expected["records"]
    first = log.append(b"goes on", 1)
    log.close()
    log, report = EmbeddedLog.open(OsFileSystem(), directory.wal, CONFIG)
    assert report.clean
    assert records(log) == [*expected["records"], [first, 1, "goes on"]]
    log.close()
    directory.close()


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_the_first_format_is_still_written_byte_for_byte(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / "data")
    for golden in (GOLDEN / name).rglob("*"):
        if golden.is_file():
            assert (tmp_path / "data" / golden.relative_to(GOLDEN / name)).read_bytes() == golden.read_bytes()


def write_golden() -> None:
    """Write the golden directories of a new format; run by hand, once."""
    for name, write in WRITERS.items():
        path = GOLDEN / name
        assert not path.exists(), f"{path} is never written again"
        write(path)
        (path / "LOCK").unlink()
        copy = GOLDEN / "copy"
        shutil.copytree(path, copy)
        log, _ = EmbeddedLog.open(OsFileSystem(), str(copy / "wal"), CONFIG)
        expected = {"next_sequence": log.next_sequence, "epoch": log.epoch, "records": records(log)}
        (GOLDEN / f"{name}.json").write_text(json.dumps(expected, indent=1) + "\n")
        shutil.rmtree(copy)


if __name__ == "__main__":
    write_golden()
