"""A pool of clients: each with a connection of its own, lent to one borrower at a time.

A single `AsyncClient` carries the calls of many tasks already. A pool is for threads that must not wait for
each other's answers, and for more throughput than one connection gives.

```
(none) --open, or nothing idle and size < max--> IDLE --client()--> LENT --block left--> IDLE
IDLE --too long idle, too old, failed its check--> closed        LENT --broken, too old, draining--> closed
```

The newest idle client is lent first, so that the others may grow old and be closed, down to the minimum.
Whoever is cancelled gives back what was lent to it all the same: its place belongs to the next one.
"""

# ruff: noqa: ASYNC109 - every call takes its own time limit, in both faces, with one meaning

import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

import msgspec

from rstmdb_client._async.client import AsyncClient
from rstmdb_client._async.primitives import AsyncCondition, monotonic, uninterrupted, wait_on
from rstmdb_client.errors import PoolClosed, PoolTimeout, RstmdbError
from rstmdb_client.events import ConnectionEvent, log
from rstmdb_client.pooling import PoolStats
from rstmdb_client.retry import RetryPolicy
from rstmdb_client.url import TlsOptions

__all__ = ["AsyncPool"]


class _Member(msgspec.Struct):
    """A client of the pool: when it was made, and since when it is idle."""

    client: AsyncClient
    born_at: float
    idle_since: float


