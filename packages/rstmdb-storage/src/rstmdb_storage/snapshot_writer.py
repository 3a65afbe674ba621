"""Writing one snapshot: slice by slice, verified by reading back, and only then given its name.

::

    begin ──▶ writing ──finish──▶ sync, read back ──▶ rename ──▶ published by the store
                 └──abort or failure──▶ the temporary file is removed, nothing else has changed

The bytes are `snapshot_file`'s, which snapshots are kept is `snapshot`'s.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rstmdb_storage.errors import CorruptionError, DiskFull, StorageError
from rstmdb_storage.filesystem import File, FileSystem
from rstmdb_storage.segment import TEMPORARY_SUFFIX, write_fully
from rstmdb_storage.snapshot_file import SnapshotEncoder, read_chunks, read_header

__all__ = ["SnapshotFailed", "SnapshotInfo", "SnapshotWriter", "snapshot_name"]

# Written but unsynced bytes stay few, so that a sync of the log never waits for a long write-back.
SYNC_BYTES = 1 << 20


class SnapshotFailed(StorageError):  # noqa: N818 - an outcome; the database goes on without this snapshot
    """A snapshot could not be written; those that exist are untouched, and nothing may be compacted for it.

    Attributes:
        path: The file that was being written.
        reason: What failed, in one line.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"snapshot {self.path} failed: {self.reason}"


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """What is known of one snapshot without reading its contents.

    Attributes:
        name: File name inside the snapshot directory.
        sequence: The last sequence whose effect is in it.
        size_bytes: Length of the file.
        created_ms: When it was begun, in ms since 1970.
        checksum: Eight hexadecimal digits that follow from every byte of the file.
    """

    name: str
    sequence: int
    size_bytes: int
    created_ms: int
    checksum: str


class SnapshotWriter:
    """One snapshot in the making; each call is one bounded, blocking step that may run in a worker thread.

    Calls must not overlap. After a failure the temporary file is gone and the writer is finished.

    Attributes:
        sequence: The sequence of the state that is being written.
        info: What was published; `None` until then.
    """

    def __init__(
        self,
        fs: FileSystem,
        directory: str,
        sequence: int,
        metadata: bytes,
        created_ms: int,
        publish: Callable[[SnapshotInfo], None],
    ) -> None:
        """Begin; `SnapshotStore.begin` is the way to get one.

        Args:
            fs: The file system.
            directory: Where the snapshots are.
            sequence: The sequence of the state.
            metadata: The bytes of the host.
            created_ms: The time, in ms since 1970.
            publish: Called with a snapshot that has its name, to make the name durable and count it.
        """
        self.sequence = sequence
        self.info: SnapshotInfo | None = None
        self._fs = fs
        self._directory = directory
        self._publish = publish
        self._created_ms = created_ms
        self._name = snapshot_name(sequence)
        self._target = f"{directory}/{self._name}"
        self._path = self._target + TEMPORARY_SUFFIX
        self._encoder = SnapshotEncoder(sequence, created_ms, metadata)
        self._position = 0
        self._synced = 0
        self._open = True
        self._file: File | None = None
        with self._failing():
            if self._fs.exists(self._path):
                self._fs.unlink(self._path)
            self._file = self._fs.open(self._path, create=True)
            self._append(self._encoder.header)

    @property
    def bytes_written(self) -> int:
        """Length of the file so far."""
        return self._position

    @property
    def raw_bytes(self) -> int:
        """Length of all chunks so far, uncompressed."""
        return self._encoder.raw_bytes

    def write(self, chunk: bytes) -> None:
        """Append one chunk; syncs by itself after each mebibyte.

        Args:
            chunk: At most 64 MiB; a reader gets it back as one piece.

        Raises:
            DiskFull: No room; the snapshot is given up.
            SnapshotFailed: The disk failed; the snapshot is given up.
        """
        with self._failing():
            self._append(self._encoder.chunk(chunk))
            if self._position - self._synced >= SYNC_BYTES:
                self._sync()

    def finish(self) -> SnapshotInfo:
        """Write the footer, verify by reading back, publish, and drop what is no longer kept.

        When it returns, the snapshot survives a power loss.

        Raises:
            DiskFull: No room; the snapshot is given up.
            SnapshotFailed: The disk failed, or what was read back is not what was written.
        """
        for _ in self.finishing():
            pass
        assert self.info is not None
        return self.info

    def finishing(self) -> Iterator[None]:
        """Do what `finish` does, one bounded step an iteration; `info` is set when it ends."""
        with self._failing():
            footer = self._encoder.footer()
            self._append(footer)
            self._sync()
        yield
        raw_bytes = 0
        with self._failing():
            assert self._file is not None
            chunks = read_chunks(self._file, self._path, read_header(self._file, self._path))
        while True:
            with self._failing():
                chunk = next(chunks, None)
            if chunk is None:
                break
            raw_bytes += len(chunk)
            yield
        with self._failing():
            if raw_bytes != self.raw_bytes:
                raise CorruptionError(self._path, 0, f"{raw_bytes} of {self.raw_bytes} bytes")
            self._file.close()
            self._fs.rename(self._path, self._target)
        yield
        self._open = False
        checksum = f"{int.from_bytes(footer[-4:], 'little'):08x}"
        info = SnapshotInfo(self._name, self.sequence, self._position, self._created_ms, checksum)
        try:
            self._publish(info)
        except OSError as error:
            # The file has its name, but the name may not survive: it does not count. The next start finds
            # it whole or not at all.
            raise SnapshotFailed(self._target, f"publishing it: {error}") from error
        self.info = info

    def abort(self) -> None:
        """Give the snapshot up and remove its temporary file; may be called again, and after `finish`."""
        if not self._open:
            return
        self._open = False
        if self._file is not None:
            self._file.close()
        # What cannot be removed now is removed at the next start.
        with contextlib.suppress(OSError):
            self._fs.unlink(self._path)

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        """Turn a failure of the disk into the end of this snapshot."""
        if not self._open:
            raise SnapshotFailed(self._path, "it was already finished or given up")
        try:
            yield
        except OSError as error:
            self.abort()
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                free = self._fs.free_space(self._directory)
                raise DiskFull(self._directory, self._encoder.size, free) from error
            raise SnapshotFailed(self._path, str(error)) from error
        except CorruptionError as error:
            self.abort()
            raise SnapshotFailed(self._path, f"reading it back: {error}") from error

    def _append(self, data: bytes) -> None:
        assert self._file is not None
        write_fully(self._file, data, self._position)
        self._position += len(data)

    def _sync(self) -> None:
        assert self._file is not None
        self._file.sync()
        self._synced = self._position


def snapshot_name(sequence: int) -> str:
    """Return the file name of the snapshot at `sequence`."""
    return f"snap-{sequence:016x}.snap"
