"""Compares this client with the published one (`rstmdb` 0.2.1) on the same server in the same run.

    python packages/rstmdb-client/benchmarks/compare_published.py [calls]

Prints calls a second and the ratio, median of three interleaved rounds: 64 tasks on one connection, and one
call after the other; APPLY_EVENT (durable: the server syncs before each answer) and GET_INSTANCE; asyncio and
uvloop. The server runs on the same machine, so with two cores it is the bottleneck of APPLY_EVENT: the last
column says how much processor time each client itself takes for a call.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import rstmdb
import uvloop

from rstmdb_client import AsyncClient, Client
from rstmdb_client.testing import RstmdbServer

MACHINE = {"states": ["a"], "initial": "a", "transitions": [{"from": ["a"], "event": "E", "to": "a"}]}
IDS = [f"i{number}" for number in range(64)]
ROUNDS = 3

Figures = tuple[float, float]


async def drive(client: Any, operation: str, calls: int, tasks: int) -> Figures:
    """Return calls a second, and microseconds of processor time a call."""

    def call(instance_id: str) -> Awaitable[Any]:
        if operation == "get":
            found: Awaitable[Any] = client.get_instance(instance_id)
            return found
        applied: Awaitable[Any] = client.apply_event(instance_id, "E", payload={"n": 1})
        return applied

    async def task(instance_id: str, count: int) -> None:
        for _ in range(count):
            await call(instance_id)

    await asyncio.gather(*[task(IDS[number], 5) for number in range(tasks)])
    processor, started = time.process_time(), time.perf_counter()
    await asyncio.gather(*[task(IDS[number], calls // tasks) for number in range(tasks)])
    seconds, processor = time.perf_counter() - started, time.process_time() - processor
    done = calls // tasks * tasks
    return done / seconds, processor / done * 1e6


async def ours(port: int, operation: str, calls: int, tasks: int) -> Figures:
    """Measure this client."""
    async with AsyncClient(port=port) as client:
        return await drive(client, operation, calls, tasks)


async def theirs(port: int, operation: str, calls: int, tasks: int) -> Figures:
    """Measure the published client."""
    client = rstmdb.Client("127.0.0.1", port)
    await client.connect()
    try:
        return await drive(client, operation, calls, tasks)
    finally:
        await client.close()


def main(calls: int) -> None:
    """Start a server, measure, print."""
    server = RstmdbServer(Path(tempfile.mkdtemp(prefix="rstmdb-compare-")))
    server.start()
    loops: dict[str, Callable[[Any], Figures]] = {"asyncio": asyncio.run, "uvloop": uvloop.run}
    try:
        with Client(server.url) as client:
            client.put_machine("m", 1, MACHINE)
            for instance_id in IDS:
                client.create_instance("m", 1, instance_id=instance_id)
        for name, run in loops.items():
            for operation in ("apply", "get"):
                for tasks in (64, 1):
                    count = calls if tasks == 64 else calls // 8
                    rounds = [
                        (
                            run(ours(server.port, operation, count, tasks)),
                            run(theirs(server.port, operation, count, tasks)),
                        )
                        for _ in range(ROUNDS)
                    ]
                    mine, published = (
                        tuple(statistics.median(pair[side][figure] for pair in rounds) for figure in (0, 1))
                        for side in (0, 1)
                    )
                    ratio = statistics.median(pair[0][0] / pair[1][0] for pair in rounds)
                    sys.stdout.write(
                        f"{name:8} {operation:6} {tasks:3} in flight: {mine[0]:8,.0f}/s,"
                        f" published {published[0]:7,.0f}/s, {ratio:5.2f}x;"
                        f" processor time a call {mine[1]:5.1f} us, published {published[1]:5.1f} us\n"
                    )
    finally:
        server.stop()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 8000)
