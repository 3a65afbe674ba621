from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from rstmdb_storage import (
    DiskFull,
    EmbeddedLog,
    FsyncPolicy,
    LogClosed,
    LogConfig,
    LogPoisoned,
)
from rstmdb_storage.frame import KIND_CLOSE, KIND_MARK
from rstmdb_storage.frame_decoder import take_frames
from rstmdb_storage.segment import CONTROL_RESERVE_BYTES, SEGMENT_HEADER_BYTES, segment_name

ROOM = 4096 - SEGMENT_HEADER_BYTES - CONTROL_RESERVE_BYTES


def run(log: EmbeddedLog, job: Any) -> int:
    job.run()
    return log.finish_commit(job)


def segments(wal: str) -> list[str]:
    return sorted(name for name in os.listdir(wal) if name.endswith(".wal"))


def frames(wal: str, number: int = 1) -> list[Any]:
    data = Path(wal, segment_name(number)).read_bytes()
    return take_frames(data, SEGMENT_HEADER_BYTES, 10**6)[0]


# Rotation and preparation


def test_rotation_syncs_the_old_segment_before_the_new_one_exists(
    open_log: Any, commit: Any, fs: Any, wal: str
) -> None:
    log = open_log(fsync=FsyncPolicy.never())
    commit(log, b"x" * 2500)
    assert log.synced_sequence == 0
    log.append(b"y" * 2500, 1)
    job = log.begin_commit()
    assert job.lengthy
    fs.journal.clear()
    job.run()
    old, new = segment_name(1), segment_name(2)
    assert fs.journal == [
        ("sync", old),
        ("pwrite", "next-2.tmp"),
        ("sync", "next-2.tmp"),
        ("rename", new),
        ("sync_directory", "wal"),
        ("pwrite", new),
    ]
    assert log.finish_commit(job) == 2
    assert log.synced_sequence == 1
    assert [info.sealed for info in log.statistics.segments] == [True, False]


def test_a_prepared_segment_is_taken_at_rotation(open_log: Any, commit: Any, fs: Any, wal: str) -> None:
    log = open_log()
    assert log.segment_to_prepare() is None
    commit(log, b"x" * 2000)
    job = log.segment_to_prepare()
    assert job is not None
    assert log.segment_to_prepare() is None
    job.run()
    log.finish_preparation(job)
    assert log.segment_to_prepare() is None
    fs.journal.clear()
    commit(log, b"y" * 2500)
    assert not [call for call, _ in fs.journal if call in ("create", "preallocate")]
    assert len(segments(wal)) == 2


def test_a_preparation_that_comes_late_serves_the_next_rotation(open_log: Any, commit: Any, wal: str) -> None:
    log = open_log()
    commit(log, b"x" * 2000)
    job = log.segment_to_prepare()
    commit(log, b"y" * 2500)
    commit(log, b"z" * 2500)
    job.run()
    log.finish_preparation(job)
    commit(log, b"a" * 2500)
    assert len(segments(wal)) == 4
    assert [record.body[:1] for record in log.read(1)] == [b"x", b"y", b"z", b"a"]


def test_a_preparation_that_nobody_needs_is_dropped(open_log: Any, commit: Any, wal: str) -> None:
    log = open_log()
    commit(log, b"x" * 2000)
    job = log.segment_to_prepare()
    job.run()
    log.append(b"y" * 2500, 1)
    assert len([name for name in os.listdir(wal) if name.endswith(".tmp")]) == 2
    log.finish_preparation(job)
    assert len([name for name in os.listdir(wal) if name.endswith(".tmp")]) == 1
    log.close()
    late = open_log()
    commit(late, b"x" * 2000)
    job = late.segment_to_prepare()
    if job is not None:
        job.run()
        late.close()
        late.finish_preparation(job)
    assert all(name.endswith(".wal") for name in os.listdir(wal))


def test_a_group_larger_than_a_segment_gets_one_of_its_size(open_log: Any, commit: Any, wal: str) -> None:
    log = open_log()
    commit(log, b"small")
    commit(log, *[b"%d" % at * 5000 for at in range(10)])
    commit(log, b"small again")
    assert [len(record.body) for record in log.read(1)] == [5, *[5000] * 10, 11]
    assert Path(wal, segment_name(2)).stat().st_size > 50_000
    log = open_log()
    assert len(log.read(1)) == 12


def test_a_prepared_segment_grows_with_the_group(open_log: Any, commit: Any, wal: str) -> None:
    log = open_log()
    commit(log, b"x" * 2000)
    job = log.segment_to_prepare()
    job.run()
    log.finish_preparation(job)
    commit(log, b"y" * 20_000)
    assert len(segments(wal)) == 2
    assert log.read(2)[0].body == b"y" * 20_000


