"""The client: every operation as a method, one connection for all calls, made when it is first needed.

The methods only name things: `calls` encodes and decodes, `caller` connects, sends, and tries again.
"""

# ruff: noqa: ASYNC109 - every call takes its own time limit, in both faces, with one meaning

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, TypeVar, overload

from rstmdb_client import calls, results, watching
from rstmdb_client._async.batch import AsyncBatch
from rstmdb_client._async.caller import AsyncCaller
from rstmdb_client._async.primitives import monotonic
from rstmdb_client._async.watch import AsyncWatch
from rstmdb_client.calls import Call
from rstmdb_client.keys import AUTO, Auto
from rstmdb_client.positions import PositionStore
from rstmdb_client.results import Applied, Instance, Json
from rstmdb_client.slots import BatchSlot

__all__ = ["AsyncClient"]

C = TypeVar("C")


class AsyncClient(AsyncCaller):
    """A client of one database.

    It connects when it is first used, or when it is entered, and again by itself when the connection was
    lost. Any number of tasks may share it: their calls travel on one connection at the same time.

    Every method takes `timeout`, in seconds, for the whole call with all its attempts; the client's own
    holds where it is not given. All of them raise, besides what they name:

    - `ConnectionFailed`, `RequestTimeout`: the call changed nothing;
    - `OutcomeUnknownError` (writes only): it was sent, and nobody can know;
    - `InvalidDocument`, `RequestTooLarge`, `UnsupportedByServer`: nothing was sent;
    - `Unauthorized`, `StorageFailed`, `InternalServerError` and other `ServerError`: the server refused.

    A write carries an idempotency key: by default one the client makes up, which is why it may safely be sent
    again when an answer is lost. `None` sends none; then nothing is ever sent twice.
    """

    # The server.

    async def ping(self, *, timeout: float | None = None) -> float:
        """Return the time an answer takes, in seconds."""
        started = monotonic()
        await self._execute(calls.ping(), timeout)
        return monotonic() - started

    async def info(self, *, timeout: float | None = None) -> results.Info:
        """Return what the server is and what it allows."""
        return await self._execute(calls.info(), timeout)

    async def stats(self, *, timeout: float | None = None) -> results.Stats:
        """Return the server's rates, latencies and counts; needs the feature `stats`."""
        return await self._execute(calls.stats(), timeout)

    # Machines.

    async def put_machine(
        self,
        machine: str,
        version: int,
        definition: Any,
        *,
        checksum: str | None = None,
        timeout: float | None = None,
    ) -> results.MachineStored:
        """Store a definition; storing the same one again changes nothing.

        Args:
            machine: the machine's name.
            version: its version. A stored version never changes.
            definition: `states`, `initial` and `transitions`, as a mapping or anything else that is an
                object in JSON.
            checksum: what the server is to compare the definition's checksum with.
            timeout: the time for the whole call, in seconds.

        Raises:
            BadRequest: the definition is not valid; the message and details list the faults.
            MachineVersionExists: this version has another definition.
            MachineVersionLimitExceeded: the machine has too many versions.
        """
        return await self._execute(
            calls.put_machine(machine, version, definition, checksum=checksum), timeout
        )

    async def get_machine(
        self, machine: str, version: int, *, timeout: float | None = None
    ) -> results.Machine:
        """Return a definition.

        Raises:
            MachineNotFound: it is not stored.
        """
        return await self._execute(calls.get_machine(machine, version), timeout)

    async def list_machines(self, *, timeout: float | None = None) -> list[results.MachineSummary]:
        """Return all machines with their versions, by name."""
        return await self._execute(calls.list_machines(), timeout)

    # Instances.

    async def create_instance(
        self,
        machine: str,
        version: int,
        *,
        instance_id: str | None = None,
        ctx: Any = None,
        idempotency_key: str | Auto | None = AUTO,
        timeout: float | None = None,
    ) -> results.Created:
        """Create an instance in the initial state of its machine.

        Args:
            machine: the machine's name.
            version: its version.
            instance_id: the id; the server makes one up when it is not given.
            ctx: the first context: a mapping, dataclass, msgspec struct or pydantic model.
            idempotency_key: a key of your own, `AUTO`, or None for none.
            timeout: the time for the whole call, in seconds.

        Raises:
            MachineNotFound: the machine is not stored.
            InstanceExists: the id is taken.
            IdempotencyKeyReused: the key was used for another request.
        """
        call = calls.create_instance(
            machine, version, instance_id=instance_id, ctx=ctx, idempotency_key=idempotency_key
        )
        return await self._execute(call, timeout)

    @overload
    async def get_instance(
        self, instance_id: str, *, ctx_type: type[C], timeout: float | None = None
    ) -> Instance[C]: ...

    @overload
    async def get_instance(self, instance_id: str, *, timeout: float | None = None) -> Instance[Json]: ...

    async def get_instance(
        self, instance_id: str, *, ctx_type: type[Any] = dict, timeout: float | None = None
    ) -> Instance[Any]:
        """Return an instance as it is now.

        Args:
            instance_id: its id.
            ctx_type: what to make of the context: a dataclass, TypedDict, msgspec struct or pydantic model.
            timeout: the time for the whole call, in seconds.

        Raises:
            InstanceNotFound: there is none, or it was deleted.
            ResultMismatch: the context does not fit `ctx_type`.
        """
        return await self._execute(calls.get_instance(instance_id, ctx_type=ctx_type), timeout)

    @overload
    async def apply_event(
        self,
        instance_id: str,
        event: str,
        *,
        payload: Any = None,
        expected_state: str | None = None,
        expected_wal_offset: int | None = None,
        event_id: str | None = None,
        idempotency_key: str | Auto | None = AUTO,
        ctx_type: type[C],
        timeout: float | None = None,
    ) -> Applied[C]: ...

    @overload
    async def apply_event(
        self,
        instance_id: str,
        event: str,
        *,
        payload: Any = None,
        expected_state: str | None = None,
        expected_wal_offset: int | None = None,
        event_id: str | None = None,
        idempotency_key: str | Auto | None = AUTO,
        timeout: float | None = None,
    ) -> Applied[Json]: ...

    async def apply_event(
        self,
        instance_id: str,
        event: str,
        *,
        payload: Any = None,
        expected_state: str | None = None,
        expected_wal_offset: int | None = None,
        event_id: str | None = None,
        idempotency_key: str | Auto | None = AUTO,
        ctx_type: type[Any] = dict,
        timeout: float | None = None,
    ) -> Applied[Any]:
        """Apply an event: take the transition that the instance's state allows.

        Args:
            instance_id: the instance.
            event: the event's name.
            payload: an object whose members replace those of the context.
            expected_state: apply only in this state.
            expected_wal_offset: apply only if the instance's last change has this offset.
            event_id: a name of your own for the event, kept with it.
            idempotency_key: a key of your own, `AUTO`, or None for none.
            ctx_type: what to make of the context: a dataclass, TypedDict, msgspec struct or pydantic model.
            timeout: the time for the whole call, in seconds.

        Raises:
            InstanceNotFound: there is no such instance.
            InvalidTransition: the state does not allow the event.
            GuardFailed: the transition's guard is false.
            Conflict: an expectation does not hold.
            IdempotencyKeyReused: the key was used for another request.
            ResultMismatch: the event was applied, but the context does not fit `ctx_type`.
        """
        call = calls.apply_event(
            instance_id,
            event,
            payload=payload,
            expected_state=expected_state,
            expected_wal_offset=expected_wal_offset,
            event_id=event_id,
            idempotency_key=idempotency_key,
            ctx_type=ctx_type,
        )
        return await self._execute(call, timeout)

    async def delete_instance(
        self,
        instance_id: str,
        *,
        idempotency_key: str | Auto | None = AUTO,
        timeout: float | None = None,
    ) -> results.Deleted:
        """Delete an instance; deleting it again succeeds with the offset of the first time.

        Raises:
            InstanceNotFound: there never was one.
        """
        call = calls.delete_instance(instance_id, idempotency_key=idempotency_key)
        return await self._execute(call, timeout)

    async def list_instances(
        self,
        *,
        machine: str | None = None,
        state: str | None = None,
        limit: int | None = None,
        offset: int | None = None,
        cursor: str | None = None,
        timeout: float | None = None,
    ) -> results.InstancePage:
        """Return one page of instances, in the order of their creation.

        Args:
            machine: only those of this machine.
            state: only those in this state.
            limit: how many at most; the server has a bound of its own.
            offset: how many to skip; a cursor is the better way.
            cursor: `next_cursor` of the page before; needs the feature `list.cursor`.
            timeout: the time for the whole call, in seconds.
        """
        call = calls.list_instances(machine=machine, state=state, limit=limit, offset=offset, cursor=cursor)
        return await self._execute(call, timeout)

    async def iter_instances(
        self,
        *,
        machine: str | None = None,
        state: str | None = None,
        page_size: int = 500,
        timeout: float | None = None,
    ) -> AsyncIterator[results.InstanceSummary]:
        """Iterate over all instances, page by page.

        By cursor where the server has them, so that nothing is skipped or repeated while others write; by
        offset elsewhere.

        Args:
            machine: only those of this machine.
            state: only those in this state.
            page_size: how many to fetch at once.
            timeout: the time for each page, in seconds.
        """
        cursor: str | None = None
        offset: int | None = None
        while True:
            page = await self.list_instances(
                machine=machine, state=state, limit=page_size, offset=offset, cursor=cursor, timeout=timeout
            )
            for summary in page.instances:
                yield summary
            cursor = page.next_cursor
            if cursor is None:
                if not page.has_more or not page.instances:
                    return
                offset = (offset or 0) + len(page.instances)

    async def explain_event(
        self,
        instance_id: str,
        event: str | None = None,
        payload: Any = None,
        *,
        timeout: float | None = None,
    ) -> results.Explanation:
        """Return what an event would do, or which events are allowed and why others are not.

        Changes nothing; needs the feature `explain`.

        Raises:
            InstanceNotFound: there is no such instance.
        """
        return await self._execute(calls.explain_event(instance_id, event, payload), timeout)

    # Several writes at once.

    def batch(
        self,
        *,
        atomic: bool = False,
        idempotency_key: str | Auto | None = AUTO,
        timeout: float | None = None,
    ) -> AsyncBatch:
        """Build a batch, which is sent when its block is left.

        Args:
            atomic: all or nothing; needs the feature `batch.atomic`.
            idempotency_key: a key for the whole batch.
            timeout: the time for the whole call, in seconds.
        """
        return AsyncBatch(self._execute, atomic=atomic, idempotency_key=idempotency_key, timeout=timeout)

    async def run_batch(
        self,
        operations: Sequence[Call[Any]],
        *,
        atomic: bool = False,
        idempotency_key: str | Auto | None = AUTO,
        timeout: float | None = None,
    ) -> list[BatchSlot[Any]]:
        """Send operations made by the functions of `rstmdb_client.calls` as one batch; return their slots.

        Raises:
            BatchFailed: the batch is atomic and failed; nothing of it happened.
        """
        batch = self.batch(atomic=atomic, idempotency_key=idempotency_key, timeout=timeout)
        for operation in operations:
            batch.add(operation)
        return await batch.send()

    # The log.

    async def wal_read(
        self,
        from_offset: int = 0,
        *,
        limit: int | None = None,
        instance_id: str | None = None,
        timeout: float | None = None,
    ) -> results.WalPage:
        """Return changes in log order, from the first at or after an offset.

        Args:
            from_offset: where to begin; 0 is the oldest kept.
            limit: how many at most.
            instance_id: only those of one instance; needs the feature `history`.
            timeout: the time for the whole call, in seconds.
        """
        call = calls.wal_read(from_offset, limit=limit, instance_id=instance_id)
        return await self._execute(call, timeout)

    async def wal_stats(self, *, timeout: float | None = None) -> results.WalStats:
        """Return the state of the log."""
        return await self._execute(calls.wal_stats(), timeout)

    async def compact(
        self, *, force_snapshot: bool = False, timeout: float | None = None
    ) -> results.Compacted:
        """Let the server write a snapshot and drop what it no longer needs."""
        return await self._execute(calls.compact(force_snapshot=force_snapshot), timeout)

    async def snapshot_instance(self, instance_id: str, *, timeout: float | None = None) -> results.Snapshot:
        """Snapshot one instance.

        Raises:
            InstanceNotFound: there is no such instance.
        """
        return await self._execute(calls.snapshot_instance(instance_id), timeout)

    async def flush_all(self, *, timeout: float | None = None) -> results.Flushed:
        """Remove every machine and instance. Servers refuse it unless they are configured to allow it."""
        return await self._execute(calls.flush_all(), timeout)

    # Watches.

    @overload
    def watch_instance(
        self,
        instance_id: str,
        *,
        include_ctx: bool = True,
        from_offset: int | None = None,
        after_offset: int | None = None,
        from_oldest: bool = False,
        include: Iterable[str] | None = None,
        store: PositionStore | None = None,
        ctx_type: type[C],
    ) -> AsyncWatch[C]: ...

    @overload
    def watch_instance(
        self,
        instance_id: str,
        *,
        include_ctx: bool = True,
        from_offset: int | None = None,
        after_offset: int | None = None,
        from_oldest: bool = False,
        include: Iterable[str] | None = None,
        store: PositionStore | None = None,
    ) -> AsyncWatch[Json]: ...

    def watch_instance(
        self,
        instance_id: str,
        *,
        include_ctx: bool = True,
        from_offset: int | None = None,
        after_offset: int | None = None,
        from_oldest: bool = False,
        include: Iterable[str] | None = None,
        store: PositionStore | None = None,
        ctx_type: type[Any] = dict,
    ) -> AsyncWatch[Any]:
        """Watch one instance. See `watch_all` for the arguments."""
        plan = watching.plan_instance(
            instance_id,
            include_ctx=include_ctx,
            from_offset=from_offset,
            after_offset=after_offset,
            from_oldest=from_oldest,
            include=include,
        )
        return self._watch(plan, ctx_type, store)

    @overload
    def watch_all(
        self,
        *,
        machines: Iterable[str] | None = None,
        from_states: Iterable[str] | None = None,
        to_states: Iterable[str] | None = None,
        events: Iterable[str] | None = None,
        include_ctx: bool = True,
        from_offset: int | None = None,
        after_offset: int | None = None,
        from_oldest: bool = False,
        include: Iterable[str] | None = None,
        store: PositionStore | None = None,
        ctx_type: type[C],
    ) -> AsyncWatch[C]: ...

    @overload
    def watch_all(
        self,
        *,
        machines: Iterable[str] | None = None,
        from_states: Iterable[str] | None = None,
        to_states: Iterable[str] | None = None,
        events: Iterable[str] | None = None,
        include_ctx: bool = True,
        from_offset: int | None = None,
        after_offset: int | None = None,
        from_oldest: bool = False,
        include: Iterable[str] | None = None,
        store: PositionStore | None = None,
    ) -> AsyncWatch[Json]: ...

    def watch_all(
        self,
        *,
        machines: Iterable[str] | None = None,
        from_states: Iterable[str] | None = None,
        to_states: Iterable[str] | None = None,
        events: Iterable[str] | None = None,
        include_ctx: bool = True,
        from_offset: int | None = None,
        after_offset: int | None = None,
        from_oldest: bool = False,
        include: Iterable[str] | None = None,
        store: PositionStore | None = None,
        ctx_type: type[Any] = dict,
    ) -> AsyncWatch[Any]:
        """Watch every change that passes the filters: any of a list, and all of the lists.

        The watch has a connection of its own, resumes by itself after a lost one, without gap or repeat, and
        reads no faster than its events are asked for. Starting anywhere but now needs `watch.resume`.

        Args:
            machines: only instances of these machines.
            from_states: only transitions that leave these states.
            to_states: only transitions that enter these states.
            events: only these events.
            include_ctx: deliver the context after the change.
            from_offset: begin with the change at this offset; 0 means now.
            after_offset: begin behind the change at this offset.
            from_oldest: begin with the oldest change that is kept.
            include: kinds of changes to deliver besides applied events: `create`, `delete`, `put_machine`,
                `flush`.
            store: where the position is kept; it wins over the three above once it holds one.
            ctx_type: what to make of the contexts.
        """
        plan = watching.plan_all(
            machines=machines,
            from_states=from_states,
            to_states=to_states,
            events=events,
            include_ctx=include_ctx,
            from_offset=from_offset,
            after_offset=after_offset,
            from_oldest=from_oldest,
            include=include,
        )
        return self._watch(plan, ctx_type, store)

    def _watch(
        self, plan: watching.WatchPlan, ctx_type: type[Any], store: PositionStore | None
    ) -> AsyncWatch[Any]:
        watch: AsyncWatch[Any] = AsyncWatch(
            self._watch_channel,
            plan,
            ctx_type=ctx_type,
            retry=self._options.retry,
            timeout=self._timeout,
            store=store,
            opened=self._watches.add,
            closed=self._watches.discard,
        )
        return watch

    async def unwatch(self, subscription_id: str, *, timeout: float | None = None) -> bool:
        """End a subscription by its name, also one of another session; False when there is none."""
        return (await self._execute(calls.unwatch(subscription_id), timeout)).removed

    # Anything else.

    async def call(
        self, op: str, params: Any = None, *, repeatable: bool = False, timeout: float | None = None
    ) -> Any:
        """Call any operation by name and return its result as plain JSON values.

        Args:
            op: the operation's name on the wire.
            params: its parameters, as a JSON object.
            repeatable: executing it twice is harmless, so that it may be tried again.
            timeout: the time for the whole call, in seconds.
        """
        return await self._execute(calls.custom(op, params, repeatable=repeatable), timeout)
