"""Snapshots: the whole state at one sequence, kept so that one good copy always remains.

The store owns `snapshots/`. The bytes of a file are those of `snapshot_file`, writing one is the work of
`snapshot_writer`, and what a chunk means is the host's business. A snapshot goes through::

    begin ──▶ writing ──finish──▶ sync, read back ──▶ rename, index, sync the directory ──▶ kept
                 └──abort or failure──▶ the temporary file is removed, nothing else has changed

The two newest good snapshots are kept; an older one goes only after a third has been verified. A file gets
the name under which it is found after its bytes were synced, so whatever has that name was whole once, and
damage found in it is corruption, never an unfinished write.

`index.json` is for people, and for noticing that a snapshot has vanished. Truth is in the files: the index
is replaced atomically, and written anew whenever it does not agree with them.
"""

from __future__ import annotations

import contextlib
import errno
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict

from rstmdb_storage.errors import CorruptionError
from rstmdb_storage.filesystem import File, FileSystem
from rstmdb_storage.segment import TEMPORARY_SUFFIX, write_fully
from rstmdb_storage.snapshot_file import (
    METADATA_BYTES_MAX,
    VERSION,
    SnapshotHeader,
    read_chunks,
    read_footer_checksum,
    read_header,
)
from rstmdb_storage.snapshot_writer import SnapshotFailed, SnapshotInfo, SnapshotWriter

__all__ = ["Snapshot", "SnapshotFailed", "SnapshotInfo", "SnapshotStore", "SnapshotWriter"]

SNAPSHOTS_KEPT = 2
INDEX_NAME = "index.json"
_NAME = re.compile(r"snap-([0-9a-f]{16})\.snap")


class Snapshot:
    """A snapshot open for reading, whose stored bytes were verified when it was opened.

    Attributes:
        info: Name, sequence, size, time and checksum.
    """

    __slots__ = ("_file", "_header", "_path", "info")

    def __init__(self, path: str, file: File, info: SnapshotInfo, header: SnapshotHeader) -> None:
        self._path = path
        self._file = file
        self._header = header
        self.info = info

    @property
    def sequence(self) -> int:
        """The last sequence whose effect is in the state."""
        return self._header.sequence

    @property
    def metadata(self) -> bytes:
        """The bytes that the host gave to `SnapshotStore.begin`."""
        return self._header.metadata

    def chunks(self) -> Iterator[bytes]:
        """Yield the chunks as they were written, each verified again.

        Raises:
            CorruptionError: A chunk has gone bad since the snapshot was opened.
        """
        return read_chunks(self._file, self._path, self._header)

    def close(self) -> None:
        """Close the file; may be called again."""
        self._file.close()


