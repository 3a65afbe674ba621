from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from rstmdb_storage import CorruptionError, EmbeddedLog, LogClosed, LogConfig, SequenceTrimmed
from rstmdb_storage.frame import encode_group
from rstmdb_storage.frame_decoder import WINDOW_BYTES, take_frames
from rstmdb_storage.reader import SegmentReader
from rstmdb_storage.segment import SEGMENT_HEADER_BYTES, segment_name


def test_a_reader_that_goes_on_reads_only_what_is_new(open_log: Any, commit: Any, fs: Any) -> None:
    log = open_log(segment_bytes=1 << 20)
    reader = log.reader()
    commit(log, *[b"x" * 1000] * 100)
    assert len(reader.read(1)) == 100
    for sequence in range(101, 110):
        commit(log, b"y" * 40)
        fs.reads.clear()
        assert [record.first_sequence for record in reader.read(sequence)] == [sequence]
        ((_, size, _),) = fs.reads
        assert size < 200
    fs.reads.clear()
    assert reader.read(110) == []
    assert fs.reads == []


def test_no_read_asks_for_more_than_a_window(open_log: Any, commit: Any, fs: Any) -> None:
    log = open_log(segment_bytes=16 << 20)
    for _ in range(40):
        commit(log, *[b"x" * 1000] * 100)
    fs.reads.clear()
    assert len(log.read(1)) == 4000
    assert max(size for _, size, _ in fs.reads) <= WINDOW_BYTES
    # A small page reads little, however large the segment is.
    fs.reads.clear()
    reader = log.reader()
    assert len(reader.read(1, bytes_max=5000)) == 5
    assert sum(size for _, size, _ in fs.reads) <= 256 * 1024
    # A frame beyond the window is read whole, and nothing else is.
    commit(log, b"y" * (3 * WINDOW_BYTES))
    fs.reads.clear()
    assert len(reader.read(4001)[0].body) == 3 * WINDOW_BYTES
    assert max(size for _, size, _ in fs.reads) < 3 * WINDOW_BYTES + 200


def test_positions_once_passed_are_found_again(open_log: Any, commit: Any, fs: Any) -> None:
    log = open_log(segment_bytes=16 << 20)
    for _ in range(100):
        commit(log, *[b"x" * 1000] * 30)

    def cost(log: EmbeddedLog, sequence: int) -> int:
        fs.reads.clear()
        reader = log.reader()
        assert reader.read(sequence, bytes_max=1)[0].first_sequence == sequence
        reader.close()
        return sum(size for path, size, _ in fs.reads)

    assert cost(log, 2900) < 256 * 1024
    # Also by those who open it the next time: the last segment is read anyway.
    log = open_log(segment_bytes=16 << 20)
    assert cost(log, 2900) < 256 * 1024
    assert cost(log, 1) < 256 * 1024


def test_sealed_segments_of_an_earlier_run_are_found_through_once(
    open_log: Any, commit: Any, fs: Any
) -> None:
    log = open_log(segment_bytes=1 << 20)
    for _ in range(100):
        commit(log, *[b"x" * 1000] * 30)
    log.close()
    log = open_log(segment_bytes=1 << 20)
    second = log.statistics.segments[1]
    middle = (second.first_sequence + second.last_sequence) // 2
    costs = []
    for _ in range(2):
        fs.reads.clear()
        assert log.reader().read(middle, bytes_max=1)[0].first_sequence == middle
        costs.append(sum(size for _, size, _ in fs.reads))
    assert costs[1] < 256 * 1024 < costs[0] < 1 << 20


def test_a_reader_of_a_closed_log_says_so(open_log: Any, commit: Any) -> None:
    log = open_log()
    commit(log, b"x")
    reader = log.reader()
    reader.read(1)
    log.close()
    with pytest.raises(LogClosed):
        reader.read(1)
    reader.close()


def test_a_segment_that_cannot_be_opened_is_told(open_log: Any, commit: Any, fs: Any, wal: str) -> None:
    log = open_log()
    for _ in range(10):
        commit(log, b"x" * 1000)
    first = Path(wal, segment_name(1))
    away = first.rename(first.with_suffix(".away"))
    # A trim would have said so before it removed anything.
    with pytest.raises(CorruptionError, match="missing, and was not trimmed") as missing:
        log.reader().read(1)
    assert missing.value.path == str(first)
    first.mkdir()
    with pytest.raises(CorruptionError, match="cannot be"):
        log.reader().read(1)
    first.rmdir()
    away.rename(first)
    fs.unreadable = str(first)
    with pytest.raises(CorruptionError, match="cannot be read") as refused:
        log.read(1)
    assert (refused.value.path, refused.value.position) == (str(first), SEGMENT_HEADER_BYTES)
    fs.unreadable = None
    assert len(log.read(1)) == 10


