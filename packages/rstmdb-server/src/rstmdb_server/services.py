"""What the handlers of all operations work with: one value, wired once by ``serve.py`` or by a test."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rstmdb_server.auth import AttemptLimiter, Authenticator
    from rstmdb_server.compaction_job import CompactionJob
    from rstmdb_server.database import Database
    from rstmdb_server.metrics import Counters
    from rstmdb_server.session import Session
    from rstmdb_server.settings import Settings
    from rstmdb_server.watch import WatchHub
    from rstmdb_server.world import Host

SERVER_NAME = "rstmdb"
PROTOCOL_VERSION = 1


class Services:
    """The parts of a server that handlers use; see the module docstring."""

    __slots__ = (
        "after_durable",
        "attempts",
        "audit",
        "authenticator",
        "compaction",
        "counters",
        "database",
        "host",
        "hub",
        "log",
        "settings",
        "started",
        "touch",
        "version",
    )

    def __init__(
        self,
        *,
        settings: Settings,
        database: Database,
        hub: WatchHub,
        compaction: CompactionJob,
        authenticator: Authenticator,
        attempts: AttemptLimiter,
        counters: Counters,
        host: Host,
        log: Any,
        audit: Callable[..., None] | None,
        version: str,
    ) -> None:
        self.settings = settings
        self.database = database
        self.hub = hub
        self.compaction = compaction
        self.authenticator = authenticator
        self.attempts = attempts
        self.counters = counters
        self.host = host
        self.log = log
        self.audit = audit
        self.version = version
        self.started = host.monotonic()
        # Both are the outbox's, which the reactor connects before any session exists.
        self.touch: Callable[[Session], None] = _unconnected
        self.after_durable: Callable[[int, Callable[[], None]], None] = _unconnected


def _unconnected(*_: object) -> None:
    raise AssertionError("no reactor was connected")
