"""What STATS, the status page and the metrics say of a running server, gathered in one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rstmdb_server.metrics import OPERATION_NAMES, REQUEST_BUCKETS
from rstmdb_server.services import SERVER_NAME, Services


def statistics_of(services: Services, *, visible: Callable[[str], bool] | None = None) -> dict[str, Any]:
    """Return the figures of STATS: totals since the start and what stands now.

    Totals only grow, so that a client makes rates of two answers. Times are seconds, sizes bytes.

    Args:
        services: The server's parts.
        visible: Says which machines may be told of; None is all of them.
    """
    database, counters, hub = services.database, services.counters, services.hub
    log = database.log
    storage = log.statistics
    newest = services.compaction.newest
    now = services.host.monotonic()
    by_state = database.state.counts_by_state()
    instances, machines = database.state.instance_count, database.state.machine_version_count
    if visible is not None:
        by_state = {key: count for key, count in by_state.items() if visible(key[0])}
        instances = sum(by_state.values())
        machines = sum(len(versions) for name, versions in database.state.machines.items() if visible(name))
    return {
        "server_name": SERVER_NAME,
        "server_version": services.version,
        "uptime_seconds": round(now - services.started, 3),
        "time_ms": services.host.wall_ms(),
        "instances": instances,
        "machines": machines,
        "instances_by_state": [
            {"machine": machine, "state": state, "instances": count}
            for (machine, state), count in sorted(by_state.items())
        ],
        "requests": {
            name: {
                "count": count,
                "seconds": round(counters.duration_seconds[index], 6),
                "buckets": counters.duration_buckets[index],
            }
            for index, (name, count) in enumerate(zip(OPERATION_NAMES, counters.requests, strict=True))
            if count
        },
        "request_bucket_bounds_seconds": [float(bound) for bound in REQUEST_BUCKETS],
        "errors": dict(counters.errors),
        "log": {
            "durable_offset": log.durable_sequence,
            "oldest_offset": log.oldest_sequence,
            "entries": database.state.entry_count,
            "segments": len(storage.segments),
            "bytes": storage.total_bytes,
            "syncs": storage.syncs,
            "epoch": log.epoch,
        },
        "commits": {
            "count": sum(counters.commit_buckets),
            "records": counters.batch_records,
            "seconds": round(counters.commit_seconds, 6),
        },
        "watches": {
            "subscriptions": len(hub),
            "lagging": hub.lagging(),
            "lag_max": hub.lag_max(),
            "events_sent": counters.events_instance + counters.events_all,
        },
        "snapshot": None
        if newest is None
        else {
            "offset": newest.sequence,
            "bytes": newest.size_bytes,
            "created_at": newest.created_ms,
        },
        "idempotency": {
            "keys": database.state.idempotency.count,
            "bytes": database.state.idempotency.size_bytes,
        },
    }