def test_a_read_that_failed_half_way_skips_nothing_the_next_time(
    open_log: Any, commit: Any, wal: str, flip: Any
) -> None:
    log = open_log()
    for _ in range(10):
        commit(log, b"x" * 1000)
    reader = log.reader()
    assert reader.read(1, records_max=1)[0].first_sequence == 1
    second = str(Path(wal, segment_name(2)))
    flip(second, SEGMENT_HEADER_BYTES + 500)
    for _ in range(2):
        with pytest.raises(CorruptionError):
            reader.read(2)
    flip(second, SEGMENT_HEADER_BYTES + 500)
    assert [record.first_sequence for record in reader.read(2)] == list(range(2, 11))


def test_frames_that_do_not_follow_are_refused(open_log: Any, commit: Any, wal: str) -> None:
    log = open_log()
    for at in range(10):
        commit(log, b"%04d" % at * 250)
    path = Path(wal, segment_name(1))
    data = path.read_bytes()
    frames, end, _ = take_frames(data, SEGMENT_HEADER_BYTES, 10**6)
    one, two = frames[0], frames[1]
    assert one.size == two.size
    swapped = bytearray(data)
    swapped[one.offset : one.offset + one.size] = data[two.offset : two.offset + two.size]
    swapped[two.offset : two.offset + two.size] = data[one.offset : one.offset + one.size]
    path.write_bytes(swapped)
    with pytest.raises(CorruptionError, match="sequence 2, epoch 1 stands where sequence 1") as refused:
        log.read(1)
    assert refused.value.position == SEGMENT_HEADER_BYTES
    # A sealed segment that has lost its end.
    path.write_bytes(data[: end - two.size].ljust(len(data), b"\0"))
    with pytest.raises(CorruptionError, match="no valid frame"):
        log.read(1)
    path.write_bytes(data)
    # One that ends too early by what its header says: the next one does not follow.
    log._published.state[1][0].end = two.offset
    with pytest.raises(CorruptionError, match=r"ends before sequence 2, the next one begins at"):
        log.reader().read(1)


def test_damage_in_a_sealed_segment_is_refused_when_it_is_read(
    open_log: Any, commit: Any, wal: str, flip: Any
) -> None:
    log = open_log()
    for at in range(30):
        commit(log, b"%04d" % at * 100)
    second = log.statistics.segments[1]
    data = Path(wal, second.name).read_bytes()
    at = take_frames(data, SEGMENT_HEADER_BYTES, 10**6)[0][1].offset
    flip(str(Path(wal, second.name)), at + 100)
    assert log.read(1, records_max=second.first_sequence)[-1].first_sequence == second.first_sequence
    with pytest.raises(CorruptionError) as refused:
        log.read(1, bytes_max=10**6)
    assert refused.value.path == str(Path(wal, second.name))
    assert refused.value.position == at
    # What is behind can still be asked for.
    third = log.statistics.segments[2].first_sequence
    assert log.read(third)[0].first_sequence == third


def test_a_frame_with_a_good_check_and_nonsense_inside_is_refused(
    open_log: Any, commit: Any, wal: str
) -> None:
    log = open_log()
    commit(log, b"aa", b"bb")
    path = Path(wal, segment_name(1))
    frame = encode_group(
        [b"aa", b"bb"], [3, 0], first_sequence=1, durable_sequence=0, synced_bytes=128, epoch=1, flags=0
    )
    data = bytearray(path.read_bytes())
    data[SEGMENT_HEADER_BYTES : SEGMENT_HEADER_BYTES + len(frame)] = frame
    path.write_bytes(data)
    log._published.state = (3, log._published.state[1], SEGMENT_HEADER_BYTES + len(frame))
    with pytest.raises(CorruptionError, match="tables of a group contradict"):
        log.read(1)


