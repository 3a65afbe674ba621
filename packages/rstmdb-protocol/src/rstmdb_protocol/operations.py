"""The table of operations: one row says what an operation takes, gives and needs.

requires_auth   refused with UNAUTHORIZED before authentication (HELLO, AUTH, PING and BYE are not)
writes          changes the database, so it waits for the disk and is refused while the disk is full
feature         the name in HELLO and INFO under which a server offers it; None: always there
"""

from typing import Final

from msgspec import Struct

from rstmdb_protocol.parameters import (
    U16,
    U32,
    ApplyEventParams,
    AuthParams,
    BatchOperation,
    BatchParams,
    CompactParams,
    CreateInstanceParams,
    DeleteInstanceParams,
    EmptyParams,
    ExplainEventParams,
    GetInstanceParams,
    GetMachineParams,
    HelloParams,
    IncludedKind,
    ListInstancesParams,
    ListMachinesParams,
    Offset,
    Params,
    PutMachineParams,
    SnapshotInstanceParams,
    UnwatchParams,
    WalReadParams,
    WatchAllParams,
    WatchInstanceParams,
)
from rstmdb_protocol.results import (
    ApplyEventResult,
    AuthResult,
    BatchItem,
    BatchResult,
    ByeResult,
    CompactResult,
    CreateInstanceResult,
    DeleteInstanceResult,
    ExplainEventResult,
    FlushAllResult,
    GetInstanceResult,
    GetMachineResult,
    HelloResult,
    InfoResult,
    InstanceItem,
    IoStats,
    ListInstancesResult,
    ListMachinesResult,
    MachineItem,
    PingResult,
    PutMachineResult,
    Result,
    SnapshotInstanceResult,
    StatesItem,
    StatsResult,
    UnwatchResult,
    WalReadResult,
    WalRecordItem,
    WalStatsResult,
    WatchAllResult,
    WatchInstanceResult,
)

__all__ = [
    "BATCHABLE",
    "FEATURES",
    "OPERATIONS",
    "U16",
    "U32",
    "ApplyEventParams",
    "ApplyEventResult",
    "AuthParams",
    "AuthResult",
    "BatchItem",
    "BatchOperation",
    "BatchParams",
    "BatchResult",
    "ByeResult",
    "CompactParams",
    "CompactResult",
    "CreateInstanceParams",
    "CreateInstanceResult",
    "DeleteInstanceParams",
    "DeleteInstanceResult",
    "EmptyParams",
    "ExplainEventParams",
    "ExplainEventResult",
    "FlushAllResult",
    "GetInstanceParams",
    "GetInstanceResult",
    "GetMachineParams",
    "GetMachineResult",
    "HelloParams",
    "HelloResult",
    "IncludedKind",
    "InfoResult",
    "InstanceItem",
    "IoStats",
    "ListInstancesParams",
    "ListInstancesResult",
    "ListMachinesParams",
    "ListMachinesResult",
    "MachineItem",
    "Offset",
    "Operation",
    "Params",
    "PingResult",
    "PutMachineParams",
    "PutMachineResult",
    "Result",
    "SnapshotInstanceParams",
    "SnapshotInstanceResult",
    "StatesItem",
    "StatsResult",
    "UnwatchParams",
    "UnwatchResult",
    "WalReadParams",
    "WalReadResult",
    "WalRecordItem",
    "WalStatsResult",
    "WatchAllParams",
    "WatchAllResult",
    "WatchInstanceParams",
    "WatchInstanceResult",
]


class Operation(Struct, frozen=True, gc=False):
    """One operation of the protocol.

    Attributes:
        name: Its name on the wire.
        params_type: Struct of its parameters, for `messages.decode_params`.
        result_type: Struct of its result.
        requires_auth: Whether a session must be authenticated first.
        writes: Whether it changes the database.
        feature: The feature it belongs to, or None.
    """

    name: str
    params_type: type[Params]
    result_type: type[Result]
    requires_auth: bool = True
    writes: bool = False
    feature: str | None = None


_ALL: Final = (
    Operation("HELLO", HelloParams, HelloResult, requires_auth=False),
    Operation("AUTH", AuthParams, AuthResult, requires_auth=False),
    Operation("PING", EmptyParams, PingResult, requires_auth=False),
    Operation("BYE", EmptyParams, ByeResult, requires_auth=False),
    Operation("INFO", EmptyParams, InfoResult),
    Operation("PUT_MACHINE", PutMachineParams, PutMachineResult, writes=True),
    Operation("GET_MACHINE", GetMachineParams, GetMachineResult),
    Operation("LIST_MACHINES", ListMachinesParams, ListMachinesResult),
    Operation("CREATE_INSTANCE", CreateInstanceParams, CreateInstanceResult, writes=True),
    Operation("GET_INSTANCE", GetInstanceParams, GetInstanceResult),
    Operation("LIST_INSTANCES", ListInstancesParams, ListInstancesResult),
    Operation("DELETE_INSTANCE", DeleteInstanceParams, DeleteInstanceResult, writes=True),
    Operation("APPLY_EVENT", ApplyEventParams, ApplyEventResult, writes=True),
    Operation("BATCH", BatchParams, BatchResult, writes=True, feature="batch"),
    Operation("SNAPSHOT_INSTANCE", SnapshotInstanceParams, SnapshotInstanceResult),
    Operation("WAL_READ", WalReadParams, WalReadResult, feature="wal_read"),
    Operation("WAL_STATS", EmptyParams, WalStatsResult),
    Operation("COMPACT", CompactParams, CompactResult),
    Operation("WATCH_INSTANCE", WatchInstanceParams, WatchInstanceResult),
    Operation("WATCH_ALL", WatchAllParams, WatchAllResult),
    Operation("UNWATCH", UnwatchParams, UnwatchResult),
    Operation("FLUSH_ALL", EmptyParams, FlushAllResult, writes=True),
    Operation("EXPLAIN_EVENT", ExplainEventParams, ExplainEventResult, feature="explain"),
    Operation("STATS", EmptyParams, StatsResult, feature="stats"),
)

OPERATIONS: Final[dict[str, Operation]] = {operation.name: operation for operation in _ALL}
"""Every operation by its name on the wire. Names are case-sensitive."""

FEATURES: Final = (
    "idempotency",
    "batch",
    "wal_read",
    "idempotency.durable",
    "batch.atomic",
    "watch.resume",
    "list.cursor",
    "explain",
    "history",
    "stats",
)
"""Feature names that HELLO may agree on, in the order in which a server lists them."""

BATCHABLE: Final = frozenset({"CREATE_INSTANCE", "APPLY_EVENT", "DELETE_INSTANCE"})
"""Operations that may stand in a BATCH."""
