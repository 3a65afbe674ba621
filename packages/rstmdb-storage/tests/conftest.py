"""A real file system with faults on demand, and short ways to write a log."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rstmdb_storage import EmbeddedLog, LogConfig, OsFileSystem

sys.path.insert(0, str(Path(__file__).parent))


class ProcessKilled(BaseException):
    """The process ends here: nothing below may catch it."""


class FaultyFile:
    def __init__(self, fs: FaultyFileSystem, file: Any, path: str) -> None:
        self._fs = fs
        self._file = file
        self.path = path

    def pread(self, size: int, offset: int) -> bytes:
        self._fs.reads.append((self.path, size, offset))
        if self._fs.unreadable == self.path:
            raise OSError(errno.EIO, "input/output error")
        return self._file.pread(size, offset)

    def pwrite(self, data: bytes, offset: int) -> int:
        self._fs.step("pwrite", self.path)
        if self._fs.short_writes and len(data) > 1:
            data = data[: len(data) // 2]
        return self._file.pwrite(data, offset)

    def truncate(self, size: int) -> None:
        self._fs.step("truncate", self.path)
        self._file.truncate(size)

    def preallocate(self, size: int) -> None:
        self._fs.step("preallocate", self.path)
        if self._fs.free_space(self.path) < size - self._file.size():
            raise OSError(errno.ENOSPC, "no space left on device")
        self._file.preallocate(size)

    def sync(self) -> None:
        self._fs.step("sync", self.path)
        self._file.sync()

    def size(self) -> int:
        return self._file.size()

    def close(self) -> None:
        self._file.close()


class FaultyFileSystem:
    """`OsFileSystem`, with a journal of what changed, and faults.

    Attributes:
        journal: The changing calls, each as (call, file name).
        fail: Called before each changing call; may raise.
        space: How many bytes all files below `root` may take together; None for no limit.
    """

    def __init__(self, root: str) -> None:
        self._real = OsFileSystem()
        self.root = root
        self._files: list[FaultyFile] = []
        self.journal: list[tuple[str, str]] = []
        self.reads: list[tuple[str, int, int]] = []
        self.fail: Callable[[int, str, str], None] = lambda count, call, name: None
        self.short_writes = False
        self.unreadable: str | None = None
        self.space: int | None = None

    def step(self, call: str, path: str) -> None:
        name = path.rpartition("/")[2]
        self.journal.append((call, name))
        self.fail(len(self.journal), call, name)

    def open(self, path: str, *, write: bool = False, create: bool = False) -> FaultyFile:
        if create:
            self.step("create", path)
        file = FaultyFile(self, self._real.open(path, write=write, create=create), path)
        self._files.append(file)
        return file

    def list(self, directory: str) -> list[str]:
        return self._real.list(directory)

    def exists(self, path: str) -> bool:
        return self._real.exists(path)

    def make_directory(self, path: str) -> None:
        self._real.make_directory(path)

    def rename(self, source: str, target: str) -> None:
        self.step("rename", target)
        self._real.rename(source, target)
        for file in self._files:
            if file.path == source:
                file.path = target

    def link(self, source: str, target: str) -> None:
        self.step("link", target)
        self._real.link(source, target)

    def unlink(self, path: str) -> None:
        self.step("unlink", path)
        self._real.unlink(path)

    def sync_directory(self, path: str) -> None:
        self.step("sync_directory", path)
        self._real.sync_directory(path)

    def lock(self, path: str) -> Any:
        return self._real.lock(path)

    def free_space(self, path: str) -> int:
        if self.space is None:
            return self._real.free_space(self.root)
        used = sum(
            os.stat(os.path.join(directory, name)).st_size
            for directory, _, names in os.walk(self.root)
            for name in names
        )
        return max(0, self.space - used)


@pytest.fixture
def fs(tmp_path: Any) -> FaultyFileSystem:
    """A file system with faults on demand, limited to the test's directory."""
    return FaultyFileSystem(str(tmp_path))


@pytest.fixture
def killed() -> type[BaseException]:
    """What a test raises to end the process at a call."""
    return ProcessKilled


@pytest.fixture
def wal(tmp_path: Any) -> str:
    """An empty directory for a log."""
    path = tmp_path / "wal"
    path.mkdir()
    return str(path)


@pytest.fixture
def open_log(fs: FaultyFileSystem, wal: str) -> Iterator[Callable[..., EmbeddedLog]]:
    """Open the log in `wal` with small segments; what stays open ends like in a killed process."""
    opened: list[EmbeddedLog] = []

    def open_(*, snapshot_sequence: int = 0, first_sequence: int = 1, **settings: Any) -> EmbeddedLog:
        settings = {"segment_bytes": 4096, "reserve_bytes": 0, **settings}
        log, report = EmbeddedLog.open(
            fs,
            wal,
            LogConfig(**settings),
            snapshot_sequence=snapshot_sequence,
            first_sequence=first_sequence,
        )
        opened.append(log)
        open_.report = report  # type: ignore[attr-defined]
        return log

    yield open_
    fs.fail = lambda count, call, name: None
    for log in opened:
        log.reader().close()


@pytest.fixture
def commit() -> Callable[..., int]:
    """Append bodies as one group and commit it; return the durable sequence."""

    def commit_(log: EmbeddedLog, *bodies: bytes, count: int = 1, now: float | None = None) -> int:
        for body in bodies:
            log.append(body, count)
        job = log.begin_commit(now)
        assert job is not None
        job.run()
        return log.finish_commit(job)

    return commit_


@pytest.fixture
def flip() -> Callable[..., None]:
    """Flip one bit of a file."""

    def flip_(path: str, position: int, bit: int = 0) -> None:
        with open(path, "r+b") as file:
            file.seek(position)
            byte = file.read(1)[0]
            file.seek(position)
            file.write(bytes([byte ^ (1 << bit)]))

    return flip_
