"""A whole server in one thread: the real reactor on a host, wires and files that a test controls."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Any

import structlog

from rstmdb_core import EngineSettings
from rstmdb_protocol import MessageDecoder
from rstmdb_server.auth import AttemptLimiter, Authenticator
from rstmdb_server.compaction_job import CompactionJob
from rstmdb_server.database import open_database
from rstmdb_server.metrics import Counters
from rstmdb_server.reactor import Reactor
from rstmdb_server.services import Services
from rstmdb_server.session import Session
from rstmdb_server.settings import Settings
from rstmdb_server.watch import WatchHub
from rstmdb_storage import CommitPolicy, FileSystem, LogConfig


class VirtualHost:
    """Time that only moves when the test says so; jobs run when their turn comes."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.wall = 1_700_000_000_000
        self.failure: str | None = None
        self._ids = itertools.count(1)
        self._order = itertools.count()
        self._soon: list[Callable[[], None]] = []
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self.job_seconds: Callable[[], float] = lambda: 0.0
        self.look_seconds = 0.0  # what passes whenever somebody looks at the clock: work takes time

    def monotonic(self) -> float:
        self.now += self.look_seconds
        return self.now

    def wall_ms(self) -> int:
        return self.wall + int((self.now - 1000.0) * 1000)

    def new_id(self) -> str:
        return f"00000000-0000-4000-8000-{next(self._ids):012x}"

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._soon.append(callback)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (self.now + seconds, next(self._order), callback))

    def run_blocking(
        self,
        job: Callable[[], Any],
        done: Callable[[Any, BaseException | None], None],
        *,
        urgent: bool = False,
    ) -> None:
        def run() -> None:
            try:
                result = job()
            except Exception as error:
                done(None, error)
            else:
                done(result, None)

        self.call_later(self.job_seconds(), run)

    def fail(self, reason: str) -> None:
        self.failure = reason

    def turn(self) -> bool:
        """Run what is ready now; returns whether anything was."""
        soon, self._soon = self._soon, []
        for callback in soon:
            callback()
        ran = bool(soon)
        while self._timers and self._timers[0][0] <= self.now:
            heapq.heappop(self._timers)[2]()
            ran = True
        return ran

    def settle(self) -> None:
        """Run turns until nothing is ready."""
        while self.turn():
            pass

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        self.settle()


class TestWire:
    """What a session wrote, decoded on demand."""

    __test__ = False

    def __init__(self, on_write: Callable[[bytes], None] = lambda _: None) -> None:
        self.data = bytearray()
        self.closed = False
        self.reading = True
        self._on_write = on_write
        self._decoder = MessageDecoder(payload_bytes_max=16 * 1024 * 1024)

    def write(self, data: bytes) -> None:
        self._on_write(data)
        self.data += data

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def take(self) -> list[bytes]:
        """Take the payloads that were written since the last call."""
        data = bytes(self.data)
        self.data.clear()
        return [payload for payload, _ in self._decoder.feed(data)]


class InProcessServer:
    """The reactor with everything it needs; ``path`` is opened (and recovered) on the given file system."""

    def __init__(
        self,
        file_system: FileSystem,
        path: str,
        *,
        host: VirtualHost | None = None,
        settings: Settings | None = None,
        log_config: LogConfig | None = None,
        policy: CommitPolicy | None = None,
        authenticator: Authenticator | None = None,
    ) -> None:
        self.host = host or VirtualHost()
        self.settings = settings or Settings()
        self.policy = policy or CommitPolicy()
        logger = structlog.get_logger("test")
        self.database = open_database(
            self.host,
            file_system,
            path,
            log_config=log_config or LogConfig(),
            engine_settings=EngineSettings(
                idempotency_retention_ms=self.settings.idempotency.retention_secs * 1000
            ),
        )
        self.counters = Counters()
        self.hub = WatchHub(
            self.database.log,
            self.host,
            touch=lambda session: self.services.touch(session),
            on_forwarded=lambda _kind, _count: None,
        )
        self.compaction = CompactionJob(
            self.database,
            self.host,
            self.settings,
            log=logger,
            on_snapshot=lambda _running: None,
            sync_soon=lambda: self.reactor.commits.sync_soon(),
        )
        self.services = Services(
            settings=self.settings,
            database=self.database,
            hub=self.hub,
            compaction=self.compaction,
            authenticator=authenticator or Authenticator((), False),
            attempts=AttemptLimiter(),
            counters=self.counters,
            host=self.host,
            log=logger,
            audit=None,
            version="test",
        )
        self.reactor = Reactor(self.services, policy=self.policy, host=self.host)

    def connect(self, on_write: Callable[[bytes], None] = lambda _: None) -> tuple[Session, TestWire]:
        """Open a session."""
        wire = TestWire(on_write)
        session = self.reactor.connect(wire, "test")
        assert session is not None
        return session, wire

    def tick(self) -> None:
        """What the shell's timer does."""
        self.reactor.tick()
        self.compaction.check()
        self.host.settle()
