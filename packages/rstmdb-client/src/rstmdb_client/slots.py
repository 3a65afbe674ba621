"""The places of a batch's operations, and how its answer fills them. The same for both faces."""

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import msgspec

from rstmdb_client.calls import Call
from rstmdb_client.errors import ProtocolViolation, RstmdbError, UsageError, server_error
from rstmdb_client.results import Json

__all__ = ["BatchSlot", "read_results"]

R = TypeVar("R")


class BatchSlot(Generic[R]):
    """The place of one operation in a batch.

    Attributes:
        index: its number in the batch, from 0.
        operation: its name on the wire.
    """

    def __init__(self, index: int, call: Call[R]) -> None:
        self.index: int = index
        self.operation: str = call.op
        self._call = call
        self._outcome: R | RstmdbError | None = None

    def fill(self, item: Json) -> None:
        """Take over what the server said about this operation."""
        error = item.get("error")
        if item.get("status") == "ok":
            self._outcome = self._call.decode(msgspec.json.encode(item.get("result")))
        elif isinstance(error, dict):
            details = error.get("details")
            self._outcome = server_error(
                str(error.get("code", "")),
                str(error.get("message", "")),
                retryable=error.get("retryable") is True,
                details=details if isinstance(details, dict) else None,
            )
        else:
            raise ProtocolViolation(f"result {self.index} of BATCH is neither an answer nor an error")

    @property
    def error(self) -> RstmdbError | None:
        """The error of this operation, or None."""
        return self._outcome if isinstance(self._outcome, RstmdbError) else None

    def result(self) -> R:
        """Return the operation's result.

        Raises:
            ServerError: the operation was refused.
            UsageError: the batch has not been sent.
        """
        if self._outcome is None:
            raise UsageError("the batch has not been answered")
        if isinstance(self._outcome, RstmdbError):
            raise self._outcome
        return self._outcome


def read_results(slots: Sequence[BatchSlot[Any]], items: list[Json]) -> None:
    """Hand the results of a batch to its slots.

    Raises:
        ProtocolViolation: they do not fit the batch.
    """
    if len(items) != len(slots):
        raise ProtocolViolation(f"BATCH of {len(slots)} operations was answered with {len(items)} results")
    for slot, item in zip(slots, items, strict=True):
        slot.fill(item)
