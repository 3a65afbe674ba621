"""Space of the log: the next segment, and the reserve for a full disk.

A record is taken only if the active segment or the next one has room for it, and both have their blocks; so
the disk is found full before anything is promised. The states::

              the next segment cannot be created
     ROOMY ─────────────────────────────────────────▶ FULL   each append is refused, nothing else is
       ▲                                               │     the host releases the reserve, writes a
       └───────────────────────────────────────────────┘     snapshot, compacts
        there is space for the reserve and the next segment
"""

from __future__ import annotations

import contextlib
import errno
from typing import Final

from rstmdb_storage.config import LogConfig
from rstmdb_storage.errors import DiskFull
from rstmdb_storage.filesystem import FileSystem
from rstmdb_storage.jobs import Preparation
from rstmdb_storage.segment import SEGMENT_BYTES_MIN, TEMPORARY_SUFFIX, Prepared

__all__ = ["RESERVE_NAME", "SegmentSpace"]

RESERVE_NAME: Final = "reserve"
_FULL: Final = frozenset((errno.ENOSPC, errno.EDQUOT))


class SegmentSpace:
    """Holds the next segment and the reserve of one log.

    Attributes:
        prepared: The next segment, if there is one.
        disk_full: Whether the last record was refused.
    """

    __slots__ = (
        "_closed",
        "_config",
        "_counter",
        "_directory",
        "_fs",
        "_preparing",
        "_reserved",
        "disk_full",
        "prepared",
    )

    def __init__(self, fs: FileSystem, directory: str, config: LogConfig) -> None:
        self._fs = fs
        self._directory = directory
        self._config = config
        self._counter = 0
        self._preparing: Preparation | None = None
        self._reserved = False
        self._closed = False
        self.prepared: Prepared | None = None
        self.disk_full = False

    def require(self, size: int) -> None:
        """See to it that the next segment has at least `size` bytes.

        Raises:
            DiskFull: It cannot have them now.
        """
        if self.prepared is not None and self.prepared.size >= size:
            return
        if not (self._reserved or self.restore_reserve(beside=size)):
            raise self._refusal(size)
        try:
            self._grow(size)
        except OSError as error:
            if error.errno in _FULL:
                raise self._refusal(size) from error
            raise
        self.disk_full = False

    def require_at_open(self, size: int, *, fill: bool) -> None:
        """See to it that a restart gets a segment: a small one will do, and the reserve may go for it.

        Args:
            size: The bytes it should have.
            fill: Whether to write it full of zeros, if the settings want that.

        Raises:
            DiskFull: Not even so.
        """
        for attempt in (size, SEGMENT_BYTES_MIN, SEGMENT_BYTES_MIN):
            try:
                self._grow(attempt, fill=fill and self._config.fill and attempt == size)
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                if attempt != size and not self.release_reserve():
                    break
            else:
                return
        raise self._refusal(SEGMENT_BYTES_MIN)

    def take(self) -> Prepared:
        """Hand the next segment over to a rotation."""
        prepared = self.prepared
        assert prepared is not None, "a group was accepted that has no room"
        self.prepared = None
        return prepared

    def to_prepare(self) -> Preparation | None:
        """Return the job that prepares the next segment, unless there is one or no space for it."""
        if self.prepared is not None or self._preparing is not None:
            return None
        size = self._config.segment_bytes
        if not (self._reserved or self.restore_reserve(beside=size)):
            return None
        if self._fs.free_space(self._directory) < size:
            return None
        self._preparing = Preparation(self._fs, self._next_path(), size, fill=self._config.fill)
        return self._preparing

    def finish_preparation(self, job: Preparation) -> None:
        """Take what a job has prepared; without need of it any more, drop it.

        Raises:
            OSError: The disk fails.
        """
        assert job is self._preparing, "a preparation is finished that was not begun"
        self._preparing = None
        if job.error is not None and not job.disk_full:
            raise job.error
        if job.result is None:
            return
        if self.prepared is None and not self._closed:
            self.prepared = job.result
            self.disk_full = False
        else:
            self._drop(job.result)

    def release_reserve(self) -> bool:
        """Give the reserve to whoever needs space now; say whether there was one."""
        try:
            self._fs.unlink(f"{self._directory}/{RESERVE_NAME}")
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            return False
        finally:
            self._reserved = False
        return True

    def restore_reserve(self, *, beside: int = 0) -> bool:
        """Set the reserve aside again, if that leaves space for `beside` bytes; say whether it is there."""
        path = f"{self._directory}/{RESERVE_NAME}"
        size = self._config.reserve_bytes
        self._reserved = False
        try:
            held = self._size_of(path) if self._fs.exists(path) else None
            missing = size - (held or 0)
            if missing > 0:
                if self._fs.free_space(self._directory) < missing + beside:
                    return False
                file = self._fs.open(path, write=True, create=held is None)
                try:
                    file.preallocate(size)
                finally:
                    file.close()
            elif size == 0 and held is not None:
                self._fs.unlink(path)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            with contextlib.suppress(OSError):
                self._fs.unlink(path)
            return False
        self._reserved = True
        return True

    def close(self) -> None:
        """Give the next segment back; one that is still being prepared goes when it is finished."""
        self._closed = True
        if self.prepared is not None:
            self._drop(self.prepared)
            self.prepared = None

    def _grow(self, size: int, *, fill: bool = False) -> None:
        """Create the next segment, or extend it."""
        prepared = self.prepared
        if prepared is not None:
            prepared.file.preallocate(size)
            prepared.size = size
            return
        job = Preparation(self._fs, self._next_path(), size, fill=fill)
        job.run()
        if job.error is not None:
            raise job.error
        self.prepared = job.result

    def _size_of(self, path: str) -> int:
        file = self._fs.open(path)
        try:
            return file.size()
        finally:
            file.close()

    def _next_path(self) -> str:
        self._counter += 1
        return f"{self._directory}/next-{self._counter}{TEMPORARY_SUFFIX}"

    def _drop(self, prepared: Prepared) -> None:
        prepared.file.close()
        with contextlib.suppress(OSError):
            self._fs.unlink(prepared.path)

    def _refusal(self, size: int) -> DiskFull:
        self.disk_full = True
        return DiskFull(self._directory, size, self._fs.free_space(self._directory))
