"""Repairing a log that was surveyed: what was found is made true before anyone relies on it.

In the last segment, and in this order::

    │ header │ frame │ frame │ frame │ torn ...      │ zeros
                             ▲       ▲ end           ▲ data end
                             │       ◀─ 1. zeroed ───▶
                             ◀──────▶ 2. written again
                             proven bytes                3. file and directory synced

What is valid and not proven is written again, as a sync may have failed after it was written, and the kernel
then takes it for clean. Each step leaves a log of which a survey finds the same, so a crash in the middle
changes nothing.
"""

from __future__ import annotations

from rstmdb_storage.filesystem import FileSystem
from rstmdb_storage.frame_decoder import WINDOW_BYTES
from rstmdb_storage.jobs import Preparation
from rstmdb_storage.segment import (
    SEGMENT_HEADER_BYTES,
    TEMPORARY_SUFFIX,
    Segment,
    put_in_place,
    read_part,
    write_fully,
)
from rstmdb_storage.survey import Survey

__all__ = ["repair"]


def repair(fs: FileSystem, directory: str, found: Survey) -> tuple[int, int]:
    """Make true what a survey has found; return the bytes cut and the bytes written again.

    Args:
        fs: The file system.
        directory: Where the segments are.
        found: What `survey` has returned.

    Raises:
        CorruptionError: What was to be written again cannot be read.
        OSError: The disk fails.
    """
    for path in found.leftovers:
        fs.unlink(path)
    if not found.segments:
        return 0, 0
    last = found.segments[-1]
    file = fs.open(last.path, write=True)
    try:
        zeros = bytes(WINDOW_BYTES)
        for position in range(found.end, found.data_end, WINDOW_BYTES):
            write_fully(file, zeros[: found.data_end - position], position)
        for position in range(found.proven_bytes, found.end, WINDOW_BYTES):
            data = read_part(file, last.path, min(WINDOW_BYTES, found.end - position), position)
            write_fully(file, data, position)
        file.sync()
    finally:
        file.close()
    if found.end == SEGMENT_HEADER_BYTES:
        _make_again(fs, directory, last)
    fs.sync_directory(directory)
    return found.data_end - found.end, found.end - found.proven_bytes


def _make_again(fs: FileSystem, directory: str, segment: Segment) -> None:
    """Replace a segment that holds no frame yet by another one like it.

    Nothing in it proves that its name was ever synced, and after a sync of the directory that failed,
    another one may succeed without having done anything.
    """
    job = Preparation(fs, segment.path + TEMPORARY_SUFFIX, segment.header.file_bytes, fill=False)
    job.run()
    if job.result is not None:
        put_in_place(fs, directory, job.result, segment.header)
        job.result.file.close()
    elif not job.disk_full:
        assert job.error is not None
        raise job.error
    # Without space for it the name has to be trusted: a full disk must not keep the server from starting.
