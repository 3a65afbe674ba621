"""The real file system: each call does what the protocol says."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rstmdb_storage import FileSystem, LockedError, OsFileSystem


@pytest.fixture
def real() -> FileSystem:
    return OsFileSystem()


def test_bytes_come_back_from_where_they_were_written(real: FileSystem, tmp_path: Path) -> None:
    file = real.open(f"{tmp_path}/f", create=True)
    assert file.pwrite(b"hello", 3) == 5
    assert file.pread(100, 0) == b"\0\0\0hello"
    assert file.pread(2, 4) == b"el"
    assert file.pread(10, 100) == b""
    assert file.size() == 8
    file.sync()
    file.truncate(4)
    assert file.pread(100, 0) == b"\0\0\0h"
    file.close()
    file.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        file.pread(1, 0)


def test_preallocated_space_reads_as_zeros_and_is_there(real: FileSystem, tmp_path: Path) -> None:
    file = real.open(f"{tmp_path}/f", create=True)
    file.pwrite(b"kept", 0)
    file.preallocate(100_000)
    assert file.size() == 100_000
    assert file.pread(100_000, 0) == b"kept" + bytes(99_996)
    assert os.stat(tmp_path / "f").st_blocks * 512 >= 100_000
    file.preallocate(50)
    file.preallocate(0)
    assert file.size() == 100_000
    file.close()


def test_creation_is_exclusive(real: FileSystem, tmp_path: Path) -> None:
    path = f"{tmp_path}/f"
    with pytest.raises(FileNotFoundError):
        real.open(path)
    with pytest.raises(FileNotFoundError):
        real.open(path, write=True)
    real.open(path, create=True).close()
    with pytest.raises(FileExistsError):
        real.open(path, create=True)
    reading = real.open(path)
    with pytest.raises(OSError, match="Bad file descriptor"):
        reading.pwrite(b"x", 0)
    reading.close()
    writing = real.open(path, write=True)
    assert writing.pwrite(b"x", 0) == 1
    writing.close()
    assert os.stat(path).st_mode & 0o077 == 0


def test_names(real: FileSystem, tmp_path: Path) -> None:
    directory = f"{tmp_path}/a/b"
    real.make_directory(directory)
    real.make_directory(directory)
    for name in ("2", "1", "3"):
        file = real.open(f"{directory}/{name}", create=True)
        file.pwrite(name.encode(), 0)
        file.close()
    assert real.list(directory) == ["1", "2", "3"]
    real.rename(f"{directory}/1", f"{directory}/2")
    assert real.list(directory) == ["2", "3"]
    assert real.open(f"{directory}/2").pread(9, 0) == b"1"
    real.link(f"{directory}/2", f"{directory}/4")
    with pytest.raises(FileExistsError):
        real.link(f"{directory}/2", f"{directory}/3")
    real.unlink(f"{directory}/2")
    assert not real.exists(f"{directory}/2")
    assert real.exists(f"{directory}/4")
    real.sync_directory(directory)
    with pytest.raises(FileNotFoundError):
        real.unlink(f"{directory}/2")
    assert real.free_space(directory) > 0


def test_an_open_file_outlives_its_name(real: FileSystem, tmp_path: Path) -> None:
    file = real.open(f"{tmp_path}/f", create=True)
    file.pwrite(b"still here", 0)
    real.unlink(f"{tmp_path}/f")
    assert file.pread(99, 0) == b"still here"
    file.close()


def test_a_handle_is_given_back_when_it_is_forgotten(real: FileSystem, tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        real.open(f"{tmp_path}/f", create=True)
        os.unlink(tmp_path / "f")
    assert len(os.listdir("/proc/self/fd")) <= before + 1


def test_a_lock_keeps_others_out_and_names_the_holder(real: FileSystem, tmp_path: Path) -> None:
    path = f"{tmp_path}/LOCK"
    lock = real.lock(path)
    with pytest.raises(LockedError) as refused:
        real.lock(path)
    assert refused.value.path == path
    assert refused.value.holder == f"process {os.getpid()} on {os.uname().nodename}"
    lock.release()
    lock.release()
    again = real.lock(path)
    again.release()


def test_the_lock_of_a_dead_process_is_free(real: FileSystem, tmp_path: Path) -> None:
    path = f"{tmp_path}/LOCK"
    code = (
        "import os, sys; from rstmdb_storage import OsFileSystem\n"
        f"lock = OsFileSystem().lock({path!r}); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(LockedError, match=f"process {other.pid} "):
            real.lock(path)
        other.kill()
        other.wait()
    real.lock(path).release()


def test_a_holder_that_left_no_word_is_unknown(real: FileSystem, tmp_path: Path) -> None:
    path = f"{tmp_path}/LOCK"
    lock = real.lock(path)
    os.truncate(path, 0)
    with pytest.raises(LockedError, match="held by an unknown process"):
        real.lock(path)
    lock.release()


def test_without_the_call_zeros_are_written(
    real: FileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "posix_fallocate")
    file = real.open(f"{tmp_path}/f", create=True)
    file.pwrite(b"kept", 0)
    file.preallocate(3_000_000)
    assert file.pread(3_000_001, 0) == b"kept" + bytes(2_999_996)
    file.close()


def test_a_read_in_pieces_is_put_together(
    real: FileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = real.open(f"{tmp_path}/f", create=True)
    file.pwrite(b"0123456789", 0)
    whole = os.pread
    monkeypatch.setattr(os, "pread", lambda descriptor, size, offset: whole(descriptor, min(size, 3), offset))
    assert file.pread(8, 1) == b"12345678"
    assert file.pread(80, 1) == b"123456789"
    monkeypatch.undo()
    file.close()


def test_errors_keep_their_number(real: FileSystem, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file") as missing:
        real.list(f"{tmp_path}/nowhere")
    assert missing.value.errno == errno.ENOENT
    Path(tmp_path, "f").write_bytes(b"")
    with pytest.raises(OSError, match="Not a directory"):
        real.sync_directory(f"{tmp_path}/f")
