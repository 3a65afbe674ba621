"""What a client does, case by case, against any server that has all features.

The same cases run on every event loop and, generated, on the sync client. A case gets a *peer*: `url`, and
`execute(op, **params)` to do something as somebody else. Names are unique, so cases may share a database.
"""

# ruff: noqa: PT012 - a batch fails where its block is left

import uuid
from dataclasses import dataclass
from typing import Any, TypedDict

import msgspec
import pydantic
import pytest

from rstmdb_client import (
    AsyncClient,
    AsyncPool,
    BatchFailed,
    ClientClosed,
    Conflict,
    ConnectionFailed,
    FilePositionStore,
    GuardFailed,
    HistoryCompacted,
    IdempotencyKeyReused,
    InstanceExists,
    InstanceNotFound,
    InvalidDocument,
    InvalidTransition,
    MachineNotFound,
    MachineVersionExists,
    MemoryPositionStore,
    OffsetAhead,
    RequestTimeout,
    RequestTooLarge,
    ResultMismatch,
    ServerError,
    UsageError,
    calls,
)

ORDER = {
    "states": ["created", "paid", "shipped"],
    "initial": "created",
    "transitions": [
        {"from": ["created"], "event": "PAY", "to": "paid"},
        {"from": ["paid"], "event": "SHIP", "to": "shipped", "guard": "ctx.address"},
        {"from": ["created", "paid"], "event": "NOTE", "to": "created"},
    ],
}


def unique(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4()}"


async def machine(client: AsyncClient) -> str:
    name = unique("order")
    await client.put_machine(name, 1, ORDER)
    return name


async def order(client: AsyncClient, **options: Any) -> str:
    return (await client.create_instance(await machine(client), 1, **options)).instance_id


async def case_server_operations(peer: Any) -> None:
    async with AsyncClient(peer.url) as client:
        assert 0 < await client.ping() < 10
        info = await client.info()
        assert info.server_name == "rstmdb"
        assert "idempotency.durable" in client.features
        assert info.raw["protocol_version"] == 1
        assert isinstance((await client.stats()).raw, dict)
        assert (await client.wal_stats()).latest_offset is not None
        assert "connected" in repr(client)
    assert "closed" in repr(client)


async def case_machines(peer: Any) -> None:
    async with AsyncClient(peer.url) as client:
        name = unique("machine")
        stored = await client.put_machine(name, 1, ORDER)
        assert (stored.machine, stored.version, stored.created) == (name, 1, True)
        assert (await client.put_machine(name, 1, ORDER)).created is False
        await client.put_machine(name, 2, ORDER)
        with pytest.raises(MachineVersionExists):
            await client.put_machine(name, 1, {**ORDER, "initial": "paid"})
        with pytest.raises(ServerError) as refused:
            await client.put_machine(name, 3, {"nonsense": True})
        assert refused.value.code == "BAD_REQUEST"
        assert (await client.get_machine(name, 1)).definition["states"] == ORDER["states"]
        with pytest.raises(MachineNotFound):
            await client.get_machine(name, 9)
        assert [one.versions for one in await client.list_machines() if one.machine == name] == [[1, 2]]


async def case_life_of_an_instance(peer: Any) -> None:
    async with AsyncClient(peer.url) as client:
        name = await machine(client)
        instance_id = unique("o")
        created = await client.create_instance(name, 1, instance_id=instance_id, ctx={"total": 3})
        assert (created.instance_id, created.state) == (instance_id, "created")
        with pytest.raises(InstanceExists):
            await client.create_instance(name, 1, instance_id=instance_id)
        applied = await client.apply_event(instance_id, "PAY", payload={"by": "card"}, event_id="e-1")
        assert (applied.from_state, applied.to_state, applied.applied) == ("created", "paid", True)
        assert applied.ctx == {"total": 3, "by": "card"}
        assert applied.event_id == "e-1"
        assert applied.wal_offset > created.wal_offset
        found = await client.get_instance(instance_id)
        assert (found.machine, found.version, found.state) == (name, 1, "paid")
        assert (found.ctx, found.last_wal_offset) == (applied.ctx, applied.wal_offset)
        assert found.last_event_id == "e-1"
        assert (await client.snapshot_instance(instance_id)).wal_offset == applied.wal_offset
        deleted = await client.delete_instance(instance_id)
        assert (await client.delete_instance(instance_id)).wal_offset == deleted.wal_offset
        with pytest.raises(InstanceNotFound):
            await client.get_instance(instance_id)


