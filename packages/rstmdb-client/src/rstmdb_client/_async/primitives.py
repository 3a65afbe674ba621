"""Waiting, locking and blocking work of the async face. `_sync/primitives.py` has the same names."""

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from time import monotonic
from typing import Any, TypeVar

import anyio
import anyio.to_thread

__all__ = [
    "AsyncCondition",
    "AsyncLock",
    "call",
    "monotonic",
    "run_blocking",
    "sleep",
    "uninterrupted",
    "wait_on",
]

R = TypeVar("R")

AsyncLock = anyio.Lock
AsyncCondition = anyio.Condition
sleep = anyio.sleep


async def run_blocking(function: Callable[..., R], *args: Any) -> R:
    """Run a function that may block, in a worker thread."""
    return await anyio.to_thread.run_sync(function, *args)


async def call(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function of the caller's, which may be a coroutine function here."""
    result = function(*args)
    return await result if inspect.isawaitable(result) else result


def uninterrupted() -> AbstractContextManager[object]:
    """Let what gives something back run to its end, though its caller was cancelled.

    In a scope of anyio or trio that was cancelled every wait raises once more, also that of a clean-up: a
    connection stays open, a place in a pool taken. So nothing inside may wait for long.
    """
    return anyio.CancelScope(shield=True)


async def wait_on(condition: AsyncCondition, seconds: float) -> bool:
    """Wait until the condition, which is held, is notified; False when the time was up."""
    if seconds <= 0:
        return False
    with anyio.move_on_after(seconds) as scope:
        await condition.wait()
    return not scope.cancelled_caught
