from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from rstmdb_storage import DataDirectory, FormatError, LockedError, OsFileSystem


def test_a_directory_is_laid_out(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "data"
    directory = DataDirectory.open(OsFileSystem(), f"{path}/")
    assert directory.created
    assert (directory.path, directory.wal, directory.snapshots) == (
        str(path),
        f"{path}/wal",
        f"{path}/snapshots",
    )
    assert sorted(os.listdir(path)) == ["FORMAT", "LOCK", "snapshots", "wal"]
    assert (path / "FORMAT").read_text() == "rstmdb data directory, format 1\n"
    directory.close()
    directory.close()
    again = DataDirectory.open(OsFileSystem(), str(path))
    assert not again.created
    again.close()


def test_one_process_holds_it(tmp_path: Path) -> None:
    directory = DataDirectory.open(OsFileSystem(), str(tmp_path))
    with pytest.raises(LockedError, match=f"held by process {os.getpid()}"):
        DataDirectory.open(OsFileSystem(), str(tmp_path))
    directory.close()
    DataDirectory.open(OsFileSystem(), str(tmp_path)).close()


@pytest.mark.parametrize(
    "text", [b"", b"rstmdb data directory, format 2\n", b"rstmdb data directory, format 1"]
)
def test_another_format_is_refused(tmp_path: Path, text: bytes) -> None:
    DataDirectory.open(OsFileSystem(), str(tmp_path)).close()
    (tmp_path / "FORMAT").write_bytes(text)
    with pytest.raises(FormatError) as refused:
        DataDirectory.open(OsFileSystem(), str(tmp_path))
    assert refused.value.path == f"{tmp_path}/FORMAT"
    # The lock was let go.
    (tmp_path / "FORMAT").write_bytes(b"rstmdb data directory, format 1\n")
    DataDirectory.open(OsFileSystem(), str(tmp_path)).close()


def test_each_flipped_bit_of_the_format_is_refused(tmp_path: Path, flip: Any) -> None:
    DataDirectory.open(OsFileSystem(), str(tmp_path)).close()
    path = tmp_path / "FORMAT"
    for position in range(path.stat().st_size):
        for bit in range(8):
            flip(str(path), position, bit)
            with pytest.raises(FormatError):
                DataDirectory.open(OsFileSystem(), str(tmp_path))
            flip(str(path), position, bit)


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "wal").mkdir()
    (tmp_path / "wal" / "0000000000000000.wal").write_bytes(b"of another server")
    with pytest.raises(FormatError, match="wal/ is not empty"):
        DataDirectory.open(OsFileSystem(), str(tmp_path))
    assert not (tmp_path / "FORMAT").exists()


def test_a_creation_that_is_killed_anywhere_can_be_done_again(
    fs: Any, tmp_path: Path, killed: type[BaseException]
) -> None:
    steps = 0
    finished = False
    while not finished:
        steps += 1
        path = tmp_path / str(steps)
        fs.journal.clear()

        def kill(count: int, call: str, name: str) -> None:
            if count == steps:  # noqa: B023 - called within this round only
                raise killed

        fs.fail = kill
        try:
            DataDirectory.open(fs, str(path)).close()
            finished = True
        except killed:
            fs.fail = lambda count, call, name: None
            DataDirectory.open(fs, str(path)).close()
        assert sorted(os.listdir(path)) == ["FORMAT", "LOCK", "snapshots", "wal"]
    assert steps >= 6


def test_its_own_name_and_its_format_are_synced(fs: Any, tmp_path: Path) -> None:
    DataDirectory.open(fs, f"{tmp_path}/a/b").close()
    start = fs.journal.index(("create", "FORMAT.tmp"))
    parents, calls = fs.journal[:start], fs.journal[start:]
    # All names on the way, as a process may have ended between creating a directory and syncing its name.
    assert {call for call, _ in parents} == {"sync_directory"}
    assert [name for _, name in parents[-2:]] == [tmp_path.name, "a"]
    assert len(parents) == len(tmp_path.parts) + 1
    assert calls == [
        ("create", "FORMAT.tmp"),
        ("pwrite", "FORMAT.tmp"),
        ("sync", "FORMAT.tmp"),
        ("rename", "FORMAT"),
        ("sync_directory", "b"),
        ("sync_directory", "b"),
    ]
