"""Reading a log without opening it: for verification, dumps and backups. Nothing is written."""

from __future__ import annotations

from collections.abc import Callable

from rstmdb_storage.filesystem import FileSystem
from rstmdb_storage.published import Published
from rstmdb_storage.reader import SegmentReader
from rstmdb_storage.statistics import Traffic
from rstmdb_storage.survey import Survey, survey
from rstmdb_storage.tail import Progress

__all__ = ["open_offline"]


def open_offline(
    fs: FileSystem,
    directory: str,
    *,
    snapshot_sequence: int = 0,
    on_progress: Callable[[Progress], None] | None = None,
) -> tuple[SegmentReader, Survey]:
    """Return a reader of everything that a recovery would find, and what it would decide.

    The reader checks each frame that it passes; reading to the end from `Survey.segments[0]` on verifies the
    log. The files must not be written meanwhile: hold the lock of the directory, or read a copy.

    Args:
        fs: The file system.
        directory: Where the segments are.
        snapshot_sequence: The last sequence that the newest good snapshot holds; 0 without one.
        on_progress: Called while the last segment is read.

    Raises:
        CorruptionError: The log is damaged.
        FormatError: It is of a format that this version does not read.
    """
    found = survey(fs, directory, snapshot_sequence=snapshot_sequence, on_progress=on_progress)
    durable = found.next_sequence - 1 if found.segments else 0
    published = Published((durable, tuple(found.segments), found.end))
    return SegmentReader(fs, published, Traffic()), found
