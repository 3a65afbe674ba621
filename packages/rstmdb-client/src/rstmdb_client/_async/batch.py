"""Building a batch: writes that travel in one request.

```
async with client.batch(atomic=True) as batch:
    order = batch.create_instance("order", 1, instance_id="o-1")
    paid = batch.apply_event("o-1", "PAY")
paid.result().to_state
```

Leaving the block sends the batch; leaving it by an exception sends nothing. Atomic: all or nothing, and a
failure raises `BatchFailed`. Otherwise every operation stands for itself, and its slot raises what it met.
"""

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeVar

from rstmdb_client import calls
from rstmdb_client.calls import Call
from rstmdb_client.errors import InvalidDocument
from rstmdb_client.keys import AUTO, Auto
from rstmdb_client.results import Applied, Created, Deleted, Json
from rstmdb_client.slots import BatchSlot, read_results
from rstmdb_protocol.limits import BATCH_OPERATIONS_MAX

__all__ = ["AsyncBatch"]

R = TypeVar("R")
C = TypeVar("C")

_Execute = Callable[[Call[Any], "float | None"], Awaitable[Any]]


class AsyncBatch:
    """A batch that is being built.

    Attributes:
        slots: one for each operation, in order.
    """

    def __init__(
        self,
        execute: _Execute,
        *,
        atomic: bool,
        idempotency_key: str | Auto | None = AUTO,
        timeout: float | None = None,
    ) -> None:
        self.slots: list[BatchSlot[Any]] = []
        self._execute = execute
        self._calls: list[Call[Any]] = []
        self._atomic = atomic
        self._key = idempotency_key
        self._timeout = timeout

    def __len__(self) -> int:
        return len(self.slots)

    def add(self, call: Call[R]) -> BatchSlot[R]:
        """Append an encoded operation and return its slot.

        Raises:
            InvalidDocument: the batch is full, or the operation cannot stand in one.
        """
        if call.op not in calls.BATCHABLE:
            raise InvalidDocument("batch", f"{call.op} cannot stand in a batch")
        if len(self.slots) == BATCH_OPERATIONS_MAX:
            raise InvalidDocument("batch", f"a batch holds at most {BATCH_OPERATIONS_MAX} operations")
        slot = BatchSlot(len(self.slots), call)
        self.slots.append(slot)
        self._calls.append(call)
        return slot

    def create_instance(
        self,
        machine: str,
        version: int,
        *,
        instance_id: str | None = None,
        ctx: Any = None,
        idempotency_key: str | None = None,
    ) -> BatchSlot[Created]:
        """Add the creation of an instance; see `AsyncClient.create_instance`."""
        return self.add(
            calls.create_instance(
                machine, version, instance_id=instance_id, ctx=ctx, idempotency_key=idempotency_key
            )
        )

    def apply_event(
        self,
        instance_id: str,
        event: str,
        *,
        payload: Any = None,
        expected_state: str | None = None,
        expected_wal_offset: int | None = None,
        event_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> BatchSlot[Applied[Json]]:
        """Add an event; see `AsyncClient.apply_event`."""
        return self.add(
            calls.apply_event(
                instance_id,
                event,
                payload=payload,
                expected_state=expected_state,
                expected_wal_offset=expected_wal_offset,
                event_id=event_id,
                idempotency_key=idempotency_key,
                ctx_type=dict,
            )
        )

    def delete_instance(self, instance_id: str, *, idempotency_key: str | None = None) -> BatchSlot[Deleted]:
        """Add a deletion; see `AsyncClient.delete_instance`."""
        return self.add(calls.delete_instance(instance_id, idempotency_key=idempotency_key))

    async def send(self) -> list[BatchSlot[Any]]:
        """Send the batch and return its slots; leaving the block does it too.

        Raises:
            BatchFailed: an atomic batch failed, and nothing of it happened.
            OutcomeUnknownError: it was sent and not answered.
        """
        if self._calls:
            pending, self._calls = self._calls, []
            call = calls.batch(pending, atomic=self._atomic, idempotency_key=self._key)
            read_results(self.slots, await self._execute(call, self._timeout))
        return self.slots

    def raise_for_errors(self) -> None:
        """Raise the first error of an operation, if there is one."""
        for slot in self.slots:
            if slot.error is not None:
                raise slot.error

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            await self.send()
