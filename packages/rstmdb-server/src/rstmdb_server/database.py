"""The database: engine state, log and snapshots composed; the only place where a command becomes durable.

::

    execute(command) -> decide (pure) -> encode -> log.append (buffered, space reserved) -> apply (memory)

``append`` comes before ``apply``: a full disk refuses the write before anything happened. What was applied
but is not yet durable may be read by later commands of the same turn; the answers wait (``appended_sequence``
is the hold of everything decided now).

Invariants: ``state.next_sequence == log.next_sequence`` between calls; a record that was appended is applied
in the same call; nothing here evaluates a guard during recovery.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from rstmdb_core import (
    EngineSettings,
    Record,
    Refusal,
    State,
    apply,
    decide,
    decode_record,
    encode_record,
    load,
)
from rstmdb_server.answers import disk_full, sync_failed
from rstmdb_server.instance_snapshots import remove_unfinished
from rstmdb_server.world import Host
from rstmdb_storage import (
    CorruptionError,
    DataDirectory,
    DiskFull,
    EmbeddedLog,
    FileSystem,
    LogConfig,
    LogPoisoned,
    Progress,
    RecoveryReport,
    SnapshotInfo,
    SnapshotStore,
)

RECOVERY_READ_BYTES = 4 * 1024 * 1024
"""How much log is decoded at a time while recovering: large enough to amortise, small beside the state."""


class Recovered(msgspec.Struct, frozen=True):
    """What opening a data directory found and did."""

    records: int
    effects: int
    snapshot: SnapshotInfo | None
    passed_over: tuple[str, ...]  # newer snapshots that were damaged, and where
    log: RecoveryReport
    seconds: float


class Database:
    """State, log and snapshots of one data directory.

    Args:
        host: Time and ids.
        state: The recovered state.
        log: The log that the state was recovered from.
        snapshots: The snapshots beside it.
        directory: The opened (locked) data directory.
        file_system: Where it is.
        recovered: What opening it found.
    """

    __slots__ = (
        "_host",
        "_new_id",
        "appended_sequence",
        "directory",
        "file_system",
        "log",
        "now_ms",
        "poison_reason",
        "recovered",
        "snapshots",
        "state",
        "unpublished",
    )

    def __init__(
        self,
        host: Host,
        *,
        state: State,
        log: EmbeddedLog,
        snapshots: SnapshotStore,
        directory: DataDirectory,
        file_system: FileSystem,
        recovered: Recovered,
    ) -> None:
        assert state.next_sequence == log.next_sequence, (state.next_sequence, log.next_sequence)
        self._host = host
        self._new_id = host.new_id
        self.state = state
        self.log = log
        self.snapshots = snapshots
        self.directory = directory
        self.file_system = file_system
        self.recovered = recovered
        self.appended_sequence = log.next_sequence - 1
        self.now_ms = host.wall_ms()
        self.poison_reason: str | None = None
        # Appended and not yet durable, so not yet shown to watchers. Kept whether or not somebody watches: a
        # watch from an earlier offset may come while they are on their way.
        self.unpublished: deque[Record] = deque()

    @property
    def durable_sequence(self) -> int:
        """The last sequence that may be shown, under the promise of the fsync policy."""
        return self.log.durable_sequence

    def execute(self, command: Any) -> bytes | Refusal:
        """Decide a command and, if it changes anything, append and apply its record.

        Args:
            command: One of ``rstmdb_core.commands``.

        Returns:
            The JSON text of the operation's result, which may be shown once the log is durable up to
            ``appended_sequence``; or why the command was refused.
        """
        if self.poison_reason is not None:
            return sync_failed(self.poison_reason)
        outcome = decide(self.state, command, now_ms=self.now_ms, new_id=self._new_id)
        if isinstance(outcome, Refusal):
            return outcome
        record = outcome.record
        if record is not None:
            count = len(record.effects)
            log = self.log
            try:
                log.time_ms = record.time_ms
                log.append(encode_record(record), count)
            except DiskFull as error:
                return disk_full(str(error))
            except LogPoisoned as error:
                return sync_failed(str(error))
            try:
                apply(self.state, record)
            except Exception as error:
                # The log's buffer has it and memory does not: whatever is said from here on may be wrong.
                self.poison(f"a record could not be applied: {error!r}")
                raise
            self.appended_sequence = record.first_sequence + count - 1
            self.unpublished.append(record)
        return outcome.answer

    def poison(self, reason: str) -> None:
        """Refuse every write from now on; the process is about to end."""
        self.poison_reason = reason

    def close(self) -> None:
        """Sync what is left, write the closing mark and give the directory free."""
        try:
            self.log.close()
        finally:
            self.directory.close()


def open_database(
    host: Host,
    file_system: FileSystem,
    path: str,
    *,
    log_config: LogConfig,
    engine_settings: EngineSettings,
    on_progress: Callable[[str], None] = lambda _: None,
) -> Database:
    """Open and recover a data directory: newest valid snapshot, then the log after it.

    Args:
        host: Time and ids.
        file_system: The real one, or a simulated one.
        path: The data directory; made if it does not exist.
        log_config: Segment size, fsync policy and reserves.
        engine_settings: Limits and the idempotency window.
        on_progress: Told, in words and often, how the recovery is getting on; what it raises ends it.

    Raises:
        CorruptionError: Data that was once synced is damaged; names file, position and reason.
        LockedError: Another process holds the directory; names it.
        FormatError: The directory is of another format or version.
        OSError: The file system refused.
    """
    started = host.monotonic()
    directory = DataDirectory.open(file_system, path)
    try:
        snapshots = SnapshotStore(file_system, directory.snapshots, now_ms=host.wall_ms)
        remove_unfinished(file_system, directory)
        infos = snapshots.infos()
        log, report = EmbeddedLog.open(
            file_system,
            directory.wal,
            log_config,
            snapshot_sequence=infos[-1].sequence if infos else 0,
            time_ms=host.wall_ms(),
            on_progress=lambda at: on_progress(f"checked {_mebibytes(at)} of {at.path.rpartition('/')[2]}"),
        )
        snapshot = snapshots.newest(log_begins_at=log.oldest_sequence)
        if snapshot is None:
            state, reached, info = State(engine_settings), 0, None
        else:
            reached, info = snapshot.sequence, snapshot.info
            state = load(_told(snapshot.chunks(), info.name, on_progress), engine_settings)
            snapshot.close()
        if log.oldest_sequence > reached + 1:
            raise CorruptionError(
                directory.snapshots,
                0,
                f"the log begins at {log.oldest_sequence}, but no snapshot reaches beyond {reached}",
            )
        records, effects = _replay(state, log, reached, on_progress)
    except BaseException:
        directory.close()
        raise
    recovered = Recovered(
        records=records,
        effects=effects,
        snapshot=info,
        passed_over=tuple(str(error) for error in snapshots.damage),
        log=report,
        seconds=host.monotonic() - started,
    )
    return Database(
        host,
        state=state,
        log=log,
        snapshots=snapshots,
        directory=directory,
        file_system=file_system,
        recovered=recovered,
    )


def _told(chunks: Iterator[bytes], name: str, on_progress: Callable[[str], None]) -> Iterator[bytes]:
    loaded = 0
    for chunk in chunks:
        loaded += len(chunk)
        on_progress(f"loaded {loaded >> 20} MiB of {name}")
        yield chunk


def _mebibytes(at: Progress) -> str:
    return f"{at.bytes_done >> 20} of {at.bytes_total >> 20} MiB"


def _replay(
    state: State, log: EmbeddedLog, reached: int, on_progress: Callable[[str], None]
) -> tuple[int, int]:
    """Apply the log after the snapshot; returns how many records and effects that were."""
    records = effects = 0
    reader = log.reader()
    position = reached + 1
    while batch := reader.read(position, bytes_max=RECOVERY_READ_BYTES, records_max=100_000):
        for entry in batch:
            if entry.first_sequence > state.next_sequence:
                state.skip_to(entry.first_sequence)
            apply(state, decode_record(entry.body, entry.first_sequence))
            effects += entry.count
        records += len(batch)
        position = batch[-1].first_sequence + batch[-1].count
        on_progress(f"replayed {records} records, at {position - 1} of {log.durable_sequence}")
    reader.close()
    state.skip_to(log.next_sequence)
    return records, effects
