"""Many at once: tasks, threads, cancellation, time-outs, memory."""

import gc
import os
import threading
import time
import traceback
import tracemalloc
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread
import pytest
from behaviour.async_cases import ORDER
from client_doubles.server import ModelServer

from rstmdb_client import (
    AsyncClient,
    AsyncPool,
    Client,
    ConnectionFailed,
    HistoryCompacted,
    OutcomeUnknownError,
    Pool,
    PoolClosed,
    PoolTimeout,
    RequestTimeout,
    RetryPolicy,
    RstmdbError,
)

BACKENDS = [
    pytest.param({"backend": "asyncio"}, id="asyncio"),
    pytest.param({"backend": "asyncio", "backend_options": {"use_uvloop": True}}, id="uvloop"),
    pytest.param({"backend": "trio"}, id="trio"),
]


def come_true(condition: Callable[[], bool]) -> bool:
    """Wait for the server's thread; returns whether it has happened within some seconds."""
    deadline = time.monotonic() + 5
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.001)
    return condition()


@pytest.mark.parametrize("loop", BACKENDS)
def test_ten_thousand_tasks_on_one_connection(server: ModelServer, loop: dict[str, Any]) -> None:
    results: list[float] = []

    async def main() -> None:
        async with AsyncClient(server.url) as client:
            await client.put_machine("order", 1, ORDER)

            async def one(number: int) -> None:
                created = await client.create_instance(
                    "order", 1, instance_id=f"o-{number}", ctx={"n": number}
                )
                assert created.instance_id == f"o-{number}"
                results.append(created.wal_offset)

            measured = loop == {"backend": "asyncio"}
            if measured:
                tracemalloc.start()
            async with anyio.create_task_group() as tasks:
                for number in range(10_000):
                    tasks.start_soon(one, number)
            if measured:
                _, peak = tracemalloc.get_traced_memory()
                tracemalloc.stop()
                # A task, its request and its answer: a few kilobytes each, the model server's included.
                assert peak < 160 << 20

    anyio.run(main, **loop)
    assert len(set(results)) == 10_000
    assert server.accepted == 1


@pytest.mark.parametrize("loop", BACKENDS)
def test_large_requests_wait_for_room(server: ModelServer, loop: dict[str, Any]) -> None:
    async def main() -> None:
        async with AsyncClient(server.url) as client:
            await client.put_machine("order", 1, ORDER)

            async def one(number: int) -> None:
                text = str(number) * 100_000
                created = await client.create_instance("order", 1, ctx={"text": text})
                assert (await client.get_instance(created.instance_id)).ctx == {"text": text}

            async with anyio.create_task_group() as tasks:
                for number in range(60):
                    tasks.start_soon(one, number)

    anyio.run(main, **loop)


@pytest.mark.parametrize("loop", BACKENDS)
def test_cancelled_tasks_leave_the_stream_whole(server: ModelServer, loop: dict[str, Any]) -> None:
    async def main() -> None:
        async with AsyncClient(server.url) as client:
            await client.put_machine("order", 1, ORDER)
            for number in range(200):
                with anyio.move_on_after(0.00005 * (number % 20)):
                    async with anyio.create_task_group() as tasks:
                        for _ in range(5):
                            tasks.start_soon(client.get_machine, "order", 1)
                assert (await client.get_machine("order", 1)).definition == ORDER
        assert server.accepted == 1

    anyio.run(main, **loop)


@pytest.mark.parametrize("loop", BACKENDS)
def test_a_late_answer_belongs_to_nobody(server: ModelServer, loop: dict[str, Any]) -> None:
    async def main() -> None:
        async with AsyncClient(server.url, retry=RetryPolicy(attempts_max=1)) as client:
            await client.put_machine("order", 1, ORDER)
            server.silent = True
            with pytest.raises(RequestTimeout) as late:
                await client.get_machine("order", 1, timeout=0.05)
            assert (late.value.operation, late.value.timeout) == ("GET_MACHINE", 0.05)
            with pytest.raises(OutcomeUnknownError):
                await client.create_instance("order", 1, timeout=0.05)
            server.silent = False
            assert (await client.get_machine("order", 1)).definition == ORDER

    anyio.run(main, **loop)


def test_threads_share_a_client(server: ModelServer) -> None:
    with Client(server.url) as client:
        client.put_machine("order", 1, ORDER)
        failed: list[BaseException] = []

        def work(number: int) -> None:
            try:
                for turn in range(30):
                    name = f"t-{number}-{turn}"
                    assert client.create_instance("order", 1, instance_id=name).instance_id == name
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        assert server.accepted == 1


