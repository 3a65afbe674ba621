"""The results of every operation, as a client reads them and as a server may write them.

Members that the specification always sends are required, except where a published server leaves them out.
Documents stay JSON text. Members that hold their default are not written; required ones always are.
"""

from typing import Any, Final

from msgspec import Raw, Struct, field

_ABSENT: Final = Raw()


class Result(Struct, gc=False, omit_defaults=True, frozen=True):
    """Base of all results."""


class HelloResult(Result, frozen=True, kw_only=True):
    """HELLO: what the two sides have agreed on."""

    protocol_version: int
    wire_mode: str
    server_name: str
    server_version: str
    features: list[str]


class AuthResult(Result, frozen=True, kw_only=True):
    """AUTH."""

    authenticated: bool


class PingResult(Result, frozen=True, kw_only=True):
    """PING."""

    pong: bool


class ByeResult(Result, frozen=True, kw_only=True):
    """BYE."""

    goodbye: bool


class InfoResult(Result, frozen=True, kw_only=True):
    """INFO: what the server is and can do.

    Attributes:
        server_name: Always `rstmdb`.
        server_version: Version of the server.
        protocol_version: 1.
        features: All features it knows.
        max_frame_bytes: Largest payload.
        max_batch_ops: Most operations in a batch.
        idempotency: How long and in how much room keys are kept (`window_secs`, `max_bytes`, `durable`).
    """

    server_name: str
    server_version: str
    protocol_version: int
    features: list[str]
    max_frame_bytes: int
    max_batch_ops: int
    idempotency: dict[str, Any] | None = None


class PutMachineResult(Result, frozen=True, kw_only=True):
    """PUT_MACHINE; `created` is false when the same definition was there already."""

    machine: str
    version: int
    stored_checksum: str
    created: bool


class GetMachineResult(Result, frozen=True, kw_only=True):
    """GET_MACHINE; `definition` is JSON text."""

    definition: Raw
    checksum: str


class MachineItem(Result, frozen=True, kw_only=True):
    """One machine of LIST_MACHINES with its versions, ascending."""

    machine: str
    versions: list[int]


class ListMachinesResult(Result, frozen=True, kw_only=True):
    """LIST_MACHINES, by name."""

    items: list[MachineItem]


class CreateInstanceResult(Result, frozen=True, kw_only=True):
    """CREATE_INSTANCE."""

    instance_id: str
    state: str
    wal_offset: int


class GetInstanceResult(Result, frozen=True, kw_only=True):
    """GET_INSTANCE; `ctx` is JSON text."""

    machine: str
    version: int
    state: str
    ctx: Raw
    last_wal_offset: int
    last_event_id: str | None = None


class InstanceItem(Result, frozen=True, kw_only=True):
    """One instance of LIST_INSTANCES. Times are Unix milliseconds."""

    id: str
    machine: str
    version: int
    state: str
    created_at: int
    updated_at: int
    last_wal_offset: int


class ListInstancesResult(Result, frozen=True, kw_only=True):
    """LIST_INSTANCES.

    Attributes:
        instances: The page.
        total: Matches before paging.
        has_more: Whether matches follow this page.
        next_cursor: Where the next page begins; None at the end.
    """

    instances: list[InstanceItem]
    total: int
    has_more: bool
    next_cursor: str | None = None


class DeleteInstanceResult(Result, frozen=True, kw_only=True):
    """DELETE_INSTANCE."""

    instance_id: str
    deleted: bool
    wal_offset: int


class ApplyEventResult(Result, frozen=True, kw_only=True):
    """APPLY_EVENT.

    Attributes:
        from_state: State before.
        to_state: State after.
        wal_offset: Offset of the change.
        applied: False when an idempotency key brought back an earlier answer.
        ctx: JSON text of the context after the event.
        event_id: The request's event id.
    """

    from_state: str
    to_state: str
    wal_offset: int
    applied: bool
    ctx: Raw = _ABSENT
    event_id: str | None = None


class BatchItem(Struct, gc=False, frozen=True):
    """The answer to one operation of a batch; the unused member is null.

    Attributes:
        status: `ok` or `error`.
        result: JSON text of the operation's result.
        error: JSON text of its error.
    """

    status: str
    result: Raw = _ABSENT
    error: Raw = _ABSENT


class BatchResult(Result, frozen=True, kw_only=True):
    """BATCH, in the order of the request."""

    results: list[BatchItem]