async def case_created_without_id_or_context(peer: Any) -> None:
    async with AsyncClient(peer.url) as client:
        instance_id = await order(client)
        assert instance_id
        assert (await client.get_instance(instance_id)).ctx == {}


async def case_refusals_by_meaning(peer: Any) -> None:
    async with AsyncClient(peer.url) as client:
        instance_id = await order(client)
        with pytest.raises(InvalidTransition) as refused:
            await client.apply_event(instance_id, "SHIP")
        assert refused.value.code == "INVALID_TRANSITION"
        assert refused.value.retryable is False
        assert refused.value.message
        offset = (await client.apply_event(instance_id, "PAY")).wal_offset
        with pytest.raises(GuardFailed):
            await client.apply_event(instance_id, "SHIP")
        with pytest.raises(Conflict):
            await client.apply_event(instance_id, "NOTE", expected_state="shipped")
        with pytest.raises(Conflict):
            await client.apply_event(instance_id, "NOTE", expected_wal_offset=offset - 1)
        with pytest.raises(InstanceNotFound):
            await client.apply_event(unique("nobody"), "PAY")
        await client.apply_event(instance_id, "NOTE", expected_state="paid", expected_wal_offset=offset)


async def case_keys_of_the_callers_own(peer: Any) -> None:
    async with AsyncClient(peer.url) as client:
        name = await machine(client)
        first = await client.create_instance(name, 1, idempotency_key="k-1")
        assert await client.create_instance(name, 1, idempotency_key="k-1") == first
        applied = await client.apply_event(first.instance_id, "PAY", idempotency_key="k-2")
        again = await client.apply_event(first.instance_id, "PAY", idempotency_key="k-2")
        assert (again.applied, again.wal_offset) == (False, applied.wal_offset)
        with pytest.raises(IdempotencyKeyReused):
            await client.apply_event(first.instance_id, "NOTE", idempotency_key="k-2")
        await client.apply_event(first.instance_id, "NOTE", idempotency_key=None)


class Shipping(TypedDict, total=False):
    address: str
    total: int


@dataclass
class Total:
    total: int


class Compact(msgspec.Struct):
    total: int


class Checked(pydantic.BaseModel):
    total: int


async def case_contexts_of_the_callers_type(peer: Any) -> None:
    async with AsyncClient(peer.url) as client:
        instance_id = await order(client, ctx=Total(7))
        assert (await client.get_instance(instance_id, ctx_type=Total)).ctx == Total(7)
        assert (await client.get_instance(instance_id, ctx_type=Compact)).ctx == Compact(7)
        assert (await client.get_instance(instance_id, ctx_type=Checked)).ctx == Checked(total=7)
        assert (await client.get_instance(instance_id, ctx_type=Shipping)).ctx == {"total": 7}
        applied = await client.apply_event(instance_id, "NOTE", payload=Checked(total=8), ctx_type=Compact)
        assert applied.ctx == Compact(8)
        mismatch = await client.apply_event(instance_id, "NOTE", payload={"total": "many"})
        assert mismatch.ctx == {"total": "many"}
        for ctx_type in (Total, Checked):
            with pytest.raises(ResultMismatch) as wrong:
                await client.get_instance(instance_id, ctx_type=ctx_type)
            assert wrong.value.result.ctx == {"total": "many"}


