"""Hostile peers over TCP, and a well-behaved client beside them.

    python -m tests.fuzz.fuzz_peers --seconds 60 [--seed N] [--p99-ratio 1.2]

Attackers send random and mutated conversations to a real server, at a steady pace, each on a stream of its
own. Meanwhile one client applies events. Windows with and without the attackers alternate, so that the two
latencies that are compared were measured within the same seconds. The client must never see an error; its p99
with them is printed beside that without, and may be at most so many times it.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import socket
import sys
import threading
import time

import msgspec

from tests.fuzz.fuzz_server import seeds
from tests.fuzz.mutation import mutated
from tests.server_process import ServerProcess, running_server
from tests.wire import ORDER, Wire

WINDOW_SECONDS = 0.5
ATTACKS_A_SECOND = 100


class Outcome(msgspec.Struct):
    """What a run measured; seconds."""

    attacks: int
    requests: int
    p99_alone: float
    p99_beside: float

    @property
    def ratio(self) -> float:
        return self.p99_beside / self.p99_alone


class Attackers:
    """One thread that attacks while it is let."""

    def __init__(self, port: int, seed: int) -> None:
        self.attacks = 0
        self._port = port
        self._random = random.Random(seed)
        self._seeds = [s[1:] for s in seeds()]
        self._go, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            if self._go.wait(0.05):
                with contextlib.suppress(OSError):
                    self._attack()
                self.attacks += 1
                self._stop.wait(1 / ATTACKS_A_SECOND)

    def _attack(self) -> None:
        rng = self._random
        data = (
            rng.randbytes(rng.randrange(200)) if rng.random() < 0.2 else mutated(rng, rng.choice(self._seeds))
        )
        # What would change the machine that the client works with is not what is measured.
        data = data.replace(b"FLUSH_ALL", b"FLUSH_SOME")
        with socket.create_connection(("127.0.0.1", self._port), timeout=5) as sock:
            cut = rng.randrange(len(data) + 1)
            sock.sendall(data[:cut])
            sock.sendall(data[cut:])
            if rng.random() < 0.5:
                sock.settimeout(0.02)
                with contextlib.suppress(TimeoutError):
                    sock.recv(65_536)

    def attack(self, go: bool) -> None:
        """Begin, or pause."""
        self._go.set() if go else self._go.clear()

    def end(self) -> None:
        """Stop for good."""
        self._stop.set()
        self._go.set()
        self._thread.join()


def run(server: ServerProcess, seconds: float, seed: int) -> Outcome:
    """Attack a server for so long; raises when the client sees an error."""
    latencies: dict[bool, list[float]] = {False: [], True: []}
    with Wire(server.port) as client:
        client.call("PUT_MACHINE", machine="mine", version=1, definition=ORDER)
        client.call("CREATE_INSTANCE", machine="mine", version=1, instance_id="mine")
        attackers = Attackers(server.port, seed)
        try:
            deadline = time.monotonic() + seconds
            attacked = False
            while time.monotonic() < deadline:
                attacked = not attacked
                attackers.attack(attacked)
                window = time.monotonic() + WINDOW_SECONDS
                while (began := time.monotonic()) < window:
                    client.call("APPLY_EVENT", instance_id="mine", event="NOTE", payload={"n": 1})
                    latencies[attacked].append(time.monotonic() - began)
        finally:
            attackers.end()
        history = client.call("WAL_READ", from_offset=0, instance_id="mine", limit=1)
        assert history["records"], "the log can be read"
    return Outcome(
        attacks=attackers.attacks,
        requests=sum(map(len, latencies.values())),
        p99_alone=_p99(latencies[False]),
        p99_beside=_p99(latencies[True]),
    )


def _p99(seconds: list[float]) -> float:
    return sorted(seconds)[len(seconds) * 99 // 100]


def main() -> int:
    """Attack a server of our own."""
    parser = argparse.ArgumentParser(description="Attack a real server beside a well-behaved client.")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--p99-ratio", type=float, default=1.2, help="at most so much slower (default: 1.2)")
    options = parser.parse_args()
    with running_server() as server:
        outcome = run(server, options.seconds, options.seed)
        code = server.stop()
        clean = code == 0 and "Traceback" not in server.output and "operation failed" not in server.output
    print(
        f"seed {options.seed}: {outcome.attacks} attacks beside {outcome.requests} requests; p99"
        f" {outcome.p99_alone * 1000:.3f} ms alone, {outcome.p99_beside * 1000:.3f} ms beside them,"
        f" ratio {outcome.ratio:.2f}"
    )
    if not clean:
        print(server.output)
    return 0 if clean and outcome.ratio <= options.p99_ratio else 1


if __name__ == "__main__":
    sys.exit(main())
