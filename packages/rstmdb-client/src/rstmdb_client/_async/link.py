"""The connection that carries the calls of all tasks at once.

Requests go out as they come, answers find their task by number.

```
open() -> GREETING -> READY --exchange() from any task, at any time--> READY
                        nonsense, end of stream, stalled peer --> LOST: every waiting call is told at once
```

A task that is cancelled or runs out of time only forgets its request: what was written stays whole, and the
late answer is dropped. One timer a connection watches all deadlines. When a deadline passes and no whole
message has arrived since that request was sent, the peer is taken for stalled and the connection is given up.
"""

from typing import Any

import anyio

from rstmdb_client import calls
from rstmdb_client._async.backends import AsyncioBackend, Timer, TrioBackend, Waiter, current_backend
from rstmdb_client._async.greeting import greet
from rstmdb_client._async.pipes import Pipe, open_pipe
from rstmdb_client._async.primitives import monotonic
from rstmdb_client.calls import Call
from rstmdb_client.errors import ConnectionFailed, ProtocolViolation
from rstmdb_client.events import Closed, Connected, Disconnected, announce
from rstmdb_client.retry import AttemptFailed
from rstmdb_client.session import Session
from rstmdb_client.url import Endpoint, Options

__all__ = ["AsyncLink"]


CLOSE_SECS = 0.5
"""How long the goodbye may take before the connection is cut."""


_Pending = tuple[Waiter, float, float]
"""A request that waits: who for, until when, and since when."""


