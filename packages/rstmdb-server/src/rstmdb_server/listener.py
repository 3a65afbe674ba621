"""The shell: sockets, threads and time around the reactor, on asyncio (uvloop).

Protocol callbacks feed the sans-I/O sessions directly; measured, that costs a third of what a task and a
byte stream a session cost. Nothing in here decides anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import ssl

    from rstmdb_server.reactor import Reactor
    from rstmdb_server.session import Session

WORKER_THREADS = 3
"""Blocking jobs at once, beside one commit: a snapshot slice, and reads of the log for lagging watchers."""

KEEPALIVE_IDLE_SECONDS = 60
KEEPALIVE_INTERVAL_SECONDS = 15
KEEPALIVE_PROBES = 4


class LoopHost:
    """The reactor's host on a running event loop; see ``world.Host``.

    Args:
        loop: Where the reactor runs.
        on_failure: Called once with the reason when the database can no longer promise anything.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, on_failure: Callable[[str], None]) -> None:
        self._loop = loop
        self._on_failure = on_failure
        self._threads = ThreadPoolExecutor(WORKER_THREADS, thread_name_prefix="rstmdb-io")
        # A thousand lagging watchers queue a thousand reads; nobody's commit may stand behind them.
        self._commit_thread = ThreadPoolExecutor(1, thread_name_prefix="rstmdb-commit")
        self.monotonic = time.monotonic
        self.call_soon: Callable[[Callable[[], None]], Any] = loop.call_soon

    def wall_ms(self) -> int:
        """Return milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    def new_id(self) -> str:
        """Return a fresh UUIDv4."""
        return str(uuid.uuid4())

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call ``callback`` after so many seconds."""
        self._loop.call_later(seconds, callback)

    def run_blocking(
        self,
        job: Callable[[], Any],
        done: Callable[[Any, BaseException | None], None],
        *,
        urgent: bool = False,
    ) -> None:
        """Run ``job`` in a worker thread, then ``done(result, error)`` on the loop."""
        future = self._loop.run_in_executor(self._commit_thread if urgent else self._threads, job)
        future.add_done_callback(functools.partial(_deliver, done))

    def fail(self, reason: str) -> None:
        """Report that the process must end."""
        self._on_failure(reason)

    def close(self) -> None:
        """Wait for the jobs that run, drop those that have not begun, and take no more."""
        self._commit_thread.shutdown(wait=True)
        self._threads.shutdown(wait=True, cancel_futures=True)


def _deliver(done: Callable[[Any, BaseException | None], None], future: asyncio.Future[Any]) -> None:
    if future.cancelled():
        return
    error = future.exception()
    done(None if error is not None else future.result(), error)


class TransportWire:
    """A session's byte stream over a transport; calls after the end of the stream do nothing."""

    __slots__ = ("_transport", "write")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.write = transport.write

    def pause_reading(self) -> None:
        """Stop delivering bytes."""
        with contextlib.suppress(RuntimeError):  # the transport is closing
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Deliver bytes again."""
        with contextlib.suppress(RuntimeError):
            self._transport.resume_reading()

    def close(self) -> None:
        """Send what is queued, then close."""
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()


class ClientProtocol(asyncio.Protocol):
    """One socket of a client."""

    __slots__ = ("_reactor", "_session", "_write_buffer_bytes")

    def __init__(self, reactor: Reactor, write_buffer_bytes: int) -> None:
        self._reactor = reactor
        self._write_buffer_bytes = write_buffer_bytes
        self._session: Session | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Open the session."""
        # uvloop's transports have the methods, not the base class.
        transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            _tune(sock)
        transport.set_write_buffer_limits(high=self._write_buffer_bytes)
        name = transport.get_extra_info("peername")
        peer = str(name[0]) if isinstance(name, tuple) and name else "local"
        self._session = self._reactor.connect(TransportWire(transport), peer)
        if self._session is None:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Hand bytes to the session."""
        if self._session is not None:
            self._reactor.receive(self._session, data)

    def eof_received(self) -> bool:
        """Answer what was asked before the peer closed its side; the reactor then closes ours."""
        if self._session is None:
            return False
        self._reactor.end_of_stream(self._session)
        return True

    def pause_writing(self) -> None:
        """The peer does not read."""
        if self._session is not None:
            self._reactor.pause_writing(self._session)

    def resume_writing(self) -> None:
        """The peer has read."""
        if self._session is not None:
            self._reactor.resume_writing(self._session)

    def connection_lost(self, exc: Exception | None) -> None:
        """Close the session."""
        if self._session is not None:
            self._reactor.disconnect(self._session)
            self._session = None


class TlsClientProtocol(ClientProtocol):
    """One socket of a client over TLS, where a half-closed stream does not exist.

    It is made when the socket is accepted, and connected when the handshake has succeeded. Nobody tells it of
    a handshake that failed, so a timer looks.
    """

    __slots__ = ("_deadline",)

    def __init__(self, reactor: Reactor, write_buffer_bytes: int, handshake_seconds: float) -> None:
        super().__init__(reactor, write_buffer_bytes)
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(handshake_seconds + 1.0, reactor.handshake_failed)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Open the session: the handshake has succeeded."""
        self._deadline.cancel()
        super().connection_made(transport)

    def eof_received(self) -> bool:
        """Answer what was asked; the transport closes by itself."""
        super().eof_received()
        return False


