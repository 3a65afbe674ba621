"""The data directory: layout, lock, format.

::

    FORMAT       one line; the version of this layout. Written first, so it is there if anything is
    LOCK         locked (`flock`) by the one process that has the directory open; says who
    wal/         the segments of the log, the next one while it is prepared, the reserve
    snapshots/   the snapshots and their index
"""

from __future__ import annotations

import errno
from typing import Final

from rstmdb_storage.errors import FormatError
from rstmdb_storage.filesystem import FileSystem, Lock
from rstmdb_storage.segment import TEMPORARY_SUFFIX, write_fully

__all__ = ["DATA_FORMAT", "DataDirectory"]

DATA_FORMAT: Final = 1
_FORMAT_NAME: Final = "FORMAT"
_LOCK_NAME: Final = "LOCK"
_NOT_OURS: Final = frozenset((errno.EACCES, errno.EPERM, errno.EROFS, errno.EINVAL))
_FORMAT_TEXT: Final = b"rstmdb data directory, format %d\n"


class DataDirectory:
    """A data directory that this process holds.

    Attributes:
        path: Where it is.
        wal: The directory of the log.
        snapshots: The directory of the snapshots.
        created: Whether it was new.
    """

    __slots__ = ("_lock", "created", "path", "snapshots", "wal")

    def __init__(self, path: str, lock: Lock, *, created: bool) -> None:
        self.path = path
        self.wal = f"{path}/wal"
        self.snapshots = f"{path}/snapshots"
        self.created = created
        self._lock = lock

    @classmethod
    def open(cls, fs: FileSystem, path: str) -> DataDirectory:
        """Take a data directory, and create what is missing of it.

        Args:
            fs: The file system.
            path: The directory; its parents are created too.

        Raises:
            LockedError: Another process holds it.
            FormatError: It is of a format that this version does not read, or not of rstmdb at all.
            OSError: The disk fails or is full.
        """
        path = path.rstrip("/") or "/"
        _make_durable_directory(fs, path)
        lock = fs.lock(f"{path}/{_LOCK_NAME}")
        try:
            created = not fs.exists(f"{path}/{_FORMAT_NAME}")
            if created:
                _refuse_foreign(fs, path)
                _write_format(fs, path)
            else:
                _check_format(fs, path)
            directory = cls(path, lock, created=created)
            fs.make_directory(directory.wal)
            fs.make_directory(directory.snapshots)
            fs.sync_directory(path)
        except BaseException:
            lock.release()
            raise
        return directory

    def close(self) -> None:
        """Let another process have it; may be called again."""
        self._lock.release()


def _make_durable_directory(fs: FileSystem, path: str) -> None:
    """Create a directory and its parents so that they survive a power loss.

    FORMAT is written only after this, so where it stands this was done. Where it does not, a process may have
    ended between creating a directory and syncing its name: that one exists, and still may vanish.
    """
    if fs.exists(f"{path}/{_FORMAT_NAME}"):
        return
    parents = []
    at = path
    while at not in ("", "/", "."):
        parent = at.rpartition("/")[0] or ("/" if at.startswith("/") else ".")
        parents.append((parent, fs.exists(at)))
        at = parent
    fs.make_directory(path)
    for parent, existed in reversed(parents):
        try:
            fs.sync_directory(parent)
        except OSError as error:
            # Directories of the system far above may not be ours to open; what was made here must be synced.
            if not (existed and error.errno in _NOT_OURS):
                raise


def _refuse_foreign(fs: FileSystem, path: str) -> None:
    """Refuse a directory that holds a log or snapshots, and does not say in which format."""
    for name in ("wal", "snapshots"):
        if fs.exists(f"{path}/{name}") and fs.list(f"{path}/{name}"):
            raise FormatError(
                f"{path}/{_FORMAT_NAME}",
                f"missing, although {name}/ is not empty; a directory of another server has to be imported",
            )


def _write_format(fs: FileSystem, path: str) -> None:
    target = f"{path}/{_FORMAT_NAME}"
    temporary = target + TEMPORARY_SUFFIX
    if fs.exists(temporary):
        fs.unlink(temporary)
    file = fs.open(temporary, create=True)
    try:
        write_fully(file, _FORMAT_TEXT % DATA_FORMAT, 0)
        file.sync()
    finally:
        file.close()
    fs.rename(temporary, target)
    fs.sync_directory(path)


def _check_format(fs: FileSystem, path: str) -> None:
    target = f"{path}/{_FORMAT_NAME}"
    file = fs.open(target)
    try:
        text = file.pread(256, 0)
    finally:
        file.close()
    if text != _FORMAT_TEXT % DATA_FORMAT:
        raise FormatError(
            target, f"says {text!r}; this version reads {_FORMAT_TEXT % DATA_FORMAT!r}"
        )  # fmt: skip
