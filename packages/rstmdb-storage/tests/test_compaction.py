"""The plan of compaction, case by case and as properties of any plan."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rstmdb_storage.compaction import (
    LogProgress,
    Retention,
    SnapshotTriggers,
    compact,
    should_snapshot,
    trim_point,
)
from rstmdb_storage.config import LogConfig
from rstmdb_storage.filesystem import OsFileSystem
from rstmdb_storage.interface import SegmentInfo
from rstmdb_storage.log import EmbeddedLog
from rstmdb_storage.snapshot import SnapshotInfo, SnapshotStore

NOW = 1_700_000_000_000
NO_HISTORY = Retention(bytes=0, seconds=0)


def span(first: int, last: int, record_bytes: int = 100, newest_ms: int = NOW - 10_000) -> SegmentInfo:
    return SegmentInfo(
        name=f"{first}.wal",
        first_sequence=first,
        last_sequence=last,
        record_bytes=record_bytes,
        file_bytes=1 << 20,
        newest_ms=newest_ms,
        sealed=True,
    )


def snapshot(sequence: int, *, size_bytes: int = 1000, created_ms: int = NOW - 100_000) -> SnapshotInfo:
    return SnapshotInfo(f"snap-{sequence:016x}.snap", sequence, size_bytes, created_ms, "00000000")


SEGMENTS = [span(1, 10), span(11, 20), span(21, 30), span(31, 35)]


@pytest.mark.parametrize(
    ("sequences", "point"),
    [
        ([], 1),
        ([30], 1),  # one snapshot has no older one to fall back to
        ([9, 30], 1),
        ([10, 30], 11),
        ([19, 30], 11),
        ([20, 30], 21),
        ([30, 35], 31),
        ([35, 35], 31),  # the active segment stays
        ([5, 20, 30], 21),  # the two newest count
    ],
)
def test_the_log_from_the_older_of_two_snapshots_on_is_kept(sequences, point):
    assert trim_point([snapshot(each) for each in sequences], SEGMENTS, NO_HISTORY, now_ms=NOW) == point


@pytest.mark.parametrize(
    ("retention", "point"),
    [
        (Retention(bytes=0, seconds=0), 31),
        (Retention(bytes=0, seconds=None), 31),
        (Retention(bytes=None, seconds=0), 31),
        (Retention(bytes=None, seconds=None), 1),
        (Retention(bytes=100, seconds=None), 31),  # the active one alone holds 100
        (Retention(bytes=101, seconds=None), 21),
        (Retention(bytes=200, seconds=None), 21),
        (Retention(bytes=301, seconds=None), 1),
        (Retention(bytes=None, seconds=10.0), 31),  # exactly 10 s old is out
        (Retention(bytes=None, seconds=10.001), 1),
        (Retention(bytes=101, seconds=86_400.0), 21),  # the smaller of the two counts
        (Retention(bytes=1 << 40, seconds=1.0), 31),
        (Retention(), 1),
    ],
)
def test_the_promised_history_is_kept(retention, point):
    assert trim_point([snapshot(30), snapshot(35)], SEGMENTS, retention, now_ms=NOW) == point


def test_time_ends_history_segment_by_segment():
    segments = [
        replace(span, newest_ms=NOW - 1000 * age) for span, age in zip(SEGMENTS, (9, 6, 3, 0), strict=True)
    ]
    for seconds, point in ((10, 1), (9, 11), (5, 21), (2, 31)):
        retention = Retention(bytes=None, seconds=seconds)
        assert trim_point([snapshot(35), snapshot(35)], segments, retention, now_ms=NOW) == point


def test_a_jump_of_the_sequence_is_not_cut_open():
    # The sequence jumped from 10 to 1000: only a snapshot behind the jump makes the first segment needless.
    segments = [span(1, 10), span(1000, 1005), span(1006, 1010)]
    assert trim_point([snapshot(10), snapshot(1003)], segments, NO_HISTORY, now_ms=NOW) == 1
    assert trim_point([snapshot(1003), snapshot(1007)], segments, NO_HISTORY, now_ms=NOW) == 1000


def test_empty_segments_and_an_empty_log():
    assert trim_point([snapshot(3), snapshot(5)], [], NO_HISTORY, now_ms=NOW) == 1
    assert trim_point([snapshot(3), snapshot(5)], [span(6, 5, 0)], NO_HISTORY, now_ms=NOW) == 6
    segments = [span(1, 5), span(6, 5, 0), span(6, 8)]
    assert trim_point([snapshot(5), snapshot(8)], segments, NO_HISTORY, now_ms=NOW) == 6


@st.composite
def logs(draw: st.DrawFn) -> tuple[list[SegmentInfo], list[SnapshotInfo], Retention]:
    spans: list[SegmentInfo] = []
    sequence = draw(st.integers(1, 50))
    age = draw(st.integers(0, 100))
    for count in draw(st.lists(st.integers(1, 20), min_size=1, max_size=8)):
        spans.append(span(sequence, sequence + count - 1, draw(st.integers(0, 500)), NOW - 1000 * age))
        sequence += count
        age = draw(st.integers(0, age))
    points = sorted(draw(st.lists(st.integers(spans[0].first_sequence, sequence - 1), max_size=4)))
    limits = st.one_of(st.none(), st.integers(0, 1000))
    retention = Retention(bytes=draw(limits), seconds=draw(limits))
    return spans, [snapshot(point) for point in points], retention


@given(logs())
def test_any_plan_leaves_what_recovery_and_readers_need(case):
    spans, snapshots, retention = case
    point = trim_point(snapshots, spans, retention, now_ms=NOW)
    kept = [each for each in spans if each.last_sequence >= point]
    gone = spans[: len(spans) - len(kept)]
    assert kept
    assert kept[0].first_sequence == point
    if not gone:
        return
    assert len(snapshots) >= 2
    assert point <= snapshots[-2].sequence + 1
    for removed in gone:
        old = retention.seconds is not None and NOW - removed.newest_ms >= retention.seconds * 1000
        newer_bytes = sum(each.record_bytes for each in spans if each.first_sequence > removed.first_sequence)
        far = retention.bytes is not None and newer_bytes >= retention.bytes
        assert old or far


def test_compacting_does_what_was_planned_and_counts_it(tmp_path):
    fs = OsFileSystem()
    log, _ = EmbeddedLog.open(fs, str(tmp_path), LogConfig(segment_bytes=2048, reserve_bytes=0))
    store = SnapshotStore(fs, str(tmp_path / "snapshots"))
    deleted = 0
    for number in range(12):
        sequence = log.append(b"%d" % (number % 10) * 700, 1)
        commit = log.begin_commit()
        assert commit is not None
        commit.run()
        log.finish_commit(commit)
        store.begin(sequence).finish()
        before = [path.stat().st_size for path in tmp_path.glob("*.wal")]
        result = compact(log, store, NO_HISTORY, now_ms=NOW, snapshots_created=1)
        after = [path.stat().st_size for path in tmp_path.glob("*.wal")]
        assert result.bytes_reclaimed == sum(before) - sum(after)
        assert result.segments_deleted == len(before) - len(after)
        assert result.segments_total == len(after)
        assert result.snapshots_total == min(number + 1, 2)
        assert result.snapshots_created == 1
        deleted += result.segments_deleted
        assert log.oldest_sequence <= store.infos()[0].sequence + 1
    assert deleted >= 3
    assert log.read(log.oldest_sequence)[-1].first_sequence == 12
    log.close()


TRIGGERS = SnapshotTriggers(events=100, bytes=10_000, interval_seconds=60, size_ratio=0.5)
LAST = snapshot(1, size_bytes=1000, created_ms=NOW - 60_000)


@pytest.mark.parametrize(
    ("progress", "last", "due"),
    [
        (LogProgress(events=99, bytes=9_999), LAST, False),
        (LogProgress(events=100, bytes=500), LAST, True),
        (LogProgress(events=100, bytes=499), LAST, False),  # less log than half of the snapshot
        (LogProgress(events=1, bytes=10_000), LAST, True),
        (LogProgress(events=100, bytes=1), None, True),
        (LogProgress(events=99, bytes=1), None, False),
        (LogProgress(events=0, bytes=50_000), LAST, False),  # nothing happened: the same state again
        (LogProgress(events=100, bytes=500), replace(LAST, created_ms=NOW - 59_999), False),
        (LogProgress(events=100, bytes=500), replace(LAST, created_ms=NOW + 5), True),  # the clock went back
        (LogProgress(events=100, bytes=500), replace(LAST, size_bytes=1001), False),
    ],
)
def test_when_a_snapshot_is_due(progress, last, due):
    assert should_snapshot(TRIGGERS, progress, last, now_ms=NOW) is due


def test_triggers_can_be_switched_off():
    much = LogProgress(events=1 << 40, bytes=1 << 40)
    assert not should_snapshot(replace(TRIGGERS, events=0, bytes=0), much, LAST, now_ms=NOW)
    assert should_snapshot(replace(TRIGGERS, events=0), much, LAST, now_ms=NOW)
    assert should_snapshot(replace(TRIGGERS, bytes=0), much, LAST, now_ms=NOW)
