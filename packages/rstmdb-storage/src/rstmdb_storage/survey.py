"""Looking at a log as it was left: which segments there are, and where it ends. Nothing is changed.

The headers of all segments form a chain: numbers without gaps, each saying where the segment before ends.
Only where the last one ends has nobody written down::

    headers of all segments ─▶ frames of the last one ─▶ what stands behind them ─▶ Survey
        in this module              tail                     judgement

`rstmdb_storage.repair` makes true what was found here, before anyone relies on it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from rstmdb_storage.decision import Place, Verdict
from rstmdb_storage.errors import CorruptionError
from rstmdb_storage.filesystem import FileSystem
from rstmdb_storage.judgement import judge
from rstmdb_storage.segment import (
    TEMPORARY_SUFFIX,
    Segment,
    SegmentHeader,
    read_header,
    segment_name,
    segment_number,
)
from rstmdb_storage.tail import Progress, read_tail

__all__ = ["Survey", "survey"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What a look at the log has shown.

    Attributes:
        segments: All segments, oldest first; none if there is no log.
        leftovers: Temporary files that a crash left behind.
        end: Where the frames of the last segment end.
        data_end: Where anything but zeros ends in it.
        proven_bytes: Up to where it is known to have been synced.
        last_sequence: The last effect in the log; 0 for none.
        next_sequence: The sequence that follows.
        epoch: The last epoch.
        relaxed: Whether the last writer showed what was not yet synced.
        clean: Whether the log was closed.
        place: What stands at `end`.
        verdict: What is to be done about it.
    """

    segments: list[Segment] = field(default_factory=list)
    leftovers: list[str]
    end: int = 0
    data_end: int = 0
    proven_bytes: int = 0
    last_sequence: int
    next_sequence: int
    epoch: int = 0
    relaxed: bool = False
    clean: bool = False
    place: Place = Place.BLANK
    verdict: Verdict = Verdict.END


def survey(
    fs: FileSystem,
    directory: str,
    *,
    snapshot_sequence: int = 0,
    first_sequence: int = 1,
    on_progress: Callable[[Progress], None] | None = None,
) -> Survey:
    """Find the end of the log, and decide about what stands there.

    Args:
        fs: The file system.
        directory: Where the segments are.
        snapshot_sequence: The last sequence that the newest snapshot holds; 0 without one.
        first_sequence: The next sequence, if there is no log yet.
        on_progress: Called after each window that was read.

    Raises:
        CorruptionError: The log is damaged.
        FormatError: It is of a format that this version does not read.
    """
    names = fs.list(directory)
    leftovers = [f"{directory}/{name}" for name in names if name.endswith(TEMPORARY_SUFFIX)]
    numbers = [number for name in names if (number := segment_number(name)) is not None]
    segments = _chain(fs, directory, numbers)
    if not segments:
        if snapshot_sequence >= first_sequence:
            raise CorruptionError(
                directory, 0, f"no segment is there, and the newest snapshot ends at {snapshot_sequence}"
            )
        return Survey(leftovers=leftovers, last_sequence=snapshot_sequence, next_sequence=first_sequence)
    oldest = segments[0]
    if oldest.header.after_sequence > snapshot_sequence:
        raise CorruptionError(
            oldest.path,
            0,
            f"the log begins behind sequence {oldest.header.after_sequence}, and the newest snapshot ends at "
            f"{snapshot_sequence}: segments are missing",
        )
    last = segments[-1]
    file = fs.open(last.path)
    try:
        tail = read_tail(file, last, snapshot_sequence=snapshot_sequence, on_progress=on_progress)
        judged = judge(file, last.path, tail)
    finally:
        file.close()
    return Survey(
        segments=segments,
        leftovers=leftovers,
        end=tail.end,
        data_end=judged.data_end,
        proven_bytes=tail.proof.position,
        last_sequence=tail.last_sequence,
        next_sequence=tail.next_sequence,
        epoch=tail.epoch,
        relaxed=tail.relaxed,
        clean=tail.clean and judged.verdict is Verdict.END,
        place=judged.place,
        verdict=judged.verdict,
    )


def _chain(fs: FileSystem, directory: str, numbers: list[int]) -> list[Segment]:
    """Read the headers of all segments, each of which has to follow on the one before."""
    segments: list[Segment] = []
    for number in numbers:
        path = f"{directory}/{segment_name(number)}"
        header = _header(fs, path, number)
        if segments:
            _check_follows(path, header, segments[-1].header)
            segments[-1].end = header.previous_end
        segments.append(Segment(path, header))
    return segments


def _header(fs: FileSystem, path: str, number: int) -> SegmentHeader:
    file = fs.open(path)
    try:
        header = read_header(file, path, number)
        if file.size() < header.file_bytes:
            # The size was synced before the file got its name: no crash makes it shorter.
            raise CorruptionError(
                path, file.size(), f"the file ends here, and was created with {header.file_bytes} bytes"
            )
        return header
    finally:
        file.close()


def _check_follows(path: str, header: SegmentHeader, before: SegmentHeader) -> None:
    if header.number != before.number + 1:
        raise CorruptionError(path, 0, f"segment {before.number + 1:016x} is missing before it")
    if header.epoch < before.epoch or header.first_sequence < before.first_sequence:
        raise CorruptionError(path, 0, "the header of the segment contradicts the one before")
