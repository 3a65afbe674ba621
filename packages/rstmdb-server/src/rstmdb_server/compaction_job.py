"""The compaction job: take a snapshot in small slices while the server goes on, then let old log go.

::

    IDLE -> DUMPING  a slice of the frozen view on the loop (under a millisecond), its chunk compressed and
                     written in a worker thread, again and again
         -> FINISHING  footer, sync, read back, rename: in the thread
         -> TRIMMING   sealed segments that neither recovery nor retention needs
         -> IDLE       every COMPACT that waited is answered

The view may hold records that are not durable yet; the file is published only once the log has been synced up
to its sequence. A failed snapshot ends the job before anything is trimmed; the next try comes after the
minimum interval.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from rstmdb_core import Refusal, StateView, dump
from rstmdb_server.answers import Deferred, snapshot_failed, sync_failed
from rstmdb_storage import (
    LogProgress,
    Retention,
    SnapshotInfo,
    SnapshotTriggers,
    SnapshotWriter,
    Trimming,
    should_snapshot,
    trim_point,
)

if TYPE_CHECKING:
    from rstmdb_server.database import Database
    from rstmdb_server.settings import Settings
    from rstmdb_server.world import Host


SYNC_POLL_SECONDS = 0.01

SLICE_REST_SECONDS_MAX = 0.05
"""The longest rest after a slice: one that met a slow disk must not hold the snapshot up as long again."""


class CompactionJob:
    """At most one snapshot at a time; see the module docstring.

    Args:
        database: What is snapshotted and trimmed.
        host: Time and blocking jobs.
        settings: Thresholds and retention.
        log: Where failures are told.
        on_snapshot: Called with True when a snapshot begins and False when it has ended.
        sync_soon: Has the log synced, whatever the fsync policy.
    """

    def __init__(
        self,
        database: Database,
        host: Host,
        settings: Settings,
        *,
        log: Any,
        on_snapshot: Callable[[bool], None],
        sync_soon: Callable[[], None],
    ) -> None:
        self._database = database
        self._host = host
        self._log = log
        self._on_snapshot = on_snapshot
        self._sync_soon = sync_soon
        compaction = settings.compaction
        self._enabled = compaction.enabled
        self._triggers = SnapshotTriggers(
            events=compaction.events_threshold,
            bytes=compaction.size_threshold_mb * 1024 * 1024,
            interval_seconds=compaction.min_interval_secs,
        )
        self._retention = Retention(
            bytes=settings.retention.history_mb * 1024 * 1024, seconds=settings.retention.history_secs
        )
        self._waiting: list[tuple[Deferred, bool]] = []
        self._answering: list[Deferred] = []
        self._running = False
        self._stopped = False
        self._view: StateView | None = None
        self._writer: SnapshotWriter | None = None
        self._started = 0.0
        self._failed_at: float | None = None
        newest = self.newest
        snapshotted = newest.sequence if newest is not None else 0
        # Bytes of the log's records after the newest snapshot; whole segments, so at most one too many.
        self._bytes_at_last = self._log_bytes() - sum(
            span.record_bytes for span in database.log.statistics.segments if span.last_sequence > snapshotted
        )
        self.written = 0
        self.failed = 0
        self.seconds_last = 0.0

    @property
    def running(self) -> bool:
        """Whether a snapshot is being written."""
        return self._running

    @property
    def newest(self) -> SnapshotInfo | None:
        """The newest good snapshot."""
        infos = self._database.snapshots.infos()
        return infos[-1] if infos else None

    def request(self, *, force_snapshot: bool) -> Deferred:
        """Compact now, or after the run that is under way; the answer is that of COMPACT."""
        deferred = Deferred()
        self._waiting.append((deferred, force_snapshot))
        self._start_waiting()
        return deferred

    def check(self) -> None:
        """Start by itself when the configured thresholds say so; called by the tick."""
        if not self._enabled or self._running or self._stopped or self._database.poison_reason is not None:
            return
        now, pause = self._host.monotonic(), max(self._triggers.interval_seconds, 1.0)
        if self._failed_at is not None and now - self._failed_at < pause:
            return
        newest = self.newest
        progress = LogProgress(
            events=self._database.durable_sequence - (newest.sequence if newest is not None else 0),
            bytes=self._log_bytes() - self._bytes_at_last,
        )
        due = should_snapshot(self._triggers, progress, newest, now_ms=self._host.wall_ms())
        if due or (self._database.log.disk_full and progress.events > 0):
            self._start(snapshot=True)

    def stop(self) -> None:
        """Give up what is under way: the process is about to end."""
        self._stopped = True
        if self._view is not None:
            self._view.close()
            self._view = None

    def _log_bytes(self) -> int:
        return self._database.log.bytes_written

    def _start_waiting(self) -> None:
        if self._running or not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        self._answering = [deferred for deferred, _ in waiting]
        if self._stopped:
            self._end(snapshot_failed("the server is stopping"))
            return
        newest = self.newest
        behind = self._database.appended_sequence > (newest.sequence if newest is not None else 0)
        self._start(snapshot=any(force for _, force in waiting) or behind)

    def _start(self, *, snapshot: bool) -> None:
        self._running = True
        if not snapshot or self._database.appended_sequence == 0:
            self._trim(created=0)
            return
        self._started = self._host.monotonic()
        if self._database.log.disk_full:
            # The reserve exists for exactly this: a snapshot lets old segments go.
            self._database.log.release_reserve()
        self._on_snapshot(True)
        self._view = dump(self._database.state)
        sequence = self._database.appended_sequence
        self._bytes_at_last = self._log_bytes()
        self._host.run_blocking(lambda: self._database.snapshots.begin(sequence), self._begun)

    def _begun(self, writer: SnapshotWriter | None, error: BaseException | None) -> None:
        self._writer = writer
        if error is not None or self._view is None:
            self._give_up(error)
            return
        self._slice(self._view.chunks())

    def _slice(self, chunks: Iterator[bytes]) -> None:
        writer = self._writer
        assert writer is not None
        if self._stopped:
            self._give_up(None)
            return
        chunk = next(chunks, None)
        if chunk is None:
            self._publish(writer)
            return
        began = self._host.monotonic()

        def written(_: object, error: BaseException | None) -> None:
            if error is not None:
                self._give_up(error)
                return
            # As long a rest as the slice took: requests come first, a snapshot has time.
            rest = min(self._host.monotonic() - began, SLICE_REST_SECONDS_MAX)
            self._host.call_later(rest, lambda: self._slice(chunks))

        self._host.run_blocking(lambda: writer.write(chunk), written)

    def _publish(self, writer: SnapshotWriter) -> None:
        if self._database.poison_reason is not None:
            self._give_up(None)
        elif self._database.log.synced_sequence < writer.sequence:
            # A snapshot proves to recovery that the log had been synced so far: under a relaxed fsync
            # policy that has to be made true first.
            self._sync_soon()
            self._host.call_later(SYNC_POLL_SECONDS, lambda: self._publish(writer))
        else:
            self._host.run_blocking(writer.finish, self._finished)

    def _finished(self, info: SnapshotInfo | None, error: BaseException | None) -> None:
        if error is not None:
            self._give_up(error)
            return
        assert info is not None
        self._close_view()
        self.written += 1
        self.seconds_last = self._host.monotonic() - self._started
        self._failed_at = None
        self._log.info(
            "snapshot written",
            sequence=info.sequence,
            bytes=info.size_bytes,
            seconds=round(self.seconds_last, 3),
        )
        self._trim(created=1)

    def _trim(self, *, created: int) -> None:
        log, snapshots = self._database.log, self._database.snapshots
        spans = log.statistics.segments
        point = trim_point(snapshots.infos(), spans, self._retention, now_ms=self._host.wall_ms())
        # Also with nothing new to trim: an earlier run may have left files.
        job = log.begin_trim(point)
        if job is not None:
            self._host.run_blocking(job.run, lambda _result, _error: self._trimmed(created, job))
        else:
            self._trimmed(created, None)

    def _trimmed(self, created: int, job: Trimming | None) -> None:
        log, snapshots = self._database.log, self._database.snapshots
        deleted = reclaimed = 0
        if job is not None:
            result = log.finish_trim(job)
            deleted, reclaimed = result.segments_removed, result.bytes_reclaimed
            if job.error is not None:
                # The next run tries again; nobody reads these files any more, and nothing needs them gone.
                self._log.error("old segments could not be removed", error=str(job.error))
        if deleted:
            self._log.info("log compacted", segments=deleted, bytes=reclaimed)
        answer = msgspec.json.encode(
            {
                "snapshots_created": created,
                "segments_deleted": deleted,
                "bytes_reclaimed": reclaimed,
                "total_snapshots": len(snapshots.infos()),
                "wal_segments": len(log.statistics.segments),
            }
        )
        self._end(answer)

    def _give_up(self, error: BaseException | None) -> None:
        if self._writer is not None:
            self._writer.abort()
        self._close_view()
        poisoned = self._database.poison_reason
        if error is None:
            # Nothing is wrong with the snapshot: the process ends before it was finished.
            stopping = snapshot_failed("the server is stopping")
            self._end(stopping if poisoned is None else sync_failed(poisoned))
            return
        self.failed += 1
        self._failed_at = self._host.monotonic()
        self._log.error("snapshot failed; compaction waits for the next one", error=str(error))
        self._end(snapshot_failed(str(error)) if poisoned is None else sync_failed(poisoned))

    def _close_view(self) -> None:
        if self._view is not None:
            self._view.close()
            self._view = None
        self._writer = None
        self._on_snapshot(False)

    def _end(self, answer: bytes | Refusal) -> None:
        self._running = False
        if not self._stopped and self._database.poison_reason is None:
            self._database.log.restore_reserve()
        answering, self._answering = self._answering, []
        for deferred in answering:
            deferred.complete(answer)
        self._start_waiting()