def test_a_record_beyond_any_limit_is_refused(open_log: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rstmdb_storage.writer.RECORD_BYTES_MAX", 10_000)
    log = open_log()
    with pytest.raises(ValueError, match="10001 bytes is above the limit of 10000"):
        log.append(b"x" * 10_001, 1)
    assert log.append(b"x" * 10_000, 1) == 1


# Commits


def test_one_commit_is_in_flight_and_the_next_collects(open_log: Any, wal: str) -> None:
    log = open_log()
    assert log.begin_commit() is None
    log.append(b"one", 2)
    assert (log.pending_records, log.next_sequence) == (1, 3)
    first = log.begin_commit()
    assert (log.pending_records, log.pending_bytes) == (0, 0)
    assert first.last_sequence == 2
    log.append(b"two", 1)
    assert log.begin_commit() is None
    assert log.begin_sync(100.0, force=True) is None
    assert log.durable_sequence == 0
    assert log.read(1) == []
    assert run(log, first) == 2
    assert [record.body for record in log.read(1)] == [b"one"]
    assert run(log, log.begin_commit()) == 3
    assert [frame.effects for frame in frames(wal)] == [2, 1]


def test_a_group_is_one_write_and_one_sync(open_log: Any, commit: Any, fs: Any) -> None:
    log = open_log(segment_bytes=65_536)
    fs.journal.clear()
    commit(log, *[b"x" * 100] * 64)
    assert fs.journal == [("pwrite", segment_name(1)), ("sync", segment_name(1))]
    statistics = log.statistics
    assert (statistics.writes, statistics.syncs) == (1, 1)
    assert statistics.bytes_written > 6400


def test_short_writes_are_carried_on(open_log: Any, commit: Any, fs: Any) -> None:
    log = open_log()
    fs.short_writes = True
    commit(log, b"x" * 1000)
    fs.short_writes = False
    assert open_log().read(1)[0].body == b"x" * 1000


def test_frames_carry_what_is_known_to_be_synced(open_log: Any, commit: Any, wal: str) -> None:
    log = open_log(fsync=FsyncPolicy.every_n(3))
    for body in (b"1", b"2", b"3", b"4"):
        commit(log, body)
    at = [frame.offset for frame in frames(wal)]
    assert [(frame.durable_sequence, frame.synced_bytes) for frame in frames(wal)] == [
        (0, SEGMENT_HEADER_BYTES),
        (0, SEGMENT_HEADER_BYTES),
        (0, SEGMENT_HEADER_BYTES),
        (3, at[3]),
    ]


# Policies


def syncs(fs: Any) -> int:
    return sum(call == "sync" for call, _ in fs.journal)


def test_every_n_leaves_fewer_than_n_records_unsynced(open_log: Any, commit: Any, fs: Any) -> None:
    log = open_log(fsync=FsyncPolicy.every_n(3))
    fs.journal.clear()
    assert commit(log, b"1", b"2") == 2
    assert (syncs(fs), log.synced_sequence, log.durable_sequence) == (0, 0, 2)
    commit(log, b"3")
    assert (syncs(fs), log.synced_sequence) == (1, 3)
    commit(log, b"4")
    assert log.sync_due_in(10.0) == 1.0
    assert log.begin_sync(10.9) is None
    run(log, log.begin_sync(11.0))
    assert log.synced_sequence == 4
    assert log.sync_due_in(12.0) is None


def test_every_ms_syncs_in_the_background(open_log: Any, commit: Any, fs: Any) -> None:
    log = open_log(fsync=FsyncPolicy.every_ms(50))
    fs.journal.clear()
    assert log.sync_due_in(0.0) is None
    commit(log, b"1")
    assert log.sync_due_in(1.0) == pytest.approx(0.05)
    commit(log, b"2")
    assert log.sync_due_in(1.03) == pytest.approx(0.02)
    assert syncs(fs) == 0
    assert log.begin_sync(1.04) is None
    run(log, log.begin_sync(1.06))
    assert (syncs(fs), log.synced_sequence) == (1, 2)
    # Told the time, a commit takes over a sync that is due.
    commit(log, b"3", now=2.0)
    commit(log, b"4", now=2.06)
    assert (syncs(fs), log.synced_sequence) == (2, 4)


def test_never_syncs_only_when_forced_and_at_the_end(open_log: Any, commit: Any, fs: Any) -> None:
    log = open_log(fsync=FsyncPolicy.never())
    fs.journal.clear()
    commit(log, b"1")
    assert log.sync_due_in(1.0) is None
    assert log.begin_sync(100.0) is None
    assert syncs(fs) == 0
    run(log, log.begin_sync(100.0, force=True))
    assert (syncs(fs), log.synced_sequence) == (1, 1)
    assert log.begin_sync(100.0, force=True) is None
    commit(log, b"2")
    log.close()
    assert syncs(fs) == 3


def test_a_rest_is_marked_once(open_log: Any, commit: Any, wal: str) -> None:
    log = open_log(idle_seconds=2.0)
    assert log.sync_due_in(50.0) is None
    commit(log, b"1")
    assert log.sync_due_in(100.0) == 2.0
    assert log.begin_sync(101.9) is None
    job = log.begin_sync(102.0)
    assert job is not None
    run(log, job)
    assert [frame.kind for frame in frames(wal)][-1] == KIND_MARK
    assert frames(wal)[-1].durable_sequence == 1
    assert log.sync_due_in(103.0) is None
    commit(log, b"2")
    assert log.sync_due_in(104.0) == 2.0
    log.append(b"3", 1)
    # Something is pending: the log does not rest.
    assert log.begin_sync(107.0) is None
    run(log, log.begin_commit())
    assert [record.body for record in log.read(1)] == [b"1", b"2", b"3"]
    assert [record.body for record in open_log().read(1)] == [b"1", b"2", b"3"]


def test_a_mark_does_not_take_the_room_of_a_record(open_log: Any, commit: Any, wal: str) -> None:
    log = open_log()
    commit(log, b"1")
    # As large as fits into the active segment before the mark, and no longer behind it.
    body = b"x" * (log._room - 8)
    log.sync_due_in(0.0)
    run(log, log.begin_sync(1.0))
    commit(log, body)
    assert len(segments(wal)) == 2
    assert [record.body for record in log.read(1)] == [b"1", body]


def test_marks_leave_space_for_epochs_and_the_close(open_log: Any, commit: Any, wal: str) -> None:
    log = open_log(idle_seconds=1.0)
    now = 0.0
    while len(segments(wal)) == 1:
        commit(log, b"x" * 600)
        now += 1
        log.sync_due_in(now)
        now += 1
        while (job := log.begin_sync(now)) is not None:
            run(log, job)
    end = frames(wal, 1)[-1].offset + frames(wal, 1)[-1].size
    assert end <= 4096 - CONTROL_RESERVE_BYTES // 2


def test_closing_marks_the_end(open_log: Any, commit: Any, fs: Any, wal: str) -> None:
    log = open_log()
    log.append(b"pending", 1)
    log.close()
    assert [frame.kind for frame in frames(wal)][-1] == KIND_CLOSE
    log.close()
    for use in (lambda: log.append(b"x", 1), lambda: log.read(1), lambda: log.trim(1) and log.read(1)):
        with pytest.raises(LogClosed):
            use()
    assert log.begin_commit() is None
    assert log.sync_due_in(0.0) is None
    assert [record.body for record in open_log().read(1)] == [b"pending"]


# Failure


@pytest.mark.parametrize("call", ["pwrite", "sync"])
def test_a_failed_write_or_sync_poisons_for_ever(open_log: Any, commit: Any, fs: Any, call: str) -> None:
    log = open_log()
    commit(log, b"good")

    def fail(count: int, what: str, name: str) -> None:
        if what == call:
            raise OSError(errno.EIO, "input/output error")

    fs.fail = fail
    log.append(b"lost", 1)
    job = log.begin_commit()
    log.append(b"behind", 1)
    job.run()
    with pytest.raises(LogPoisoned, match="input/output error"):
        log.finish_commit(job)
    # The disk is well again; nothing is tried again all the same.
    fs.fail = lambda count, what, name: None
    fs.journal.clear()
    with pytest.raises(LogPoisoned, match="input/output error"):
        log.append(b"more", 1)
    assert log.begin_commit() is None
    assert log.begin_sync(1000.0, force=True) is None
    assert log.segment_to_prepare() is None
    assert log.durable_sequence == 1
    assert [record.body for record in log.read(1)] == [b"good"]
    log.close()
    assert fs.journal == []


def test_a_failed_rotation_poisons(open_log: Any, commit: Any, fs: Any) -> None:
    for broken in ("rename", "sync_directory"):
        log = open_log()
        commit(log, b"x" * 2500)

        def fail(count: int, what: str, name: str, broken: str = broken) -> None:
            if what == broken:
                raise OSError(errno.EIO, "input/output error")

        log.append(b"y" * 2500, 1)
        fs.fail = fail
        job = log.begin_commit()
        job.run()
        with pytest.raises(LogPoisoned):
            log.finish_commit(job)
        fs.fail = lambda count, what, name: None
        log.close()
        assert open_log().read(1)[0].body == b"x" * 2500


def test_closing_a_log_on_a_failing_disk_gives_everything_back(open_log: Any, commit: Any, fs: Any) -> None:
    log = open_log()
    commit(log, b"good")
    log.append(b"pending", 1)

    def fail(count: int, what: str, name: str) -> None:
        raise OSError(errno.EIO, "input/output error")

    fs.fail = fail
    with pytest.raises(LogPoisoned):
        log.close()
    with pytest.raises(LogPoisoned):
        log.append(b"x", 1)
    log.close()


# Disk full


def test_a_full_disk_refuses_before_anything_is_appended(
    open_log: Any, commit: Any, fs: Any, wal: str
) -> None:
    fs.space = 4096 + 3000
    log = open_log()
    accepted = []
    with pytest.raises(DiskFull) as refused:  # noqa: PT012 - the loop is what fills the disk
        for at in range(100):
            log.append(b"%03d" % at * 30, 1)
            accepted.append(b"%03d" % at * 30)
            run(log, log.begin_commit())
    assert log.disk_full
    assert refused.value.bytes_free < refused.value.bytes_needed
    assert log.next_sequence == len(accepted) + 1
    assert log.pending_records == 0
    assert [record.body for record in log.read(1)] == accepted
    # A restart on the full disk works.
    log = open_log()
    with pytest.raises(DiskFull):
        log.append(b"x" * 3000, 1)
    assert len(log.read(1)) == len(accepted)
    fs.space = 4096 + 4096
    commit(log, b"x" * 2000)
    assert not log.disk_full
    assert len(open_log().read(1)) == len(accepted) + 1


def test_records_that_were_accepted_always_have_their_space(open_log: Any, fs: Any) -> None:
    fs.space = 2 * 4096
    log = open_log()
    accepted = 0
    with pytest.raises(DiskFull):  # noqa: PT012
        for _ in range(1000):
            log.append(b"x" * 90, 1)
            accepted += 1
            if accepted % 7 == 0:
                run(log, log.begin_commit())
    fs.space = 0
    while (job := log.begin_commit()) is not None:
        run(log, job)
    assert len(log.read(1)) == accepted
    assert len(log.statistics.segments) == 2


def test_the_reserve_goes_first_and_comes_back_first(open_log: Any, commit: Any, fs: Any, wal: str) -> None:
    fs.space = 4096 + 5000 + 1000
    log = open_log(reserve_bytes=5000)
    assert Path(wal, "reserve").stat().st_size == 5000
    commit(log, b"x" * 2500)
    with pytest.raises(DiskFull):
        log.append(b"y" * 2500, 1)
    assert log.release_reserve()
    assert not log.release_reserve()
    assert fs.free_space(wal) == 6000
    # Its space is for snapshots and compaction: the log does not take it.
    with pytest.raises(DiskFull):
        log.append(b"y" * 2500, 1)
    assert not Path(wal, "reserve").exists()
    assert log.segment_to_prepare() is None
    fs.space += 4000
    commit(log, b"y" * 2500)
    assert Path(wal, "reserve").stat().st_size == 5000
    assert log.restore_reserve()


def test_a_preparation_on_a_full_disk_is_no_error(open_log: Any, commit: Any, fs: Any, wal: str) -> None:
    log = open_log()
    commit(log, b"x" * 2000)
    job = log.segment_to_prepare()
    fs.space = 5000
    job.run()
    log.finish_preparation(job)
    assert all(name.endswith(".wal") for name in os.listdir(wal))
    assert log.segment_to_prepare() is None
    fs.space = None
    job = log.segment_to_prepare()
    job.run()
    log.finish_preparation(job)
    commit(log, b"y" * 2500)
    assert len(segments(wal)) == 2


def test_a_preparation_on_a_failing_disk_is_an_error(open_log: Any, commit: Any, fs: Any) -> None:
    log = open_log()
    commit(log, b"x" * 2000)
    job = log.segment_to_prepare()

    def fail(count: int, what: str, name: str) -> None:
        raise OSError(errno.EIO, "input/output error")

    fs.fail = fail
    job.run()
    fs.fail = lambda count, what, name: None
    with pytest.raises(OSError, match="input/output error"):
        log.finish_preparation(job)
    commit(log, b"y" * 2500)


# Settings


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="segment_bytes"):
        LogConfig(segment_bytes=100)
    with pytest.raises(ValueError, match="reserve_bytes"):
        LogConfig(reserve_bytes=-1)
