"""What the operations return: frozen structs with the names of the wire.

Documents are plain JSON values, or of the caller's own type where a call takes `ctx_type=`; `C` stands
for that type. Offsets are opaque: they grow, are below 2**53 and never name two different changes.
Times are Unix milliseconds.
"""

from typing import Any, Generic, TypeVar

import msgspec

__all__ = [
    "Applied",
    "Authenticated",
    "Compacted",
    "Created",
    "Deleted",
    "Explanation",
    "Flushed",
    "Hello",
    "Info",
    "Instance",
    "InstancePage",
    "InstanceSummary",
    "IoStats",
    "Json",
    "Machine",
    "MachineStored",
    "MachineSummary",
    "Snapshot",
    "Stats",
    "Unwatched",
    "WalPage",
    "WalRecord",
    "WalStats",
    "WatchEvent",
    "WatchHeader",
]

Json = dict[str, Any]
"""A JSON object."""

C = TypeVar("C")


class Hello(msgspec.Struct, frozen=True):
    """What the server said when the connection was made."""

    protocol_version: int = 1
    wire_mode: str | None = "binary_json"
    server_name: str | None = ""
    server_version: str | None = ""
    features: list[str] | None = None


class Authenticated(msgspec.Struct, frozen=True):
    """The answer to AUTH; a server may leave it empty."""

    authenticated: bool = True


class Info(msgspec.Struct, frozen=True):
    """What the server is and what it allows."""

    server_name: str = ""
    server_version: str = ""
    protocol_version: int = 1
    features: list[str] = []
    max_frame_bytes: int | None = None
    max_batch_ops: int | None = None
    raw: Json = {}
    """Everything the server said, with what this client does not know."""


class Stats(msgspec.Struct, frozen=True):
    """Rates, latencies, machines by state and watch lag, as the server counts them."""

    raw: Json

    def __getitem__(self, name: str) -> Any:
        """Return one member of the statistics."""
        return self.raw[name]


class MachineStored(msgspec.Struct, frozen=True):
    """The answer to `put_machine`."""

    machine: str
    version: int
    stored_checksum: str = ""
    created: bool = True
    """False when the same definition was stored before."""


class Machine(msgspec.Struct, frozen=True):
    """A stored definition."""

    definition: Json
    checksum: str = ""


class MachineSummary(msgspec.Struct, frozen=True):
    """A machine and its versions, ascending."""

    machine: str
    versions: list[int] = []


class Created(msgspec.Struct, frozen=True):
    """The answer to `create_instance`."""

    instance_id: str
    state: str
    wal_offset: int = 0


class Instance(msgspec.Struct, Generic[C], frozen=True):
    """An instance as it is now."""

    machine: str
    version: int
    state: str
    ctx: C
    last_wal_offset: int = 0
    last_event_id: str | None = None


class Applied(msgspec.Struct, Generic[C], frozen=True):
    """The answer to `apply_event`."""

    from_state: str
    to_state: str
    ctx: C
    wal_offset: int = 0
    applied: bool = True
    """False when the answer was stored before under the same idempotency key."""
    event_id: str | None = None


class Deleted(msgspec.Struct, frozen=True):
    """The answer to `delete_instance`."""

    instance_id: str
    deleted: bool = True
    wal_offset: int = 0


class InstanceSummary(msgspec.Struct, frozen=True):
    """An instance in a list, without its context."""

    id: str
    machine: str
    version: int
    state: str
    created_at: int = 0
    updated_at: int = 0
    last_wal_offset: int = 0


class InstancePage(msgspec.Struct, frozen=True):
    """One page of instances, in the order of their creation."""

    instances: list[InstanceSummary] = []
    total: int = 0
    has_more: bool = False
    next_cursor: str | None = None
    """Where the next page begins; None on the last page and with servers that have no cursors."""


class Snapshot(msgspec.Struct, frozen=True):
    """The answer to `snapshot_instance`."""

    instance_id: str
    snapshot_id: str
    wal_offset: int = 0
    size_bytes: int | None = None
    checksum: str | None = None


class WalRecord(msgspec.Struct, frozen=True):
    """One change in the log. `entry["type"]` names its kind."""

    sequence: int
    offset: int
    entry: Json


class WalPage(msgspec.Struct, frozen=True):
    """Changes in log order."""

    records: list[WalRecord] = []
    next_offset: int | None = None
    """Where to read on, or None when the server does not tell on an empty page."""


class IoStats(msgspec.Struct, frozen=True):
    """What the log read and wrote since the server started."""

    bytes_written: int = 0
    bytes_read: int = 0
    writes: int = 0
    reads: int = 0
    fsyncs: int = 0


class WalStats(msgspec.Struct, frozen=True):
    """The state of the log."""

    entry_count: int = 0
    segment_count: int = 0
    total_size_bytes: int = 0
    latest_offset: int | None = None
    """The offset that the next change will get."""
    io_stats: IoStats = IoStats()


class Compacted(msgspec.Struct, frozen=True):
    """The answer to `compact`."""

    snapshots_created: int = 0
    segments_deleted: int = 0
    bytes_reclaimed: int = 0
    total_snapshots: int = 0
    wal_segments: int = 0


class Flushed(msgspec.Struct, frozen=True):
    """The answer to `flush_all`."""

    flushed: bool = True
    instances_removed: int = 0
    machines_removed: int = 0


class Unwatched(msgspec.Struct, frozen=True):
    """The answer to `unwatch`."""

    subscription_id: str
    removed: bool = False


class Explanation(msgspec.Struct, frozen=True):
    """What would happen, which events are allowed, and why not."""

    raw: Json

    def __getitem__(self, name: str) -> Any:
        """Return one member of the explanation."""
        return self.raw[name]


class WatchHeader(msgspec.Struct, frozen=True):
    """The answer to a subscription: where it starts."""

    subscription_id: str
    instance_id: str | None = None
    current_state: str | None = None
    current_wal_offset: int | None = None
    wal_offset: int | None = None


class WatchEvent(msgspec.Struct, Generic[C], frozen=True):
    """One change that a watch delivers."""

    subscription_id: str
    wal_offset: int
    instance_id: str = ""
    machine: str = ""
    version: int = 0
    event: str = ""
    from_state: str = ""
    to_state: str = ""
    payload: Json | None = None
    ctx: C | None = None
    kind: str = "apply"
    """`apply`, or `create`, `delete`, `put_machine`, `flush` where `include=` asked for them."""
