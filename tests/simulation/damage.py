"""Damage in a directory that was closed: all of it is noticed, or changes nothing.

The directory is made once: several segments, two snapshots, retained history, a clean end. Each piece of
damage gets a fresh copy. What may come of it is one of two things::

    opened      the state is the shadow's, and the history that can be read is the shadow's,
                up to a place where reading is refused with the file and a position
    refused     with the file and a position

Never another state, never a record skipped, and never an exception that nobody has thought of.

Coarse damage (sectors zeroed, files cut or removed) has two known limits, which are counted and not findings:
the last commit together with the mark behind it, zeroed or gone with the last segment, is what a torn write
looks like; and a log whose oldest segment is gone is what compaction leaves.
"""

from __future__ import annotations

import marshal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from rstmdb_storage.compaction import Retention
from rstmdb_storage.config import LogConfig
from rstmdb_storage.datadir import DataDirectory
from rstmdb_storage.errors import CorruptionError, FormatError
from rstmdb_storage.frame import FRAME_HEADER_BYTES, KIND_GROUP
from rstmdb_storage.frame_decoder import take_frames
from rstmdb_storage.log import EmbeddedLog
from rstmdb_storage.segment import SEGMENT_HEADER_BYTES
from rstmdb_storage.snapshot import SnapshotStore
from tests.simulation.filesystem import SECTOR, Disk, SimulatedFileSystem
from tests.simulation.history import Entry
from tests.simulation.host import DIRECTORY, Settings
from tests.simulation.prng import Prng
from tests.simulation.scripts import Story

__all__ = [
    "FLIPS",
    "Closed",
    "Damage",
    "DamageFigures",
    "closed_directory",
    "damage_sectors_and_files",
    "flip_bits",
]

SETTINGS = Settings(segment_bytes=8192, retention=Retention(bytes=30_000, seconds=None))

FLIPS = {"record": 600, "last commit": 100, "header": 100, "snapshot": 100, "small file": 50, "blank": 50}
"""How many bits are flipped where: in record bytes, also those of the last commit; in headers of segments and
frames; in snapshots; in the index, LOCK and FORMAT; and in the part of the last segment that nobody wrote."""

LAST_COMMIT = 3
"""How many records the last commit holds."""

Extent = tuple[str, int, int]


@dataclass(frozen=True)
class Closed:
    """A directory that was closed, and what is in it.

    Attributes:
        disk: The disk.
        entries: The whole state.
        oldest: The oldest sequence that can be read.
        next_sequence: What comes next.
        mark: Where the mark of the clean end is.
        regions: The extents of the files (path, from, to) by what is in them.
    """

    disk: Disk
    entries: tuple[Entry, ...]
    oldest: int
    next_sequence: int
    mark: Extent
    regions: dict[str, list[Extent]]


@dataclass(frozen=True)
class Damage:
    """One piece of damage.

    Attributes:
        region: What kind it is.
        path: The file.
        position: Its first damaged byte.
        coarse: Whether more than a bit is damaged, so that the known limits apply.
    """

    region: str
    path: str
    position: int
    coarse: bool = False


@dataclass
class DamageFigures:
    """What came of the damage.

    Attributes:
        cases: How many pieces of damage.
        outcomes: How often each outcome by region.
        findings: What should not have been; empty is good.
    """

    cases: int = 0
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)

    def note(self, damage: Damage, closed: Closed, disk: Disk) -> None:
        """Open a damaged directory, and note what came of it."""
        self.cases += 1
        try:
            outcome = _outcome(damage, closed, disk)
        except _WrongError as error:
            self.findings.append(f"{damage.region}, {damage.path} from {damage.position} on: {error}")
        except Exception as error:
            self.findings.append(
                f"{damage.region}, {damage.path} from {damage.position} on: {type(error).__name__}: {error}"
            )
        else:
            self.outcomes[damage.region, outcome] += 1

    def __str__(self) -> str:
        lines = [f"{region}: {count} {outcome}" for (region, outcome), count in sorted(self.outcomes.items())]
        return "\n".join([f"{self.cases} pieces of damage, {len(self.findings)} findings", *lines])