class SnapshotStore:
    """The snapshots of one data directory.

    Opening it removes what an interrupted snapshot left behind, reads header and footer of each file, and
    writes `index.json` anew when it does not agree with them.

    Attributes:
        fs: The file system.
        directory: Where the files are.
        damage: What was found damaged so far, the newest snapshot first; each names file and position.
        problems: What was found and needs no action, as sentences for a log.
    """

    def __init__(
        self,
        fs: FileSystem,
        directory: str,
        *,
        read_only: bool = False,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """Open the store.

        Args:
            fs: The file system.
            directory: Created when missing.
            read_only: Look only: nothing is created, removed or written, for tools beside a running server.
            now_ms: The clock, in ms since 1970.

        Raises:
            FormatError: A snapshot was written by a later version.
        """
        self.fs = fs
        self.directory = directory
        self.damage: list[CorruptionError] = []
        self.problems: list[str] = []
        self._now_ms = now_ms
        self._infos: tuple[SnapshotInfo, ...] = ()
        self._useless: set[str] = set()
        if not fs.exists(directory):
            if read_only:
                return
            fs.make_directory(directory)
            fs.sync_directory(directory.rpartition("/")[0] or "/")
        names = fs.list(directory)
        if not read_only:
            self._remove_unfinished(names)
        self._infos = self._inspect_all(names)
        if not self._index_agrees(names) and not read_only:
            self._write_index(self._infos)
        if not read_only:
            # A process that was killed between rename and sync leaves a name that only looks safe.
            fs.sync_directory(directory)

    def path(self, name: str) -> str:
        """Return the path of a snapshot by its name."""
        return f"{self.directory}/{name}"

    def infos(self) -> tuple[SnapshotInfo, ...]:
        """Return the good snapshots, oldest first; those known to be damaged are left out."""
        return self._infos

    def begin(self, sequence: int, *, metadata: bytes = b"") -> SnapshotWriter:
        """Begin the snapshot of the state at `sequence`.

        The log must be durable up to `sequence` before the writer's `finish` is called: a snapshot proves
        to recovery that the log had been synced that far.

        Args:
            sequence: The last sequence whose effect is in the state; 0 for a state before any.
            metadata: Anything that the host wants back with it, at most 1 MiB.

        Raises:
            DiskFull: No room.
            SnapshotFailed: The disk failed.
        """
        if len(metadata) > METADATA_BYTES_MAX:
            raise ValueError(f"metadata of {len(metadata)} bytes is larger than {METADATA_BYTES_MAX}")
        return SnapshotWriter(self.fs, self.directory, sequence, metadata, self._now_ms(), self._publish)

    def newest(self, *, log_begins_at: int = 1) -> Snapshot | None:
        """Open the newest snapshot that verifies; `None` when there is none.

        Damaged ones are passed over and stand in `damage` afterwards.

        Args:
            log_begins_at: The oldest sequence that the log still holds. A snapshot that leaves a gap before
                it cannot stand in for a newer one that is damaged.

        Raises:
            CorruptionError: What is left does not reach the log: the newest damaged file and where.
            FormatError: A snapshot was written by a later version.
        """
        found: Snapshot | None = None
        for info in reversed(self._infos):
            try:
                found = self.open(info)
                break
            except CorruptionError as error:
                self._note_damage(info.name, error)
                self._infos = tuple(other for other in self._infos if other is not info)
        reached = 0 if found is None else found.sequence
        if self.damage and log_begins_at > reached + 1:
            if found is not None:
                found.close()
            raise self.damage[0]
        return found

    def open(self, info: SnapshotInfo) -> Snapshot:
        """Open one snapshot, with the checksums of all its bytes verified.

        Raises:
            CorruptionError: It is damaged.
        """
        path = self.path(info.name)
        file = self.fs.open(path)
        try:
            header = read_header(file, path)
            for _ in read_chunks(file, path, header, contents=False):
                pass
        except BaseException:
            file.close()
            raise
        return Snapshot(path, file, info, header)

    def _note_damage(self, name: str, error: CorruptionError) -> None:
        self._useless.add(name)
        self.damage.append(error)
        self.damage.sort(key=lambda known: known.path, reverse=True)

    def _remove_unfinished(self, names: list[str]) -> None:
        for name in names:
            if name.endswith(TEMPORARY_SUFFIX):
                self._remove(name)
                self.problems.append(f"{self.path(name)} was left unfinished and is removed")

    def _inspect_all(self, names: list[str]) -> tuple[SnapshotInfo, ...]:
        """Read header and footer of each file."""
        infos: list[SnapshotInfo] = []
        for name in names:
            match = _NAME.fullmatch(name)
            if match is None:
                continue
            path = self.path(name)
            file = self.fs.open(path)
            try:
                header = read_header(file, path)
                if header.sequence != int(match.group(1), 16):
                    raise CorruptionError(
                        path, 16, f"the header of the snapshot says sequence {header.sequence}"
                    )
                checksum = f"{read_footer_checksum(file, path, header):08x}"
                infos.append(SnapshotInfo(name, header.sequence, file.size(), header.created_ms, checksum))
            except CorruptionError as error:
                self._note_damage(name, error)
            finally:
                file.close()
        return tuple(infos)

    def _index_agrees(self, names: list[str]) -> bool:
        """Compare `index.json` with the files, and note what has vanished."""
        path = self.path(INDEX_NAME)
        if INDEX_NAME not in names:
            return False
        file = self.fs.open(path)
        try:
            text = file.pread(file.size(), 0)
        finally:
            file.close()
        try:
            indexed = [SnapshotInfo(**entry) for entry in json.loads(text)["snapshots"]]
            vanished = {info.name for info in indexed} - set(names)
        except (ValueError, TypeError, KeyError, RecursionError):
            self.problems.append(f"{path} is damaged and is written anew from the snapshots")
            return False
        self.problems += [
            f"{self.path(name)} stands in {INDEX_NAME} but is missing" for name in sorted(vanished)
        ]
        return indexed == list(self._infos)

    def _write_index(self, infos: tuple[SnapshotInfo, ...]) -> None:
        """Replace `index.json`; the caller syncs the directory.

        A full or failing disk does not matter here: the files are the truth, and the next start tries again.
        """
        path = self.path(INDEX_NAME)
        temporary = path + TEMPORARY_SUFFIX
        document = {"format": VERSION, "snapshots": [asdict(info) for info in infos]}
        try:
            if self.fs.exists(temporary):
                self.fs.unlink(temporary)
            file = self.fs.open(temporary, create=True)
            try:
                write_fully(file, json.dumps(document, indent=2).encode() + b"\n", 0)
                file.sync()
            finally:
                file.close()
            self.fs.rename(temporary, path)
        except OSError as error:
            self._tell(f"{path} could not be written: {error}")
            with contextlib.suppress(OSError):
                self.fs.unlink(temporary)

    def _publish(self, info: SnapshotInfo) -> None:
        """Make the name of a verified snapshot durable, count it, and remove what is no longer kept."""
        others = [kept for kept in self._infos if kept.name != info.name]
        infos = sorted([*others, info], key=lambda kept: kept.sequence)
        kept = tuple(infos[-SNAPSHOTS_KEPT:])
        self._write_index(kept)
        try:
            self.fs.sync_directory(self.directory)
        except OSError:
            if len(others) == len(self._infos):
                self._useless.add(info.name)
            raise
        self._infos = kept
        self._useless.discard(info.name)
        self._useless.update(superseded.name for superseded in infos[:-SNAPSHOTS_KEPT])
        if len(kept) == SNAPSHOTS_KEPT:
            for name in sorted(self._useless):
                self._remove(name)

    def _remove(self, name: str) -> None:
        """Remove a file that nothing depends on; what cannot be removed now is tried again later."""
        try:
            self.fs.unlink(self.path(name))
            self._useless.discard(name)
        except OSError as error:
            if error.errno == errno.ENOENT:
                self._useless.discard(name)
            else:
                self._tell(f"{self.path(name)} could not be removed: {error}")

    def _tell(self, problem: str) -> None:
        """Note a problem, once: what cannot be done is tried again with each snapshot."""
        if problem not in self.problems:
            self.problems.append(problem)
