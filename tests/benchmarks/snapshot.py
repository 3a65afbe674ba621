"""Latency while a snapshot of at least 200 MB is written, at half of saturation, in paired runs."""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from pathlib import Path

import msgspec

from tests.benchmarks import load
from tests.benchmarks.datasets import write_instances
from tests.server_process import ServerProcess

INSTANCES = 1_000_000
CONTEXT_BYTES = 420
CONNECTIONS = 64
EVENTS = ("PAY", "SHIP", "REOPEN")


def _batches() -> list[bytes]:
    """Requests that can be repeated: three events in one batch bring an instance back to its state."""
    return [
        load.request(
            "BATCH",
            mode="atomic",
            ops=[
                {"op": "APPLY_EVENT", "params": {"instance_id": f"order-{number:09}", "event": event}}
                for event in EVENTS
            ],
        )
        for number in range(CONNECTIONS)
    ]


def run(*, directory: Path, pairs: int = 3) -> None:
    """Print the row."""
    with tempfile.TemporaryDirectory(prefix="rstmdb-bench-", dir=directory) as name:
        folder = Path(name)
        size = write_instances(folder / "data", INSTANCES, ctx_bytes=CONTEXT_BYTES, random_text=True)
        config = folder / "rstmdb.yaml"
        config.write_text("compaction:\n  enabled: false\n")
        with ServerProcess(folder / "data", environ={"RSTMDB_CONFIG": str(config)}) as server:
            address = ("127.0.0.1", server.port)
            saturation = load.run(address, _batches(), seconds=3.0).rate
            rate = saturation / 2
            without: list[float] = []
            during: list[float] = []
            lasted: list[float] = []
            for _ in range(pairs):
                without.append(load.run_paced(address, _batches(), seconds=4.0, rate=rate).percentile(0.99))
                snapshot = Snapshot(server)
                result = load.run_paced(
                    address, _batches(), seconds=snapshot_seconds(lasted), rate=rate, during=snapshot.start
                )
                lasted.append(snapshot.wait())
                during.append(result.percentile(0.99))
            ratios = [with_ / bare for with_, bare in zip(during, without, strict=True)]
            ratio = statistics.median(ratios)
            print(
                f"snapshot of {size / 1e6:.0f} MB in {statistics.median(lasted):.1f} s"
                f" beside {rate:,.0f} batches/s"
                f" on {CONNECTIONS} connections: p99 {statistics.median(during) * 1e3:.1f} ms,"
                f" without {statistics.median(without) * 1e3:.1f} ms: {ratio:.2f}x (goal 1.5x, least 2x)"
                f"{'' if ratio <= 2 else '  below least'}"
            )


def snapshot_seconds(lasted: list[float]) -> float:
    """How long to measure: about as long as the snapshot took last time."""
    return max(2.0, lasted[-1] * 0.95) if lasted else 6.0


class Snapshot:
    """A COMPACT with force in another thread."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self._seconds = 0.0
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wait(self) -> float:
        """Wait for the end; returns the seconds it took."""
        self._thread.join()
        return self._seconds

    def _run(self) -> None:
        began = time.perf_counter()
        with self._server.connect(timeout=120) as sock:
            sock.sendall(load.request("COMPACT", force_snapshot=True))
            answer = sock.recv(65536)
        result = msgspec.json.decode(answer[18:])["result"]
        assert result["snapshots_created"] == 1
        self._seconds = time.perf_counter() - began
