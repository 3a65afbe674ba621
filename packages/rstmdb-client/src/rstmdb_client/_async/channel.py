"""A connection used by one at a time: send a request, read until its answer. Carries watches, and sync calls.

```
open() -> READY --exchange() in order--> READY
             any time-out while sending, cancellation half-way, nonsense, end of stream --> broken for ever
```

A time-out while *waiting* breaks nothing: the late answer is dropped when it comes. But if not one whole
message came since the request left, the peer is taken for stalled, and the connection is given up.
"""

from collections import deque
from typing import Any, Self

from rstmdb_client import calls
from rstmdb_client._async.greeting import greet
from rstmdb_client._async.primitives import monotonic
from rstmdb_client._async.stream import AsyncStream
from rstmdb_client.calls import Call
from rstmdb_client.errors import ConnectionFailed, ProtocolViolation, ServerError
from rstmdb_client.events import Closed, Connected, Disconnected, announce
from rstmdb_client.retry import AttemptFailed
from rstmdb_client.session import Outcome, Session
from rstmdb_client.url import Endpoint, Options
from rstmdb_protocol.messages import End, Event

__all__ = ["AsyncChannel"]


class AsyncChannel:
    """One connection, used in turns.

    Attributes:
        session: what was agreed with the server.
        purpose: `calls` or `watch`, for events and logs.
        lost: why the connection cannot be used any more, or None.
    """

    def __init__(self, stream: AsyncStream, options: Options, purpose: str) -> None:
        self.session: Session[list[Outcome]] = Session()
        self.purpose = purpose
        self.lost: ConnectionFailed | ProtocolViolation | None = None
        self._stream = stream
        self._options = options
        self._ready = False
        self._events: deque[Event | End] = deque()

    @classmethod
    async def open(
        cls, endpoint: Endpoint, options: Options, deadline: float, *, purpose: str, reconnected: bool
    ) -> Self:
        """Connect, greet and authenticate.

        Raises:
            ConnectionFailed: no connection, or it broke before it was ready.
            ProtocolViolation: something else listens there.
            ServerError: the token was refused.
        """
        stream = await AsyncStream.open(endpoint, options, deadline)
        channel = cls(stream, options, purpose)
        try:
            await greet(channel, options, endpoint, deadline)
        except BaseException:
            await channel._give_up(None)
            raise
        channel._ready = True
        announce(
            options.on_event,
            Connected(
                str(endpoint),
                purpose,
                channel.session.server,
                channel.session.features,
                reconnected=reconnected,
            ),
        )
        return channel

    @property
    def usable(self) -> bool:
        """False once the connection is lost or closed."""
        return self.lost is None

    @property
    def endpoint(self) -> Endpoint:
        """The address it is connected to."""
        return self._stream.endpoint

    async def exchange(self, call: Call[Any], deadline: float) -> Any:
        """Send one request and return the JSON text of its result.

        Raises:
            ServerError: the server refused.
            AttemptFailed: no answer came.
            UsageError: the request cannot be sent to this server.
        """
        if self.lost is not None:
            raise AttemptFailed(sent=False, cause=self.lost)
        if deadline <= monotonic():
            raise AttemptFailed(sent=False, timed_out=True)
        box: list[Outcome] = []
        request_id, data = self.session.request(call, box)
        heard = self.session.messages
        try:
            await self._send(data, deadline)
            while not box:
                await self._read(deadline)
        except TimeoutError as error:
            self.session.abandon(request_id)
            if self.session.messages == heard:
                await self._lose(ConnectionFailed(f"{self.endpoint}: the server did not answer in time"))
            raise AttemptFailed(sent=True, timed_out=True, cause=error) from None
        except (ConnectionFailed, ProtocolViolation) as error:
            await self._lose(error)
            raise AttemptFailed(sent=True, cause=error) from None
        except BaseException:
            # Interrupted: how much was sent or read is not known.
            await self._give_up(None)
            raise
        outcome = box[0]
        if isinstance(outcome, ServerError):
            raise outcome
        return outcome

    async def next_event(self, deadline: float | None) -> Event | End:
        """Wait for the next event of a subscription.

        Raises:
            AttemptFailed: the connection was lost, or the time was up (then nothing is lost).
        """
        while not self._events:
            if self.lost is not None:
                raise AttemptFailed(sent=True, cause=self.lost)
            try:
                await self._read(deadline)
            except TimeoutError:
                raise AttemptFailed(sent=True, timed_out=True) from None
            except (ConnectionFailed, ProtocolViolation) as error:
                if not self._events:
                    await self._lose(error)
                    raise AttemptFailed(sent=True, cause=error) from None
                self.lost = error
        return self._events.popleft()

    async def _send(self, data: bytes, deadline: float) -> None:
        try:
            await self._stream.send(data, deadline)
        except TimeoutError:
            # Part of a request has left: nothing can follow it.
            await self._lose(ConnectionFailed(f"{self.endpoint}: the server stopped reading"))
            raise

    async def _read(self, deadline: float | None) -> None:
        data = await self._stream.receive(deadline)
        if not data:
            raise ConnectionFailed(f"{self.endpoint}: the server closed the connection")
        for box, outcome in self.session.receive(data):
            box.append(outcome)
        if self.session.events:
            self._events.extend(self.session.events)
            self.session.events.clear()
        if self.session.error is not None:
            raise self.session.error

    async def _lose(self, error: ConnectionFailed | ProtocolViolation) -> None:
        announced = self._ready and self.lost is None
        await self._give_up(error)
        if announced:
            announce(self._options.on_event, Disconnected(str(self.endpoint), self.purpose, str(error)))

    async def _give_up(self, error: ConnectionFailed | ProtocolViolation | None) -> None:
        self.lost = self.lost or error or ConnectionFailed(f"{self.endpoint}: the connection was given up")
        self.session.lose()
        await self._stream.close()

    async def discard(self) -> None:
        """Let go of a connection that is not usable any more, without a word to the server."""
        await self._give_up(None)

    async def close(self) -> None:
        """Say goodbye and close."""
        leaving = self.lost is None
        self.lost = self.lost or ConnectionFailed(f"{self.endpoint}: the connection was closed")
        try:
            if leaving:
                _, data = self.session.request(calls.bye(), [])
                await self._stream.send(data, monotonic() + 0.2)
        except (ConnectionFailed, TimeoutError):
            pass
        finally:
            await self._stream.close()
        if leaving:
            announce(self._options.on_event, Closed(str(self.endpoint), self.purpose))
