"""``hatch run bench``: measure on this machine, beside the peers, in one run.

    python -m tests.benchmarks [throughput] [recovery] [snapshot] [fanout] [--seconds 2] [--rounds 3]

Without names: all of them. Absolute figures mean little on a shared machine; the ratios of one run do.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.benchmarks.peers import missing_peers

ROOT = Path(__file__).parents[2]


def main() -> int:
    """Run the parts that were named."""
    parser = argparse.ArgumentParser(prog="hatch run bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    parts = options.parts or ["throughput", "recovery", "snapshot", "fanout"]
    for part in parts:
        print(f"== {part}", flush=True)
        if part == "throughput":
            missing = missing_peers()
            if missing:
                print(f"install {' and '.join(missing)} first: the ratios need their peers", file=sys.stderr)
                return 1
            from tests.benchmarks import throughput

            throughput.run(seconds=options.seconds, rounds=options.rounds, directory=ROOT)
        elif part == "recovery":
            from tests.benchmarks import recovery

            recovery.run(directory=ROOT)
        elif part == "snapshot":
            from tests.benchmarks import snapshot

            snapshot.run(directory=ROOT)
        elif part == "fanout":
            from tests.benchmarks import fanout

            fanout.run(directory=ROOT)
        else:
            parser.error(f"no part {part!r}: throughput, recovery, snapshot, fanout")
    return 0


if __name__ == "__main__":
    sys.exit(main())