async def case_pages(peer: Any) -> None:
    async with AsyncClient(peer.url) as client:
        name = await machine(client)
        ids = [(await client.create_instance(name, 1)).instance_id for _ in range(7)]
        page = await client.list_instances(machine=name, limit=3)
        assert ([one.id for one in page.instances], page.total, page.has_more) == (ids[:3], 7, True)
        assert page.next_cursor is not None
        page = await client.list_instances(machine=name, limit=3, cursor=page.next_cursor)
        assert [one.id for one in page.instances] == ids[3:6]
        assert [one.id async for one in client.iter_instances(machine=name, page_size=2)] == ids
        page = await client.list_instances(machine=name, state="paid")
        assert (page.instances, page.has_more) == ([], False)
        page = await client.list_instances(machine=name, offset=5)
        assert [one.id for one in page.instances] == ids[5:]
        with pytest.raises(InvalidDocument):
            await client.list_instances(offset=1, cursor="x")


async def case_history(peer: Any) -> None:
    async with AsyncClient(peer.url) as client:
        instance_id = await order(client)
        await client.apply_event(instance_id, "PAY")
        page = await client.wal_read(0, instance_id=instance_id)
        assert [
            record.entry["type"].removesuffix("_instance").removesuffix("_event") for record in page.records
        ] == [
            "create",
            "apply",
        ]
        explanation = await client.explain_event(instance_id, "SHIP")
        assert isinstance(explanation.raw, dict)
        assert (await client.call("GET_INSTANCE", {"instance_id": instance_id}))["state"] == "paid"
        assert (await client.compact()).wal_segments >= 0


async def case_batches(peer: Any) -> None:
    async with AsyncClient(peer.url) as client:
        name = await machine(client)
        one, two = unique("b"), unique("b")
        async with client.batch(atomic=True) as batch:
            created = batch.create_instance(name, 1, instance_id=one, ctx={"a": 1})
            paid = batch.apply_event(one, "PAY")
            assert len(batch) == 2
            with pytest.raises(UsageError):
                paid.result()
        assert created.result().state == "created"
        assert paid.result().to_state == "paid"
        with pytest.raises(BatchFailed) as failed:
            async with client.batch(atomic=True) as batch:
                batch.create_instance(name, 1, instance_id=two)
                batch.apply_event(two, "SHIP")
        assert failed.value.failed_index == 1
        assert failed.value.failed_code == "INVALID_TRANSITION"
        with pytest.raises(InstanceNotFound):
            await client.get_instance(two)
        async with client.batch() as batch:
            batch.create_instance(name, 1, instance_id=two)
            wrong = batch.apply_event(two, "SHIP")
            gone = batch.delete_instance(one)
        assert isinstance(wrong.error, InvalidTransition)
        assert gone.result().deleted
        with pytest.raises(InvalidTransition):
            wrong.result()
        with pytest.raises(InvalidTransition):
            batch.raise_for_errors()
        slots = await client.run_batch([calls.apply_event(two, "PAY", idempotency_key=None, ctx_type=dict)])
        assert slots[0].result().to_state == "paid"
        with pytest.raises(InvalidDocument):
            await client.run_batch([calls.ping()])
        with pytest.raises(RuntimeError):
            async with client.batch() as batch:
                batch.delete_instance(two)
                raise RuntimeError
        assert (await client.get_instance(two)).state == "paid"
        async with client.batch() as batch:
            pass
        full = client.batch()
        for _ in range(100):
            full.delete_instance(two)
        with pytest.raises(InvalidDocument):
            full.delete_instance(two)


class Odd:
    pass


