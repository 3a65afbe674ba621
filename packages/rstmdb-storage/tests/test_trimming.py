"""What a trim shows and removes, and what one that fails leaves behind."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest

from rstmdb_storage import EmbeddedLog, SequenceTrimmed
from rstmdb_storage.segment import segment_name


def segments(wal: str) -> list[str]:
    return sorted(name for name in os.listdir(wal) if name.endswith(".wal"))


def fill(log: EmbeddedLog, commit: Any, groups: int) -> None:
    for at in range(groups):
        log.time_ms = 1000 + at
        commit(log, b"%04d" % at * 100)


def test_trimming_drops_sealed_segments_below(open_log: Any, commit: Any, fs: Any, wal: str) -> None:
    log = open_log()
    fill(log, commit, 30)
    infos = log.statistics.segments
    assert len(infos) >= 4
    third = infos[2].first_sequence
    reader = log.reader()
    assert reader.read(1, records_max=1)[0].first_sequence == 1
    assert log.trim(third - 1).segments_removed == 1
    fs.journal.clear()
    result = log.trim(third)
    assert (result.segments_removed, result.bytes_reclaimed, result.oldest_sequence) == (1, 4096, third)
    assert fs.journal == [("unlink", infos[1].name), ("sync_directory", "wal")]
    assert log.oldest_sequence == third
    with pytest.raises(SequenceTrimmed) as gone:
        log.read(third - 1)
    assert (gone.value.sequence, gone.value.oldest) == (third - 1, third)
    assert [record.first_sequence for record in log.read(third)] == list(range(third, 31))
    # The active segment stays, whatever is asked for.
    log.trim(10**9)
    assert len(segments(wal)) == 1
    # A cursor keeps the file that it has open, and then finds that what follows is gone.
    assert len(reader.read(2, records_max=3)) == 3
    with pytest.raises(SequenceTrimmed):
        reader.read(5, records_max=1000)
    log = open_log(snapshot_sequence=30)
    assert log.oldest_sequence > third


def test_a_trim_is_shown_before_anything_is_removed(open_log: Any, commit: Any, fs: Any, wal: str) -> None:
    log = open_log()
    fill(log, commit, 30)
    before = log.statistics
    names = [info.name for info in before.segments]
    third = before.segments[2].first_sequence
    standing = log.reader()
    assert standing.read(1, records_max=1)[0].first_sequence == 1
    fs.journal.clear()
    job = log.begin_trim(third)
    assert job is not None
    assert (fs.journal, segments(wal)) == ([], names)
    assert log.oldest_sequence == third
    after = log.statistics
    assert after.segments == before.segments[2:]
    assert after.total_bytes == sum(info.record_bytes for info in before.segments[2:])
    with pytest.raises(SequenceTrimmed) as gone:
        log.reader().read(third - 1)
    assert (gone.value.sequence, gone.value.oldest) == (third - 1, third)
    assert [record.first_sequence for record in log.read(third)] == list(range(third, 31))
    job.run()
    # Who has a file open reads on in it; what follows is gone.
    assert [record.first_sequence for record in standing.read(2, records_max=2)] == [2, 3]
    with pytest.raises(SequenceTrimmed) as gone:
        standing.read(4)
    assert (gone.value.sequence, gone.value.oldest) == (4, third)
    # Writing, and going over to new segments, goes on meanwhile.
    for at in range(30, 60):
        commit(log, b"%04d" % at * 100)
    result = log.finish_trim(job)
    assert (result.segments_removed, result.oldest_sequence) == (2, third)
    assert [info.name for info in log.statistics.segments] == segments(wal)
    assert [record.first_sequence for record in log.read(third)] == list(range(third, 61))
    assert log.begin_trim(third) is None


@pytest.mark.parametrize("call", ["unlink", "sync_directory"])
@pytest.mark.parametrize("reopened", [False, True])
def test_a_trim_that_fails_leaves_no_gap(
    open_log: Any, commit: Any, fs: Any, wal: str, call: str, reopened: bool
) -> None:
    log = open_log()
    fill(log, commit, 30)
    infos = log.statistics.segments
    everything = log.read(1)
    calls = 0

    def fail(count: int, what: str, name: str) -> None:
        nonlocal calls
        calls += what == call
        if what == call and calls > 1:
            raise OSError(errno.EIO, "input/output error")

    fs.fail = fail
    job = log.begin_trim(10**9)
    assert job is not None
    job.run()
    assert str(job.error) == "[Errno 5] input/output error"
    active = infos[-1].first_sequence
    first = log.finish_trim(job)
    assert (first.segments_removed, first.bytes_reclaimed, first.oldest_sequence) == (1, 4096, active)
    # One more is gone when it was the sync behind it that failed, but nobody knows that it stays so.
    left = segments(wal)
    assert left[0] == segment_name(2 if call == "unlink" else 3)
    # What could not be removed is no part of the log any more.
    assert log.oldest_sequence == active
    assert log.statistics.segments == infos[-1:]
    with pytest.raises(SequenceTrimmed):
        log.read(active - 1)
    with pytest.raises(OSError, match="input/output error"):
        log.trim(1)
    assert segments(wal) == left
    fs.fail = lambda count, what, name: None
    if reopened:
        # A restart takes them in again.
        log = open_log(snapshot_sequence=30)
        assert [info.name for info in log.statistics.segments] == left
        kept = [record for record in everything if record.first_sequence >= log.oldest_sequence]
        assert log.read(log.oldest_sequence) == kept
        assert len(kept) > 1
        assert log.trim(10**9).segments_removed == len(left) - 1
    else:
        # The next trim tries again, although nothing else is to be trimmed, and counts each file once.
        fs.journal.clear()
        second = log.trim(1)
        assert second.segments_removed == len(infos) - 2
        assert second.bytes_reclaimed == 4096 * second.segments_removed
        assert [name for what, name in fs.journal if what == "unlink"] == [each.name for each in infos[1:-1]]
        assert [what for what, _ in fs.journal] == ["unlink", "sync_directory"] * second.segments_removed
    assert segments(wal) == [infos[-1].name]
    assert log.begin_trim(1) is None


def test_what_a_trim_has_left_goes_with_what_the_next_one_trims(
    open_log: Any, commit: Any, fs: Any, wal: str
) -> None:
    log = open_log()
    fill(log, commit, 30)
    infos = log.statistics.segments
    assert len(infos) >= 4

    def fail(count: int, what: str, name: str) -> None:
        if what == "unlink":
            raise OSError(errno.EIO, "input/output error")

    fs.fail = fail
    with pytest.raises(OSError, match="input/output error"):
        log.trim(infos[1].first_sequence)
    fs.fail = lambda count, what, name: None
    assert segments(wal) == [info.name for info in infos]
    fs.journal.clear()
    assert log.trim(infos[3].first_sequence).segments_removed == 3
    assert [name for what, name in fs.journal if what == "unlink"] == [info.name for info in infos[:3]]
    assert segments(wal) == [info.name for info in infos[3:]]
