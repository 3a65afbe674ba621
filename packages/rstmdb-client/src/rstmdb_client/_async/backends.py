"""The seam between the multiplexed connection and the event loop: a clock-bound callback, a one-shot waiter.

A call costs one waiter, so this is the hot path of the client. On asyncio (and uvloop) a waiter is a plain
future and the connection a protocol callback: three times the throughput of a task and an event for each
call, which is why anyio's streams do not carry calls there. On trio it is an event, and background work is a
system task, because a client is not bound to a nursery: it may be opened in one task and closed in another.
"""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from functools import partial
from time import monotonic
from typing import Any, Protocol, TypeVar

__all__ = ["AsyncioBackend", "Backend", "Timer", "TrioBackend", "Waiter", "current_backend"]

T = TypeVar("T")


class Waiter(Protocol):
    """Waits once, for one value."""

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait."""

    def done(self) -> bool:
        """Return True when it has a value or its waiting task went away."""

    def set_result(self, value: Any, /) -> None:
        """Hand the value over."""


class Timer(Protocol):
    """A callback that will be called."""

    def cancel(self) -> Any:
        """Do not call it."""


class Backend(Protocol):
    """What the multiplexed connection needs of an event loop."""

    def is_current(self) -> bool:
        """Say whether the caller runs in this loop."""

    def is_closed(self) -> bool:
        """Say whether the loop will never run again."""

    def waiter(self) -> Waiter:
        """Make a waiter."""

    def call_at(self, when: float, function: Callable[[], None]) -> Timer:
        """Call a function at a time of `monotonic()`."""


class AsyncioBackend:
    """asyncio, also with uvloop."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.waiter: Callable[[], Waiter] = partial(asyncio.Future, loop=self.loop)

    def is_current(self) -> bool:
        """Say whether the caller runs in this loop."""
        try:
            return asyncio.get_running_loop() is self.loop
        except RuntimeError:
            return False

    def is_closed(self) -> bool:
        """Say whether the loop will never run again."""
        return self.loop.is_closed()

    def call_at(self, when: float, function: Callable[[], None]) -> Timer:
        """Call a function at a time of `monotonic()`."""
        return self.loop.call_later(max(when - monotonic(), 0), function)


class _TrioWaiter:
    def __init__(self, event: Any) -> None:
        self._event = event
        self._value: Any = None

    def __await__(self) -> Generator[Any, None, Any]:
        yield from self._event.wait().__await__()
        return self._value

    def done(self) -> bool:
        return bool(self._event.is_set())

    def set_result(self, value: Any, /) -> None:
        self._value = value
        self._event.set()


class TrioBackend:
    """trio, through its system tasks."""

    def __init__(self) -> None:
        import trio

        self._trio = trio
        self._token = trio.lowlevel.current_trio_token()

    def is_current(self) -> bool:
        """Say whether the caller runs in this loop."""
        try:
            return self._trio.lowlevel.current_trio_token() is self._token
        except RuntimeError:
            return False

    def is_closed(self) -> bool:
        """Say whether the loop will never run again."""
        try:
            self._token.run_sync_soon(_nothing)
        except self._trio.RunFinishedError:
            return True
        return False

    def waiter(self) -> Waiter:
        """Make a waiter."""
        return _TrioWaiter(self._trio.Event())

    def spawn(self, function: Callable[..., Awaitable[object]], *args: Any) -> Timer:
        """Run a coroutine function in the background; what it returns can cancel it."""
        scope = self._trio.CancelScope()

        async def run() -> None:
            with scope:
                await function(*args)

        self._trio.lowlevel.spawn_system_task(run)
        return scope

    def call_at(self, when: float, function: Callable[[], None]) -> Timer:
        """Call a function at a time of `monotonic()`."""

        async def later() -> None:
            await self._trio.sleep(max(when - monotonic(), 0))
            function()

        return self.spawn(later)


def _nothing() -> None:
    return None


def current_backend() -> AsyncioBackend | TrioBackend:
    """Return the backend of the loop that runs the caller."""
    try:
        return AsyncioBackend()
    except RuntimeError:
        return TrioBackend()