def _tune(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_SECONDS)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_SECONDS)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)


def bind(host: str, port: int) -> socket.socket:
    """Bind the listening socket without listening yet, so that a taken port is noticed before recovery.

    Raises:
        OSError: The address is taken or not ours, or the name is unknown.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    # A name such as localhost may have addresses of both families; IPv4 first, as published clients do.
    family, kind, protocol, _, address = min(found, key=lambda info: info[0] != socket.AF_INET)
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except BaseException:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


class Listener:
    """Accepts clients on a bound socket; certificates can be exchanged while it listens.

    Args:
        sock: A bound socket; the listener owns it from now on.
        reactor: Serves the sessions.
        write_buffer_bytes: Bytes that may wait for a client that does not read.
        handshake_seconds: Deadline of a TLS handshake.
    """

    def __init__(
        self, sock: socket.socket, reactor: Reactor, *, write_buffer_bytes: int, handshake_seconds: float
    ) -> None:
        self._socket = sock
        self._reactor = reactor
        self._write_buffer_bytes = write_buffer_bytes
        self._handshake_seconds = handshake_seconds
        self._server: asyncio.Server | None = None
        self._closed = False

    @property
    def address(self) -> tuple[str, int]:
        """The host and port that are listened on."""
        name = self._socket.getsockname()
        return name[0], name[1]

    async def listen(self, context: ssl.SSLContext | None, *, backlog: int = 1024) -> None:
        """Accept clients; called again with another context, new clients get that one.

        The second server listens on a duplicate of the same socket before the first one stops, so no
        client is refused in between.
        """
        loop = asyncio.get_running_loop()

        def protocol() -> ClientProtocol:
            if context is None:
                return ClientProtocol(self._reactor, self._write_buffer_bytes)
            return TlsClientProtocol(self._reactor, self._write_buffer_bytes, self._handshake_seconds)

        previous = self._server
        server = await loop.create_server(
            protocol,
            sock=self._socket.dup(),
            backlog=backlog,
            ssl=context,
            ssl_handshake_timeout=self._handshake_seconds if context is not None else None,
        )
        if self._closed:  # meanwhile
            server.close()
            return
        self._server = server
        if previous is not None:
            previous.close()

    def limit(self, *, write_buffer_bytes: int, handshake_seconds: float) -> None:
        """Set other limits for the clients that come from now on; see the arguments of the class.

        The deadline of a TLS handshake changes with the next :meth:`listen`.
        """
        self._write_buffer_bytes = write_buffer_bytes
        self._handshake_seconds = handshake_seconds

    def close(self) -> None:
        """Accept nobody any more; sessions go on."""
        self._closed = True
        if self._server is not None:
            self._server.close()
            self._server = None
        self._socket.close()
