"""Thousands of broken connections: whatever breaks where, the caller is told the truth.

*done*: the event was applied exactly once. *nothing*: it was not applied. *unknown*: once or not at all.
With durable keys a call that had been connected before ends in *done*; without them it never sends twice.
"""

import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from behaviour import async_faults, sync_faults
from behaviour.async_cases import ORDER
from client_doubles.database import ModelDatabase
from client_doubles.proxy import Fault, FaultProxy, proxied
from client_doubles.server import ModelServer, serving

from rstmdb_client import Client, OutcomeUnknownError, RetryPolicy

LOOPS: dict[str, dict[str, Any]] = {
    "asyncio": {"backend": "asyncio"},
    "uvloop": {"backend": "asyncio", "backend_options": {"use_uvloop": True}},
    "trio": {"backend": "trio"},
}


def runner(face: str, module: Any, name: str) -> Callable[..., Any]:
    """Return a function that runs a case on one face, whatever that face is."""
    if face == "sync":
        run: Callable[..., Any] = getattr(sync_faults, name)
        return run
    function = getattr(async_faults, name)

    def run_async(*args: Any, **options: Any) -> Any:
        async def main() -> Any:
            return await function(*args, **options)

        return anyio.run(main, **LOOPS[face])

    return run_async


_numbers = itertools.count()


def new_order(server: ModelServer) -> str:
    name = f"o-{next(_numbers)}"
    server.execute("CREATE_INSTANCE", machine="order", version=1, instance_id=name)
    return name


def measure(proxy: FaultProxy, server: ModelServer) -> tuple[int, int]:
    """Return how many bytes a conversation sends up and down until its call is answered."""
    with Client(proxy.url) as client:
        client.apply_event(new_order(server), "PAY")
        return proxy.passed["up"], proxy.passed["down"]


@pytest.mark.parametrize("action", ["close", "reset"])
@pytest.mark.parametrize(("face", "stride"), [("asyncio", 1), ("sync", 1), ("uvloop", 5), ("trio", 5)])
@pytest.mark.parametrize("durable", [True, False], ids=["durable", "original"])
def test_cut_at_every_byte(face: str, stride: int, action: str, durable: bool) -> None:
    apply_once = runner(face, async_faults, "apply_once")
    told: Counter[str] = Counter()
    with serving(ModelDatabase(original=not durable)) as server, proxied(server) as proxy:
        server.execute("PUT_MACHINE", machine="order", version=1, definition=ORDER)
        up, down = measure(proxy, server)
        beyond = 50  # into the goodbye
        points = [("up", n) for n in range(0, up + beyond, stride)] + [
            ("down", n) for n in range(0, down + beyond, stride)
        ]
        for direction, after in points:
            instance_id = new_order(server)
            proxy.plan[:] = [Fault(direction, after, action)]
            outcome = apply_once(proxy.url, instance_id)
            happened = server.database.instances[instance_id]["events"]
            told[outcome] += 1
            allowed = {"done": (1,), "nothing": (0,), "unknown": (0, 1)}[outcome]
            assert happened in allowed, (direction, after, outcome, happened)
            proxy.plan.clear()
        assert told["done"] > 0
        assert told["nothing"] > 0, "cuts in the greeting"
        if durable:
            assert told["unknown"] == 0
        else:
            assert told["unknown"] > 0


@pytest.mark.parametrize("face", ["asyncio", "sync"])
def test_cut_again_and_again(face: str) -> None:
    apply_once = runner(face, async_faults, "apply_once")
    with serving() as server, proxied(server) as proxy:
        server.execute("PUT_MACHINE", machine="order", version=1, definition=ORDER)
        up, down = measure(proxy, server)
        for first, second in zip(range(up - 150, up + 1, 3), range(down - 60, down + 1), strict=False):
            instance_id = new_order(server)
            proxy.plan[:] = [Fault("up", first), Fault("down", second, "reset"), Fault("up", second % 40)]
            assert apply_once(proxy.url, instance_id) == "done"
            assert server.database.instances[instance_id]["events"] == 1


def test_the_key_of_an_unknown_outcome_is_told() -> None:
    eager = RetryPolicy(attempts_max=3, backoff_secs=0.0, backoff_secs_max=0.0)
    with serving() as server, proxied(server) as proxy:
        server.execute("PUT_MACHINE", machine="order", version=1, definition=ORDER)
        up, _ = measure(proxy, server)
        instance_id = new_order(server)
        proxy.plan[:] = [Fault("up", up), *[Fault("up", 0)] * 5]
        with Client(proxy.url, retry=eager) as client:
            with pytest.raises(OutcomeUnknownError) as unknown:
                client.apply_event(instance_id, "PAY")
            proxy.plan.clear()
            key = unknown.value.idempotency_key
            assert key is not None
            # The same call under the same key tells what became of it, and changes nothing more.
            client.apply_event(instance_id, "PAY", idempotency_key=key)
        assert server.database.instances[instance_id]["events"] == 1


@pytest.mark.parametrize("face", ["asyncio", "uvloop", "trio", "sync"])
def test_stall(face: str) -> None:
    call_after_fault = runner(face, async_faults, "call_after_fault")
    with serving() as server, proxied(server) as proxy:
        server.execute("PUT_MACHINE", machine="order", version=1, definition=ORDER)
        up, down = measure(proxy, server)
        for direction, total in (("up", up), ("down", down)):
            for after in (3, total // 2, total - 100, total - 30, total - 1):
                instance_id = new_order(server)
                proxy.plan[:] = [Fault(direction, after, "stall")]
                told = call_after_fault(proxy.url, instance_id, timeout=0.1)
                happened = server.database.instances[instance_id]["events"]
                assert happened in {"done": (1,), "nothing": (0,), "unknown": (0, 1)}[told]
                assert told != "done"


@pytest.mark.parametrize("face", ["asyncio", "sync"])
def test_byte_by_byte(face: str) -> None:
    apply_once = runner(face, async_faults, "apply_once")
    with serving() as server, proxied(server) as proxy:
        server.execute("PUT_MACHINE", machine="order", version=1, definition=ORDER)
        proxy.byte_by_byte = True
        instance_id = new_order(server)
        assert apply_once(proxy.url, instance_id) == "done"


@pytest.mark.parametrize(("face", "stride"), [("asyncio", 17), ("sync", 11), ("uvloop", 67), ("trio", 67)])
def test_watch_cut_anywhere(face: str, stride: int) -> None:
    watch = runner(face, async_faults, "watch_through_faults")
    with serving() as server, proxied(server) as proxy:
        server.execute("PUT_MACHINE", machine="order", version=1, definition=ORDER)
        count = 9
        instance_id = new_order(server)
        watch(proxy.url, instance_id, server.execute, count)
        greeting = 420
        for after in range(greeting, proxy.passed["down"], stride):
            instance_id = new_order(server)
            # The first connection carries calls; those after it belong to the watch.
            proxy.plan[:] = [
                Fault("up", 1 << 30),
                Fault("down", after),
                Fault("down", after // 2, "reset"),
                Fault("down", greeting + after // 3),
                Fault("down", after // 3, "reset"),
            ]
            offsets = watch(proxy.url, instance_id, server.execute, count)
            expected = [
                effect["wal_offset"]
                for effect in server.database.log
                if effect["kind"] == "apply" and effect["instance_id"] == instance_id
            ]
            assert offsets == expected, after
            proxy.plan.clear()
