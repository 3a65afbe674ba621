"""Measure the log: what an append, a commit, a rotation and a recovery cost.

Run it on the disk in question::

    python packages/rstmdb-storage/tests/bench_log.py DIRECTORY

Costs of Python are those under the policy `never`, where a commit is one write into the page cache. The
share of the disk is the difference to `every_write`.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
from time import perf_counter

from rstmdb_storage import EmbeddedLog, FsyncPolicy, LogConfig, OsFileSystem

BODY = b"x" * 300


def open_log(path: str, policy: str) -> EmbeddedLog:
    OsFileSystem().make_directory(path)
    config = LogConfig(fsync=FsyncPolicy.parse(policy), reserve_bytes=0)
    return EmbeddedLog.open(OsFileSystem(), path, config)[0]


def prepare(log: EmbeddedLog) -> None:
    job = log.segment_to_prepare()
    if job is not None:
        job.run()
        log.finish_preparation(job)


def commits(path: str, policy: str, group: int, rounds: int) -> None:
    log = open_log(path, policy)
    append, begin, run, finish = ([] for _ in range(4))
    for _ in range(rounds):
        t0 = perf_counter()
        for _ in range(group):
            log.append(BODY, 1)
        t1 = perf_counter()
        job = log.begin_commit()
        t2 = perf_counter()
        assert job is not None
        job.run()
        t3 = perf_counter()
        log.finish_commit(job)
        t4 = perf_counter()
        append.append((t1 - t0) / group)
        begin.append(t2 - t1)
        run.append(t3 - t2)
        finish.append(t4 - t3)
        prepare(log)
    log.close()
    figures = "  ".join(
        f"{name} {statistics.median(values) * 1e6:6.2f}"
        for name, values in (
            ("append/record", append),
            ("begin", begin),
            ("run", run),
            ("finish", finish),
        )
    )
    ordered = sorted(run)
    print(f"{policy:<12} group of {group:<3} us: {figures}  run p99 {ordered[int(rounds * 0.99)] * 1e6:7.1f}")


def recovery(path: str, group: int, records: int, body: bytes) -> None:
    log = open_log(path, "never")
    for _ in range(records // group):
        for _ in range(group):
            log.append(body, 1)
        job = log.begin_commit()
        assert job is not None
        job.run()
        log.finish_commit(job)
    began = perf_counter()
    reader = log.reader()
    sequence, count = 1, 0
    while page := reader.read(sequence):
        count += len(page)
        sequence = page[-1].first_sequence + page[-1].count
    reading = perf_counter() - began
    assert count == records // group * group
    segments = len(log.statistics.segments)
    log.close()
    began = perf_counter()
    open_log(path, "never").close()
    opening = perf_counter() - began
    print(
        f"{count} records of {len(body)} bytes in groups of {group}: read {count / reading:12,.0f}/s; "
        f"open and close with {segments} segments {opening * 1e3:.0f} ms"
    )


def rotations(path: str) -> None:
    log = EmbeddedLog.open(OsFileSystem(), path, LogConfig(segment_bytes=1 << 20, reserve_bytes=0))[0]
    taken = []
    for _ in range(3000):
        log.append(b"y" * 10_000, 1)
        job = log.begin_commit()
        assert job is not None
        began = perf_counter()
        job.run()
        if job.lengthy:
            taken.append(perf_counter() - began)
        log.finish_commit(job)
        prepare(log)
    log.close()
    print(f"a commit that rotates, next segment prepared: p50 {statistics.median(taken) * 1e6:.0f} us")


def main() -> None:
    where = tempfile.mkdtemp(dir=sys.argv[1])
    try:
        for policy in ("never", "every_write"):
            for group, rounds in ((1, 10_000), (64, 3_000)):
                commits(f"{where}/{policy}-{group}", policy, group, rounds)
        recovery(f"{where}/groups", 64, 640_000, b"r" * 100)
        recovery(f"{where}/single", 1, 300_000, b"r" * 100)
        OsFileSystem().make_directory(f"{where}/rotations")
        rotations(f"{where}/rotations")
    finally:
        shutil.rmtree(where)


if __name__ == "__main__":
    main()