def test_closing_wakes_a_waiting_thread(server: ModelServer) -> None:
    client = Client(server.url)
    client.ping()
    server.silent = True
    told: list[BaseException] = []

    def work() -> None:
        try:
            client.ping(timeout=30)
        except RstmdbError as error:
            told.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while len(server.requests) < 3:  # HELLO, PING, PING
        pass
    client.close()
    thread.join(10)
    assert isinstance(told[0], ConnectionFailed)


def test_a_forked_child_makes_its_own_connection(server: ModelServer) -> None:
    with Client(server.url) as client:
        client.put_machine("order", 1, ORDER)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                answer = client.create_instance("order", 1, instance_id="child").instance_id
                client.close()
            except BaseException as error:
                answer = repr(error)
            os.write(write, answer.encode())
            os._exit(0)
        os.waitpid(child, 0)
        assert os.read(read, 1000) == b"child"
        os.close(read)
        os.close(write)
        assert client.get_instance("child").state == "created"
        assert server.accepted == 2


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_one_client_in_one_event_loop_after_another(server: ModelServer) -> None:
    # The first loop ends with its connection open; the next makes its own.
    client = AsyncClient(server.url)
    for uvloop in (False, True, False):
        anyio.run(client.ping, backend_options={"use_uvloop": uvloop})
    assert server.accepted == 3
    anyio.run(client.close)
    del client
    gc.collect()


def test_two_event_loops_at_a_time_are_refused(server: ModelServer) -> None:
    client = AsyncClient(server.url)

    async def main() -> None:
        await client.ping()

        def elsewhere() -> None:
            with pytest.raises(RuntimeError, match="another event loop"):
                anyio.run(client.ping)

        await anyio.to_thread.run_sync(elsewhere)
        await client.close()

    anyio.run(main)


@pytest.mark.parametrize("face", ["sync", "asyncio"])
def test_memory_does_not_grow_with_calls(server: ModelServer, face: str) -> None:
    def keep_clean() -> None:
        server.requests.clear()

    grown: list[int] = []

    def measure() -> int:
        gc.collect()
        server.call(keep_clean)
        return tracemalloc.get_traced_memory()[0]

    calls = 2000
    if face == "sync":
        with Client(server.url) as client:
            tracemalloc.start()
            for round_number in range(4):
                before = measure()
                for _ in range(calls):
                    client.ping()
                if round_number:
                    grown.append(measure() - before)
    else:

        async def main() -> None:
            async with AsyncClient(server.url) as client:
                tracemalloc.start()
                for round_number in range(4):
                    before = measure()
                    for _ in range(calls):
                        await client.ping()
                    if round_number:
                        grown.append(measure() - before)

        anyio.run(main)
    tracemalloc.stop()
    # 1 MiB for each 100,000 calls.
    assert min(grown) < (1 << 20) * calls / 100_000


def test_sync_pool_among_threads(server: ModelServer) -> None:
    with Pool(server.url, min_size=1, max_size=3) as pool:
        barrier = threading.Barrier(8)
        errors: list[BaseException] = []

        def work() -> None:
            barrier.wait()
            try:
                for _ in range(20):
                    with pool.client() as client:
                        client.ping()
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        stats = pool.stats()
        assert errors == []
        assert (stats.acquired_total, stats.lent, stats.waiting) == (160, 0, 0)
        assert stats.size == stats.idle <= 3
        assert stats.waited_total > 0


@pytest.mark.parametrize("loop", BACKENDS)
def test_async_pool(server: ModelServer, loop: dict[str, Any]) -> None:
    async def main() -> None:
        pool = AsyncPool(server.url, min_size=0, max_size=1, acquire_timeout=5, check_after_secs=0.0)
        async with pool:
            async with pool.client() as first:
                with pytest.raises(PoolTimeout):
                    async with pool.client(timeout=0.01):
                        pass
                with anyio.move_on_after(0.02):
                    async with pool.client():
                        pass
                assert pool.stats().waiting == 0
            server.drop_connections()
            async with pool.client() as second:
                await second.ping()
                # A client reconnects by itself, so the pool need not replace it.
                assert pool.stats().created_total == 1
                assert first is second
            async with anyio.create_task_group() as tasks:

                async def borrow() -> None:
                    async with pool.client() as client:
                        await client.ping()

                for _ in range(10):
                    tasks.start_soon(borrow)
            assert pool.stats().size == 1
            async with pool.client():
                assert not await pool.drain(timeout=0.01)
                with pytest.raises(PoolClosed):
                    async with pool.client():
                        pass
            assert pool.stats().size == 0

    anyio.run(main, **loop)


