"""The connection that carries the calls of a sync client: a channel that threads take in turns."""

import threading
from typing import Any

from rstmdb_client._sync.channel import Channel
from rstmdb_client._sync.primitives import monotonic
from rstmdb_client.calls import Call
from rstmdb_client.errors import ConnectionFailed, ProtocolViolation
from rstmdb_client.retry import AttemptFailed
from rstmdb_client.session import Outcome, Session
from rstmdb_client.url import Endpoint, Options

__all__ = ["Link"]

IDLE_SECS = 1.0
"""After this silence the socket is looked at before a request is sent: the server may have hung up."""


class _CallChannel(Channel):
    """A channel that knows about threads and forks."""

    @property
    def foreign(self) -> bool:
        """True in a forked child: the connection belongs to the parent."""
        return self._stream.foreign

    def notice_hang_up(self) -> None:
        """Read what came unasked: late answers, or the news that the server has closed."""
        try:
            while self.lost is None and self._stream.hung_up():
                self._read(monotonic() + 0.01)
        except TimeoutError:
            return
        except (ConnectionFailed, ProtocolViolation) as error:
            self._lose(error)

    def interrupt(self) -> None:
        """Make a call that waits in another thread fail at once."""
        self.lost = self.lost or ConnectionFailed(f"{self.endpoint}: the connection was closed")
        self._stream.interrupt()


class Link:
    """One connection, used by one thread at a time.

    Attributes:
        endpoint: the address it is connected to.
    """

    def __init__(self, channel: _CallChannel) -> None:
        self._channel = channel
        self._turn = threading.Lock()
        self._used_at = monotonic()
        self.endpoint = channel.endpoint

    @classmethod
    def open(cls, endpoint: Endpoint, options: Options, deadline: float, *, reconnected: bool) -> "Link":
        """Connect, greet and authenticate.

        Raises:
            ConnectionFailed: no connection, or it broke before it was ready.
            ProtocolViolation: something else listens there.
            ServerError: the token was refused.
        """
        channel = _CallChannel.open(endpoint, options, deadline, purpose="calls", reconnected=reconnected)
        return cls(channel)

    @property
    def session(self) -> Session[list[Outcome]]:
        """What was agreed with the server."""
        return self._channel.session

    @property
    def lost(self) -> ConnectionFailed | ProtocolViolation | None:
        """Why the connection cannot be used any more, or None."""
        return self._channel.lost

    @property
    def usable(self) -> bool:
        """False once the connection is lost or closed, or in a forked child, whose parent owns it."""
        return self._channel.lost is None and not self._channel.foreign

    def exchange(self, call: Call[Any], deadline: float) -> Any:
        """Send one request and return the JSON text of its result.

        Raises:
            ServerError: the server refused.
            AttemptFailed: no answer came.
            UsageError: the request cannot be sent to this server.
        """
        if not self._turn.acquire(timeout=max(deadline - monotonic(), 0)):
            raise AttemptFailed(sent=False, timed_out=True)
        try:
            if monotonic() - self._used_at > IDLE_SECS:
                self._channel.notice_hang_up()
            return self._channel.exchange(call, deadline)
        finally:
            self._used_at = monotonic()
            self._turn.release()

    def close(self) -> None:
        """Say goodbye and close; a call that waits in another thread is failed."""
        if self._channel.foreign:
            self._channel.discard()
        elif self._turn.acquire(blocking=False):
            try:
                self._channel.close()
            finally:
                self._turn.release()
        else:
            self._channel.interrupt()

    def discard(self) -> None:
        """Let go of a connection that is not usable any more."""
        self._channel.discard()