class AsyncPool:
    """A pool of clients of one database."""

    def __init__(
        self,
        url: str | None = None,
        *,
        min_size: int = 1,
        max_size: int = 10,
        acquire_timeout: float = 30.0,
        idle_secs_max: float = 600.0,
        lifetime_secs_max: float = 3600.0,
        check_after_secs: float = 30.0,
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
        """Describe the pool; nothing is connected yet.

        Args:
            url: see `AsyncClient`, as for the other arguments that are not named here.
            min_size: how many clients to connect at once and to keep.
            max_size: how many clients there may be.
            acquire_timeout: how long to wait for a free client, in seconds.
            idle_secs_max: a client idle for longer is closed, down to the minimum.
            lifetime_secs_max: a client older than this is replaced.
            check_after_secs: a client idle for longer answers a PING before it is lent.
            host: see `AsyncClient`.
            port: see `AsyncClient`.
            token: see `AsyncClient`.
            tls: see `AsyncClient`.
            timeout: see `AsyncClient`.
            connect_timeout: see `AsyncClient`.
            client_name: see `AsyncClient`.
            retry: see `AsyncClient`.
            on_event: see `AsyncClient`.
            tracer: see `AsyncClient`.

        Raises:
            ValueError: the sizes make no sense.
            InvalidURL: the URL or an option cannot be used.
        """
        if not 0 <= min_size <= max_size or max_size < 1:
            raise ValueError("a pool needs 0 <= min_size <= max_size and room for one client")

        def make() -> AsyncClient:
            return AsyncClient(
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

        self._make = make
        make()  # so that a wrong option is refused here
        self._min_size = min_size
        self._max_size = max_size
        self._acquire_timeout = acquire_timeout
        self._idle_secs_max = idle_secs_max
        self._lifetime_secs_max = lifetime_secs_max
        self._check_after_secs = check_after_secs
        self._changed = AsyncCondition()
        self._idle: deque[_Member] = deque()
        self._size = 0
        self._waiting = 0
        self._closed = False
        self._acquired_total = 0
        self._waited_total = 0
        self._wait_secs_total = 0.0
        self._timeouts_total = 0
        self._created_total = 0
        self._closed_total = 0
        self._checks_failed_total = 0

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Connect the minimum of clients.

        Raises:
            ConnectionFailed: no connection could be made.
        """
        for _ in range(self._min_size - self._size):
            async with self._changed:
                self._size += 1
            member = await self._create()
            await self._give_back(member)

    @asynccontextmanager
    async def client(self, *, timeout: float | None = None) -> AsyncIterator[AsyncClient]:
        """Borrow a client for the length of a block.

        Args:
            timeout: how long to wait for a free one, in seconds.

        Raises:
            PoolTimeout: none became free in time.
            PoolClosed: the pool was closed or is being drained.
            ConnectionFailed: a new connection could not be made.
        """
        member = await self._take(self._acquire_timeout if timeout is None else timeout)
        try:
            yield member.client
        finally:
            await self._give_back(member)

    async def _take(self, timeout: float) -> _Member:
        while True:
            member = await self._reserve(timeout)
            if member is None:
                return await self._create()
            now = monotonic()
            if now - member.born_at > self._lifetime_secs_max:
                await self._retire(member)
                continue
            if now - member.idle_since > self._check_after_secs and not await self._healthy(member):
                await self._retire(member)
                continue
            return member

    async def _reserve(self, timeout: float) -> _Member | None:
        """Return an idle member, or None when there is room for a new one, which is then counted."""
        started = monotonic()
        async with self._changed:
            waited = False
            while True:
                if self._closed:
                    raise PoolClosed
                if self._idle or self._size < self._max_size:
                    break
                waited = True
                self._waiting += 1
                try:
                    in_time = await wait_on(self._changed, started + timeout - monotonic())
                except BaseException:
                    # The notification may have been meant for this one: pass it on.
                    self._changed.notify()
                    raise
                finally:
                    self._waiting -= 1
                if not in_time and not self._idle and self._size >= self._max_size:
                    self._timeouts_total += 1
                    raise PoolTimeout(timeout)
            self._acquired_total += 1
            if waited:
                self._waited_total += 1
                self._wait_secs_total += monotonic() - started
            if self._idle:
                return self._idle.pop()
            self._size += 1
            return None

    async def _create(self) -> _Member:
        client = self._make()
        try:
            await client.open()
        except BaseException:
            await self._uncount()
            raise
        self._created_total += 1
        now = monotonic()
        return _Member(client, now, now)

    async def _healthy(self, member: _Member) -> bool:
        try:
            await member.client.ping(timeout=5.0)
        except RstmdbError as error:
            log.info("a pooled client failed its check: %s", error)
            self._checks_failed_total += 1
            return False
        except BaseException:
            await self._retire(member)
            raise
        return True

    async def _give_back(self, member: _Member) -> None:
        now = monotonic()
        worn = (
            self._closed or not member.client.is_connected or now - member.born_at > self._lifetime_secs_max
        )
        if worn:
            await self._retire(member)
            return
        member.idle_since = now
        old: _Member | None = None
        with uninterrupted():
            async with self._changed:
                self._idle.append(member)
                if self._size > self._min_size and now - self._idle[0].idle_since > self._idle_secs_max:
                    old = self._idle.popleft()
                self._changed.notify()
        if old is not None:
            await self._retire(old)

    async def _retire(self, member: _Member) -> None:
        await self._uncount()
        self._closed_total += 1
        await member.client.close()

    async def _uncount(self) -> None:
        with uninterrupted():
            async with self._changed:
                self._size -= 1
                self._changed.notify_all()

    def stats(self) -> PoolStats:
        """Return what the pool did and holds."""
        return PoolStats(
            min_size=self._min_size,
            max_size=self._max_size,
            size=self._size,
            idle=len(self._idle),
            lent=self._size - len(self._idle),
            waiting=self._waiting,
            acquired_total=self._acquired_total,
            waited_total=self._waited_total,
            wait_secs_total=self._wait_secs_total,
            timeouts_total=self._timeouts_total,
            created_total=self._created_total,
            closed_total=self._closed_total,
            checks_failed_total=self._checks_failed_total,
        )

    async def drain(self, *, timeout: float = 30.0) -> bool:
        """Lend no more, wait until all are back, and close; False when some are still out.

        Those close when they come back.

        Args:
            timeout: how long to wait, in seconds.
        """
        deadline = monotonic() + timeout
        await self.close()
        async with self._changed:
            while self._size > 0:
                if not await wait_on(self._changed, deadline - monotonic()):
                    return self._size == 0
        return True

    async def close(self) -> None:
        """Lend no more and close what is idle; what is lent closes when it comes back."""
        with uninterrupted():
            async with self._changed:
                self._closed = True
                idle = list(self._idle)
                self._idle.clear()
                self._changed.notify_all()
            for member in idle:
                await self._retire(member)
