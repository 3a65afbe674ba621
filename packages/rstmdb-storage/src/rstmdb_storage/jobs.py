"""The parts of writing that block: each a job that is made and finished in the loop, and runs anywhere.

A job carries all it needs, touches nothing that the loop touches, and keeps a failure for the loop to find.
"""

from __future__ import annotations

import contextlib
import errno
from typing import Final

from rstmdb_storage.filesystem import File, FileSystem
from rstmdb_storage.segment import Prepared, SegmentHeader, put_in_place, write_fully

__all__ = ["Preparation", "Rotation", "SegmentCommit"]

_FILL_BYTES: Final = 1 << 20


class Rotation:
    """What a commit has to do first when its group does not fit into the active segment.

    Attributes:
        before: The file of the segment that is sealed.
        prepared: The file that becomes the active one.
        header: Its header.
    """

    __slots__ = ("before", "directory", "fs", "header", "path", "prepared")

    def __init__(
        self, fs: FileSystem, directory: str, before: File, prepared: Prepared, header: SegmentHeader
    ) -> None:
        self.fs = fs
        self.directory = directory
        self.before = before
        self.prepared = prepared
        self.header = header
        self.path = ""

    def run(self) -> None:
        """Sync the old segment, put the new one in place."""
        self.before.sync()
        self.path = put_in_place(self.fs, self.directory, self.prepared, self.header)


class SegmentCommit:
    """One group on its way to the disk, or a mark, or a sync on its own; made by `SegmentWriter`.

    The steps of `run`, each only if asked for::

        rotation ─▶ sync what is there ─▶ write `data` ─▶ sync

    Attributes:
        rotation: What makes the file the active segment, or None if it is that already.
        sync_first: Whether to sync before writing: a mark says that all before it is synced.
        data: A frame; empty for a sync on its own.
        file: Where it goes.
        position: The place there.
        sync: Whether to sync after writing.
        records: How many records it holds; 0 without a group.
        last_sequence: The last sequence that is durable once this has been finished.
        error: What made it fail, or None.
        done: Whether it has run.
    """

    # Set from outside: one is made for each turn, and a constructor would cost as much as all else here.
    __slots__ = (
        "data",
        "done",
        "error",
        "file",
        "last_sequence",
        "position",
        "records",
        "rotation",
        "sync",
        "sync_first",
    )

    rotation: Rotation | None
    sync_first: bool
    data: bytes
    file: File
    position: int
    sync: bool
    records: int
    last_sequence: int
    error: Exception | None
    done: bool

    @property
    def lengthy(self) -> bool:
        """Whether a new segment is put in place on the way."""
        return self.rotation is not None

    def run(self) -> None:
        """See `Commit.run`."""
        try:
            if self.rotation is not None:
                self.rotation.run()
            file = self.file
            if self.sync_first:
                file.sync()
            data = self.data
            if data:
                written = file.pwrite(data, self.position)
                if written != len(data):
                    write_fully(file, data[written:], self.position + written)
            if self.sync:
                file.sync()
        except Exception as error:
            # Whatever it was, nobody knows what is on the disk now: the loop poisons the log.
            self.error = error
        self.done = True


class Preparation:
    """Creates the file of a future segment: reserves its blocks, and syncs it.

    Attributes:
        result: The file, once it has run well.
        error: What made it fail, or None.
    """

    __slots__ = ("_fill", "_fs", "_path", "_size", "error", "result")

    def __init__(self, fs: FileSystem, path: str, size: int, *, fill: bool) -> None:
        self._fs = fs
        self._path = path
        self._size = size
        self._fill = fill
        self.result: Prepared | None = None
        self.error: OSError | None = None

    def run(self) -> None:
        """Create the file; blocks, may run in any thread, does not raise for a full or failing disk."""
        try:
            self.result = self._create()
        except OSError as error:
            self.error = error

    def _create(self) -> Prepared:
        file = self._fs.open(self._path, create=True)
        try:
            file.preallocate(self._size)
            if self._fill:
                zeros = bytes(_FILL_BYTES)
                for position in range(0, self._size, _FILL_BYTES):
                    write_fully(file, zeros[: self._size - position], position)
                    # A little at a time, so that the log's own syncs do not wait behind all of it.
                    file.sync()
                file.sync()
        except OSError:
            file.close()
            with contextlib.suppress(OSError):
                self._fs.unlink(self._path)
            raise
        return Prepared(self._path, file, self._size)

    @property
    def disk_full(self) -> bool:
        """Whether it failed for want of space."""
        return self.error is not None and self.error.errno in (errno.ENOSPC, errno.EDQUOT)
