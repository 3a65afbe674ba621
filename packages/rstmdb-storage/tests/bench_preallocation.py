"""Compare ways to have space for the log: what a small write and its fdatasync cost under each.

Run it on the disk in question::

    python packages/rstmdb-storage/tests/bench_preallocation.py DIRECTORY [ROUNDS]

The ways take turns, write by write, so that whatever else the disk does hits all of them alike.
"""

from __future__ import annotations

import os
import statistics
import sys
import time

SEGMENT_BYTES = 64 << 20
WAYS = ("growing", "hole", "reserved", "zeros")


def prepare(path: str, way: str) -> tuple[int, float]:
    began = time.perf_counter()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    if way == "hole":
        os.ftruncate(descriptor, SEGMENT_BYTES)
    elif way in ("reserved", "zeros"):
        os.posix_fallocate(descriptor, 0, SEGMENT_BYTES)
    if way == "zeros":
        zeros = bytes(1 << 20)
        for position in range(0, SEGMENT_BYTES, len(zeros)):
            os.pwrite(descriptor, zeros, position)
            os.fdatasync(descriptor)
    os.fsync(descriptor)
    return descriptor, time.perf_counter() - began


def main() -> None:
    directory = sys.argv[1]
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    for size in (360, 2_000, 20_000, 200_000):
        seconds: dict[str, list[float]] = {way: [] for way in WAYS}
        preparing: dict[str, list[float]] = {way: [] for way in WAYS}
        data = b"x" * size
        for _ in range(rounds):
            files = {}
            for way in WAYS:
                files[way], took = prepare(f"{directory}/bench-{way}", way)
                preparing[way].append(took)
            position = 0
            while position + size <= min(SEGMENT_BYTES, size * 1500):
                for way in WAYS:
                    began = time.perf_counter()
                    os.pwrite(files[way], data, position)
                    os.fdatasync(files[way])
                    seconds[way].append(time.perf_counter() - began)
                position += size
            for way in WAYS:
                os.close(files[way])
                os.unlink(f"{directory}/bench-{way}")
        for way in WAYS:
            ordered = sorted(seconds[way])
            print(
                f"{size:>7} bytes  {way:<9} p50 {statistics.median(ordered) * 1e6:7.1f} us  "
                f"mean {statistics.mean(ordered) * 1e6:7.1f} us  "
                f"p99 {ordered[int(len(ordered) * 0.99)] * 1e6:7.1f} us  "
                f"p99.9 {ordered[int(len(ordered) * 0.999)] * 1e6:7.1f} us  "
                f"prepare {statistics.median(preparing[way]) * 1e3:6.1f} ms"
            )


if __name__ == "__main__":
    main()
