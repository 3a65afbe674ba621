"""The figures of the log: what went to the disk and came back, and what the segments hold.

::

    commits, in the loop     ──▶ Traffic ──┐
    reads, from any thread   ──▶           ├──▶ log_statistics ──▶ LogStatistics
    what is published of the segments    ──┘
"""

from __future__ import annotations

import threading

from rstmdb_storage.interface import LogStatistics, SegmentInfo
from rstmdb_storage.jobs import SegmentCommit
from rstmdb_storage.published import Published
from rstmdb_storage.segment import SEGMENT_HEADER_BYTES, segment_name

__all__ = ["Traffic", "log_statistics"]


class Traffic:
    """Counts bytes and calls since the log was opened.

    Attributes:
        bytes_written: Bytes given to the disk.
        writes: Write calls.
        syncs: Syncs of files.
        bytes_read: Bytes that all readers have read.
        reads: Their read calls.
    """

    __slots__ = ("_lock", "bytes_read", "bytes_written", "reads", "syncs", "writes")

    def __init__(self) -> None:
        self.bytes_written = 0
        self.writes = 0
        self.syncs = 0
        self.bytes_read = 0
        self.reads = 0
        self._lock = threading.Lock()

    def committed(self, commit: SegmentCommit) -> None:
        """Add what a commit has done."""
        size = len(commit.data)
        self.bytes_written += size
        self.writes += size > 0
        self.syncs += commit.sync + commit.sync_first
        if commit.rotation is not None:
            self.bytes_written += SEGMENT_HEADER_BYTES
            self.writes += 1
            self.syncs += 2

    def read(self, size: int) -> None:
        """Add one read; from any thread."""
        with self._lock:
            self.bytes_read += size
            self.reads += 1


def log_statistics(traffic: Traffic, published: Published, *, time_ms: int) -> LogStatistics:
    """Return the figures of a log as they are now.

    Args:
        traffic: What was written and read.
        published: The segments.
        time_ms: The host's time of the newest record.
    """
    durable, segments, end = published.state
    infos = []
    for at, segment in enumerate(segments):
        header = segment.header
        # What is known of a sealed segment's end stands in the header of the one behind.
        following = segments[at + 1].header if at + 1 < len(segments) else None
        last = durable if following is None else following.after_sequence
        infos.append(
            SegmentInfo(
                name=segment_name(header.number),
                first_sequence=header.first_sequence,
                last_sequence=max(last, header.first_sequence - 1),
                record_bytes=(end if following is None else following.previous_end) - SEGMENT_HEADER_BYTES,
                file_bytes=header.file_bytes,
                newest_ms=time_ms if following is None else following.time_ms,
                sealed=following is not None,
            )
        )
    return LogStatistics(
        bytes_written=traffic.bytes_written,
        bytes_read=traffic.bytes_read,
        writes=traffic.writes,
        reads=traffic.reads,
        syncs=traffic.syncs,
        total_bytes=sum(info.record_bytes for info in infos),
        segments=tuple(infos),
    )
