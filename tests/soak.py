"""``hatch run soak``: long fuzzing and simulation, before a release; two at a time, at low priority.

    python -m tests.soak [--minutes 60] [--only NAME ...]

Every part runs for the given time, from seeds of its own, and prints its figures; a failure ends the run with
a non-zero exit code and says how to repeat it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]


def parts(minutes: float, seed: int) -> dict[str, list[str]]:
    """Return the command of each part."""
    seconds = str(round(minutes * 60))
    simulate = ["-m", "tests.simulation"]
    return {
        "guards": ["packages/rstmdb-core/tests/fuzz_guards.py", "--seconds", seconds],
        "definitions": ["packages/rstmdb-core/tests/fuzz_definitions.py", "--seconds", seconds],
        "decoder": ["packages/rstmdb-protocol/tests/fuzz_decoder.py", "--seconds", seconds],
        "connection": ["-m", "tests.fuzz.fuzz_server", "--seconds", seconds],
        # Other parts run beside it, so latencies say less here than in a run of its own.
        "peers": ["-m", "tests.fuzz.fuzz_peers", "--seconds", seconds, "--p99-ratio", "3"],
        "watcher": ["-m", "pytest", "tests/e2e/test_watches.py", "-k", "stops_reading", "-n", "0", "-s"],
        "server": [*simulate, "server", "--minutes", str(minutes), "--seed", str(seed)],
        "storage": [*simulate, "storage", "--minutes", str(minutes), "--seed", str(seed)],
        "kills": ["-m", "tests.crash", "--kills", str(max(8, round(minutes * 40))), "--seed", str(seed)],
    }


def run_part(name: str, command: list[str]) -> bool:
    """Run a part; returns whether it was clean."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "RSTMDB_STALL_SECONDS": "60"},
        preexec_fn=lambda: os.nice(19),
    )
    # A fuzzer tells its statistics on one stream and what it found on the other: the end of both.
    kept = 12 if done.returncode == 0 else 60
    lines = [line for text in (done.stderr, done.stdout) for line in text.strip().splitlines()[-kept:]]
    print(
        f"== {name}: {'clean' if done.returncode == 0 else 'FAILED'} after {time.monotonic() - began:.0f} s"
    )
    print("\n".join(lines), flush=True)
    if done.returncode != 0:
        print(f"repeat: python {' '.join(command)}", flush=True)
    return done.returncode == 0


def main() -> int:
    """Run the parts that were named, or all."""
    parser = argparse.ArgumentParser(prog="hatch run soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="for each part")
    parser.add_argument("--only", action="append", metavar="NAME", help="a part; may be given again")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    commands = parts(options.minutes, options.seed)
    chosen = options.only or list(commands)
    unknown = set(chosen) - commands.keys()
    if unknown:
        parser.error(f"no part {min(unknown)!r}: {', '.join(commands)}")
    with ThreadPoolExecutor(2) as pool:
        clean = list(pool.map(lambda name: run_part(name, commands[name]), chosen))
    return 0 if all(clean) else 1


if __name__ == "__main__":
    sys.exit(main())
