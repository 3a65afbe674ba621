"""``rstmdb serve``: the life of a serving process.

::

    bind the port -> recover (readiness: recovering) -> listen, READY -> ... SIGHUP: reload ...
        -> SIGTERM, SIGINT: stop accepting, finish what is in flight, sync, exit 0
        -> a failed write or sync: tell everybody "outcome unknown", exit 74

The port is bound before recovery, so that a taken one is told at once; it accepts nobody before everything
is recovered.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable
from importlib.metadata import version

import anyio
from msgspec.structs import replace

from rstmdb_server import exit_codes, logs, notify, tuning
from rstmdb_server.auth import AttemptLimiter, Authenticator, load_authenticator
from rstmdb_server.compaction_job import CompactionJob
from rstmdb_server.config import load_settings
from rstmdb_server.database import Database
from rstmdb_server.http import OperatorHttp
from rstmdb_server.listener import Listener, LoopHost
from rstmdb_server.memory_upkeep import MemoryUpkeep
from rstmdb_server.metrics import Counters
from rstmdb_server.operator_view import ServerView
from rstmdb_server.reactor import Reactor
from rstmdb_server.services import Services
from rstmdb_server.settings import ConfigError, Settings
from rstmdb_server.starting import Seldom, StartError, bind_or_refuse, open_or_refuse
from rstmdb_server.tls import server_context
from rstmdb_server.watch import WatchHub
from rstmdb_storage import CommitPolicy, OsFileSystem, StorageError

TICK_SECONDS = 0.05
DRAIN_SECONDS = 10.0
RECOVERY_STEP_SECONDS = 30.0
"""How long the service manager waits for the next sign of life of a recovery."""


def serve(settings: Settings, *, config_path: str | None) -> int:
    """Serve until told to stop; returns the exit code."""
    tuning.prefer_the_loop()
    tuning.share_the_heap()
    process = ServerProcess(settings, config_path=config_path)
    try:
        return anyio.run(process.run, backend_options={"use_uvloop": sys.platform != "win32"})
    except StartError as error:
        print(f"rstmdb: {error}", file=sys.stderr)  # noqa: T201
        return error.code


class ServerProcess:
    """One serving process; see the module docstring.

    Args:
        settings: The effective configuration.
        config_path: Where it came from, for reloads.
    """

    def __init__(self, settings: Settings, *, config_path: str | None) -> None:
        self._settings = settings
        self._config_path = config_path
        self._version = version("rstmdb-server")
        self._stop = anyio.Event()
        self._listening = anyio.Event()
        self._reloading = anyio.Lock()
        self._signals = 0
        self._stopped = False
        self._failure: str | None = None
        self._notify = notify.Notifier(os.environ)
        self.view = ServerView(version=self._version)

    async def run(self) -> int:
        """Run the process; returns the exit code.

        Raises:
            StartError: It could not start.
        """
        logs.configure(self._settings.logging, stream=sys.stderr)
        self._log = logs.get_logger("rstmdb_server")
        settings = self._settings = self._fitted(self._settings)
        loop = asyncio.get_running_loop()
        try:
            authenticator = load_authenticator(settings.auth)
            context = server_context(settings.tls)
        except ConfigError as error:
            raise StartError(f"configuration: {error}", exit_codes.USAGE) from None
        sock = bind_or_refuse(settings.network.bind_addr, "network.bind_addr")
        host = LoopHost(loop, on_failure=self._failed)
        refused: StartError | None = None
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            self._install_signals(loop)
            try:
                await self._serve(tasks, host, sock, authenticator, context)
            except StartError as error:
                refused = error  # raised below: a task group would wrap it
            tasks.cancel_scope.cancel()
        if refused is not None:
            raise refused
        return exit_codes.IO_FAILED if self._failure is not None else exit_codes.OK

    async def _serve(
        self,
        tasks: anyio.abc.TaskGroup,
        host: LoopHost,
        sock: socket.socket,
        authenticator: Authenticator,
        context: ssl.SSLContext | None,
    ) -> None:
        """Recover, serve, and shut down."""
        settings = self._settings
        await self._start_http(tasks)
        database = await self._recover(host)
        tuning.freeze_memory()
        self._memory = MemoryUpkeep(
            resident=tuning.resident_bytes,
            freeze=tuning.freeze_more_memory,
            give_back=tuning.give_back_memory,
            sequence=database.appended_sequence,
        )
        counters = self.view.counters
        hub = WatchHub(
            database.log,
            host,
            touch=lambda session: self._services.touch(session),
            on_forwarded=_forwarded(counters),
        )
        policy = CommitPolicy()
        compaction = CompactionJob(
            database,
            host,
            settings,
            log=self._log,
            on_snapshot=self._on_snapshot,
            sync_soon=lambda: self._reactor.commits.sync_soon(),
        )
        self._services = Services(
            settings=settings,
            database=database,
            hub=hub,
            compaction=compaction,
            authenticator=authenticator,
            attempts=AttemptLimiter(),
            counters=counters,
            host=host,
            log=self._log,
            audit=logs.audit_writer(settings.logging, database),
            version=self._version,
        )
        self._reactor = Reactor(self._services, policy=policy, host=host)
        self._listener = Listener(
            sock,
            self._reactor,
            write_buffer_bytes=settings.network.write_buffer_bytes_max,
            handshake_seconds=settings.network.handshake_timeout_secs,
        )
        await self._listener.listen(context)
        self.view.serving(self._services, self._reactor)
        self._say_ready(database)
        self._listening.set()
        self._tick(asyncio.get_running_loop())
        await self._stop.wait()
        await self._shut_down(host, database, compaction)

    # -- starting ---------------------------------------------------------------------------------------

    async def _start_http(self, tasks: anyio.abc.TaskGroup) -> None:
        metrics = self._settings.metrics
        if not metrics.enabled:
            return
        try:
            sock = bind_or_refuse(metrics.bind_addr, "metrics.bind_addr")
        except StartError as error:
            if metrics.configured:
                raise
            self._log.warning("the operators' HTTP address is taken; going on without it", reason=str(error))
            return
        tasks.start_soon(OperatorHttp(self.view).serve, sock)

    async def _recover(self, host: LoopHost) -> Database:
        notified, logged = Seldom(time.monotonic, at_once=True), Seldom(time.monotonic, at_once=False)

        def progress(text: str) -> None:
            if self._signals:
                raise StartError("stopped by a signal while recovering", 128 + self._signals)
            self.view.progress = text
            if notified.due():
                self._notify.extend_timeout(RECOVERY_STEP_SECONDS)
                self._notify.status(f"recovering: {text}")
            if logged.due():
                self._log.info("recovering", progress=text)

        settings = self._settings
        return await anyio.to_thread.run_sync(
            lambda: open_or_refuse(host, OsFileSystem(), settings, on_progress=progress)
        )

    def _say_ready(self, database: Database) -> None:
        recovered = database.recovered
        host, port = self._listener.address
        for damage in recovered.passed_over:
            self._log.error("a damaged snapshot was passed over", reason=damage)
        self._log.info(
            "recovered",
            records=recovered.records,
            instances=len(database.state.instances),
            seconds=round(recovered.seconds, 3),
            clean=recovered.log.clean,
            cut_bytes=recovered.log.cut_bytes,
            epoch=recovered.log.epoch,
        )
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        # One plain line, whatever the log level: people and scripts wait for it.
        print(  # noqa: T201
            f"rstmdb {self._version} is ready on {where}"
            f" ({'TLS' if self._settings.tls.enabled else 'no TLS'},"
            f" data in {self._settings.storage.data_dir}, fsync {self._settings.storage.fsync_policy})",
            file=sys.stderr,
            flush=True,
        )
        self._notify.ready(f"serving on {where}")

    # -- while serving ----------------------------------------------------------------------------------

    def _install_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop_signal, number)
        loop.add_signal_handler(signal.SIGHUP, self._on_reload_signal)

    def _on_stop_signal(self, number: int) -> None:
        if self._signals:
            # The second one means now. What was acknowledged is durable already.
            os._exit(128 + number)
        self._signals = number
        self._stop.set()

    def _failed(self, reason: str) -> None:
        self._failure = reason
        self._log.critical("the log has failed; ending", reason=reason)
        print(f"rstmdb: {reason}; restart to recover", file=sys.stderr)  # noqa: T201
        self._stop.set()

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        delay = TICK_SECONDS
        try:
            self._reactor.tick()
            self._services.compaction.check()
            self._notify.watchdog(time.monotonic())
            self._look_after_memory()
            due = self._services.database.log.sync_due_in(time.monotonic())
            if due is not None:
                delay = min(delay, max(due, 0.001))
        finally:
            # Whatever went wrong in this one: syncs that are due and deadlines need the next.
            if not self._stopped:  # also while draining: deadlines hold until the end
                loop.call_later(delay, self._tick, loop)

    def _look_after_memory(self) -> None:
        counters = self._services.counters
        given = self._memory.check(
            time.monotonic(),
            occurrences=sum(counters.requests) + counters.connections_accepted,
            sequence=self._services.database.appended_sequence,
            busy=self._services.compaction.running,
        )
        if given:
            self._log.debug("memory given back", bytes=given)

    def _on_snapshot(self, running: bool) -> None:
        if not running:
            self._memory.snapshot_written(self._services.database.appended_sequence)

    def _on_reload_signal(self) -> None:
        self._tasks.start_soon(self._reload)

    async def _reload(self) -> None:
        """SIGHUP: certificates, tokens, log level and limits, without dropping a session."""
        # One after the other, and not before there is something to reload into.
        async with self._reloading:
            await self._listening.wait()
            if self._stop.is_set():
                return
            self._notify.reloading()
            try:
                await self._take_over()
            except (ConfigError, OSError) as error:
                self._log.error("reload refused; everything stays as it was", reason=str(error))
            except Exception:
                self._log.exception("reload failed")
            finally:
                self._notify.ready("serving")

    async def _take_over(self) -> None:
        loaded = load_settings(path=self._config_path, environ=os.environ)
        authenticator = load_authenticator(loaded.settings.auth)
        context = server_context(loaded.settings.tls)
        for warning in loaded.warnings:
            self._log.warning("configuration", warning=warning)
        settings = self._fitted(loaded.settings)
        network = settings.network
        self._listener.limit(
            write_buffer_bytes=network.write_buffer_bytes_max,
            handshake_seconds=network.handshake_timeout_secs,
        )
        if self._settings.tls.enabled and context is not None:
            await self._listener.listen(context)
        logs.set_level(settings.logging.level)
        self._reactor.reload(settings, authenticator)
        self._reopen_audit()
        self._log.info("configuration reloaded")

    def _fitted(self, settings: Settings) -> Settings:
        """Return the settings with no more connections than the limit of open files has room for."""
        network = settings.network
        served = tuning.allow_descriptors(network.max_connections)
        if served == network.max_connections:
            return settings
        self._log.warning(
            "the limit of open files has no room for all connections",
            configured=network.max_connections,
            served=served,
        )
        return replace(settings, network=replace(network, max_connections=served))

    def _reopen_audit(self) -> None:
        audit = self._services.audit
        if isinstance(audit, logs.AuditWriter):
            try:
                audit.reopen()
            except OSError as error:
                self._log.error("the audit file cannot be opened anew", reason=str(error))

    # -- stopping ---------------------------------------------------------------------------------------

    async def _shut_down(self, host: LoopHost, database: Database, compaction: CompactionJob) -> None:
        self._notify.stopping()
        self.view.draining = True
        self._listener.close()
        compaction.stop()
        drained = anyio.Event()
        self._reactor.drain(drained.set)
        with anyio.move_on_after(DRAIN_SECONDS):
            await drained.wait()
            # A sync may run in the background; closing the log comes last.
            while self._reactor.commits.in_flight:  # noqa: ASYNC110
                await anyio.sleep(0.001)
        self._stopped = True
        for session in list(self._reactor.sessions):
            session.wire.abort()
        if self._reactor.commits.in_flight:
            self._failed("the disk did not finish a sync in time")
        host.close()
        if self._failure is None:
            try:
                database.close()
            except (OSError, StorageError) as error:
                self._failed(f"the log could not be closed: {error}")
            else:
                self._log.info("stopped")
        else:
            database.directory.close()


def _forwarded(counters: Counters) -> Callable[[str, int], None]:
    def on_forwarded(kind: str, count: int) -> None:
        if kind == "all":
            counters.events_all += count
        else:
            counters.events_instance += count

    return on_forwarded


__all__ = ["ServerProcess", "StartError", "serve"]