async def case_bad_input_never_leaves(peer: Any) -> None:
    async with AsyncClient(peer.url) as client:
        instance_id = await order(client)
        before = (await client.wal_stats()).entry_count
        loop: dict[str, Any] = {}
        loop["self"] = loop
        wrong: list[tuple[Any, str]] = [
            ({"a": [1, {"b": float("nan")}]}, "payload.a[1].b"),
            ({"a": None, "b": float("inf")}, "payload.b"),
            (Total(float("-inf")), "payload.total"),  # type: ignore[arg-type]
            ({"a": {"b": Odd()}}, "payload.a.b"),
            ({"a": 2**64}, "payload.a"),
            ({"a": ["\ud800"]}, "payload.a[0]"),
            ({(1, 2): 3}, "payload"),
            (loop, "payload"),
            ([1], "payload"),
            ("text", "payload"),
        ]
        for payload, path in wrong:
            with pytest.raises(InvalidDocument) as refused:
                await client.apply_event(instance_id, "PAY", payload=payload)
            assert refused.value.path == path
        with pytest.raises(RequestTooLarge) as large:
            await client.apply_event(instance_id, "PAY", payload={"a": "x" * (17 << 20)})
        assert large.value.path == "payload"
        with pytest.raises(InvalidDocument):
            await client.get_instance("\ud800")
        with pytest.raises(InvalidDocument):
            await client.apply_event(instance_id, "PAY", expected_wal_offset=-1)
        assert (await client.wal_stats()).entry_count == before
        assert (await client.get_instance(instance_id)).state == "created"


async def case_large_documents(peer: Any) -> None:
    async with AsyncClient(peer.url) as client:
        text = "ä" * 300_000
        instance_id = await order(client, ctx={"text": text})
        assert (await client.get_instance(instance_id)).ctx == {"text": text}


async def case_watch_one(peer: Any) -> None:
    async with AsyncClient(peer.url) as client:
        instance_id = await order(client, ctx={"n": 1})
        other = await order(client)
        async with client.watch_instance(instance_id) as watch:
            assert watch.header.current_state == "created"
            assert watch.subscription_id
            await client.apply_event(other, "PAY")
            await client.apply_event(instance_id, "PAY", payload={"n": 2})
            event = await watch.next(10)
            assert event is not None
            assert (event.instance_id, event.event, event.to_state) == (instance_id, "PAY", "paid")
            assert (event.payload, event.ctx, event.kind) == ({"n": 2}, {"n": 2}, "apply")
            assert watch.position == event.wal_offset
            with pytest.raises(RequestTimeout):
                await watch.next(0.05)
            await client.apply_event(instance_id, "NOTE")
            event = await watch.next(10)
            assert event is not None
            assert event.event == "NOTE"
        assert await watch.next() is None
        with pytest.raises(InstanceNotFound):
            async with client.watch_instance(unique("nobody")):
                pass


async def case_watch_filters_and_types(peer: Any) -> None:
    async with AsyncClient(peer.url) as client:
        name = await machine(client)
        instance_id = (await client.create_instance(name, 1, ctx={"total": 1})).instance_id
        async with client.watch_all(machines=[name], to_states=["paid"], ctx_type=Total) as watch:
            for event in ("NOTE", "PAY", "NOTE", "PAY"):
                await client.apply_event(instance_id, event)
            first, second = await watch.next(10), await watch.next(10)
            assert first is not None
            assert second is not None
            assert (first.event, second.event, first.ctx) == ("PAY", "PAY", Total(1))
        async with client.watch_all(machines=[name], include_ctx=False, from_oldest=True) as watch:
            seen = await watch.next(10)
            assert seen is not None
            assert (seen.event, seen.ctx) == ("NOTE", None)


async def case_watch_from_an_offset(peer: Any) -> None:
    async with AsyncClient(peer.url) as client:
        instance_id = await order(client)
        offsets = [(await client.apply_event(instance_id, "NOTE")).wal_offset for _ in range(4)]
        async with client.watch_instance(instance_id, from_offset=offsets[1]) as watch:
            assert [(await watch.next(10)).wal_offset for _ in range(3)] == offsets[1:]  # type: ignore[union-attr]
        async with client.watch_instance(instance_id, after_offset=offsets[1]) as watch:
            assert [(await watch.next(10)).wal_offset for _ in range(2)] == offsets[2:]  # type: ignore[union-attr]
        with pytest.raises(OffsetAhead):
            async with client.watch_all(after_offset=offsets[-1] + 10_000_000):
                pass
        with pytest.raises(InvalidDocument):
            client.watch_all(after_offset=1, from_oldest=True)


