"""Durable throughput beside Redis and PostgreSQL, alternating in one run: medians and ratios."""

from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks import load
from tests.benchmarks.peers import Postgres, postgres, redis, redis_command
from tests.server_process import ServerProcess

MACHINE = {
    "states": ["a", "b"],
    "initial": "a",
    "transitions": [{"from": "a", "event": "GO", "to": "b"}, {"from": "b", "event": "GO", "to": "a"}],
}
INSTANCES = 256


class Bench:
    """The three servers and what is asked of them."""

    def __init__(
        self, ours: ServerProcess, redis_port: int, peer: Postgres | None, *, seconds: float
    ) -> None:
        self.ours = ours
        self.address = ("127.0.0.1", ours.port)
        self.redis = ("127.0.0.1", redis_port)
        self.postgres = peer
        self.seconds = seconds

    def prepare(self) -> None:
        """Register the machine and make the instances."""
        with self.ours.connect() as sock:
            sock.sendall(load.request("PUT_MACHINE", machine="bench", version=1, definition=MACHINE))
            for number in range(INSTANCES):
                sock.sendall(
                    load.request(
                        "CREATE_INSTANCE",
                        machine="bench",
                        version=1,
                        instance_id=f"i{number}",
                        initial_ctx={"customer": "alice", "amount": 99.5},
                    )
                )
            received, answers = bytearray(), 0
            while answers < INSTANCES + 1:
                received += sock.recv(65536)
                count, used = load.count_frames(received)
                del received[:used]
                answers += count

    def applies(self, clients: int, in_flight: int = 1) -> load.Result:
        """Applies on as many sockets."""
        requests = [
            load.request("APPLY_EVENT", instance_id=f"i{n}", event="GO", payload={"n": 1})
            for n in range(clients)
        ]
        return load.run(self.address, requests, seconds=self.seconds, in_flight=in_flight)

    def sets(self, clients: int, in_flight: int = 1) -> load.Result:
        """Redis SETs of a hundred bytes."""
        requests = [redis_command("SET", f"i{n}", "x" * 100) for n in range(clients)]
        return load.run(
            self.redis,
            requests,
            seconds=self.seconds,
            in_flight=in_flight,
            counter=load.count_simple_replies,
        )

    def gets(self) -> load.Result:
        """GET_INSTANCE on 64 sockets."""
        requests = [load.request("GET_INSTANCE", instance_id=f"i{n}") for n in range(64)]
        return load.run(self.address, requests, seconds=self.seconds)

    def redis_gets(self) -> load.Result:
        """Redis GET on 64 sockets."""
        requests = [redis_command("GET", f"i{n}") for n in range(64)]
        return load.run(self.redis, requests, seconds=self.seconds, counter=load.count_simple_replies)


def raw_sync_seconds(folder: Path, writes: int = 2000) -> float:
    """Median of pwrite + fdatasync into a preallocated file: the least that a durable answer can take."""
    path = folder / "raw"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        os.pwrite(descriptor, bytes(4 << 20), 0)
        os.fsync(descriptor)
        times = []
        for number in range(writes):
            began = time.perf_counter()
            os.pwrite(descriptor, b"x" * 300, number * 304)
            os.fdatasync(descriptor)
            times.append(time.perf_counter() - began)
    finally:
        os.close(descriptor)
        path.unlink()
    return statistics.median(times)


def _medians(runs: list[Callable[[], float]], rounds: int) -> list[float]:
    """Alternate the measurements, so that a noisy moment hits all of them, and take medians.

    Each round begins with another one: what a server leaves for the disk to do falls on its successor.
    """
    samples: list[list[float]] = [[] for _ in runs]
    for number in range(rounds):
        for turn in range(len(runs)):
            at = (number + turn) % len(runs)
            samples[at].append(runs[at]())
    return [statistics.median(sample) for sample in samples]


def run(*, seconds: float, rounds: int, directory: Path) -> None:
    """Print the table."""
    with (
        tempfile.TemporaryDirectory(prefix="rstmdb-bench-", dir=directory) as name,
        contextlib.ExitStack() as stack,
    ):
        folder = Path(name)
        folder.chmod(0o755)
        redis_port = stack.enter_context(redis(folder / "redis"))
        peer = stack.enter_context(postgres(folder / "postgres"))
        ours = stack.enter_context(ServerProcess(folder / "data"))
        bench = Bench(ours, redis_port, peer, seconds=seconds)
        bench.prepare()
        print(
            f"{rounds} rounds of {seconds} s each, alternating; medians; fsync before each answer everywhere"
        )
        raw = raw_sync_seconds(folder)
        print(f"{'':34} {'ours/s':>10} {'peer/s':>10} {'ratio':>7}  {'goal':>6} {'least':>6}")

        def row(title: str, values: list[float], goal: float, least: float, peer_at: int = 1) -> None:
            ratio = values[0] / values[peer_at]
            verdict = "" if ratio >= least else "  below least"
            print(
                f"{title:34} {values[0]:10,.0f} {values[peer_at]:10,.0f} {ratio:6.2f}x"
                f"  {goal:5.2f}x {least:5.2f}x{verdict}",
                flush=True,
            )

        for clients, goal, least in ((1, 1.2, 1.0), (64, 1.0, 0.7), (256, 0.9, 0.55)):
            values = _medians(
                [
                    lambda clients=clients: bench.applies(clients).rate,
                    lambda clients=clients: bench.sets(clients).rate,
                    lambda clients=clients: peer.rate(clients, seconds),
                ],
                rounds,
            )
            row(f"applies, {clients} connections, Redis", values, goal, least)
            if clients > 1:
                row(f"applies, {clients} connections, PostgreSQL", values, 8.0, 5.0, peer_at=2)
        values = _medians(
            [
                lambda: bench.applies(16, 64).rate,
                lambda: peer.rate(64, seconds),
                lambda: bench.sets(16, 64).rate,
            ],
            rounds,
        )
        row("applies, 16 x 64 in flight, PG at 64", values, 16.0, 12.0)
        print(f"{'  (Redis pipelined likewise)':34} {'':10} {values[2]:10,.0f} {values[0] / values[2]:6.2f}x")
        row(
            "GET_INSTANCE, 64, Redis GET",
            _medians([lambda: bench.gets().rate, lambda: bench.redis_gets().rate], rounds),
            0.7,
            0.5,
        )
        raw = statistics.median([raw, raw_sync_seconds(folder)])
        p50 = statistics.median([bench.applies(1).percentile(0.5) for _ in range(rounds)])
        ratio = p50 / raw
        print(
            f"p50 at 1 connection: {p50 * 1e6:.0f} µs, pwrite + fdatasync {raw * 1e6:.0f} µs: {ratio:.2f}x"
            f" (goal 2x, least 3x){'' if ratio <= 3 else '  below least'}"
        )
