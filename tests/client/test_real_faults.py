"""Broken connections and a killed server, with a real one behind: exactly once where acknowledged."""

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from behaviour import sync_faults
from behaviour.async_cases import ORDER
from client_doubles.proxy import Fault, FaultProxy, proxied

from rstmdb_client import AsyncClient, Client, OutcomeUnknownError, RetryPolicy
from rstmdb_client.testing import RstmdbServer

PATIENT = RetryPolicy(attempts_max=200, backoff_secs=0.01, backoff_secs_max=0.1)
COUNTER = {"states": ["on"], "initial": "on", "transitions": [{"from": "on", "event": "ADD", "to": "on"}]}


class Upstream:
    """A loop in a thread for the proxy, and the port behind it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.loop = asyncio.new_event_loop()


@pytest.fixture
def proxy(rstmdb_server: RstmdbServer) -> Iterator[FaultProxy]:
    upstream: Any = Upstream(rstmdb_server.port)
    thread = threading.Thread(target=upstream.loop.run_forever)
    thread.start()
    try:
        with proxied(upstream) as running:
            yield running
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0.01), upstream.loop).result(5)
    finally:
        upstream.loop.call_soon_threadsafe(upstream.loop.stop)
        thread.join(10)
        upstream.loop.close()


def events(client: Client, instance_id: str) -> list[int]:
    page = client.wal_read(instance_id=instance_id)
    return [record.offset for record in page.records if record.entry["type"] == "apply_event"]


def test_cut_at_every_other_byte(proxy: FaultProxy, rstmdb_client: Client) -> None:
    rstmdb_client.put_machine("order", 1, ORDER)
    with Client(proxy.url) as through:
        created = through.create_instance("order", 1).instance_id
        through.apply_event(created, "PAY")
        up, down = proxy.passed["up"], proxy.passed["down"]
    points = [("up", n) for n in range(0, up + 50, 2)] + [("down", n) for n in range(0, down + 50, 2)]
    told: Counter[str] = Counter()
    for number, (direction, after) in enumerate(points):
        instance_id = rstmdb_client.create_instance("order", 1).instance_id
        proxy.plan[:] = [Fault(direction, after, "reset" if number % 2 else "close")]
        outcome = sync_faults.apply_once(proxy.url, instance_id)
        told[outcome] += 1
        proxy.plan.clear()
        assert len(events(rstmdb_client, instance_id)) == {"done": 1, "nothing": 0}[outcome], (
            direction,
            after,
        )
    assert told["done"] > 100


def test_a_watch_cut_anywhere(proxy: FaultProxy, rstmdb_client: Client) -> None:
    rstmdb_client.put_machine("order", 1, ORDER)
    for after in range(500, 4000, 90):
        instance_id = rstmdb_client.create_instance("order", 1).instance_id
        proxy.plan[:] = [
            Fault("up", 1 << 30),
            *[Fault("down", 500 + (after * turn) % 1500) for turn in range(1, 6)],
        ]

        def execute(op: str, **params: Any) -> None:
            rstmdb_client.call(op, params)

        seen = sync_faults.watch_through_faults(proxy.url, instance_id, execute, 9)
        assert seen == events(rstmdb_client, instance_id)
        proxy.plan.clear()


def test_a_killed_server(tmp_path: Path) -> None:
    """Tasks go on adding while the server is killed and started again; a watch sees each addition once."""
    server = RstmdbServer(tmp_path)
    server.start()
    acknowledged: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    seen: list[int] = []
    ids = [f"counter-{number}" for number in range(8)]
    happened: dict[str, list[int]] = {}
    goal: dict[str, Any] = {"count": -1}

    async def main() -> None:
        stop, began = anyio.Event(), anyio.Event()
        async with AsyncClient(server.url, retry=PATIENT) as client:
            await client.put_machine("counter", 1, COUNTER)
            for instance_id in ids:
                await client.create_instance("counter", 1, instance_id=instance_id)

            async def add(instance_id: str) -> None:
                while not stop.is_set():
                    try:
                        await client.apply_event(instance_id, "ADD")
                    except OutcomeUnknownError:
                        unknown[instance_id] += 1
                    else:
                        acknowledged[instance_id] += 1
                        if acknowledged.total() == goal["count"]:
                            goal["reached"].set()

            async def watch() -> None:
                async with client.watch_all(machines=["counter"]) as changes:
                    began.set()
                    async for event in changes:
                        seen.append(event.wal_offset)
                        if event.payload is not None:
                            return

            async def some_more() -> None:
                goal["count"] = acknowledged.total() + 200
                goal["reached"] = reached = anyio.Event()
                await reached.wait()

            async with anyio.create_task_group() as watching:
                watching.start_soon(watch)
                await began.wait()
                async with anyio.create_task_group() as adding:
                    for instance_id in ids:
                        adding.start_soon(add, instance_id)
                    for _ in range(4):
                        await some_more()
                        await anyio.to_thread.run_sync(server.kill)
                        await anyio.to_thread.run_sync(server.start)
                    await some_more()
                    stop.set()
                await client.apply_event(ids[0], "ADD", payload={"last": True})
                acknowledged[ids[0]] += 1
            for instance_id in ids:
                page = await client.wal_read(instance_id=instance_id, limit=10_000)
                happened[instance_id] = [
                    one.offset for one in page.records if one.entry["type"] == "apply_event"
                ]

    try:
        anyio.run(main)
    finally:
        server.kill()
    for instance_id in ids:
        most = acknowledged[instance_id] + unknown[instance_id]
        assert acknowledged[instance_id] <= len(happened[instance_id]) <= most
    assert seen == sorted(offset for offsets in happened.values() for offset in offsets)
