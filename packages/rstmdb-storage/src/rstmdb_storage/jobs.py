"""The parts of the log that block: each a job that is made and finished in the loop, and runs anywhere.

A job carries all it needs, touches nothing that the loop touches, and keeps a failure for the loop to find.
"""

from __future__ import annotations

import contextlib
import errno
from typing import Final

from rstmdb_storage.filesystem import File, FileSystem
from rstmdb_storage.record import encode_group
from rstmdb_storage.segment import Prepared, SegmentHeader, put_in_place, write_fully

__all__ = ["Preparation", "Rotation", "SegmentCommit", "Trimming"]

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
    """One group on its way to the disk, or a sync on its own (`bodies` is empty then).

    The steps of `run`, each only if asked for::

        rotation ─▶ write the group ─▶ sync ─▶ write a mark ─▶ sync

    Attributes:
        last_sequence: The last sequence that is durable once this has been finished.
        error: What made it fail, or None.
        done: Whether it has run.
    """

    __slots__ = (
        "bodies",
        "bytes_written",
        "counts",
        "done",
        "durable_sequence",
        "epoch",
        "error",
        "file",
        "first_sequence",
        "flags",
        "last_sequence",
        "mark",
        "mark_position",
        "position",
        "rotation",
        "sync",
        "synced_bytes",
    )

    bodies: list[bytes]
    counts: list[int]
    first_sequence: int
    last_sequence: int
    durable_sequence: int
    synced_bytes: int
    epoch: int
    flags: int
    file: File
    position: int
    rotation: Rotation | None
    sync: bool
    mark: bytes
    mark_position: int
    bytes_written: int
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
            if self.bodies:
                data = encode_group(
                    self.bodies,
                    self.counts,
                    first_sequence=self.first_sequence,
                    durable_sequence=self.durable_sequence,
                    synced_bytes=self.synced_bytes,
                    epoch=self.epoch,
                    flags=self.flags,
                )
                self.bytes_written = len(data)
                written = self.file.pwrite(data, self.position)
                if written != len(data):
                    write_fully(self.file, data[written:], self.position + written)
            if self.sync:
                self.file.sync()
            if self.mark:
                write_fully(self.file, self.mark, self.mark_position)
                self.file.sync()
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


class Trimming:
    """Removes files of sealed segments, oldest first, each durably before the next.

    In this order, what is left after a crash or a failure at any point has no gap. A file that is gone
    already is one whose removal an earlier trim could not sync: that is made up for.

    Attributes:
        removed: How many are gone, durably.
        bytes_reclaimed: What they took up.
        error: What made it stop early, or None.
    """

    __slots__ = ("_directory", "_fs", "_paths", "bytes_reclaimed", "error", "removed")

    def __init__(self, fs: FileSystem, directory: str, paths: tuple[tuple[str, int], ...]) -> None:
        """Make the job.

        Args:
            fs: The file system.
            directory: Where the segments are.
            paths: The files, oldest first, and the bytes that each takes up.
        """
        self._fs = fs
        self._directory = directory
        self._paths = paths
        self.removed = 0
        self.bytes_reclaimed = 0
        self.error: OSError | None = None

    def run(self) -> None:
        """Remove the files; blocks, may run in any thread, does not raise."""
        try:
            for path, size in self._paths:
                try:
                    self._fs.unlink(path)
                except OSError as error:
                    if error.errno != errno.ENOENT:
                        raise
                self._fs.sync_directory(self._directory)
                self.removed += 1
                self.bytes_reclaimed += size
        except OSError as error:
            self.error = error
