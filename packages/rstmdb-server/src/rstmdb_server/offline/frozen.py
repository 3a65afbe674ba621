"""A data directory as it was at one moment, while a server goes on writing, rotating and compacting.

Every file is opened at once and kept open, so one that the server removes later can still be read::

    list snapshots/ ─▶ open each ─▶ list wal/ ─▶ open each        a name vanished meanwhile: once more

The order matters: the log is listed after the snapshots, so it holds everything that was acknowledged before,
and it begins at or before what the snapshots need, unless compaction went by in between (then
`rstmdb_server.offline.contents` asks for another moment). Segments behind the active one never change, nor do
snapshots; the active one only grows, and `cap` says up to where it counts.

Nothing can be written through this: every call that would is refused with EROFS.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from typing import NoReturn

from rstmdb_storage import File, FileSystem, Lock

PIN_ATTEMPTS = 100
"""Each attempt fails only if the server removed a file within its few milliseconds."""

DIRECTORIES = ("", "snapshots", "wal")


class FrozenFile:
    """One file, read only; behind its cap it reads as zeros, as a segment does that nobody wrote to."""

    __slots__ = ("_inner", "cap")

    def __init__(self, inner: File) -> None:
        self._inner = inner
        self.cap: int | None = None

    def pread(self, size: int, offset: int) -> bytes:
        """See `File.pread`."""
        data = self._inner.pread(size, offset)
        if self.cap is None or offset + len(data) <= self.cap:
            return data
        return data[: max(0, self.cap - offset)].ljust(len(data), b"\0")

    def size(self) -> int:
        """See `File.size`."""
        return self._inner.size()

    def pwrite(self, data: bytes, offset: int) -> int:
        """Refuse."""
        _refuse()

    def truncate(self, size: int) -> None:
        """Refuse."""
        _refuse()

    def preallocate(self, size: int) -> None:
        """Refuse."""
        _refuse()

    def sync(self) -> None:
        """Refuse: a look must not cost the server a sync."""
        _refuse()

    def close(self) -> None:
        """Keep it open for the next one who asks; `FrozenFiles.close` closes it."""

    def release(self) -> None:
        """Close the file itself."""
        self._inner.close()


class FrozenFiles:
    """A `FileSystem` of the files that a data directory had at one moment.

    Attributes:
        root: The data directory.
        inner: Where it is.
    """

    def __init__(self, inner: FileSystem, root: str) -> None:
        """Open every file that matters.

        Args:
            inner: The file system.
            root: The data directory.

        Raises:
            OSError: The directory cannot be read.
        """
        self.inner = inner
        self.root = root.rstrip("/") or "/"
        self._files: dict[str, FrozenFile] = {}
        _raise_open_files_limit()
        for attempt in range(PIN_ATTEMPTS):
            try:
                self._pin()
            except FileNotFoundError:
                self.close()
                if attempt == PIN_ATTEMPTS - 1 or not inner.exists(self.root):
                    raise
            except BaseException:
                self.close()
                raise
            else:
                return

    def _pin(self) -> None:
        for folder in DIRECTORIES:
            for path in self._paths_in(folder):
                self._files[path] = FrozenFile(self.inner.open(path))

    def _paths_in(self, folder: str) -> list[str]:
        directory = f"{self.root}/{folder}" if folder else self.root
        if folder and not self.inner.exists(directory):
            return []
        return [f"{directory}/{name}" for name in self.inner.list(directory) if _matters(folder, name)]

    @property
    def paths(self) -> list[str]:
        """All files, sorted."""
        return sorted(self._files)

    def changed(self) -> bool:
        """Say whether files came or went since."""
        return self.paths != sorted(path for folder in DIRECTORIES for path in self._paths_in(folder))

    def cap(self, path: str, size: int) -> None:
        """Let a file read as zeros from `size` on, whatever is written there."""
        self._files[path].cap = size

    def open(self, path: str, *, write: bool = False, create: bool = False) -> FrozenFile:
        """See `FileSystem.open`; for reading only."""
        if write or create:
            _refuse()
        file = self._files.get(path)
        if file is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return file

    def list(self, directory: str) -> list[str]:
        """See `FileSystem.list`."""
        prefix = f"{directory}/"
        return sorted(
            path[len(prefix) :]
            for path in self._files
            if path.startswith(prefix) and "/" not in path[len(prefix) :]
        )

    def exists(self, path: str) -> bool:
        """See `FileSystem.exists`."""
        return path in self._files or any(other.startswith(f"{path}/") for other in self._files)

    def make_directory(self, path: str) -> None:
        """Refuse."""
        _refuse()

    def rename(self, source: str, target: str) -> None:
        """Refuse."""
        _refuse()

    def link(self, source: str, target: str) -> None:
        """Refuse."""
        _refuse()

    def unlink(self, path: str) -> None:
        """Refuse."""
        _refuse()

    def sync_directory(self, path: str) -> None:
        """Refuse."""
        _refuse()

    def lock(self, path: str) -> Lock:
        """Refuse: the lock belongs to servers."""
        _refuse()

    def free_space(self, path: str) -> int:
        """See `FileSystem.free_space`."""
        return self.inner.free_space(path)

    def close(self) -> None:
        """Close every file; may be called again."""
        for file in self._files.values():
            file.release()
        self._files = {}


def _matters(folder: str, name: str) -> bool:
    if folder == "wal":
        return name.endswith(".wal")
    if folder == "snapshots":
        return name.endswith(".snap") or name == "index.json"
    return name in ("FORMAT", "manifest.json")


def _refuse() -> NoReturn:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


def _raise_open_files_limit() -> None:
    """Ask for as many open files as the system allows: a long history has many segments."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