async def case_watch_other_changes(peer: Any) -> None:
    async with AsyncClient(peer.url) as client:
        name = await machine(client)
        async with client.watch_all(machines=[name], include=["create", "delete"]) as watch:
            instance_id = (await client.create_instance(name, 1)).instance_id
            await client.apply_event(instance_id, "PAY")
            await client.delete_instance(instance_id)
            kinds = [(await watch.next(10)).kind for _ in range(3)]  # type: ignore[union-attr]
            assert kinds == ["create", "apply", "delete"]
        with pytest.raises(InvalidDocument):
            client.watch_all(include=["everything"])


async def case_watch_keeps_its_position(peer: Any) -> None:
    async with AsyncClient(peer.url) as client:
        instance_id = await order(client)
        store = MemoryPositionStore()
        async with client.watch_instance(instance_id, store=store) as watch:
            offsets = [(await client.apply_event(instance_id, "NOTE")).wal_offset for _ in range(3)]
            await watch.next(10)
            assert store.offset is None
            await watch.next(10)
            assert store.offset == offsets[0]
        assert store.offset == offsets[1]
        async with client.watch_instance(instance_id, store=store) as watch:
            event = await watch.next(10)
            assert event is not None
            assert event.wal_offset == offsets[2]
        path = peer.directory / unique("position")
        for expected in offsets[1:]:
            file = FilePositionStore(path)
            async with client.watch_instance(instance_id, after_offset=offsets[0], store=file) as watch:
                event = await watch.next(10)
                assert event is not None
                assert event.wal_offset == expected


async def case_watch_ended_from_elsewhere(peer: Any) -> None:
    async with AsyncClient(peer.url) as client:
        instance_id = await order(client)
        async with client.watch_instance(instance_id) as watch:
            assert await client.unwatch(watch.subscription_id) is True
            assert [event async for event in watch] == []
        assert await client.unwatch("sub-nobody") is False


async def case_closed(peer: Any) -> None:
    client = AsyncClient(peer.url)
    await client.ping()
    instance_id = await order(client)
    watch = client.watch_instance(instance_id)
    await watch.start()
    await client.close()
    await client.close()
    assert [event async for event in watch] == []
    with pytest.raises(ClientClosed):
        await client.ping()
    with pytest.raises(ClientClosed):
        async with client.watch_all():
            pass


async def case_nobody_listens(peer: Any) -> None:
    client = AsyncClient("rstmdb://127.0.0.1:1")
    with pytest.raises(ConnectionFailed):
        await client.ping()
    with pytest.raises(ConnectionFailed):
        await AsyncClient.connect("rstmdb://127.0.0.1:1,127.0.0.1:2")
    with pytest.raises(ConnectionFailed):
        async with client.watch_all():
            pass
    _, _, address = peer.url.partition("://")
    async with AsyncClient(f"rstmdb://127.0.0.1:1,{address}") as other:
        await other.ping()


async def case_pool(peer: Any) -> None:
    async with AsyncPool(peer.url, min_size=1, max_size=2) as pool:
        assert (pool.stats().size, pool.stats().idle) == (1, 1)
        async with pool.client() as one:
            await one.ping()
            async with pool.client() as two:
                await two.ping()
                assert one is not two
                assert pool.stats().lent == 2
        assert (pool.stats().idle, pool.stats().created_total) == (2, 2)
        assert await pool.drain(timeout=5)
        assert pool.stats().size == 0


async def case_history_compacted(peer: Any) -> None:
    peer.forget_history()
    async with AsyncClient(peer.url) as client:
        with pytest.raises(HistoryCompacted) as refused:
            async with client.watch_all(after_offset=0):
                pass
        assert refused.value.oldest_offset is not None