def test_a_file_that_may_not_be_opened_is_told(open_log: Any, commit: Any, fs: Any, wal: str) -> None:
    log = open_log()
    commit(log, b"x")

    def refuse(path: str, **how: bool) -> Any:
        raise OSError(errno.EMFILE, "too many open files")

    open_file = fs.open
    fs.open = refuse
    with pytest.raises(OSError, match="too many open files"):
        log.read(1)
    fs.open = open_file
    assert len(log.read(1)) == 1


def test_readers_go_over_empty_segments_and_epochs(open_log: Any, commit: Any, wal: str) -> None:
    log = open_log()
    commit(log, b"one")
    while len(os.listdir(wal)) < 3:
        log = open_log()
    commit(log, b"two")
    log = open_log()
    assert [record.body for record in log.read(1)] == [b"one", b"two"]
    reader = log.reader()
    assert reader.read(1, records_max=1) == [(1, 1, b"one")]
    assert reader.read(2, records_max=1) == [(2, 1, b"two")]
    assert reader.read(2) == [(2, 1, b"two")]


def log_with_an_empty_segment(open_log: Any, commit: Any, wal: str) -> tuple[EmbeddedLog, SegmentReader]:
    """Return a log of "one", a segment without a record, and "two"; and a reader that stands behind "one"."""
    log = open_log()
    commit(log, b"one")
    while len(os.listdir(wal)) < 3:
        log = open_log()
    commit(log, b"two")
    assert [info.first_sequence for info in log.statistics.segments] == [1, 2, 2]
    reader = log.reader()
    assert reader.read(1, records_max=1) == [(1, 1, b"one")]
    return log, reader


def test_a_trim_of_what_was_read_and_of_nothing_is_not_noticed(open_log: Any, commit: Any, wal: str) -> None:
    log, reader = log_with_an_empty_segment(open_log, commit, wal)
    assert log.trim(2).segments_removed == 2
    assert reader.read(2) == [(2, 1, b"two")]


class TrimAtOpen:
    """Lets a trim pass by between a reader's look at the segments and its opening one of them."""

    def __init__(self, fs: Any, log: EmbeddedLog, before_sequence: int) -> None:
        self.log = log
        self.before_sequence = before_sequence
        self.job: Any = None
        self._open = fs.open
        fs.open = self.open

    def open(self, path: str, **how: bool) -> Any:
        if self.job is None:
            self.job = self.log.begin_trim(self.before_sequence)
            self.job.run()
        return self._open(path, **how)


def test_a_trim_that_passes_by_a_read_takes_only_what_it_trims(
    open_log: Any, commit: Any, fs: Any, wal: str
) -> None:
    log, reader = log_with_an_empty_segment(open_log, commit, wal)
    passing = TrimAtOpen(fs, log, 2)
    assert reader.read(2) == [(2, 1, b"two")]
    assert passing.job.removed == 2


@pytest.mark.parametrize("from_sequence", [1, 2])
def test_who_is_told_that_a_sequence_was_trimmed_finds_it_below_the_oldest(
    open_log: Any, commit: Any, fs: Any, from_sequence: int
) -> None:
    log = open_log()
    for _ in range(30):
        commit(log, b"x" * 1000)
    reader = log.reader()
    if from_sequence > 1:
        # It stands in the first segment, and has to go over to the next.
        assert len(reader.read(1, records_max=from_sequence - 1)) == from_sequence - 1
    third = log.statistics.segments[2].first_sequence
    passing = TrimAtOpen(fs, log, third)
    with pytest.raises(SequenceTrimmed) as gone:
        reader.read(from_sequence)
    # Nobody has finished the trim yet.
    assert (gone.value.sequence, gone.value.oldest) == (from_sequence, third)
    assert log.oldest_sequence == third
    assert log.finish_trim(passing.job).segments_removed == 2
    assert reader.read(third)[0].first_sequence == third


def test_the_configured_sizes_do_not_matter_to_those_who_read(fs: Any, wal: str, commit: Any) -> None:
    for size in (2048, 65536, 4096):
        log, _ = EmbeddedLog.open(fs, wal, LogConfig(segment_bytes=size, reserve_bytes=0))
        for _ in range(9):
            commit(log, b"x" * 700)
        log.close()
    log, _ = EmbeddedLog.open(fs, wal, LogConfig(reserve_bytes=0))
    assert [record.first_sequence for record in log.read(1)] == list(range(1, 28))
