"""A watch: its own connection, read as fast as its events are asked for, resumed when it breaks.

A watch does not share the connection of the calls. What its consumer does not read stays in the socket and
slows the server's sending down, which keeps a cursor on its log for it: memory stays bounded on both sides,
nothing is dropped, and no call ever waits behind events. Closing the watch unsubscribes.

```
NEW --first event asked for, or entered--> SUBSCRIBED --lost--> RESUMING --subscribed--> SUBSCRIBED
any --close()--> CLOSED         RESUMING --history gone, cannot resume, out of attempts--> FAILED (raises)
```
"""

# ruff: noqa: ASYNC109 - every call takes its own time limit, in both faces, with one meaning

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

from rstmdb_client._async.channel import AsyncChannel
from rstmdb_client._async.primitives import monotonic, run_blocking, sleep, uninterrupted
from rstmdb_client.errors import (
    ClientClosed,
    ConnectionFailed,
    HistoryCompacted,
    ProtocolViolation,
    RequestTimeout,
    ServerError,
    WatchInterrupted,
)
from rstmdb_client.events import log
from rstmdb_client.positions import PositionStore
from rstmdb_client.results import WatchEvent, WatchHeader
from rstmdb_client.retry import AttemptFailed, RetryPolicy
from rstmdb_client.watching import WatchPlan, WatchProgress
from rstmdb_protocol.messages import Event

__all__ = ["AsyncWatch"]

C = TypeVar("C")


class AsyncWatch(Generic[C]):
    """An iterator over changes.

    Use it as a context manager, so that it is closed at once when the block is left; then iterate.
    """

    def __init__(
        self,
        connect: Callable[[float, bool], Awaitable[AsyncChannel]],
        plan: WatchPlan,
        *,
        ctx_type: type[C],
        retry: RetryPolicy,
        timeout: float,
        store: PositionStore | None,
        opened: Callable[["AsyncWatch[C]"], object],
        closed: Callable[["AsyncWatch[C]"], object],
    ) -> None:
        self._connect = connect
        self._plan = plan
        self._ctx_type = ctx_type
        self._retry = retry
        self._timeout = timeout
        self._store = store
        self._opened = opened
        self._forget = closed
        self._progress: WatchProgress[C] | None = None
        self._channel: AsyncChannel | None = None
        self._handed: int | None = None
        self._closed = False

    @property
    def header(self) -> WatchHeader:
        """The server's answer to the newest subscription.

        Raises:
            WatchInterrupted: the watch has not begun; enter it first.
        """
        if self._progress is None or self._progress.header is None:
            raise WatchInterrupted("it has not begun", None)
        return self._progress.header

    @property
    def subscription_id(self) -> str:
        """The name of the newest subscription; another one after each reconnect."""
        return self.header.subscription_id

    @property
    def position(self) -> int | None:
        """The offset of the last event that was handed out, or where the watch began."""
        return self._progress.position if self._progress is not None else None

    async def start(self) -> None:
        """Subscribe now; otherwise the first event asked for does it.

        Raises:
            InstanceNotFound: there is no such instance.
            HistoryCompacted: the history from the asked offset on is gone.
            UnsupportedByServer: the server cannot start a watch at an offset.
            ConnectionFailed: no connection could be made.
        """
        if self._closed:
            raise ClientClosed
        self._opened(self)
        if self._progress is None:
            position = None if self._store is None else await run_blocking(self._store.load)
            self._progress = WatchProgress(self._plan, ctx_type=self._ctx_type, position=position)
        if self._channel is None:
            await self._subscribe(self._progress, resuming=self._progress.header is not None)

    async def _subscribe(self, progress: WatchProgress[C], *, resuming: bool) -> None:
        attempt = 0
        while True:
            attempt += 1
            try:
                await self._subscribe_once(progress, resuming=resuming)
            except HistoryCompacted as error:
                if not progress.refused(error):
                    await self._let_go()
                    raise
                continue
            except AttemptFailed as failure:
                cause = failure.cause or RequestTimeout(self._plan.op, self._timeout)
            except (ConnectionFailed, ProtocolViolation) as error:
                cause = error
                if not resuming and attempt == 1:
                    raise
            except ServerError as error:
                if not error.retryable:
                    raise
                cause = error
            else:
                return
            if attempt >= self._retry.attempts_max:
                if isinstance(cause, (ConnectionFailed, ProtocolViolation, ServerError)):
                    raise cause
                raise WatchInterrupted(str(cause), progress.position) from cause
            await sleep(self._retry.pause_secs(attempt))

    async def _subscribe_once(self, progress: WatchProgress[C], *, resuming: bool) -> None:
        channel = self._channel
        if channel is None or not channel.usable:
            self._channel = None
            channel = await self._connect(monotonic() + self._timeout, resuming)
        try:
            call = progress.subscription(channel.session.features)
            progress.subscribed(call.decode(await channel.exchange(call, monotonic() + self._timeout)))
        except HistoryCompacted:
            self._channel = channel
            raise
        except BaseException:
            await channel.discard()
            raise
        if self._closed:
            await channel.discard()
            raise ClientClosed
        self._channel = channel

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> WatchEvent[C]:
        event = await self.next(None)
        if event is None:
            raise StopAsyncIteration
        return event

    async def next(self, timeout: float | None = None) -> WatchEvent[C] | None:
        """Return the next event; None when the watch was closed meanwhile.

        Args:
            timeout: how long to wait, in seconds; for ever when None.

        Raises:
            RequestTimeout: no event came in time. Nothing is lost; ask again.
            HistoryCompacted: the connection was lost, and the history since is gone.
            WatchInterrupted: the watch cannot be resumed without a gap.
            ConnectionFailed: the connection was lost and could not be made again.
        """
        if self._closed:
            return None
        await self._keep_position()
        deadline = None if timeout is None else monotonic() + timeout
        if self._progress is None or self._channel is None:
            await self.start()
        progress = self._progress
        assert progress is not None
        while True:
            channel = self._channel
            if channel is None:
                await self._subscribe(progress, resuming=True)
                continue
            try:
                message = await channel.next_event(deadline)
            except AttemptFailed as failure:
                if self._closed:
                    return None
                if failure.timed_out:
                    raise RequestTimeout(self._plan.op, timeout) from None
                log.info("watch lost at %s: %s", progress.position, failure.cause)
                self._channel = None
                continue
            if not isinstance(message, Event):
                if progress.header is not None and message.subscription_id == progress.header.subscription_id:
                    # Ended by the server or by an UNWATCH from elsewhere: that is the end, not a fault.
                    await self.close()
                    return None
                continue
            event = progress.accept(message)
            if event is not None:
                progress.position = self._handed = event.wal_offset
                return event

    async def _keep_position(self) -> None:
        if self._store is not None and self._handed is not None:
            handed, self._handed = self._handed, None
            await run_blocking(self._store.save, handed)

    async def close(self) -> None:
        """Unsubscribe and let the connection go."""
        if self._closed:
            return
        self._closed = True
        self._forget(self)
        await self._let_go()

    async def _let_go(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            with uninterrupted():
                await channel.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                await self._keep_position()
        finally:
            await self.close()
