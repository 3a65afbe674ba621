from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rstmdb_storage import EmbeddedLog
from rstmdb_storage.frame import CONTROL_FRAME_BYTES
from rstmdb_storage.frame_decoder import take_frames
from rstmdb_storage.segment import SEGMENT_HEADER_BYTES, segment_name


def segments(wal: str) -> list[str]:
    return sorted(name for name in os.listdir(wal) if name.endswith(".wal"))


def frames(wal: str, number: int = 1) -> list[Any]:
    data = Path(wal, segment_name(number)).read_bytes()
    return take_frames(data, SEGMENT_HEADER_BYTES, 10**6)[0]


def fill(log: EmbeddedLog, commit: Any, groups: int) -> None:
    for at in range(groups):
        log.time_ms = 1000 + at
        commit(log, b"%04d" % at * 100)


def test_figures_are_those_of_the_files(open_log: Any, commit: Any, wal: str) -> None:
    log = open_log()
    fill(log, commit, 30)

    def check(log: EmbeddedLog) -> None:
        statistics = log.statistics
        assert [info.name for info in statistics.segments] == segments(wal)
        assert statistics.total_bytes == sum(info.record_bytes for info in statistics.segments)
        following = 1
        for number, info in enumerate(statistics.segments, 1):
            held = frames(wal, number)
            assert info.record_bytes == sum(frame.size for frame in held)
            assert info.file_bytes == Path(wal, info.name).stat().st_size
            effects = [frame for frame in held if frame.effects]
            assert (info.first_sequence, info.last_sequence) == (
                effects[0].first_sequence,
                effects[-1].first_sequence,
            )
            assert info.first_sequence == following
            assert info.sealed == (number < len(statistics.segments))
            if info.sealed:
                # The time of a sealed segment is that of its last record, give or take the one behind.
                assert 1000 + info.last_sequence - 1 <= info.newest_ms <= 1000 + info.last_sequence
            following = info.last_sequence + 1

    check(log)
    assert log.statistics.segments[-1].newest_ms == log.time_ms
    log.close()
    log = open_log()
    check(log)
    assert log.statistics.bytes_read == 0
    log.read(1)
    assert log.statistics.bytes_read >= log.statistics.total_bytes - CONTROL_FRAME_BYTES * 3
    assert log.statistics.reads > 0