def test_pool_sizes_and_ages(server: ModelServer) -> None:
    for wrong in ({"min_size": 2, "max_size": 1}, {"max_size": 0, "min_size": 0}, {"min_size": -1}):
        with pytest.raises(ValueError, match="pool"):
            Pool(server.url, **wrong)
    with Pool(server.url, min_size=1, max_size=2, lifetime_secs_max=0.0) as pool:
        with pool.client() as client:
            client.ping()
        assert pool.stats().closed_total >= 1
    with Pool(server.url, min_size=0, max_size=3, idle_secs_max=0.0) as pool:
        with pool.client(), pool.client():
            pass
        assert pool.stats().size <= 1
    with pytest.raises(ConnectionFailed):
        Pool("rstmdb://127.0.0.1:1").open()


@pytest.mark.parametrize("loop", BACKENDS)
def test_a_pool_gets_back_what_was_lent_to_the_cancelled(server: ModelServer, loop: dict[str, Any]) -> None:
    async def main() -> None:
        async with AsyncPool(server.url, min_size=0, max_size=2, acquire_timeout=5) as pool:
            for _ in range(4):
                with anyio.CancelScope() as scope:
                    async with pool.client():
                        scope.cancel()
                        await anyio.sleep(5)
            async with pool.client() as client:
                await client.ping()
            # Also while its connection is made, and while it is checked.
            server.mute = server.silent = True
            pool._check_after_secs = 0.0
            for _ in range(4):
                with anyio.move_on_after(0.02):
                    async with pool.client(), pool.client():
                        pass
            server.mute = server.silent = False
            async with pool.client() as client, pool.client() as other:
                await client.ping()
                await other.ping()
        assert pool.stats().size == 0

    anyio.run(main, **loop)
    assert come_true(lambda: not server.connections)


@pytest.mark.parametrize("loop", BACKENDS)
def test_closing_happens_also_for_the_cancelled(server: ModelServer, loop: dict[str, Any]) -> None:
    async def main() -> None:
        for _ in range(3):
            with anyio.CancelScope() as scope:
                async with AsyncClient(server.url) as client, client.watch_all():
                    forgotten = client.watch_all()
                    await forgotten.start()
                    scope.cancel()
                    await anyio.sleep(5)
            with anyio.CancelScope() as scope:
                async with AsyncPool(server.url, min_size=2):
                    scope.cancel()
                    await anyio.sleep(5)

    gc.collect()
    gc.disable()
    try:
        anyio.run(main, **loop)
        # Each said goodbye, and is gone before anything is collected.
        assert come_true(lambda: not server.connections)
        assert [request["op"] for request in server.requests].count("BYE") == 3 * 5
    finally:
        gc.enable()


@pytest.mark.parametrize("loop", BACKENDS)
def test_calls_that_gave_up_waiting_for_room_are_forgotten(server: ModelServer, loop: dict[str, Any]) -> None:
    async def main() -> None:
        async with AsyncClient(server.url) as client:
            await client.ping()
            link = client._link
            assert link is not None
            assert link._pipe is not None
            link._pipe.writable = False
            for _ in range(20):
                with pytest.raises(RequestTimeout):
                    await client.ping(timeout=0.001)
            with anyio.move_on_after(0.001):
                await client.ping()
            assert not link._room
            link._pipe.writable = True
            await client.ping()

    anyio.run(main, **loop)


@pytest.mark.parametrize("loop", BACKENDS)
def test_each_call_that_a_lost_connection_fails_has_its_own_error(
    server: ModelServer, loop: dict[str, Any]
) -> None:
    errors: list[ConnectionFailed] = []

    async def main() -> None:
        async with AsyncClient(server.url, retry=RetryPolicy(attempts_max=1)) as client:
            await client.ping()
            server.silent = True

            async def one() -> None:
                with pytest.raises(ConnectionFailed) as caught:
                    await client.ping()
                errors.append(caught.value)

            async with anyio.create_task_group() as tasks:
                for _ in range(50):
                    tasks.start_soon(one)
                await anyio.to_thread.run_sync(come_true, lambda: len(server.requests) >= 52)
                server.drop_connections()

    anyio.run(main, **loop)
    assert len({id(error) for error in errors}) == len(errors) == 50
    lengths = {len(list(traceback.walk_tb(error.__traceback__))) for error in errors}
    assert max(lengths) < 10


def test_a_watch_that_is_refused_leaves_no_connection(server: ModelServer) -> None:
    with Client(server.url) as client:
        client.ping()
        server.database.oldest = 5
        for _ in range(3):
            with pytest.raises(HistoryCompacted):
                client.watch_all(from_offset=1).start()
            assert come_true(lambda: len(server.connections) == 1)