class _WrongError(Exception):
    """An outcome that must not be."""


def closed_directory(seed: int) -> Closed:
    """Make a directory with several segments, two snapshots and a clean end."""
    prng = Prng(seed).fork("directory")
    story = Story(SETTINGS)
    for part in range(4):
        for _ in range(30):
            sizes = [prng.between(20, 500) for _ in range(prng.between(1, 3))]
            story.host.append(*sizes, lengths=[prng.between(1, 4) for _ in sizes], filler=b"%c" % (65 + part))
        if part < 3:
            story.host.snapshot()
            story.host.compact()
        if part == 1:
            story.kill()
    # So that the last segment holds more than the last commit.
    story.host.append(2000, 2000)
    for _ in range(5):
        story.host.append(100)
    story.host.append(*[700] * LAST_COMMIT)
    oldest, following = story.host.log.oldest_sequence, story.host.log.next_sequence
    story.host.close()
    lock = SimulatedFileSystem(story.disk).open(f"{DIRECTORY}/LOCK", write=True)
    lock.pwrite(b"process 4711 on example\n", 0)
    disk = story.disk.after_power_loss(lambda place: True)
    regions = _regions(disk)
    return Closed(disk, story.shadow.issued, oldest, following, regions["header"][-1], regions)


def _regions(disk: Disk) -> dict[str, list[Extent]]:
    regions: dict[str, list[Extent]] = {name: [] for name in FLIPS}
    groups: list[Extent] = []
    for path, contents in disk.files().items():
        if path.endswith(".wal"):
            frames, end, _ = take_frames(contents, SEGMENT_HEADER_BYTES, sys.maxsize)
            regions["header"].append((path, 0, SEGMENT_HEADER_BYTES))
            for frame in frames:
                body = frame.offset + FRAME_HEADER_BYTES
                regions["header"].append((path, frame.offset, body))
                if frame.kind == KIND_GROUP:
                    groups.append((path, body, body + frame.body_bytes))
            blank = (path, end, len(contents))
        elif path.endswith(".snap"):
            regions["snapshot"].append((path, 0, len(contents)))
        elif not path.endswith("/reserve"):
            regions["small file"].append((path, 0, len(contents)))
    regions["record"], regions["last commit"], regions["blank"] = groups[:-1], groups[-1:], [blank]
    return regions


def flip_bits(*, seed: int, flips: dict[str, int] | None = None, findings_max: int = 10) -> DamageFigures:
    """Flip bits, one at a time, and look at what comes of each."""
    closed = closed_directory(seed)
    prng = Prng(seed).fork("flips")
    figures = DamageFigures()
    for region, count in (flips or FLIPS).items():
        extents = closed.regions[region]
        total = sum(end - start for _, start, end in extents)
        for _ in range(count):
            path, position = _locate(extents, prng.below(total))
            disk = closed.disk.after_kill()
            disk.flip_bit(path, position * 8 + prng.below(8))
            figures.note(Damage(region, path, position), closed, disk)
            if len(figures.findings) >= findings_max:
                return figures
    return figures


def damage_sectors_and_files(*, seed: int, findings_max: int = 10) -> DamageFigures:
    """Zero each sector, cut each file at each sector, and remove each file."""
    closed = closed_directory(seed)
    figures = DamageFigures()
    for damage, action in _coarse_damage(closed):
        disk = closed.disk.after_kill()
        action(SimulatedFileSystem(disk))
        figures.note(damage, closed, disk.after_power_loss(lambda place: True))
        if len(figures.findings) >= findings_max:
            break
    return figures


def _locate(extents: list[Extent], at: int) -> tuple[str, int]:
    """Return the file and position of one byte among those of all extents."""
    for path, start, end in extents:
        if at < end - start:
            return path, start + at
        at -= end - start
    raise AssertionError("behind the last extent")


