"""What stands behind the methods of a client: connecting, sending, trying again.

```
no connection --first call, open()--> connected --lost--> no connection --next call--> connected
      any --close()--> closed
```

Whether a failed attempt is followed by another, and which error tells the caller the truth, is decided in
`retry`; here it is carried out.
"""

# ruff: noqa: ASYNC109 - every call takes its own time limit, in both faces, with one meaning

import ssl
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar

from rstmdb_client._async.channel import AsyncChannel
from rstmdb_client._async.link import AsyncLink
from rstmdb_client._async.primitives import AsyncLock, monotonic, sleep, uninterrupted
from rstmdb_client._async.watch import AsyncWatch
from rstmdb_client.calls import Call
from rstmdb_client.errors import (
    ClientClosed,
    ConnectionFailed,
    ProtocolViolation,
    RstmdbError,
    ServerError,
)
from rstmdb_client.events import ConnectFailed, ConnectionEvent, announce
from rstmdb_client.retry import AttemptFailed, Effect, RetryPolicy, final_error, may_retry
from rstmdb_client.telemetry import CallSpan
from rstmdb_client.url import Endpoint, Options, TlsOptions, resolve_options

__all__ = ["AsyncCaller"]

R = TypeVar("R")


class AsyncCaller:
    """The part of a client that has no operations: its connection and its way of calling."""

    def __init__(
        self,
        url: str | None = None,
        *,
        host: str | None = None,
        port: int | None = None,
        token: str | None = None,
        tls: bool | TlsOptions | ssl.SSLContext | None = None,
        timeout: float | None = None,
        connect_timeout: float | None = None,
        client_name: str | None = None,
        retry: RetryPolicy | None = None,
        on_event: Callable[[ConnectionEvent], None] | None = None,
        tracer: Any = None,
    ) -> None:
        """Describe the connection; nothing is connected yet.

        Args:
            url: `rstmdb://token@host:7401,host2?timeout=30` or `rstmdbs://...`; when neither it nor a host is
                given, the environment variable `RSTMDB_URL`, else `127.0.0.1:7401`.
            host: the host, instead of a URL.
            port: its port, 7401 by default.
            token: the token to authenticate with.
            tls: True, `TlsOptions`, or a ready `ssl.SSLContext`.
            timeout: the time a call has when it says nothing else, in seconds; 30 by default.
            connect_timeout: the time one attempt to connect has, in seconds; 10 by default.
            client_name: how to present itself to the server.
            retry: how often and how patiently calls are tried again.
            on_event: is told when connections are made and lost; see `rstmdb_client.events`.
            tracer: an OpenTelemetry tracer, to record a span for each call.

        Raises:
            InvalidURL: the URL or an option cannot be used.
        """
        self._options: Options = resolve_options(
            url,
            host=host,
            port=port,
            token=token,
            tls=tls,
            timeout=timeout,
            connect_timeout=connect_timeout,
            client_name=client_name,
            retry=retry,
            on_event=on_event,
            tracer=tracer,
        )
        self._timeout: float = self._options.timeout
        self._tracing: bool = self._options.tracer is not None
        self._link: AsyncLink | None = None
        self._connecting: AsyncLock = AsyncLock()
        self._was_connected: bool = False
        self._closed: bool = False
        self._watches: weakref.WeakSet[AsyncWatch[Any]] = weakref.WeakSet()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "connected" if self.is_connected else "not connected"
        return f"<{type(self).__name__} {self._options!r} {state}>"

    @classmethod
    async def connect(
        cls,
        url: str | None = None,
        *,
        host: str | None = None,
        port: int | None = None,
        token: str | None = None,
        tls: bool | TlsOptions | ssl.SSLContext | None = None,
        timeout: float | None = None,
        connect_timeout: float | None = None,
        client_name: str | None = None,
        retry: RetryPolicy | None = None,
        on_event: Callable[[ConnectionEvent], None] | None = None,
        tracer: Any = None,
    ) -> Self:
        """Make a client and connect it at once; the arguments are those of the class.

        Raises:
            ConnectionFailed: no connection could be made.
            AuthenticationFailed: the token was refused.
            ProtocolViolation: something else listens there.
        """
        client = cls(
            url,
            host=host,
            port=port,
            token=token,
            tls=tls,
            timeout=timeout,
            connect_timeout=connect_timeout,
            client_name=client_name,
            retry=retry,
            on_event=on_event,
            tracer=tracer,
        )
        await client.open()
        return client

    async def open(self) -> None:
        """Connect now, unless connected.

        Raises:
            ConnectionFailed: no connection could be made.
            AuthenticationFailed: the token was refused.
            ProtocolViolation: something else listens there.
        """
        try:
            await self._connected(monotonic() + self._timeout)
        except AttemptFailed as failure:
            if isinstance(failure.cause, RstmdbError):
                raise failure.cause from None
            raise ConnectionFailed("no connection in time") from None

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection and every watch. Calls that still wait are failed."""
        self._closed = True
        with uninterrupted():
            for watch in list(self._watches):
                await watch.close()
            self._watches.clear()
            link, self._link = self._link, None
            if link is not None:
                await link.close()

    @property
    def is_connected(self) -> bool:
        """True while there is a connection for calls."""
        return self._link is not None and self._link.lost is None

    @property
    def features(self) -> frozenset[str]:
        """What the server of the newest connection offers; empty before the first."""
        return self._link.session.features if self._link is not None else frozenset()

    # Connecting and calling.

    async def _connected(self, deadline: float) -> AsyncLink:
        if self._closed:
            raise ClientClosed
        async with self._connecting:
            link = self._link
            if link is not None:
                if link.usable:
                    return link
                await link.discard()
                self._link = None
            failures: list[str] = []
            for endpoint in self._options.endpoints:
                if self._closed:
                    raise ClientClosed
                until = min(deadline, monotonic() + self._options.connect_timeout)
                try:
                    link = await AsyncLink.open(
                        endpoint, self._options, until, reconnected=self._was_connected
                    )
                except (ConnectionFailed, ProtocolViolation) as error:
                    self._failed(endpoint, "calls", error)
                    if len(self._options.endpoints) == 1:
                        self._raise_unconnected(error)
                    failures.append(str(error))
                else:
                    self._link = link
                    self._was_connected = True
                    return link
            self._raise_unconnected(ConnectionFailed("; ".join(failures)))
            raise AssertionError("unreachable")

    def _raise_unconnected(self, error: ConnectionFailed | ProtocolViolation) -> None:
        # A database that was never reached is more likely misspelt than restarting: say so at once.
        if not self._was_connected:
            raise error
        raise AttemptFailed(sent=False, cause=error)

    def _failed(self, endpoint: Endpoint, purpose: str, error: RstmdbError) -> None:
        announce(self._options.on_event, ConnectFailed(str(endpoint), purpose, str(error)))

    async def _watch_channel(self, deadline: float, reconnected: bool) -> AsyncChannel:
        if self._closed:
            raise ClientClosed
        failures: list[str] = []
        for endpoint in self._options.endpoints:
            until = min(deadline, monotonic() + self._options.connect_timeout)
            try:
                return await AsyncChannel.open(
                    endpoint, self._options, until, purpose="watch", reconnected=reconnected
                )
            except (ConnectionFailed, ProtocolViolation) as error:
                self._failed(endpoint, "watch", error)
                if len(self._options.endpoints) == 1:
                    raise
                failures.append(str(error))
        raise ConnectionFailed("; ".join(failures))

    async def _traced(self, call: Call[R], timeout: float | None) -> R:
        with CallSpan(self._options.tracer, call, self._options.endpoints[0]) as span:
            return await self._execute(call, timeout, span)

    async def _execute(self, call: Call[R], timeout: float | None, span: CallSpan | None = None) -> R:
        if self._tracing and span is None:
            return await self._traced(call, timeout)
        if timeout is None:
            timeout = self._timeout
        deadline = monotonic() + timeout
        attempt = 0
        unanswered = False
        key_sent: str | None = None
        failure: AttemptFailed | ServerError
        while True:
            attempt += 1
            durable = False
            try:
                link = self._link
                if link is None or not link.usable:
                    link = await self._connected(deadline)
                durable = link.session.durable_keys
                if unanswered and not durable and call.effect is Effect.KEYED:
                    # The database behind the next connection does not know the keys of the last one.
                    break
                if durable or not call.key_is_automatic:
                    key_sent = call.key
                return call.decode(await link.exchange(call, deadline))
            except (AttemptFailed, ServerError) as error:
                failure = error
            if self._closed:
                break
            if isinstance(failure, AttemptFailed):
                unanswered = unanswered or failure.sent
            elif failure.details.get("outcome") == "unknown":
                unanswered = True
            pause = self._options.retry.pause_secs(attempt)
            if (
                attempt >= self._options.retry.attempts_max
                or not may_retry(failure, call.effect, durable_keys=durable)
                or monotonic() + pause >= deadline
            ):
                break
            if span is not None:
                span.attempted(attempt + 1)
            await sleep(pause)
        error_to_raise = final_error(
            failure,
            call.effect,
            operation=call.op,
            key=key_sent,
            timeout=timeout,
            unanswered=unanswered,
        )
        raise error_to_raise from error_to_raise.__cause__
