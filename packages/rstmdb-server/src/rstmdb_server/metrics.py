"""How Prometheus reads what the server counts.

```
Collector.collect() = counters (since the start) + gauges() (a snapshot the host makes) + /proc/self
```

Names, types, labels and buckets of the published dashboard come first and never change; ours follow. A series
with a label appears when it is first used.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.process_collector import ProcessCollector

from rstmdb_server.counters import (
    BATCH_BUCKETS,
    COMMIT_BUCKETS,
    OPERATION_INDEX,
    OPERATION_NAMES,
    REQUEST_BUCKETS,
    UNKNOWN_OPERATION,
    Counters,
    Gauges,
)

__all__ = [
    "BATCH_BUCKETS",
    "COMMIT_BUCKETS",
    "CONTENT_TYPE",
    "OPERATION_INDEX",
    "OPERATION_NAMES",
    "REQUEST_BUCKETS",
    "UNKNOWN_OPERATION",
    "Collector",
    "Counters",
    "Gauges",
]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Collector:
    """The Prometheus face of `Counters` and `Gauges`; registers in a registry of its own.

    Args:
        counters: Read at each scrape.
        gauges: Called once a scrape.
        version: The server's version, for `rstmdb_build_info`.
    """

    def __init__(self, counters: Counters, gauges: Callable[[], Gauges], *, version: str) -> None:
        self._counters = counters
        self._gauges = gauges
        self._version = version
        self._process = ProcessCollector(registry=None)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def render(self) -> bytes:
        """Return the text of one scrape, of `CONTENT_TYPE`."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield every family, the published ones first."""
        gauges = self._gauges()
        for family in (*self._published(gauges), *self._ours(gauges)):
            if family.samples:  # not even the name of what was never used
                yield family
        yield from self._process.collect()
        threads = _threads()
        if threads is not None:
            yield _gauge("process_threads", "Number of threads of the process.", threads)

    def _published(self, gauges: Gauges) -> Iterator[Metric]:
        counters = self._counters
        yield _counter("rstmdb_connections", "Connections accepted.", counters.connections_accepted)
        yield _gauge("rstmdb_connections_active", "Connections open.", counters.connections_active)
        yield _labelled_counter(
            "rstmdb_requests",
            "Requests by operation.",
            "operation",
            zip(OPERATION_NAMES[1:], counters.requests[1:], strict=True),
        )
        yield _labelled_counter(
            "rstmdb_errors", "Error answers by code.", "code", sorted(counters.errors.items())
        )
        durations = HistogramMetricFamily(
            "rstmdb_request_duration_seconds",
            "Time from a request's last byte to its answer, by operation.",
            labels=["operation"],
        )
        for name, index in OPERATION_INDEX.items():
            buckets = counters.duration_buckets[index]
            if index != UNKNOWN_OPERATION and any(buckets):
                durations.add_metric(
                    [name], _cumulative(REQUEST_BUCKETS, buckets), counters.duration_seconds[index]
                )
        yield durations
        subscriptions = GaugeMetricFamily(
            "rstmdb_subscriptions_active", "Live subscriptions by type.", labels=["type"]
        )
        if counters.subscriptions_instance or gauges.subscriptions_instance:
            subscriptions.add_metric(["instance"], gauges.subscriptions_instance)
        if counters.subscriptions_all or gauges.subscriptions_all:
            subscriptions.add_metric(["all"], gauges.subscriptions_all)
        yield subscriptions
        yield _labelled_counter(
            "rstmdb_events_forwarded",
            "Events sent to watchers, by type of subscription.",
            "type",
            (("instance", counters.events_instance), ("all", counters.events_all)),
        )
        yield _gauge("rstmdb_instances_total", "Instances that are not deleted.", gauges.instances)
        yield _gauge("rstmdb_machines_total", "Machine versions.", gauges.machines)
        yield _gauge("rstmdb_wal_entries", "Effects ever logged.", gauges.wal_entries)
        yield _gauge("rstmdb_wal_segments", "Segments of the log.", gauges.wal_segments)
        yield _gauge("rstmdb_wal_size_bytes", "Bytes of records in the log.", gauges.wal_size_bytes)
        yield _counter("rstmdb_wal_bytes_written", "Bytes written to the log.", gauges.wal_bytes_written)
        yield _counter("rstmdb_wal_bytes_read", "Bytes read from the log.", gauges.wal_bytes_read)
        yield _counter("rstmdb_wal_writes", "Writes to the log.", gauges.wal_writes)
        yield _counter("rstmdb_wal_reads", "Reads from the log.", gauges.wal_reads)
        yield _counter("rstmdb_wal_fsyncs", "Syncs of the log.", gauges.wal_fsyncs)

    def _ours(self, gauges: Gauges) -> Iterator[Metric]:
        counters = self._counters
        build = GaugeMetricFamily(
            "rstmdb_build_info", "Always 1; the version is its label.", labels=["version"]
        )
        build.add_metric([self._version], 1)
        yield build
        yield _gauge("rstmdb_ready", "1 while the server is ready.", gauges.ready)
        yield _gauge("rstmdb_poisoned", "1 after a write or sync of the log failed.", gauges.poisoned)
        yield _counter(
            "rstmdb_requests_unknown",
            "Requests whose operation does not exist or could not be read.",
            counters.requests[UNKNOWN_OPERATION],
        )
        yield _labelled_counter(
            "rstmdb_connections_refused",
            "Peers turned away before they were a session, by reason.",
            "reason",
            sorted(counters.connections_refused.items()),
        )
        yield _counter("rstmdb_auth_failures", "Wrong or expired tokens.", counters.auth_failures)
        yield _counter(
            "rstmdb_framing_errors", "Connections closed for broken framing.", counters.framing_errors
        )
        yield _counter(
            "rstmdb_slow_operations",
            "Requests slower than logging.slow_operation_ms.",
            counters.slow_operations,
        )
        commits = HistogramMetricFamily(
            "rstmdb_commit_duration_seconds", "Time of a group commit until durable."
        )
        commits.add_metric([], _cumulative(COMMIT_BUCKETS, counters.commit_buckets), counters.commit_seconds)
        yield commits
        batches = HistogramMetricFamily("rstmdb_commit_records", "Records in a group commit.")
        batches.add_metric([], _cumulative(BATCH_BUCKETS, counters.batch_buckets), counters.batch_records)
        yield batches
        yield _gauge("rstmdb_durable_sequence", "Last sequence that is durable.", gauges.durable_sequence)
        yield _gauge("rstmdb_oldest_sequence", "Oldest sequence that can be read.", gauges.oldest_sequence)
        yield _gauge(
            "rstmdb_watch_lag_effects",
            "Effects between the slowest subscription and the tail.",
            gauges.watch_lag_effects_max,
        )
        yield _gauge(
            "rstmdb_watch_lagging", "Subscriptions that read segments to catch up.", gauges.watch_lagging
        )
        yield _gauge("rstmdb_snapshot_sequence", "Sequence of the newest snapshot.", gauges.snapshot_sequence)
        yield _gauge(
            "rstmdb_snapshot_timestamp_seconds",
            "Unix time of the newest snapshot, 0 for none.",
            gauges.snapshot_time_seconds,
        )
        yield _gauge("rstmdb_snapshot_size_bytes", "Size of the newest snapshot.", gauges.snapshot_size_bytes)
        yield _gauge(
            "rstmdb_snapshot_duration_seconds",
            "How long the newest snapshot took to write.",
            gauges.snapshot_duration_seconds,
        )
        yield _counter("rstmdb_snapshots", "Snapshots written.", gauges.snapshots_written)
        yield _counter("rstmdb_snapshot_failures", "Snapshots that failed.", gauges.snapshots_failed)
        yield _gauge("rstmdb_idempotency_keys", "Idempotency keys remembered.", gauges.idempotency_keys)
        yield _gauge("rstmdb_idempotency_bytes", "Bytes they take of their budget.", gauges.idempotency_bytes)
        yield _gauge("rstmdb_disk_free_bytes", "Free space for the data directory.", gauges.disk_free_bytes)
        yield _gauge(
            "rstmdb_recovery_seconds", "How long the last start took to recover.", gauges.recovery_seconds
        )


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _labelled_counter(name: str, text: str, label: str, series: Iterable[tuple[str, int]]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in series:
        if count:
            family.add_metric([value], count)
    return family


def _cumulative(bounds: Sequence[str], counts: Sequence[int]) -> list[tuple[str, float]]:
    total = 0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip((*bounds, "+Inf"), counts, strict=True):
        total += count
        buckets.append((bound, total))
    return buckets


def _threads() -> int | None:
    """Return the process's threads as the kernel counts them; None where there is no /proc."""
    try:
        with open("/proc/self/stat", "rb") as file:
            # The command's name may hold spaces and brackets; the fields start after the last one.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return int(fields[17])
