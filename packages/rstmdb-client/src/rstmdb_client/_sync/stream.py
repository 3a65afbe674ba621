"""A connected byte stream of the sync face: a plain socket, TCP or TLS, with deadlines."""

import os
import select
import socket
import ssl

from rstmdb_client._sync.primitives import monotonic
from rstmdb_client.errors import ConnectionFailed
from rstmdb_client.url import Endpoint, Options

__all__ = ["Stream"]

RECEIVE_BYTES = 256 * 1024


class Stream:
    """One byte stream to the server."""

    def __init__(self, connected: socket.socket, endpoint: Endpoint) -> None:
        self._socket = connected
        self._process = os.getpid()
        self.endpoint = endpoint

    @classmethod
    def open(cls, endpoint: Endpoint, options: Options, deadline: float) -> "Stream":
        """Connect.

        Raises:
            ConnectionFailed: nobody listens there, TLS failed, or the time was up.
            InvalidURL: a TLS file cannot be used.
        """
        context = None if options.tls is None else options.tls.make_context()
        connected: socket.socket | None = None
        try:
            seconds = max(deadline - monotonic(), 0.001)
            connected = socket.create_connection((endpoint.host, endpoint.port), seconds)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context is not None:
                assert options.tls is not None
                connected.settimeout(max(deadline - monotonic(), 0.001))
                name = options.tls.server_name or endpoint.host
                connected = context.wrap_socket(connected, server_hostname=name)
            return cls(connected, endpoint)
        except TimeoutError as error:
            _close(connected)
            raise ConnectionFailed(f"{endpoint}: no connection in time") from error
        except (OSError, ssl.SSLError) as error:
            _close(connected)
            raise ConnectionFailed(f"{endpoint}: {error or type(error).__name__}") from error
        except BaseException:
            _close(connected)
            raise

    @property
    def foreign(self) -> bool:
        """True in a forked child: the connection belongs to the parent."""
        return os.getpid() != self._process

    def send(self, data: bytes, deadline: float) -> None:
        """Send all of the data.

        Raises:
            ConnectionFailed: the stream is broken.
            TimeoutError: the time was up; part of the data may have left.
        """
        try:
            self._socket.settimeout(_left(deadline))
            self._socket.sendall(data)
        except TimeoutError:
            raise
        except (OSError, ValueError) as error:
            raise ConnectionFailed(f"{self.endpoint}: the connection broke") from error

    def receive(self, deadline: float | None) -> bytes:
        """Return the next bytes; empty when the peer has closed.

        Raises:
            ConnectionFailed: the stream is broken.
            TimeoutError: the time was up; nothing was lost.
        """
        try:
            self._socket.settimeout(None if deadline is None else _left(deadline))
            return self._socket.recv(RECEIVE_BYTES)
        except TimeoutError:
            raise
        except (OSError, ValueError) as error:
            raise ConnectionFailed(f"{self.endpoint}: the connection broke") from error

    def hung_up(self) -> bool:
        """Say, without waiting, whether something waits to be read that nobody asked for."""
        try:
            readable, _, _ = select.select([self._socket], [], [], 0)
        except (OSError, ValueError):
            return True
        return bool(readable)

    def interrupt(self) -> None:
        """Wake a thread that reads or writes; for it the stream is broken."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return

    def close(self) -> None:
        """Close at once; never raises on a broken stream."""
        _close(self._socket)


def _left(deadline: float) -> float:
    seconds = deadline - monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


def _close(connected: socket.socket | None) -> None:
    if connected is not None:
        try:
            connected.close()
        except OSError:
            return
