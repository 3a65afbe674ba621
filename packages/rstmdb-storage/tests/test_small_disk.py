"""A real disk that is really full: a small ext4 in a file, mounted for the test."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from rstmdb_storage import DataDirectory, DiskFull, EmbeddedLog, LogConfig, OsFileSystem

CONFIG = LogConfig(segment_bytes=2 << 20, reserve_bytes=2 << 20)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        pytest.skip("mounting a file system takes root and mkfs.ext4")
    image, mount = tmp_path / "image", tmp_path / "disk"
    image.touch()
    os.truncate(image, 24 << 20)
    mount.mkdir()
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    mounted = subprocess.run(
        ["mount", "-o", "loop", str(image), str(mount)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no loop device here: {mounted.stderr.decode().strip()}")
    try:
        yield mount
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)


class Writer:
    """Appends records of random sizes, and remembers those that were acknowledged."""

    def __init__(self, wal: str) -> None:
        self.wal = wal
        self.random = random.Random(7)
        self.acknowledged: list[tuple[int, int, bytes]] = []
        self.open()

    def open(self) -> None:
        self.log, self.report = EmbeddedLog.open(OsFileSystem(), self.wal, CONFIG)

    def kill(self) -> None:
        self.log._writer.close()
        self.log.reader().close()

    def append(self, body: bytes) -> None:
        sequence = self.log.append(body, 1)
        job = self.log.begin_commit()
        assert job is not None
        job.run()
        self.log.finish_commit(job)
        self.acknowledged.append((sequence, 1, body))

    def fill(self) -> None:
        with pytest.raises(DiskFull):  # noqa: PT012 - the loop is what fills the disk
            while True:
                self.append(self.random.randbytes(self.random.choice([100, 3000, 60_000])))
                if (job := self.log.segment_to_prepare()) is not None and self.random.random() < 0.7:
                    job.run()
                    self.log.finish_preparation(job)

    def check(self) -> None:
        got: list[tuple[int, int, bytes]] = []
        sequence = self.log.oldest_sequence
        while page := self.log.read(sequence):
            got += [tuple(record) for record in page]  # type: ignore[misc]
            sequence = page[-1].first_sequence + page[-1].count
        assert got == self.acknowledged[-len(got) :]
        assert got[0][0] == self.log.oldest_sequence


def test_nothing_is_lost_on_a_full_disk_and_service_resumes(disk: Path) -> None:
    directory = DataDirectory.open(OsFileSystem(), str(disk / "data"))
    writer = Writer(directory.wal)
    writer.fill()
    assert writer.log.disk_full
    writer.check()
    with contextlib.suppress(OSError), open(disk / "filler", "wb", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))
    # Not a byte is left. Restarts work all the same, as often as it takes.
    for restart in range(30):
        if restart % 3:
            writer.kill()
        else:
            writer.log.close()
        writer.open()
        assert writer.report.clean == (restart % 3 == 0)
        writer.check()
    with pytest.raises(DiskFull):
        writer.append(b"x" * 3_000_000)
    # The reserve makes room, a compaction frees a segment: writing goes on.
    writer.log.release_reserve()
    assert OsFileSystem().free_space(writer.wal) > 0
    oldest = writer.log.statistics.segments[3].first_sequence
    assert writer.log.trim(oldest).segments_removed == 3
    before = len(writer.acknowledged)
    writer.fill()
    assert len(writer.acknowledged) > before
    assert Path(writer.wal, "reserve").stat().st_size == CONFIG.reserve_bytes
    writer.check()
    writer.log.close()
    directory.close()
