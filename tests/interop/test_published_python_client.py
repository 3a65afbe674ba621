"""The published Python client, unmodified from the package index, against our server over TCP."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import rstmdb
from rstmdb.models import ErrorCode, Operation

from tests.server_process import ServerProcess, running_server

ORDER = {
    "states": ["created", "paid", "shipped"],
    "initial": "created",
    "transitions": [
        {"from": "created", "event": "PAY", "to": "paid"},
        {"from": ["paid"], "event": "SHIP", "to": "shipped", "guard": "ctx.ready"},
    ],
    "meta": {"_builderPositions": {"created": [1, 2]}},
}


@asynccontextmanager
async def client_of(server: ServerProcess, **options: Any) -> AsyncIterator[rstmdb.Client]:
    async with rstmdb.Client("127.0.0.1", server.port, request_timeout=10, **options) as client:
        yield client


async def refused(call: Awaitable[object]) -> ErrorCode:
    with pytest.raises(rstmdb.ServerError) as caught:
        await call
    assert caught.value.message
    code: ErrorCode = caught.value.code
    return code


@pytest.mark.asyncio
async def test_machines_instances_and_log() -> None:
    with running_server() as server:
        async with client_of(server) as client:
            assert await client.ping()
            assert (await client.info())["max_frame_bytes"] == 16 * 1024 * 1024

            put = await client.put_machine("order", 1, ORDER)
            assert (put.machine, put.version, put.created) == ("order", 1, True)
            again = await client.put_machine("order", 1, ORDER)
            assert (again.created, again.stored_checksum) == (False, put.stored_checksum)
            got = await client.get_machine("order", 1)
            assert got.checksum == put.stored_checksum
            assert got.definition["meta"] == ORDER["meta"]
            assert [t["from"] for t in got.definition["transitions"]] == [["created"], ["paid"]]
            assert await client.list_machines() == [{"machine": "order", "versions": [1]}]

            bare = await client.create_instance("order", 1, "order-1")
            assert (bare.instance_id, bare.state) == ("order-1", "created")
            assert (await client.get_instance("order-1")).ctx == {}
            named = await client.create_instance("order", 1, "order-2", {"ready": True}, "create-2")
            replayed = await client.create_instance("order", 1, "order-2", {"ready": True}, "create-2")
            assert replayed == named
            automatic = await client.create_instance("order", 1)
            assert len(automatic.instance_id) == 36

            paid = await client.apply_event("order-2", "PAY", {"amount": 99.99}, idempotency_key="pay-2")
            assert (paid.from_state, paid.to_state, paid.applied) == ("created", "paid", True)
            assert paid.ctx == {"ready": True, "amount": 99.99}
            repeated = await client.apply_event("order-2", "PAY", {"amount": 99.99}, idempotency_key="pay-2")
            assert (repeated.applied, repeated.wal_offset, repeated.ctx) == (False, paid.wal_offset, paid.ctx)
            shipped = await client.apply_event("order-2", "SHIP", expected_state="paid")
            assert shipped.to_state == "shipped"
            assert (await client.get_instance("order-2")).last_wal_offset == shipped.wal_offset

            for number in range(30):
                await client.create_instance("order", 1, f"bulk-{number:02}")
            seen: list[str] = []
            while True:
                page = await client.list_instances(machine="order", limit=7, offset=len(seen))
                seen += [item.id for item in page.instances]
                assert page.total == 33
                if not page.has_more:
                    break
            assert seen[:2] == ["order-1", "order-2"]
            assert seen[3:] == [f"bulk-{number:02}" for number in range(30)]
            by_state = await client.list_instances(machine="order", state="shipped")
            assert [item.id for item in by_state.instances] == ["order-2"]
            assert by_state.instances[0].created_at > 1_600_000_000_000

            first = await client.delete_instance("order-1", idempotency_key="gone")
            second = await client.delete_instance("order-1", idempotency_key="gone")
            assert second == {**first, "applied": False}
            assert await refused(client.get_instance("order-1")) is ErrorCode.INSTANCE_NOT_FOUND

            log = await client.wal_read(0)
            kinds = [record["entry"]["type"] for record in log["records"]]
            assert kinds[:2] == ["put_machine", "create_instance"]
            assert kinds[-1] == "delete_instance"
            page_1 = await client.wal_read(0, limit=2)
            assert len(page_1["records"]) == 2
            page_2 = await client.wal_read(page_1["next_offset"], limit=2)
            assert page_2["records"] == log["records"][2:4]
            stats = await client.wal_stats()
            assert stats.entry_count == len(log["records"])
            assert stats.latest_offset == log["next_offset"]
            assert stats.total_size_bytes > 0


@pytest.mark.asyncio
async def test_watches_with_filters() -> None:
    with running_server() as server:
        async with client_of(server) as writer, client_of(server) as one, client_of(server) as filtered:
            await writer.put_machine("order", 1, ORDER)
            await writer.put_machine("other", 1, ORDER)
            for machine, instance_id in (("order", "a"), ("order", "b"), ("other", "c")):
                await writer.create_instance(machine, 1, instance_id, {"ready": True})
            watch = await one.watch_instance("a")
            assert (watch.instance_id, watch.current_state) == ("a", "created")
            subscription = await filtered.watch_all(
                machines=["order"], to_states=["shipped"], events=["SHIP"], include_ctx=False
            )
            for instance_id in ("a", "b", "c"):
                await writer.apply_event(instance_id, "PAY", {"n": 1})
                await writer.apply_event(instance_id, "SHIP")

            async def take(client: rstmdb.Client, count: int) -> list[rstmdb.StreamEvent]:
                events: list[rstmdb.StreamEvent] = []
                async for event in client.events():
                    events.append(event)
                    if len(events) == count:
                        break
                return events

            of_one = await asyncio.wait_for(take(one, 2), 10)
            assert [(e.instance_id, e.event, e.to_state) for e in of_one] == [
                ("a", "PAY", "paid"),
                ("a", "SHIP", "shipped"),
            ]
            assert of_one[0].payload == {"n": 1}
            assert of_one[0].ctx == {"ready": True, "n": 1}
            assert of_one[1].payload is None
            of_filter = await asyncio.wait_for(take(filtered, 2), 10)
            assert [(e.instance_id, e.event) for e in of_filter] == [("a", "SHIP"), ("b", "SHIP")]
            assert all(e.ctx is None for e in of_filter)
            assert all(e.subscription_id == subscription.subscription_id for e in of_filter)
            assert (await filtered.unwatch(subscription.subscription_id)).removed
            assert not (await filtered.unwatch("sub-unknown")).removed


@pytest.mark.asyncio
async def test_error_codes() -> None:
    with running_server({"RSTMDB_MAX_MACHINE_VERSIONS": "1"}) as server:
        async with client_of(server) as client:
            await client.put_machine("order", 1, ORDER)
            await client.create_instance("order", 1, "x", {"ready": False})

            def raw(op: Operation, **params: Any) -> Awaitable[object]:
                return client._request(op, params)

            cases: list[tuple[Callable[[], Awaitable[object]], ErrorCode]] = [
                (lambda: raw(Operation.HELLO, protocol_version=2), ErrorCode.UNSUPPORTED_PROTOCOL),
                (lambda: client.put_machine("bad", 1, {"states": []}), ErrorCode.BAD_REQUEST),
                (lambda: raw(Operation.GET_INSTANCE), ErrorCode.BAD_REQUEST),
                (lambda: client.flush_all(), ErrorCode.BAD_REQUEST),
                (lambda: client.get_machine("order", 9), ErrorCode.MACHINE_NOT_FOUND),
                (lambda: client.create_instance("none", 1, "y"), ErrorCode.MACHINE_NOT_FOUND),
                (
                    lambda: client.put_machine("order", 1, {**ORDER, "initial": "paid"}),
                    ErrorCode.MACHINE_VERSION_EXISTS,
                ),
                (lambda: client.put_machine("order", 2, ORDER), ErrorCode.MACHINE_VERSION_LIMIT_EXCEEDED),
                (lambda: client.get_instance("none"), ErrorCode.INSTANCE_NOT_FOUND),
                (lambda: client.create_instance("order", 1, "x"), ErrorCode.INSTANCE_EXISTS),
                (lambda: client.apply_event("x", "SHIP"), ErrorCode.INVALID_TRANSITION),
                (lambda: client.apply_event("x", "PAY", expected_state="paid"), ErrorCode.CONFLICT),
            ]
            for call, code in cases:
                assert await refused(call()) is code
            await client.apply_event("x", "PAY")
            assert await refused(client.apply_event("x", "SHIP")) is ErrorCode.GUARD_FAILED
            assert await client.ping()


@pytest.mark.asyncio
async def test_authentication_codes() -> None:
    token_hash = hashlib.sha256(b"secret").hexdigest()
    with running_server({"RSTMDB_AUTH_REQUIRED": "true", "RSTMDB_AUTH_TOKEN_HASH": token_hash}) as server:
        async with client_of(server, token="secret") as client:
            assert await client.list_machines() == []
        async with client_of(server) as client:
            assert await client.ping()
            assert await refused(client.list_machines()) is ErrorCode.UNAUTHORIZED
            assert await refused(client.watch_all()) is ErrorCode.UNAUTHORIZED
            codes = {
                await refused(client._request(Operation.AUTH, {"method": "bearer", "token": f"wrong-{n}"}))
                for n in range(3)
            }
            assert codes == {ErrorCode.AUTH_FAILED}


@pytest.mark.asyncio
async def test_a_session_too_many_is_told_so() -> None:
    with running_server({"RSTMDB_MAX_CONNECTIONS": "1"}) as server:
        async with client_of(server) as client:
            second = rstmdb.Client("127.0.0.1", server.port)
            try:
                with pytest.raises(rstmdb.ConnectionError, match="1 sessions, its configured limit"):
                    await second.connect()
            finally:
                await second.close()
            assert await client.ping()


@pytest.mark.asyncio
async def test_flush_and_compact() -> None:
    with running_server({"RSTMDB_ALLOW_FLUSH_ALL": "1"}) as server:
        async with client_of(server) as client:
            await client.put_machine("order", 1, ORDER)
            await client.create_instance("order", 1, "x")
            compacted = await client.compact(force_snapshot=True)
            assert compacted["snapshots_created"] == 1
            flushed = await client.flush_all()
            assert (flushed.flushed, flushed.instances_removed, flushed.machines_removed) == (True, 1, 1)
            assert await refused(client.get_instance("x")) is ErrorCode.INSTANCE_NOT_FOUND
            assert await refused(client.get_machine("order", 1)) is ErrorCode.MACHINE_NOT_FOUND
        server.kill()
        server.start()
        async with client_of(server) as client:
            assert await client.list_machines() == []
