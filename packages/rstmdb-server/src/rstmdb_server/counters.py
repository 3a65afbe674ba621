"""What the server counts, in plain integers, and what stands now.

```
hot path:  counters.observe(op, seconds)      a few list items, no lock, no label look-up
scrape:    gauges()                           a snapshot that the host fills in
```

Nothing here knows Prometheus; `metrics.py` puts both into its words.
"""

from bisect import bisect_left

import msgspec

from rstmdb_server.permissions import PERMISSIONS

UNKNOWN_OPERATION = 0
OPERATION_NAMES: tuple[str, ...] = ("UNKNOWN", *PERMISSIONS)
OPERATION_INDEX: dict[str, int] = {name: index for index, name in enumerate(OPERATION_NAMES)}

# As text, because a bucket's name is its label: "1" and "1.0" would be two series.
REQUEST_BUCKETS = ("0.001", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1")
COMMIT_BUCKETS = (
    "0.00005", "0.0001", "0.00025", "0.0005", "0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1",
    "0.25", "0.5", "1",
)  # fmt: skip
BATCH_BUCKETS = ("1", "2", "4", "8", "16", "32", "64", "128", "256", "512", "1024")

_REQUEST_BOUNDS = tuple(map(float, REQUEST_BUCKETS))
_COMMIT_BOUNDS = tuple(map(float, COMMIT_BUCKETS))
_BATCH_BOUNDS = tuple(map(int, BATCH_BUCKETS))
_FIRST_BOUND = _REQUEST_BOUNDS[0]


class Counters:
    """Everything that is counted since the start, as plain integers the hot path adds to.

    `duration_*` are lists by the index of `OPERATION_INDEX`, 0 being what is not known. Bucket counts are not
    cumulative (the collector adds them up), so that one observation touches one bucket.
    """

    __slots__ = (
        "auth_failures",
        "batch_buckets",
        "batch_records",
        "commit_buckets",
        "commit_seconds",
        "connections_accepted",
        "connections_active",
        "connections_refused",
        "duration_buckets",
        "duration_seconds",
        "errors",
        "events_all",
        "events_instance",
        "framing_errors",
        "slow_operations",
        "subscriptions_all",
        "subscriptions_instance",
    )

    def __init__(self) -> None:
        count = len(OPERATION_NAMES)
        self.duration_buckets: list[list[int]] = [[0] * (len(REQUEST_BUCKETS) + 1) for _ in range(count)]
        self.duration_seconds: list[float] = [0.0] * count
        self.errors: dict[str, int] = {}
        self.connections_accepted = 0
        self.connections_active = 0
        self.connections_refused: dict[str, int] = {}  # by reason: limit, tls
        self.auth_failures = 0
        self.framing_errors = 0
        self.subscriptions_instance = 0  # ever opened; whether the gauge's series exists yet
        self.subscriptions_all = 0
        self.events_instance = 0
        self.events_all = 0
        self.commit_buckets: list[int] = [0] * (len(COMMIT_BUCKETS) + 1)
        self.commit_seconds = 0.0
        self.batch_buckets: list[int] = [0] * (len(BATCH_BUCKETS) + 1)
        self.batch_records = 0
        self.slow_operations = 0

    @property
    def requests(self) -> list[int]:
        """How many requests were answered, by operation: each is in exactly one bucket."""
        return [sum(buckets) for buckets in self.duration_buckets]

    @staticmethod
    def operation_index(name: str) -> int:
        """Return where an operation is counted; all that are not known are one."""
        return OPERATION_INDEX.get(name, UNKNOWN_OPERATION)

    def connection_opened(self) -> None:
        """Count a session."""
        self.connections_accepted += 1
        self.connections_active += 1

    def connection_closed(self) -> None:
        """Count its end; exactly once for each that was opened."""
        self.connections_active -= 1
        assert self.connections_active >= 0, "a session ended twice"

    def observe(self, operation: int, seconds: float) -> None:
        """Count a request that was answered: its operation's index and how long it took."""
        self.duration_seconds[operation] += seconds
        if seconds <= _FIRST_BOUND:  # nearly all of them
            self.duration_buckets[operation][0] += 1
        else:
            self.duration_buckets[operation][bisect_left(_REQUEST_BOUNDS, seconds)] += 1

    def error(self, code: str) -> None:
        """Count an error answer by its wire code."""
        self.errors[code] = self.errors.get(code, 0) + 1

    def refused(self, reason: str) -> None:
        """Count a peer that was turned away before it was a session."""
        self.connections_refused[reason] = self.connections_refused.get(reason, 0) + 1

    def observe_commit(self, seconds: float, records: int) -> None:
        """Count a group commit: from its begin to durable, and how many records it carried."""
        self.commit_buckets[bisect_left(_COMMIT_BOUNDS, seconds)] += 1
        self.commit_seconds += seconds
        self.batch_buckets[bisect_left(_BATCH_BOUNDS, records)] += 1
        self.batch_records += records


class Gauges(msgspec.Struct, kw_only=True):
    """What stands now: the host fills one in for each scrape. Sizes in bytes, times in seconds."""

    subscriptions_instance: int = 0
    subscriptions_all: int = 0
    instances: int = 0
    machines: int = 0  # versions, as published
    wal_entries: int = 0
    wal_segments: int = 0
    wal_size_bytes: int = 0
    wal_bytes_written: int = 0
    wal_bytes_read: int = 0
    wal_writes: int = 0
    wal_reads: int = 0
    wal_fsyncs: int = 0
    durable_sequence: int = 0
    oldest_sequence: int = 0
    watch_lag_effects_max: int = 0
    watch_lagging: int = 0
    snapshot_sequence: int = 0
    snapshot_time_seconds: float = 0.0  # Unix time of the newest one, 0 = none
    snapshot_size_bytes: int = 0
    snapshot_duration_seconds: float = 0.0
    snapshots_written: int = 0
    snapshots_failed: int = 0
    idempotency_keys: int = 0
    idempotency_bytes: int = 0
    disk_free_bytes: int = 0
    recovery_seconds: float = 0.0
    ready: bool = False
    poisoned: bool = False
