from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from rstmdb_storage import DiskFull, LogConfig
from rstmdb_storage.space import RESERVE_NAME, SegmentSpace


def space(fs: Any, wal: str, *, reserve: int = 0, segment: int = 4096) -> SegmentSpace:
    made = SegmentSpace(fs, wal, LogConfig(segment_bytes=segment, reserve_bytes=reserve))
    made.restore_reserve()
    return made


def test_the_reserve_follows_its_setting(fs: Any, wal: str) -> None:
    path = Path(wal, RESERVE_NAME)
    assert space(fs, wal, reserve=3000).restore_reserve()
    assert path.stat().st_size == 3000
    assert space(fs, wal, reserve=9000).restore_reserve()
    assert path.stat().st_size == 9000
    space(fs, wal, reserve=0)
    assert not path.exists()


def test_no_reserve_without_space(fs: Any, wal: str) -> None:
    fs.space = 5000
    made = space(fs, wal, reserve=6000)
    assert not Path(wal, RESERVE_NAME).exists()
    with pytest.raises(DiskFull):
        made.require(100)
    assert made.disk_full
    fs.space = 20_000
    made.require(4096)
    assert Path(wal, RESERVE_NAME).exists()
    assert not made.disk_full


def test_the_reserve_comes_back_before_the_next_segment(fs: Any, wal: str) -> None:
    fs.space = 10_000
    made = space(fs, wal, reserve=3000)
    assert made.release_reserve()
    fs.space = 7000
    assert made.to_prepare() is None
    fs.space = 7096
    job = made.to_prepare()
    assert job is not None
    assert Path(wal, RESERVE_NAME).stat().st_size == 3000
    job.run()
    made.finish_preparation(job)
    assert made.prepared is not None


def test_a_disk_that_says_full_in_spite_of_its_figures_is_full(fs: Any, wal: str) -> None:
    made = space(fs, wal)

    def full(count: int, call: str, name: str) -> None:
        if call == "preallocate":
            raise OSError(errno.ENOSPC, "no space left on device")

    fs.fail = full
    with pytest.raises(DiskFull):
        made.require(4096)
    assert os.listdir(wal) == []
    made = SegmentSpace(fs, wal, LogConfig(segment_bytes=4096, reserve_bytes=500))
    assert not made.restore_reserve()
    assert os.listdir(wal) == []
    with pytest.raises(DiskFull):
        made.require_at_open(4096, fill=True)


def test_a_disk_that_fails_is_not_full(fs: Any, wal: str) -> None:
    made = space(fs, wal)

    def broken(count: int, call: str, name: str) -> None:
        raise OSError(errno.EIO, "input/output error")

    fs.fail = broken
    with pytest.raises(OSError, match="input/output error"):
        made.require(4096)
    with pytest.raises(OSError, match="input/output error"):
        made.require_at_open(4096, fill=False)
    with pytest.raises(OSError, match="input/output error"):
        made.release_reserve()


def test_at_the_open_a_small_segment_will_do_and_the_reserve_may_go(fs: Any, wal: str) -> None:
    fs.space = 10_000
    made = space(fs, wal, reserve=4000, segment=8192)
    made.require_at_open(8192, fill=True)
    assert made.take().size == 2048
    fs.space = 4000 + 2048 + 100
    made.require_at_open(8192, fill=True)
    assert made.take().size == 2048
    assert not Path(wal, RESERVE_NAME).exists()


def test_what_is_prepared_off_the_loop_is_zeros_and_synced(fs: Any, wal: str) -> None:
    made = SegmentSpace(fs, wal, LogConfig(segment_bytes=3 << 20, reserve_bytes=0))
    made.restore_reserve()
    fs.journal.clear()
    job = made.to_prepare()
    assert job is not None
    job.run()
    calls = [call for call, _ in fs.journal]
    assert calls == ["create", "preallocate", *["pwrite", "sync"] * 3, "sync"]
    made.finish_preparation(job)
    assert made.prepared is not None
    assert made.prepared.file.pread(4 << 20, 0) == bytes(3 << 20)
    made.close()
    assert os.listdir(wal) == []


def test_what_is_only_reserved_is_synced_by_the_rotation(fs: Any, wal: str) -> None:
    made = SegmentSpace(fs, wal, LogConfig(segment_bytes=4096, reserve_bytes=0, fill=False))
    made.restore_reserve()
    fs.journal.clear()
    job = made.to_prepare()
    assert job is not None
    job.run()
    assert [call for call, _ in fs.journal] == ["create", "preallocate"]