class SnapshotInstanceResult(Result, frozen=True, kw_only=True):
    """SNAPSHOT_INSTANCE."""

    instance_id: str
    snapshot_id: str
    wal_offset: int
    size_bytes: int | None = None
    checksum: str | None = None


class WalRecordItem(Result, frozen=True, kw_only=True):
    """One record of WAL_READ; `entry` is JSON text with a `type`."""

    sequence: int
    offset: int
    entry: Raw


class WalReadResult(Result, frozen=True, kw_only=True):
    """WAL_READ.

    Attributes:
        records: The page.
        next_offset: Where to read on; a server never sends null.
    """

    records: list[WalRecordItem]
    next_offset: int | None = None


class IoStats(Result, frozen=True, kw_only=True):
    """What the log did since the server started."""

    bytes_written: int
    bytes_read: int
    writes: int
    reads: int
    fsyncs: int


class WalStatsResult(Result, frozen=True, kw_only=True):
    """WAL_STATS.

    Attributes:
        entry_count: Changes ever written.
        segment_count: Files of the log.
        total_size_bytes: Their records' size.
        latest_offset: The offset that the next change gets.
        io_stats: What the log did since the server started.
    """

    entry_count: int
    segment_count: int
    total_size_bytes: int
    io_stats: IoStats
    latest_offset: int | None = None


class CompactResult(Result, frozen=True, kw_only=True):
    """COMPACT."""

    snapshots_created: int
    segments_deleted: int
    bytes_reclaimed: int
    total_snapshots: int
    wal_segments: int


class WatchInstanceResult(Result, frozen=True, kw_only=True):
    """WATCH_INSTANCE: the subscription, and where the instance stood when it began."""

    subscription_id: str
    instance_id: str
    current_state: str
    current_wal_offset: int


class WatchAllResult(Result, frozen=True, kw_only=True):
    """WATCH_ALL; the next change gets `wal_offset` or a larger one, and history begins at `oldest_offset`."""

    subscription_id: str
    wal_offset: int
    oldest_offset: int | None = None


class UnwatchResult(Result, frozen=True, kw_only=True):
    """UNWATCH; `removed` is false when there was no such subscription."""

    subscription_id: str
    removed: bool


class FlushAllResult(Result, frozen=True, kw_only=True):
    """FLUSH_ALL: how many instances and versions of machines are gone."""

    flushed: bool
    instances_removed: int
    machines_removed: int


class ExplainEventResult(Result, frozen=True, kw_only=True):
    """EXPLAIN_EVENT: what would happen now, and why.

    Attributes:
        instance_id: The instance.
        machine: Its machine.
        version: The machine's version.
        state: Its current state.
        events: One object for each event that was asked about, as JSON text: `event`, `allowed`, and where
            it leads or why it does not.
        last_wal_offset: Offset of the instance's last change.
    """

    instance_id: str
    machine: str
    version: int
    state: str
    events: list[Raw]
    last_wal_offset: int | None = None


class StatesItem(Result, frozen=True, kw_only=True):
    """How many instances of a machine, all versions, are in one state."""

    machine: str
    state: str
    instances: int


class StatsResult(Result, frozen=True, kw_only=True):
    """STATS: totals since the start and what stands now, so that two answers make a rate.

    The groups are JSON objects that may grow; read what you know.

    Attributes:
        uptime_seconds: Since the server started.
        time_ms: The server's clock, in Unix milliseconds.
        instances: Instances that exist.
        machines: Versions of machines that exist.
        instances_by_state: The instances, by machine and state.
        requests: By operation: count, seconds, and a histogram of durations.
        errors: Refusals by code.
        log: Offsets, segments, bytes and syncs.
        commits: Group commits: count, records, seconds.
        watches: Subscriptions, how many lag and how far, events sent.
        idempotency: Keys and the room they take.
    """

    uptime_seconds: float = 0.0
    time_ms: int = 0
    instances: int = 0
    machines: int = 0
    instances_by_state: list[StatesItem] = field(default_factory=list)
    requests: dict[str, Any] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    log: dict[str, Any] = field(default_factory=dict)
    commits: dict[str, Any] = field(default_factory=dict)
    watches: dict[str, Any] = field(default_factory=dict)
    idempotency: dict[str, Any] = field(default_factory=dict)
