"""What a handler may return, and an answer on its way out.

A handler returns one of

* ``bytes``: the JSON text of the operation's ``result``;
* :class:`~rstmdb_core.engine.Refusal`: an error with one of the sixteen wire codes;
* :class:`Deferred`: the answer follows when a blocking job is done. Later answers of the session wait
  behind it, since answers leave in the order of their requests.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from rstmdb_core import Refusal
from rstmdb_protocol import ErrorCode, Framing

NEVER = 2**62
"""The hold of an answer that is not known yet: larger than every sequence."""


class Held(msgspec.Struct, gc=False):
    """One answer in a session's queue; it leaves once the log is durable up to ``hold``."""

    hold: int
    frame: bytes
    request_id: str
    framing: Framing
    operation_index: int
    started: float
    arms: str = ""  # id of the subscription whose events may flow once this answer has left


class Deferred:
    """An answer that a job completes later; see :meth:`complete`."""

    __slots__ = ("_deliver", "_outcome")

    def __init__(self) -> None:
        self._deliver: Callable[[bytes | Refusal], None] | None = None
        self._outcome: bytes | Refusal | None = None

    def complete(self, outcome: bytes | Refusal) -> None:
        """Give the outcome; exactly once."""
        assert self._outcome is None, "a deferred answer is completed once"
        self._outcome = outcome
        if self._deliver is not None:
            self._deliver(outcome)

    def subscribe(self, deliver: Callable[[bytes | Refusal], None]) -> None:
        """Call ``deliver`` with the outcome, now or when it is there."""
        self._deliver = deliver
        if self._outcome is not None:
            deliver(self._outcome)


def bad_request(message: str, **details: object) -> Refusal:
    """Build a BAD_REQUEST refusal; keyword arguments become ``details``."""
    return Refusal(code=ErrorCode.BAD_REQUEST.value, message=message, details=details or None)


def unauthorized(message: str, reason: str) -> Refusal:
    """Build an UNAUTHORIZED refusal with ``details.reason``."""
    return Refusal(code=ErrorCode.UNAUTHORIZED.value, message=message, details={"reason": reason})


def disk_full(message: str) -> Refusal:
    """Build the refusal of a write for which there is no room: nothing happened, try again later."""
    return Refusal(
        code=ErrorCode.WAL_IO_ERROR.value,
        message=message,
        details={"reason": "DISK_FULL", "outcome": "not_applied"},
    )


def sync_failed(message: str) -> Refusal:
    """Build the refusal of everything that was in flight when a write or sync failed: outcome unknown."""
    return Refusal(
        code=ErrorCode.WAL_IO_ERROR.value,
        message=message,
        details={"reason": "SYNC_FAILED", "outcome": "unknown"},
    )


def snapshot_failed(reason: str) -> Refusal:
    """Build the refusal of a snapshot that was asked for and not written; nothing else has changed."""
    return Refusal(
        code=ErrorCode.WAL_IO_ERROR.value,
        message=f"the snapshot could not be written: {reason}",
        details={"reason": "SNAPSHOT_FAILED", "outcome": "not_applied"},
    )
