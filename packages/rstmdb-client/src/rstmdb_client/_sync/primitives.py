"""Waiting, locking and blocking work of the sync face. `_async/primitives.py` has the same names."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from time import monotonic, sleep
from typing import Any, TypeVar

__all__ = ["Condition", "Lock", "call", "monotonic", "run_blocking", "sleep", "uninterrupted", "wait_on"]

R = TypeVar("R")

Lock = threading.Lock
Condition = threading.Condition


def run_blocking(function: Callable[..., R], *args: Any) -> R:
    """Run a function that may block: here, simply."""
    return function(*args)


def call(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function of the caller's."""
    return function(*args)


def uninterrupted() -> AbstractContextManager[object]:
    """Let what gives something back run to its end: here, nobody cancels it."""
    return nullcontext()


def wait_on(condition: threading.Condition, seconds: float) -> bool:
    """Wait until the condition, which is held, is notified; False when the time was up."""
    return seconds > 0 and condition.wait(seconds)