class AsyncLink:
    """One multiplexed connection.

    Attributes:
        session: what was agreed with the server.
        lost: why the connection cannot be used any more, or None.
        endpoint: the address it is connected to.
    """

    def __init__(self, backend: AsyncioBackend | TrioBackend, endpoint: Endpoint, options: Options) -> None:
        self.session: Session[_Pending] = Session()
        self.lost: ConnectionFailed | ProtocolViolation | None = None
        self.endpoint = endpoint
        self._options = options
        self._backend = backend
        self._pipe: Pipe | None = None
        self._ready = False
        self._alone = True
        self._heard_at = 0.0
        self._timer: Timer | None = None
        self._timer_at = float("inf")
        self._room: dict[Waiter, None] = {}

    @classmethod
    async def open(
        cls, endpoint: Endpoint, options: Options, deadline: float, *, reconnected: bool
    ) -> "AsyncLink":
        """Connect, greet and authenticate.

        Raises:
            ConnectionFailed: no connection, or it broke before it was ready.
            ProtocolViolation: something else listens there.
            ServerError: the token was refused.
        """
        backend = current_backend()
        link = cls(backend, endpoint, options)
        link._pipe = await open_pipe(link, backend, endpoint, options, deadline)
        try:
            await greet(link, options, endpoint, deadline)
        except BaseException:
            await link.discard()
            raise
        link._ready = True
        session = link.session
        announce(
            options.on_event,
            Connected(str(endpoint), "calls", session.server, session.features, reconnected=reconnected),
        )
        return link

    @property
    def usable(self) -> bool:
        """False once the connection is lost or closed, or belongs to a loop that has ended."""
        return self.lost is None and (self._backend.is_current() or not self._abandoned())

    def _abandoned(self) -> bool:
        if self._backend.is_closed():
            self.lost = ConnectionFailed(f"{self.endpoint}: its event loop was closed")
            return True
        raise RuntimeError("this client is in use in another event loop; make one for each")

    async def exchange(self, call: Call[Any], deadline: float) -> Any:
        """Send one request and return the JSON text of its result.

        Raises:
            ServerError: the server refused.
            AttemptFailed: no answer came.
            UsageError: the request cannot be sent to this server.
        """
        pipe = self._pipe
        assert pipe is not None
        if not pipe.writable:
            await self._wait_for_room(pipe, deadline)
        if self.lost is not None:
            raise AttemptFailed(sent=False, cause=self.lost)
        now = monotonic()
        if deadline <= now:
            raise AttemptFailed(sent=False, timed_out=True)
        waiter = self._backend.waiter()
        session = self.session
        request_id, data = session.request(call, (waiter, deadline, now))
        if deadline < self._timer_at:
            self._set_timer(deadline)
        pipe.write(data, self._alone and session.pending == 1)
        try:
            outcome = await waiter
        except BaseException:
            session.abandon(request_id)
            raise
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def _wait_for_room(self, pipe: Pipe, deadline: float) -> None:
        with anyio.move_on_after(max(deadline - monotonic(), 0)) as scope:
            while not pipe.writable and self.lost is None:
                waiter = self._backend.waiter()
                self._room[waiter] = None
                try:
                    await waiter
                finally:
                    self._room.pop(waiter, None)
        if scope.cancelled_caught:
            raise AttemptFailed(sent=False, timed_out=True)

    def pipe_writable(self) -> None:
        """Let those go on who waited for room."""
        waiting, self._room = self._room, {}
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    def bytes_received(self, data: bytes) -> None:
        """Hand out the answers that arrived."""
        before = self.session.messages
        answers = self.session.receive(data)
        if self.session.messages != before:
            self._heard_at = monotonic()
        # With more than one answer at a time there are several callers: let their requests gather.
        self._alone = len(answers) < 2
        for (waiter, _, _), outcome in answers:
            if not waiter.done():
                waiter.set_result(outcome)
        if self.session.events:
            self.session.events.clear()  # events of a subscription that no watch of ours holds
        if self.session.error is not None:
            self._lose(self.session.error)

    def pipe_lost(self, error: BaseException | None) -> None:
        """Tell everybody that nothing more will arrive."""
        why = str(error) if error is not None and str(error) else "the server closed the connection"
        self._lose(
            error if isinstance(error, ConnectionFailed) else ConnectionFailed(f"{self.endpoint}: {why}")
        )

    def _lose(self, error: ConnectionFailed | ProtocolViolation) -> None:
        if self.lost is not None:
            return
        self.lost = error
        if self._ready:
            announce(self._options.on_event, Disconnected(str(self.endpoint), "calls", str(error)))
        self.abort()

    def abort(self) -> None:
        """Close at once and fail every waiting call."""
        self._release()
        if self._pipe is not None:
            self._pipe.abort()

    async def close(self) -> None:
        """Say goodbye and close; calls that still wait are failed."""
        pipe = self._pipe
        if self.lost is not None or pipe is None:
            return
        if not self._backend.is_current():
            # Its loop has ended, and the socket with it; or another loop uses it, which is not ours to stop.
            self.lost = ConnectionFailed(f"{self.endpoint}: the connection was closed")
            return
        if pipe.writable:
            _, data = self.session.request(calls.bye(), (self._backend.waiter(), 0.0, 0.0))
            pipe.write(data, False)
        self._release()
        pipe.close()
        announce(self._options.on_event, Closed(str(self.endpoint), "calls"))
        await self._wait_closed(pipe, CLOSE_SECS)

    async def discard(self) -> None:
        """Let go of a connection that is not usable any more."""
        if self._pipe is not None and self._backend.is_current():
            self.abort()
            await self._wait_closed(self._pipe, CLOSE_SECS)

    async def _wait_closed(self, pipe: Pipe, seconds: float) -> None:
        with anyio.move_on_after(seconds, shield=True) as patience:
            await pipe.wait_closed()
        if patience.cancelled_caught:
            pipe.abort()
            with anyio.move_on_after(seconds, shield=True):
                await pipe.wait_closed()

    def _release(self) -> None:
        self.lost = self.lost or ConnectionFailed(f"{self.endpoint}: the connection was closed")
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for waiter, _, _ in self.session.lose():
            if not waiter.done():
                waiter.set_result(AttemptFailed(sent=True, cause=self.lost))
        self.pipe_writable()

    def _set_timer(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = when
        self._timer = self._backend.call_at(when, self._expire)

    def _expire(self) -> None:
        """Fail the calls whose time is up; set the timer for the next."""
        self._timer = None
        self._timer_at = float("inf")
        now = monotonic() + 0.001  # a timer may come a little early
        stalled = False
        next_deadline = float("inf")
        for request_id, (waiter, deadline, sent_at) in self.session.waiting():
            if deadline > now:
                next_deadline = min(next_deadline, deadline)
                continue
            self.session.abandon(request_id)
            stalled = stalled or self._heard_at < sent_at
            if not waiter.done():
                waiter.set_result(AttemptFailed(sent=True, timed_out=True))
        if stalled:
            self._lose(ConnectionFailed(f"{self.endpoint}: the server did not answer in time"))
        elif next_deadline < float("inf"):
            self._set_timer(next_deadline)
