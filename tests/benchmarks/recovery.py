"""Recovery: records a second with keys and indexes, a million instances from a snapshot, and their memory."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.datasets import write_instances, write_keyed_applies

MILLION = 1_000_000
INSTANCES = 20_000
APPLIES = 300_000

# In a process of its own, so that the memory is its own.
MEASURE = """
import gc, json, sys
sys.path.insert(0, {root!r})
from rstmdb_core import EngineSettings
from rstmdb_storage import LogConfig, OsFileSystem
from rstmdb_server.database import open_database
from rstmdb_server.tuning import freeze_memory
from tests.in_process import VirtualHost
import time

class Host(VirtualHost):
    def monotonic(self):
        return time.monotonic()

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

gc.disable()
before = resident()
database = open_database(
    Host(), OsFileSystem(), {path!r}, log_config=LogConfig(reserve_bytes=0), engine_settings=EngineSettings()
)
freeze_memory()
found = database.recovered
print(json.dumps(dict(
    seconds=found.seconds, records=found.records, instances=database.state.instance_count,
    keys=database.state.idempotency.count, memory=resident() - before,
)))
"""


def measure(path: Path, root: Path) -> dict[str, float]:
    """Open a data directory in a fresh process; returns what it says."""
    script = MEASURE.format(root=str(root), path=str(path))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def run(*, directory: Path) -> None:
    """Print the rows."""
    with tempfile.TemporaryDirectory(prefix="rstmdb-bench-", dir=directory) as name:
        folder = Path(name)
        write_keyed_applies(folder / "log", INSTANCES, APPLIES)
        best = min((measure(folder / "log", directory) for _ in range(3)), key=lambda found: found["seconds"])
        rate = best["records"] / best["seconds"]
        print(
            f"replay of {best['records']:,.0f} records, {best['keys']:,.0f} keys:"
            f" {rate:,.0f} records/s (goal 200,000, least 120,000){_verdict(rate >= 120_000)}"
        )
        size = write_instances(folder / "million", MILLION)
        found = min((measure(folder / "million", directory) for _ in range(2)), key=lambda f: f["seconds"])
        assert found["instances"] == MILLION
        each = found["memory"] / MILLION
        print(
            f"{MILLION:,} instances from a snapshot of {size / 1e6:.0f} MB:"
            f" {found['seconds']:.2f} s (goal 5 s, least 8 s){_verdict(found['seconds'] <= 8)}"
        )
        print(f"memory an instance: {each:.0f} bytes (goal 500, least 700){_verdict(each <= 700)}")


def _verdict(good: bool) -> str:
    return "" if good else "  below least"
