"""The seam to the operating system: the only module of this package that calls `os`.

Everything above it sees two small protocols, `FileSystem` and `File`. `OsFileSystem` is the real one; the
simulation implements the same two over memory and decides there what a crash leaves behind.

What callers may rely on, and no more:

=====================  ==========================================================================
call                   promise
=====================  ==========================================================================
`File.pread`           short only at the end of the file
`File.pwrite`          may write less than asked; returns how much
`File.sync`            when it returns, contents and size survive a power loss; when it fails,
                       nothing is known about anything written since the last successful one
`File.preallocate`     blocks are reserved, the file reads as zeros up to the new size
`rename`               replaces the target atomically; survives a power loss after `sync_directory`
`open(create=True)`    exclusive; the name survives a power loss after `sync_directory`
=====================  ==========================================================================

Failures are `OSError` with its errno.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from typing import Final, Protocol

from rstmdb_storage.errors import LockedError

__all__ = ["File", "FileSystem", "Lock", "OsFileSystem"]


class File(Protocol):
    """One open file; positions are explicit, so any number of readers may share it with one writer."""

    def pread(self, size: int, offset: int) -> bytes:
        """Return `size` bytes from `offset` on; fewer only at the end of the file."""
        ...

    def pwrite(self, data: bytes, offset: int) -> int:
        """Write at `offset`; return how many bytes were taken, which may be fewer than given."""
        ...

    def truncate(self, size: int) -> None:
        """Cut the file, or extend it with a hole, to `size` bytes."""
        ...

    def preallocate(self, size: int) -> None:
        """Reserve blocks for the first `size` bytes and extend the file with zeros; never shrinks it."""
        ...

    def sync(self) -> None:
        """Make contents and size survive a power loss."""
        ...

    def size(self) -> int:
        """Return the length in bytes."""
        ...

    def close(self) -> None:
        """Give the handle back; says nothing about durability."""
        ...


class Lock(Protocol):
    """A lock that the kernel drops when the process ends."""

    def release(self) -> None:
        """Let others have it; may be called again."""
        ...


class FileSystem(Protocol):
    """What the storage engine asks of a file system. Paths are text."""

    def open(self, path: str, *, write: bool = False, create: bool = False) -> File:
        """Open a file; with `create` (which implies `write`) it must not exist yet."""
        ...

    def list(self, directory: str) -> list[str]:
        """Return the names in a directory, sorted."""
        ...

    def exists(self, path: str) -> bool:
        """Say whether something has this name."""
        ...

    def make_directory(self, path: str) -> None:
        """Create a directory and its missing parents; one that exists is fine."""
        ...

    def rename(self, source: str, target: str) -> None:
        """Give a file another name, atomically replacing what had it."""
        ...

    def link(self, source: str, target: str) -> None:
        """Give a file a second name, which must be free."""
        ...

    def unlink(self, path: str) -> None:
        """Remove a name."""
        ...

    def sync_directory(self, path: str) -> None:
        """Make the names in a directory survive a power loss."""
        ...

    def lock(self, path: str) -> Lock:
        """Take an exclusive lock on a file, created when missing.

        Raises:
            LockedError: Someone else has it; names the holder.
        """
        ...

    def free_space(self, path: str) -> int:
        """Return how many bytes this process could still write where `path` is."""
        ...


# On macOS a plain sync stops at the drive's own cache.
_FULL_SYNC: Final[int | None] = getattr(fcntl, "F_FULLFSYNC", None)


class OsFile:
    """A file descriptor of the operating system."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def pread(self, size: int, offset: int) -> bytes:
        """See `File.pread`."""
        data = os.pread(self._descriptor, size, offset)
        if len(data) == size or not data:
            return data
        # A regular file gives all it has in one call, save for a signal or the 2 GiB limit of one read.
        parts = [data]
        taken = len(data)
        while taken < size:
            data = os.pread(self._descriptor, size - taken, offset + taken)
            if not data:
                break
            parts.append(data)
            taken += len(data)
        return b"".join(parts)

    def pwrite(self, data: bytes, offset: int) -> int:
        """See `File.pwrite`."""
        return os.pwrite(self._descriptor, data, offset)

    def truncate(self, size: int) -> None:
        """See `File.truncate`."""
        os.ftruncate(self._descriptor, size)

    def preallocate(self, size: int) -> None:
        """See `File.preallocate`."""
        if size <= 0:
            return
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(self._descriptor, 0, size)
            return
        # Without the call (macOS) only real bytes reserve space; behind the end they are zeros anyway.
        zeros = bytes(1 << 20)
        position = os.fstat(self._descriptor).st_size
        while position < size:
            position += os.pwrite(self._descriptor, zeros[: size - position], position)

    def sync(self) -> None:
        """See `File.sync`."""
        if _FULL_SYNC is None:
            os.fdatasync(self._descriptor)
        else:
            fcntl.fcntl(self._descriptor, _FULL_SYNC)

    def size(self) -> int:
        """See `File.size`."""
        return os.fstat(self._descriptor).st_size

    def close(self) -> None:
        """See `File.close`; may be called again."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        with contextlib.suppress(OSError):
            self.close()


class OsLock:
    """An `flock` on a lock file, with a line about the holder inside."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        """See `Lock.release`."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            # The file stays: removing it would let a third process lock a new file of the same name
            # while a second one still waits on this one.
            os.close(descriptor)


class OsFileSystem:
    """The file system of the operating system."""

    __slots__ = ()

    def open(self, path: str, *, write: bool = False, create: bool = False) -> OsFile:
        """See `FileSystem.open`."""
        flags = os.O_RDWR if write or create else os.O_RDONLY
        if create:
            flags |= os.O_CREAT | os.O_EXCL
        return OsFile(os.open(path, flags | os.O_CLOEXEC, 0o600))

    def list(self, directory: str) -> list[str]:
        """See `FileSystem.list`."""
        return sorted(os.listdir(directory))

    def exists(self, path: str) -> bool:
        """See `FileSystem.exists`."""
        return os.path.lexists(path)

    def make_directory(self, path: str) -> None:
        """See `FileSystem.make_directory`."""
        os.makedirs(path, mode=0o700, exist_ok=True)

    def rename(self, source: str, target: str) -> None:
        """See `FileSystem.rename`."""
        os.rename(source, target)

    def link(self, source: str, target: str) -> None:
        """See `FileSystem.link`."""
        os.link(source, target)

    def unlink(self, path: str) -> None:
        """See `FileSystem.unlink`."""
        os.unlink(path)

    def sync_directory(self, path: str) -> None:
        """See `FileSystem.sync_directory`."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def lock(self, path: str) -> OsLock:
        """See `FileSystem.lock`."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    raise
                holder = os.pread(descriptor, 256, 0).decode("utf-8", "replace").strip()
                raise LockedError(path, holder or "an unknown process") from None
            # Only for the message above: a full disk must not keep the holder from starting.
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"process {os.getpid()} on {os.uname().nodename}\n".encode(), 0)
        except BaseException:
            os.close(descriptor)
            raise
        return OsLock(descriptor)

    def free_space(self, path: str) -> int:
        """See `FileSystem.free_space`."""
        figures = os.statvfs(path)
        return figures.f_bavail * figures.f_frsize
