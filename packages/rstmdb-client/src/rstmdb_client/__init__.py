"""Client of rstmdb, async and sync, safe by default.

The async face is imported when it is first named: with anyio and asyncio it takes as long as everything else
together, and the command line, for one, has no use for it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from rstmdb_client import errors, events, results
from rstmdb_client._sync.batch import Batch
from rstmdb_client._sync.client import Client
from rstmdb_client._sync.pool import Pool
from rstmdb_client._sync.watch import Watch
from rstmdb_client.errors import (
    AuthenticationFailed,
    BadRequest,
    BatchFailed,
    ClientClosed,
    Conflict,
    ConnectionFailed,
    DiskFull,
    GuardFailed,
    HistoryCompacted,
    IdempotencyKeyReused,
    InstanceExists,
    InstanceNotFound,
    InternalServerError,
    InvalidDocument,
    InvalidTransition,
    InvalidURL,
    MachineNotFound,
    MachineVersionExists,
    MachineVersionLimitExceeded,
    NotFound,
    OffsetAhead,
    OutcomeUnknownError,
    PoolClosed,
    PoolTimeout,
    ProtocolViolation,
    RateLimited,
    RequestTimeout,
    RequestTooLarge,
    ResultMismatch,
    RstmdbError,
    ServerError,
    StorageFailed,
    Unauthorized,
    UnsupportedByServer,
    UnsupportedProtocol,
    UsageError,
    WatchInterrupted,
)
from rstmdb_client.events import Closed, Connected, ConnectFailed, ConnectionEvent, Disconnected
from rstmdb_client.keys import AUTO, Auto
from rstmdb_client.pooling import PoolStats
from rstmdb_client.positions import FilePositionStore, MemoryPositionStore, PositionStore
from rstmdb_client.results import (
    Applied,
    Compacted,
    Created,
    Deleted,
    Explanation,
    Flushed,
    Info,
    Instance,
    InstancePage,
    InstanceSummary,
    IoStats,
    Machine,
    MachineStored,
    MachineSummary,
    Snapshot,
    Stats,
    WalPage,
    WalRecord,
    WalStats,
    WatchEvent,
    WatchHeader,
)
from rstmdb_client.retry import RetryPolicy
from rstmdb_client.slots import BatchSlot
from rstmdb_client.url import Endpoint, TlsOptions

if TYPE_CHECKING:
    from rstmdb_client._async.batch import AsyncBatch
    from rstmdb_client._async.client import AsyncClient
    from rstmdb_client._async.pool import AsyncPool
    from rstmdb_client._async.watch import AsyncWatch

__all__ = [
    "AUTO",
    "Applied",
    "AsyncBatch",
    "AsyncClient",
    "AsyncPool",
    "AsyncWatch",
    "AuthenticationFailed",
    "Auto",
    "BadRequest",
    "Batch",
    "BatchFailed",
    "BatchSlot",
    "Client",
    "ClientClosed",
    "Closed",
    "Compacted",
    "Conflict",
    "ConnectFailed",
    "Connected",
    "ConnectionEvent",
    "ConnectionFailed",
    "Created",
    "Deleted",
    "Disconnected",
    "DiskFull",
    "Endpoint",
    "Explanation",
    "FilePositionStore",
    "Flushed",
    "GuardFailed",
    "HistoryCompacted",
    "IdempotencyKeyReused",
    "Info",
    "Instance",
    "InstanceExists",
    "InstanceNotFound",
    "InstancePage",
    "InstanceSummary",
    "InternalServerError",
    "InvalidDocument",
    "InvalidTransition",
    "InvalidURL",
    "IoStats",
    "Machine",
    "MachineNotFound",
    "MachineStored",
    "MachineSummary",
    "MachineVersionExists",
    "MachineVersionLimitExceeded",
    "MemoryPositionStore",
    "NotFound",
    "OffsetAhead",
    "OutcomeUnknownError",
    "Pool",
    "PoolClosed",
    "PoolStats",
    "PoolTimeout",
    "PositionStore",
    "ProtocolViolation",
    "RateLimited",
    "RequestTimeout",
    "RequestTooLarge",
    "ResultMismatch",
    "RetryPolicy",
    "RstmdbError",
    "ServerError",
    "Snapshot",
    "Stats",
    "StorageFailed",
    "TlsOptions",
    "Unauthorized",
    "UnsupportedByServer",
    "UnsupportedProtocol",
    "UsageError",
    "WalPage",
    "WalRecord",
    "WalStats",
    "Watch",
    "WatchEvent",
    "WatchHeader",
    "WatchInterrupted",
    "errors",
    "events",
    "results",
]

_ASYNC = {
    "AsyncBatch": "rstmdb_client._async.batch",
    "AsyncClient": "rstmdb_client._async.client",
    "AsyncPool": "rstmdb_client._async.pool",
    "AsyncWatch": "rstmdb_client._async.watch",
}


def __getattr__(name: str) -> object:
    module = _ASYNC.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(module), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_ASYNC})