def _coarse_damage(closed: Closed) -> Iterator[tuple[Damage, Callable[[SimulatedFileSystem], object]]]:
    for path, contents in closed.disk.files().items():
        if path.endswith(("LOCK", "reserve")):
            continue
        for start in range(0, len(contents), SECTOR):
            part = contents[start : start + SECTOR]
            if any(part):
                zeros = bytes(len(part))
                yield Damage("zeroed sector", path, start, True), partial(_overwrite, path, start, zeros)
            yield Damage("cut file", path, start, True), partial(_cut, path, start)
        yield Damage("lost file", path, 0, True), partial(_remove, path)


def _overwrite(path: str, position: int, data: bytes, fs: SimulatedFileSystem) -> None:
    fs.open(path, write=True).pwrite(data, position)


def _cut(path: str, size: int, fs: SimulatedFileSystem) -> None:
    fs.open(path, write=True).truncate(size)


def _remove(path: str, fs: SimulatedFileSystem) -> None:
    fs.unlink(path)


def _outcome(damage: Damage, closed: Closed, disk: Disk) -> str:
    """Open a damaged directory; return how it went.

    Raises:
        _WrongError: In a way that must not be.
    """
    fs = SimulatedFileSystem(disk)
    try:
        data = DataDirectory.open(fs, DIRECTORY)
        store = SnapshotStore(fs, data.snapshots)
        infos = store.infos()
        config = LogConfig(segment_bytes=SETTINGS.segment_bytes, reserve_bytes=0)
        log, _ = EmbeddedLog.open(fs, data.wal, config, snapshot_sequence=infos[-1].sequence if infos else 0)
        snapshot = store.newest(log_begins_at=log.oldest_sequence)
        entries: list[Entry] = []
        reached = 0
        if snapshot is not None:
            reached = snapshot.sequence
            for chunk in snapshot.chunks():
                entries += [Entry(*fields) for fields in marshal.loads(chunk)]
        entries += _read(log, reached + 1)
    except (CorruptionError, FormatError) as error:
        return _refused("refused", error, damage)
    path, mark, _ = closed.mark
    lost_with_mark = damage.region == "lost file" or damage.position + SECTOR > mark
    like_torn = damage.coarse and damage.path == path and lost_with_mark
    if like_torn and tuple(entries) == closed.entries[:-LAST_COMMIT]:
        return "known limit: like a torn write"
    if tuple(entries) != closed.entries:
        raise _WrongError(f"opened with {len(entries)} records, {len(closed.entries)} were there")
    if log.next_sequence != closed.next_sequence:
        raise _WrongError(f"goes on with sequence {log.next_sequence} instead of {closed.next_sequence}")
    try:
        history = _read(log, log.oldest_sequence)
    except (CorruptionError, FormatError) as error:
        return _refused("history refused", error, damage)
    oldest = log.oldest_sequence if damage.region == "lost file" else closed.oldest
    expected = tuple(entry for entry in closed.entries if entry.last_sequence >= oldest)
    if tuple(history) != expected:
        raise _WrongError(f"the history has {len(history)} records, {len(expected)} were there")
    if oldest != closed.oldest:
        return "known limit: like compaction"
    return "older snapshot" if store.damage else "equal"


def _refused(outcome: str, error: CorruptionError | FormatError, damage: Damage) -> str:
    """See that a refusal names the file, and a place at or before the damage."""
    if error.path == damage.path:
        if isinstance(error, CorruptionError) and error.position > damage.position:
            raise _WrongError(f"the refusal names a place behind the damage: {error}")
    elif damage.region != "lost file":
        # A file that is gone is noticed where the next one does not follow.
        raise _WrongError(f"the refusal names another file: {error}")
    return outcome


def _read(log: EmbeddedLog, sequence: int) -> list[Entry]:
    entries: list[Entry] = []
    while batch := log.read(sequence, bytes_max=4096, records_max=50):
        entries += [Entry(*record) for record in batch]
        sequence = batch[-1].first_sequence + batch[-1].count
    return entries
