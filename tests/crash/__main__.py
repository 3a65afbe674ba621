"""``hatch run crash``: kill a real server some hundred times, under every fsync policy.

python -m tests.crash [--kills 200] [--seed 1] [--policy every_write ...]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from tests.crash.kill_loop import run_kill_loop
from tests.crash.test_kill_loop import COMPACTING, ON_DISK

POLICIES = ("every_write", "every_n:50", "every_ms:20", "never")


def main() -> None:
    """Run and print a line a policy."""
    parser = argparse.ArgumentParser(prog="hatch run crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="over all policies")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--policy", action="append", choices=POLICIES)
    options = parser.parse_args()
    policies = options.policy or POLICIES
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "rstmdb.yaml"
        config.write_text(COMPACTING)
        for number, policy in enumerate(policies):
            started = time.monotonic()
            report = run_kill_loop(
                kills=options.kills // len(policies),
                seed=options.seed + number,
                environ={"RSTMDB_CONFIG": str(config), "RSTMDB_FSYNC_POLICY": policy},
                directory=ON_DISK,
            )
            print(f"{policy}: {report}; {time.monotonic() - started:.0f} s", flush=True)
    print("nothing acknowledged was lost, nothing happened twice")


if __name__ == "__main__":
    main()
