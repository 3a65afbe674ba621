"""A new data directory, filled by a command: it can be opened only once it is finished, or not at all.

Recovery refuses a directory whose log no snapshot reaches, and one whose snapshot has no log. Both commands
that fill one end with the step that makes it whole, so a crash on the way leaves nothing that a server would
take for the data. A failure that the command survives leaves an empty directory, fit for the next try.

Sequences begin 2^32 beyond all that was ever shown of the source: nobody who saw those numbers will see one
of them again for another effect.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator

from rstmdb_core import Record, State, apply, dump, encode_record
from rstmdb_core.limits import OFFSET_MAX
from rstmdb_server.offline.errors import OfflineError
from rstmdb_storage import DataDirectory, EmbeddedLog, LogConfig, OsFileSystem, SnapshotStore

SEQUENCE_JUMP = 1 << 32
"""How far a new directory's first sequence is from the last that its source may have shown."""

COMMIT_BYTES = 4 << 20
"""Records are written and synced in groups of about this size."""

_IGNORED = ("lost+found",)
_OURS = ("FORMAT", "FORMAT.tmp", "LOCK", "manifest.json", "manifest.json.tmp", "snapshots", "wal")


@contextlib.contextmanager
def empty_directory(path: str, what: str) -> Iterator[str]:
    """Give a directory that is empty to its user, and leave it empty again should that one fail.

    Args:
        path: The directory; made if it does not exist.
        what: What it is for, in messages.

    Raises:
        OfflineError: It is not empty, or not a directory.
    """
    path = os.path.abspath(path)
    existed = os.path.lexists(path)
    if existed:
        if not os.path.isdir(path):
            raise OfflineError(f"{path}: not a directory")
        found = sorted(set(os.listdir(path)).difference(_IGNORED))
        if found:
            raise OfflineError(f"{path}: the {what} must be empty, and holds {found[0]!r}")
    else:
        os.makedirs(path, mode=0o700)
    try:
        yield path
    except BaseException:
        for name in _OURS:
            target = os.path.join(path, name)
            if os.path.isdir(target):
                shutil.rmtree(target, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    os.unlink(target)
        if not existed:
            with contextlib.suppress(OSError):
                os.rmdir(path)
        raise


def jumped_sequence(shown: int) -> int:
    """Return where the sequences of a new directory begin.

    Args:
        shown: The first sequence that was not yet shown of the source.

    Raises:
        OfflineError: No such number is left that every client can read.
    """
    first = shown + SEQUENCE_JUMP
    if first >= OFFSET_MAX - SEQUENCE_JUMP:
        raise OfflineError(f"offsets of the source go up to {shown}: none are left below 2^53")
    return first


def write_state(path: str, state: State, first_sequence: int) -> None:
    """Fill an empty directory with a state and an empty log behind it.

    Args:
        path: The directory.
        state: What it shall hold; moved on to `first_sequence`.
        first_sequence: The sequence of its next effect.
    """
    fs = OsFileSystem()
    directory = DataDirectory.open(fs, path)
    try:
        state.skip_to(first_sequence)
        _write_snapshot(SnapshotStore(fs, directory.snapshots), state, first_sequence - 1)
        # Last: a snapshot without a log is refused by recovery.
        log, _ = EmbeddedLog.open(
            fs,
            directory.wal,
            LogConfig(reserve_bytes=0),
            snapshot_sequence=first_sequence - 1,
            first_sequence=first_sequence,
            time_ms=state.time_ms,
        )
        log.close()
    finally:
        directory.close()


class HistoryWriter:
    """Fills an empty directory with records, then with the snapshots that make it whole.

    Args:
        path: The directory.
        state: An empty state; it takes every record.
        first_sequence: The sequence of the first effect.
    """

    def __init__(self, path: str, state: State, first_sequence: int) -> None:
        self._fs = OsFileSystem()
        self._first = first_sequence
        self.state = state
        state.skip_to(first_sequence)
        self._directory = DataDirectory.open(self._fs, path)
        try:
            self._log, _ = EmbeddedLog.open(
                self._fs, self._directory.wal, LogConfig(reserve_bytes=0), first_sequence=first_sequence
            )
        except BaseException:
            self._directory.close()
            raise

    def add(self, record: Record) -> None:
        """Log and apply a record that follows on the state."""
        apply(self.state, record)
        self._log.time_ms = record.time_ms
        self._log.append(encode_record(record), len(record.effects))
        if self._log.pending_bytes >= COMMIT_BYTES:
            self._commit()

    def finish(self) -> None:
        """Sync the log and write the snapshots: of the end, and of the empty beginning as its fallback."""
        self._commit()
        store = SnapshotStore(self._fs, self._directory.snapshots)
        _write_snapshot(store, self.state, self.state.next_sequence - 1)
        if self.state.next_sequence > self._first:
            empty = State(self.state.settings)
            empty.skip_to(self._first)
            _write_snapshot(store, empty, self._first - 1)

    def close(self) -> None:
        """Close the log and give the directory free."""
        try:
            self._log.close()
        finally:
            self._directory.close()

    def _commit(self) -> None:
        commit = self._log.begin_commit()
        if commit is not None:
            commit.run()
            self._log.finish_commit(commit)


def _write_snapshot(store: SnapshotStore, state: State, sequence: int) -> None:
    with dump(state) as view:
        writer = store.begin(sequence)
        try:
            for chunk in view.chunks():
                writer.write(chunk)
            writer.finish()
        except BaseException:
            writer.abort()
            raise


def wall_ms() -> int:
    """Return milliseconds since the epoch."""
    return time.time_ns() // 1_000_000
