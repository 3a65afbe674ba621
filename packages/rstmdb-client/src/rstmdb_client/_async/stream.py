"""A connected byte stream of the async face, on anyio: TCP or TLS, with deadlines.

Reading is pulled: what nobody asks for stays in the kernel, and from there the peer is slowed down. That is
the back-pressure of a watch.
"""

import ssl

import anyio
from anyio.abc import ByteStream

from rstmdb_client._async.primitives import monotonic
from rstmdb_client.errors import ConnectionFailed
from rstmdb_client.url import Endpoint, Options

__all__ = ["AsyncStream"]

RECEIVE_BYTES = 256 * 1024


class AsyncStream:
    """One byte stream to the server."""

    def __init__(self, stream: ByteStream, endpoint: Endpoint) -> None:
        self._stream = stream
        self.endpoint = endpoint

    @classmethod
    async def open(cls, endpoint: Endpoint, options: Options, deadline: float) -> "AsyncStream":
        """Connect.

        Raises:
            ConnectionFailed: nobody listens there, TLS failed, or the time was up.
            InvalidURL: a TLS file cannot be used.
        """
        context = server_name = None
        if options.tls is not None:
            context = options.tls.make_context()
            server_name = options.tls.server_name or endpoint.host
        try:
            with anyio.fail_after(max(deadline - monotonic(), 0)):
                if context is None:
                    return cls(await anyio.connect_tcp(endpoint.host, endpoint.port), endpoint)
                stream = await anyio.connect_tcp(
                    endpoint.host,
                    endpoint.port,
                    ssl_context=context,
                    tls_hostname=server_name,
                    tls_standard_compatible=False,
                )
                return cls(stream, endpoint)
        except TimeoutError as error:
            raise ConnectionFailed(f"{endpoint}: no connection in time") from error
        except (OSError, ssl.SSLError, anyio.BrokenResourceError, anyio.EndOfStream) as error:
            raise ConnectionFailed(f"{endpoint}: {error or type(error).__name__}") from error

    async def send(self, data: bytes, deadline: float) -> None:
        """Send all of the data.

        Raises:
            ConnectionFailed: the stream is broken.
            TimeoutError: the time was up; part of the data may have left.
        """
        try:
            with anyio.fail_after(max(deadline - monotonic(), 0)):
                await self._stream.send(data)
        except TimeoutError:
            raise
        except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise ConnectionFailed(f"{self.endpoint}: the connection broke") from error

    async def receive(self, deadline: float | None) -> bytes:
        """Return the next bytes; empty when the peer has closed.

        Raises:
            ConnectionFailed: the stream is broken.
            TimeoutError: the time was up; nothing was lost.
        """
        try:
            if deadline is None:
                return await self._stream.receive(RECEIVE_BYTES)
            with anyio.fail_after(max(deadline - monotonic(), 0)):
                return await self._stream.receive(RECEIVE_BYTES)
        except anyio.EndOfStream:
            return b""
        except TimeoutError:
            raise
        except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise ConnectionFailed(f"{self.endpoint}: the connection broke") from error

    async def close(self) -> None:
        """Close at once; never raises on a broken stream."""
        with anyio.CancelScope(shield=True):
            try:
                await anyio.aclose_forcefully(self._stream)
            except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
                return
