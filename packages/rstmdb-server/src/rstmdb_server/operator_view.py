"""What the operators' HTTP shows of the server, before, while and after it serves."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from rstmdb_server.auth import AuthRefusal
from rstmdb_server.http import Reason
from rstmdb_server.metrics import Collector, Counters, Gauges
from rstmdb_server.statistics import statistics_of

if TYPE_CHECKING:
    from rstmdb_server.reactor import Reactor
    from rstmdb_server.services import Services


class ServerView:
    """The view of one serving process; readiness is told through its attributes.

    Args:
        version: Of the server.
    """

    def __init__(self, *, version: str) -> None:
        self.counters = Counters()
        self.progress = "starting"
        self.draining = False
        self._services: Services | None = None
        self._reactor: Reactor | None = None
        self._collector = Collector(self.counters, self._gauges, version=version)

    def serving(self, services: Services, reactor: Reactor) -> None:
        """Show this server from now on: it has recovered and accepts clients."""
        self._services = services
        self._reactor = reactor

    def metrics(self) -> bytes:
        """Return the text of one scrape."""
        return self._collector.render()

    def unready(self) -> list[Reason]:
        """Return why the server cannot serve everything now; nothing means ready."""
        reasons = []
        if self._services is None:
            reasons.append(Reason("recovering", self.progress))
        else:
            database = self._services.database
            if database.poison_reason is not None:
                reasons.append(Reason("poisoned", database.poison_reason))
            elif database.log.disk_full:
                reasons.append(Reason("disk_low", "writes are refused until there is space on the disk"))
        if self.draining:
            reasons.append(Reason("draining", "the server is stopping"))
        return reasons

    def dead(self) -> str | None:
        """Return why only a restart can help, or None."""
        return None if self._services is None else self._services.database.poison_reason

    def status(self) -> dict[str, Any]:
        """Return what the status page shows."""
        if self._services is None:
            return {"recovering": self.progress}
        figures = statistics_of(self._services)
        figures["connections_active"] = self.counters.connections_active
        figures["machines_list"] = [
            {"machine": name, "versions": sorted(versions)}
            for name, versions in sorted(self._services.database.state.machines.items())
        ]
        return figures

    def diagram(self, machine: str, version: int) -> str | None:
        """Return a machine as SVG, or None if there is no such machine."""
        if self._services is None:
            return None
        from rstmdb_server.diagram import draw_machine

        found = self._services.database.state.machines.get(machine, {}).get(version)
        return None if found is None else draw_machine(found.definition.canonical)

    def admits(self, token: str | None) -> bool:
        """Return whether the holder of ``token`` may see the status page."""
        if self._services is None:
            return False
        authenticator = self._services.authenticator
        if not authenticator.required:
            return True
        if not token:
            return False
        found = authenticator.authenticate(token, self._services.host.wall_ms())
        # The page shows every machine, so a token that sees some of them does not open it.
        return not isinstance(found, AuthRefusal) and found.may("STATS") and not found.scoped

    def _gauges(self) -> Gauges:
        services = self._services
        if services is None:
            return Gauges(ready=False)
        database, compaction = services.database, services.compaction
        log, state = database.log, database.state
        storage = log.statistics
        newest = compaction.newest
        return Gauges(
            subscriptions_instance=services.hub.count("instance"),
            subscriptions_all=services.hub.count("all"),
            instances=len(state.instances),
            machines=state.machine_version_count,
            wal_entries=state.entry_count,
            wal_segments=len(storage.segments),
            wal_size_bytes=storage.total_bytes,
            wal_bytes_written=storage.bytes_written,
            wal_bytes_read=storage.bytes_read,
            wal_writes=storage.writes,
            wal_reads=storage.reads,
            wal_fsyncs=storage.syncs,
            durable_sequence=log.durable_sequence,
            oldest_sequence=log.oldest_sequence,
            watch_lag_effects_max=services.hub.lag_max(),
            watch_lagging=services.hub.lagging(),
            snapshot_sequence=newest.sequence if newest is not None else 0,
            snapshot_time_seconds=newest.created_ms / 1000 if newest is not None else 0.0,
            snapshot_size_bytes=newest.size_bytes if newest is not None else 0,
            snapshot_duration_seconds=compaction.seconds_last,
            snapshots_written=compaction.written,
            snapshots_failed=compaction.failed,
            idempotency_keys=state.idempotency.count,
            idempotency_bytes=state.idempotency.size_bytes,
            disk_free_bytes=_disk_free(database.directory.path),
            recovery_seconds=database.recovered.seconds,
            ready=not self.unready(),
            poisoned=database.poison_reason is not None,
        )


def _disk_free(path: str) -> int:
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize
