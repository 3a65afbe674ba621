"""Recovery of logs that ended in every way a test can make on a real file system.

Power loss, with sectors that survive in any subset, is the simulation's part.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rstmdb_storage import CorruptionError, EmbeddedLog, FormatError, LogConfig, OsFileSystem
from rstmdb_storage.commit import FsyncPolicy
from rstmdb_storage.decision import Place, Verdict
from rstmdb_storage.frame import CONTROL_FRAME_BYTES, KIND_EPOCH
from rstmdb_storage.frame_decoder import WINDOW_BYTES, take_frames
from rstmdb_storage.opening import SEQUENCE_JUMP
from rstmdb_storage.segment import SEGMENT_BYTES_MIN, SEGMENT_HEADER_BYTES, read_header, segment_name
from rstmdb_storage.tail import Progress

SMALL = LogConfig(segment_bytes=4096, reserve_bytes=0)


def contents(log: EmbeddedLog) -> list[tuple[int, int, bytes]]:
    return [tuple(record) for record in log.read(log.oldest_sequence)]


def end_of(log: EmbeddedLog) -> int:
    """Return where the frames of the active segment end."""
    return SEGMENT_HEADER_BYTES + log.statistics.segments[-1].record_bytes


def segment(wal: str, number: int = 1) -> Path:
    return Path(wal) / segment_name(number)


def frames(wal: str, number: int = 1) -> list[Any]:
    return take_frames(segment(wal, number).read_bytes(), SEGMENT_HEADER_BYTES, 10**6)[0]


def write_some(open_log: Any, commit: Any, groups: int = 4, **settings: Any) -> list[tuple[int, int, bytes]]:
    """Write a few groups, and end like a killed process."""
    log = open_log(**settings)
    for at in range(groups):
        commit(log, b"body %d" % at * 20, b"second", count=1 + at % 2)
    return contents(log)


def test_a_clean_close_is_recognised(open_log: Any, commit: Any) -> None:
    log = open_log()
    assert open_log.report.created
    commit(log, b"one")
    log.close()
    log = open_log()
    assert open_log.report.clean
    assert not open_log.report.created
    assert open_log.report.verdict is Verdict.END
    assert open_log.report.epoch == 2
    assert contents(log) == [(1, 1, b"one")]
    again = open_log()
    assert not open_log.report.clean
    assert contents(again) == [(1, 1, b"one")]


def test_what_was_acknowledged_is_there_after_a_kill(open_log: Any, commit: Any) -> None:
    expected = write_some(open_log, commit)
    log = open_log()
    assert contents(log) == expected
    assert log.next_sequence == log.durable_sequence + 1 == expected[-1][0] + expected[-1][1]
    assert (log.epoch, open_log.report.jumped) == (2, 0)


def test_the_unproven_tail_is_written_again_and_synced_before_the_epoch(
    open_log: Any, commit: Any, fs: Any, wal: str
) -> None:
    write_some(open_log, commit)
    *_, last = frames(wal)
    before = segment(wal).read_bytes()
    fs.journal.clear()
    written: list[tuple[int, bytes]] = []
    open_file = fs.open

    def watching(path: str, **how: bool) -> Any:
        file = open_file(path, **how)
        pwrite = file.pwrite

        def watch(data: bytes, offset: int) -> int:
            written.append((offset, data))
            return int(pwrite(data, offset))

        file.pwrite = watch
        return file

    fs.open = watching
    open_log()
    name = segment_name(1)
    assert fs.journal == [
        ("pwrite", name),
        ("sync", name),
        ("sync_directory", "wal"),
        ("pwrite", name),
        ("sync", name),
    ]
    (tail_at, tail), (epoch_at, epoch) = written
    assert tail_at == SEGMENT_HEADER_BYTES + last.offset - SEGMENT_HEADER_BYTES
    assert tail == before[tail_at : tail_at + last.size]
    assert epoch_at == tail_at + last.size
    assert len(epoch) == CONTROL_FRAME_BYTES


def test_a_write_that_ended_anywhere_is_cut_and_the_log_goes_on(open_log: Any, commit: Any, wal: str) -> None:
    expected = write_some(open_log, commit)
    log = open_log()
    start = end_of(log)
    commit(log, b"torn" * 150)
    whole = segment(wal).read_bytes()
    end = end_of(log)
    for landed in [*range(0, end - start, 13), end - start - 1]:
        segment(wal).write_bytes(whole[: start + landed].ljust(len(whole), b"\0"))
        log = open_log()
        assert open_log.report.verdict is (Verdict.CUT if landed else Verdict.END)
        assert open_log.report.cut_bytes <= landed
        assert contents(log) == expected
        # Nothing of the torn frame is left behind what is written from now on.
        commit(log, b"next")
        log = open_log()
        assert open_log.report.place is Place.BLANK
        assert contents(log) == [*expected, (expected[-1][0] + expected[-1][1], 1, b"next")]


def test_a_file_that_is_shorter_than_it_was_created_is_refused(open_log: Any, commit: Any, wal: str) -> None:
    write_some(open_log, commit, groups=30)
    for number in (1, 2):
        whole = segment(wal, number).read_bytes()
        for size in (4095, 2000, SEGMENT_HEADER_BYTES, 100, 0):
            os.truncate(segment(wal, number), size)
            with pytest.raises(CorruptionError, match="the file ends") as refused:
                open_log()
            assert (refused.value.path, refused.value.position) == (str(segment(wal, number)), size)
        segment(wal, number).write_bytes(whole)
    open_log()


def test_a_flipped_bit_is_harmless_or_refused_with_its_place(
    open_log: Any, commit: Any, wal: str, flip: Any, tmp_path: Path
) -> None:
    expected = write_some(open_log, commit, groups=3)
    log = open_log()
    commit(log, b"the last commit" * 9)
    expected = contents(log)
    log.close()
    end = end_of(log)
    refused = 0
    for position in [*range(end), *range(end, 4096, 97)]:
        copy = tmp_path / "copy"
        shutil.copytree(wal, copy)
        flip(str(copy / segment_name(1)), position, position % 8)
        error: CorruptionError | FormatError | None = None
        try:
            log, _ = EmbeddedLog.open(OsFileSystem(), str(copy), SMALL)
        except (CorruptionError, FormatError) as caught:
            error = caught
        if position < end:
            assert error is not None
            assert error.path == str(copy / segment_name(1))
            assert getattr(error, "position", 0) <= position
            refused += 1
        else:
            assert error is None
            assert contents(log) == expected
        shutil.rmtree(copy)
    assert refused == end


def test_missing_sectors_are_refused_where_they_were_proven(open_log: Any, commit: Any, wal: str) -> None:
    write_some(open_log, commit, groups=2)
    at = frames(wal)[-1].offset
    data = bytearray(segment(wal).read_bytes())
    data[at + 60 : at + frames(wal)[-1].size] = bytes(frames(wal)[-1].size - 60)
    log = open_log()
    log.close()
    # The mark of the close proves the group.
    damaged = bytearray(segment(wal).read_bytes())
    damaged[: at + 100] = data[: at + 100]
    segment(wal).write_bytes(damaged)
    with pytest.raises(CorruptionError, match="synced once") as refused:
        open_log()
    assert refused.value.position == at


def test_a_snapshot_proves_what_it_holds(open_log: Any, commit: Any, wal: str) -> None:
    expected = write_some(open_log, commit)
    last = expected[-1][0] + expected[-1][1] - 1
    at = frames(wal)[-1].offset
    data = bytearray(segment(wal).read_bytes())
    data[at:] = bytes(len(data) - at)
    segment(wal).write_bytes(data)
    with pytest.raises(CorruptionError, match="synced once") as refused:
        open_log(snapshot_sequence=last)
    assert refused.value.position == at
    # Without the proof it looks as if it had never been written.
    log = open_log(snapshot_sequence=last - 4)
    assert contents(log) == expected[:-2]


def test_a_missing_segment_is_refused(open_log: Any, commit: Any, wal: str) -> None:
    write_some(open_log, commit, groups=60)
    assert len(os.listdir(wal)) >= 4
    away = segment(wal, 2).rename(segment(wal, 2).with_suffix(".away"))
    with pytest.raises(CorruptionError, match="0000000000000002 is missing"):
        open_log()
    away.rename(segment(wal, 2))
    away = segment(wal, 1).rename(segment(wal, 1).with_suffix(".away"))
    with pytest.raises(CorruptionError, match="segments are missing"):
        open_log(snapshot_sequence=3)
    away.rename(segment(wal, 1))
    open_log().close()
    for path in Path(wal).iterdir():
        path.unlink()
    with pytest.raises(CorruptionError, match="no segment is there"):
        open_log(snapshot_sequence=3)


def test_the_newest_segment_missing_is_refused_when_the_snapshot_knows_better(
    open_log: Any, commit: Any, wal: str
) -> None:
    expected = write_some(open_log, commit, groups=60)
    last = expected[-1][0] + expected[-1][1] - 1
    segment(wal, len(os.listdir(wal))).unlink()
    with pytest.raises(CorruptionError, match="synced once"):
        open_log(snapshot_sequence=last)


@pytest.mark.parametrize("policy", ["every_n:100", "every_ms:100", "never"])
def test_the_sequence_jumps_after_an_unclean_end_of_a_relaxed_log(
    open_log: Any, commit: Any, policy: str
) -> None:
    relaxed = FsyncPolicy.parse(policy)
    expected = write_some(open_log, commit, fsync=relaxed)
    follows = expected[-1][0] + expected[-1][1]
    log = open_log(fsync=FsyncPolicy.every_write())
    assert open_log.report.jumped == SEQUENCE_JUMP
    assert log.next_sequence == follows + SEQUENCE_JUMP
    assert log.durable_sequence == log.next_sequence - 1
    assert log.read(follows) == []
    first = log.next_sequence
    commit(log, b"after the jump")
    # Recorded: the strict log that follows does not jump, and knows where it was.
    log = open_log(fsync=relaxed)
    assert open_log.report.jumped == 0
    assert contents(log) == [*expected, (first, 1, b"after the jump")]
    assert log.read(follows) == [(first, 1, b"after the jump")]
    log.close()
    log = open_log(fsync=relaxed)
    assert (open_log.report.jumped, log.next_sequence) == (0, first + 1)


def test_the_jump_is_recorded_also_in_a_new_segment(open_log: Any, commit: Any, wal: str) -> None:
    relaxed = FsyncPolicy.never()
    expected = write_some(open_log, commit, fsync=relaxed)
    # Use up the places for epochs, so that the next one needs a segment of its own.
    while len(os.listdir(wal)) == 1:
        log = open_log(fsync=relaxed)
    first = log.next_sequence
    assert open_log.report.jumped == SEQUENCE_JUMP
    commit(log, b"after the jump")
    log.close()
    log = open_log(fsync=relaxed)
    assert contents(log) == [*expected, (first, 1, b"after the jump")]
    reader = log.reader()
    assert reader.read(expected[-1][0] + expected[-1][1]) == [(first, 1, b"after the jump")]
    reader.close()


def test_a_log_can_begin_anywhere(open_log: Any, commit: Any, wal: str) -> None:
    log = open_log(snapshot_sequence=500, first_sequence=2**32)
    assert (log.next_sequence, log.oldest_sequence) == (2**32, 2**32)
    commit(log, b"restored")
    log = open_log(snapshot_sequence=500)
    assert contents(log) == [(2**32, 1, b"restored")]
    assert log.read(501) == contents(log)
    with pytest.raises(CorruptionError, match="segments are missing"):
        open_log(snapshot_sequence=499)


def test_progress_is_told(open_log: Any, commit: Any, wal: str) -> None:
    write_some(open_log, commit)
    told: list[Progress] = []
    EmbeddedLog.open(OsFileSystem(), wal, SMALL, on_progress=told.append)
    assert told
    assert told[-1].path == str(segment(wal))
    assert told[-1].bytes_done <= told[-1].bytes_total == 4096


def test_a_file_that_cannot_be_read_is_refused_with_its_place(
    open_log: Any, commit: Any, fs: Any, wal: str
) -> None:
    write_some(open_log, commit)
    open_file = fs.open

    def failing(path: str, **how: bool) -> Any:
        file = open_file(path, **how)
        pread = file.pread

        def read(size: int, offset: int) -> bytes:
            if offset >= SEGMENT_HEADER_BYTES:
                raise OSError(errno.EIO, "input/output error")
            return bytes(pread(size, offset))

        file.pread = read
        return file

    fs.open = failing
    with pytest.raises(CorruptionError, match="cannot be read") as refused:
        open_log()
    assert (refused.value.path, refused.value.position) == (str(segment(wal)), SEGMENT_HEADER_BYTES)


def torn(open_log: Any, commit: Any, wal: str) -> None:
    write_some(open_log, commit)
    at, size = frames(wal)[-1].offset, frames(wal)[-1].size
    data = bytearray(segment(wal).read_bytes())
    data[at + 80 : at + size] = bytes(size - 80)
    segment(wal).write_bytes(data)


def relaxed_with_a_hole(open_log: Any, commit: Any, wal: str) -> None:
    write_some(open_log, commit, groups=6, fsync=FsyncPolicy.never())
    at = frames(wal)[2].offset
    data = bytearray(segment(wal).read_bytes())
    data[at : at + 56] = bytes(56)
    segment(wal).write_bytes(data)


def empty_last_segment(open_log: Any, commit: Any, wal: str) -> None:
    log = open_log()
    while len(os.listdir(wal)) < 3:
        commit(log, b"x" * 300)
    last = segment(wal, 3)
    last.write_bytes(last.read_bytes()[:SEGMENT_HEADER_BYTES].ljust(4096, b"\0"))


def no_place_for_an_epoch(open_log: Any, commit: Any, wal: str) -> None:
    write_some(open_log, commit, fsync=FsyncPolicy.never())
    while frames(wal)[-1].offset + 2 * CONTROL_FRAME_BYTES <= 4096:
        open_log(fsync=FsyncPolicy.never())


def nothing(open_log: Any, commit: Any, wal: str) -> None:
    pass


@pytest.mark.parametrize("before_the_call", [True, False])
@pytest.mark.parametrize(
    "scene", [torn, relaxed_with_a_hole, empty_last_segment, no_place_for_an_epoch, nothing]
)
def test_a_recovery_that_is_killed_at_any_step_changes_nothing(
    open_log: Any,
    commit: Any,
    fs: Any,
    wal: str,
    tmp_path: Path,
    killed: type[BaseException],
    scene: Callable[..., None],
    before_the_call: bool,
) -> None:
    scene(open_log, commit, wal)
    copy = tmp_path / "copy"
    shutil.copytree(wal, copy)
    log, report = EmbeddedLog.open(OsFileSystem(), str(copy), SMALL)
    expected = contents(log)
    next_sequence = log.next_sequence
    shutil.rmtree(copy)
    steps = 0
    finished = False
    while not finished:
        steps += 1
        shutil.copytree(wal, copy)
        fs.journal.clear()

        def kill(count: int, call: str, name: str) -> None:
            if count == steps:  # noqa: B023 - called within this round only
                raise killed

        fs.fail = kill
        if not before_the_call:
            fs.fail = lambda count, call, name: None
            limit, step = steps, fs.step

            def kill_after(call: str, path: str) -> None:
                if len(fs.journal) == limit:  # noqa: B023
                    raise killed
                step(call, path)  # noqa: B023

            fs.step = kill_after
        try:
            EmbeddedLog.open(fs, str(copy), SMALL)
            finished = True
        except killed:
            pass
        finally:
            fs.fail = lambda count, call, name: None
            if not before_the_call:
                fs.step = step
        log, second = EmbeddedLog.open(OsFileSystem(), str(copy), SMALL)
        assert contents(log) == expected
        assert log.next_sequence == next_sequence or (report.jumped and second.jumped)
        commit(log, b"on it goes")
        assert contents(log)[:-1] == expected
        log.close()
        log, third = EmbeddedLog.open(OsFileSystem(), str(copy), SMALL)
        assert third.clean
        assert contents(log)[:-1] == expected
        log.close()
        shutil.rmtree(copy)
    assert steps >= 5


def test_an_empty_last_segment_is_made_again(open_log: Any, commit: Any, fs: Any, wal: str) -> None:
    empty_last_segment(open_log, commit, wal)
    fs.journal.clear()
    log = open_log()
    assert ("rename", segment_name(3)) in fs.journal
    assert len(log.statistics.segments) == 3
    commit(log, b"goes into it")
    assert contents(open_log())[-1][2] == b"goes into it"


def test_leftovers_of_a_crash_are_removed(open_log: Any, commit: Any, wal: str) -> None:
    write_some(open_log, commit)
    Path(wal, "next-7.tmp").write_bytes(b"half")
    open_log()
    assert os.listdir(wal) == [segment_name(1)]


def test_epochs_rise_and_two_writers_at_once_show(open_log: Any, commit: Any, wal: str) -> None:
    first = open_log()
    commit(first, b"first")
    second = open_log()
    assert second.epoch == first.epoch + 1
    assert frames(wal)[-1].kind == KIND_EPOCH
    commit(second, b"second")
    commit(second, b"third")
    # The stale writer does not know, and overwrites: its frame does not fit in, and that is refused.
    commit(first, b"stale" * 10)
    with pytest.raises(CorruptionError):
        open_log()


def test_a_restart_needs_little_space(open_log: Any, commit: Any, fs: Any, wal: str) -> None:
    expected = write_some(open_log, commit)
    fs.space = 4096
    while not os.path.exists(segment(wal, 2)):
        if frames(wal)[-1].offset + 2 * CONTROL_FRAME_BYTES > 4096:
            fs.space = 4096 + SEGMENT_BYTES_MIN
        log = open_log()
        assert contents(log) == expected
    assert segment(wal, 2).stat().st_size == SEGMENT_BYTES_MIN


def test_headers_that_contradict_each_other_are_refused(open_log: Any, commit: Any, wal: str) -> None:
    write_some(open_log, commit, groups=30)
    header = read_header(OsFileSystem().open(str(segment(wal, 2))), str(segment(wal, 2)), 2)
    for wrong in (replace(header, first_sequence=0), replace(header, epoch=0)):
        data = segment(wal, 2).read_bytes()
        segment(wal, 2).write_bytes(wrong.encode() + data[SEGMENT_HEADER_BYTES:])
        with pytest.raises(CorruptionError, match="contradicts the one before"):
            open_log()
        segment(wal, 2).write_bytes(data)
    open_log()


def test_frames_larger_than_a_window_are_recovered(open_log: Any, commit: Any, wal: str) -> None:
    log = open_log(segment_bytes=8 << 20)
    commit(log, b"small")
    for letter in (b"a", b"b"):
        commit(log, letter * (WINDOW_BYTES + 5000))
    expected = contents(log)
    log = open_log()
    assert open_log.report.verdict is Verdict.END
    assert contents(log) == expected


def test_proof_is_found_behind_a_window_and_larger_than_one(open_log: Any, commit: Any, wal: str) -> None:
    log = open_log(segment_bytes=8 << 20)
    commit(log, b"small")
    commit(log, b"damaged" * 100)
    commit(log, b"x" * (WINDOW_BYTES - 5000))
    commit(log, b"y" * (WINDOW_BYTES + 5000))
    found = take_frames(segment(wal).read_bytes(), SEGMENT_HEADER_BYTES, 10**6)[0]
    whole = segment(wal).read_bytes()
    at, size = found[1].offset, found[1].size
    # Only the last frame, which reaches over the windows, is left to prove that the damaged one was synced.
    data = bytearray(whole)
    data[at : at + size] = bytes(size)
    data[found[2].offset : found[2].offset + 700] = bytes(700)
    segment(wal).write_bytes(data)
    with pytest.raises(CorruptionError, match="synced once") as refused:
        open_log()
    assert refused.value.position == at
    # With its end gone nothing is left that proves anything, and what looks like its header is passed over.
    data[found[3].offset + 200_000 :] = bytes(len(data) - found[3].offset - 200_000)
    segment(wal).write_bytes(data)
    log = open_log()
    assert open_log.report.verdict is Verdict.CUT
    assert [body for _, _, body in contents(log)] == [b"small"]
    assert (
        segment(wal).read_bytes()[at + CONTROL_FRAME_BYTES :].count(0) == len(data) - at - CONTROL_FRAME_BYTES
    )


def test_an_empty_last_segment_on_a_full_disk_is_trusted(
    open_log: Any, commit: Any, fs: Any, wal: str
) -> None:
    empty_last_segment(open_log, commit, wal)
    fs.space = 3 * 4096
    log = open_log()
    commit(log, b"goes into it")
    assert contents(open_log())[-1][2] == b"goes into it"


def test_an_empty_last_segment_on_a_failing_disk_is_an_error(
    open_log: Any, commit: Any, fs: Any, wal: str
) -> None:
    empty_last_segment(open_log, commit, wal)

    def fail(count: int, call: str, name: str) -> None:
        if call == "preallocate":
            raise OSError(errno.EIO, "input/output error")

    fs.fail = fail
    with pytest.raises(OSError, match="input/output error"):
        open_log()
