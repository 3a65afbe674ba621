"""Moves the bytes of a multiplexed connection: on asyncio by protocol callbacks, elsewhere by two tasks.

Both pipes gather what is written in one turn of the loop and send it as one piece, so that many tasks cost
one system call. While a single caller takes turns with the server, its request is sent at once instead.
`writable` turns false when more than a quarter of a megabyte waits: then callers wait, not memory.
"""

import asyncio
from typing import Any, Protocol

import anyio

from rstmdb_client._async.backends import AsyncioBackend, TrioBackend
from rstmdb_client._async.primitives import monotonic
from rstmdb_client._async.stream import AsyncStream
from rstmdb_client.errors import ConnectionFailed
from rstmdb_client.url import Endpoint, Options

__all__ = ["AsyncioPipe", "Pipe", "Receiver", "StreamPipe", "open_pipe"]

HIGH_WATER_BYTES = 256 * 1024


class Receiver(Protocol):
    """Who gets what arrives."""

    def bytes_received(self, data: bytes) -> None:
        """Take the next bytes."""

    def pipe_lost(self, error: BaseException | None) -> None:
        """Learn that nothing more will arrive."""

    def pipe_writable(self) -> None:
        """Learn that there is room again."""


class Pipe(Protocol):
    """Where bytes are written."""

    writable: bool

    def write(self, data: bytes, at_once: bool) -> None:
        """Take bytes to be sent, in order."""

    def close(self) -> None:
        """Send what was taken, as far as that goes without waiting, and close."""

    def abort(self) -> None:
        """Close at once."""

    async def wait_closed(self) -> None:
        """Wait until nothing of it is left."""


class AsyncioPipe(asyncio.Protocol):
    """A pipe on an asyncio transport."""

    def __init__(self, receiver: Receiver, loop: asyncio.AbstractEventLoop) -> None:
        self.writable = True
        self._receiver = receiver
        self._loop = loop
        self._transport: Any = None
        self._outbox: list[bytes] = []
        self._outbox_bytes = 0
        self._paused = False
        self._closed: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport
        self._transport.set_write_buffer_limits(high=HIGH_WATER_BYTES)

    def data_received(self, data: bytes) -> None:
        """Pass bytes on."""
        self._receiver.bytes_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass the end on."""
        self.writable = True
        if not self._closed.done():
            self._closed.set_result(None)
        self._receiver.pipe_lost(exc)

    def pause_writing(self) -> None:
        """Stop taking requests."""
        self._paused = True
        self.writable = False

    def resume_writing(self) -> None:
        """Take requests again."""
        self._paused = False
        self.writable = True
        self._receiver.pipe_writable()

    def write(self, data: bytes, at_once: bool) -> None:
        """Take bytes to be sent, in order."""
        if at_once and not self._outbox:
            self._transport.write(data)
            return
        if not self._outbox:
            self._loop.call_soon(self._flush)
        self._outbox.append(data)
        self._outbox_bytes += len(data)
        if self._outbox_bytes > HIGH_WATER_BYTES:
            self.writable = False

    def _flush(self) -> None:
        if not self._outbox:
            return
        data = b"".join(self._outbox)
        self._outbox.clear()
        self._outbox_bytes = 0
        self._transport.write(data)
        if not self.writable and not self._paused:
            self.writable = True
            self._receiver.pipe_writable()

    def close(self) -> None:
        """Send what was taken, as far as that goes without waiting, and close."""
        self._flush()
        if self._paused:
            self._transport.abort()
        else:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._outbox.clear()
        self._transport.abort()

    async def wait_closed(self) -> None:
        """Wait until nothing of it is left: the loop may end right after, and would leave the socket open."""
        await asyncio.shield(self._closed)


class StreamPipe:
    """A pipe on an anyio stream: one task reads, one writes. Neither is ever cancelled by a caller."""

    def __init__(self, receiver: Receiver, stream: AsyncStream, backend: TrioBackend) -> None:
        self.writable = True
        self._receiver = receiver
        self._stream = stream
        self._outbox: list[bytes] = []
        self._outbox_bytes = 0
        self._something = anyio.Event()
        self._closing = False
        self._closed = anyio.Event()
        self._tasks = [backend.spawn(self._read), backend.spawn(self._write)]

    async def _read(self) -> None:
        error: BaseException | None = None
        try:
            while data := await self._stream.receive(None):
                self._receiver.bytes_received(data)
        except ConnectionFailed as broken:
            error = broken
        finally:
            self._end(error)
            await self._stream.close()
            self._closed.set()

    async def _write(self) -> None:
        try:
            while not self._closing or self._outbox:
                if not self._outbox:
                    await self._something.wait()
                    self._something = anyio.Event()
                    continue
                data = b"".join(self._outbox)
                self._outbox.clear()
                self._outbox_bytes = 0
                await self._stream.send(data, monotonic() + (1.0 if self._closing else 1e6))
                if not self.writable and self._outbox_bytes <= HIGH_WATER_BYTES:
                    self.writable = True
                    self._receiver.pipe_writable()
        except (ConnectionFailed, TimeoutError) as error:
            self._end(error)
        finally:
            self._tasks[0].cancel()

    def _end(self, error: BaseException | None) -> None:
        self.writable = True
        self._receiver.pipe_lost(error)
        self._closing = True
        self._outbox.clear()
        self._something.set()

    def write(self, data: bytes, at_once: bool) -> None:
        """Take bytes to be sent, in order."""
        self._outbox.append(data)
        self._outbox_bytes += len(data)
        if self._outbox_bytes > HIGH_WATER_BYTES:
            self.writable = False
        self._something.set()

    def close(self) -> None:
        """Send what was taken, as far as that goes without waiting, and close."""
        self._closing = True
        self._something.set()

    def abort(self) -> None:
        """Close at once."""
        self._closing = True
        self._outbox.clear()
        for task in self._tasks:
            task.cancel()

    async def wait_closed(self) -> None:
        """Wait until nothing of it is left."""
        await self._closed.wait()


async def open_pipe(
    receiver: Receiver,
    backend: AsyncioBackend | TrioBackend,
    endpoint: Endpoint,
    options: Options,
    deadline: float,
) -> Pipe:
    """Connect.

    Raises:
        ConnectionFailed: nobody listens there, TLS failed, or the time was up.
        InvalidURL: a TLS file cannot be used.
    """
    if isinstance(backend, TrioBackend):
        return StreamPipe(receiver, await AsyncStream.open(endpoint, options, deadline), backend)
    context = server_name = None
    if options.tls is not None:
        context = options.tls.make_context()
        server_name = options.tls.server_name or endpoint.host
    loop = backend.loop
    try:
        with anyio.fail_after(max(deadline - monotonic(), 0)):
            _, pipe = await loop.create_connection(
                lambda: AsyncioPipe(receiver, loop),
                endpoint.host,
                endpoint.port,
                ssl=context,
                server_hostname=server_name,
            )
    except TimeoutError as error:
        raise ConnectionFailed(f"{endpoint}: no connection in time") from error
    except OSError as error:
        raise ConnectionFailed(f"{endpoint}: {error or type(error).__name__}") from error
    return pipe
