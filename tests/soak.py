"""``hatch run soak``: long fuzzing and simulation, before a release; two at a time, at low priority.

    python -m tests.soak [--minutes 60] [--only NAME ...]

Every part runs for the given time, from seeds of its own, and prints its figures; a failure ends the run with
a non-zero exit code and says how to repeat it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
RUNNING: set[subprocess.Popen[str]] = set()
"""The parts that run now, each the leader of a session."""


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


def _give_way() -> None:
    """Run when nobody else wants to: niceness counts within a session, so the session gets one, too."""
    os.setsid()
    os.nice(19)
    with contextlib.suppress(OSError):  # only where the kernel schedules by session
        Path("/proc/self/autogroup").write_text("19")


def run_part(name: str, command: list[str]) -> bool:
    """Run a part; returns whether it was clean."""
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "RSTMDB_STALL_SECONDS": "60"},
        preexec_fn=_give_way,
    )
    RUNNING.add(process)
    printed, logged = process.communicate()
    RUNNING.discard(process)
    clean = process.returncode == 0
    # A fuzzer tells its statistics on one stream and what it found on the other: the end of both.
    kept = 12 if clean else 60
    lines = [line for text in (logged, printed) for line in text.strip().splitlines()[-kept:]]
    outcome = "clean" if clean else f"FAILED ({process.returncode})"
    print(f"== {name}: {outcome} after {time.monotonic() - began:.0f} s")
    print("\n".join(lines), flush=True)
    if not clean:
        print(f"repeat: python {' '.join(command)}", flush=True)
    return clean


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
        outcomes = [pool.submit(run_part, name, commands[name]) for name in chosen]
        try:
            clean = [outcome.result() for outcome in outcomes]
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(RUNNING):
                os.killpg(process.pid, signal.SIGTERM)  # in a session of its own, it did not see the key
            raise
    return 0 if all(clean) else 1


if __name__ == "__main__":
    sys.exit(main())
