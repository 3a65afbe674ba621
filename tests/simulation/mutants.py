"""Is the explorer any good? Known faults are planted, one at a time, and each must be found.

A mutant is a few lines of the storage engine replaced in the source of one function, which is then compiled
anew in place of the original. The text to be replaced must be there exactly once, so a mutant that no longer
fits the code fails loudly instead of changing nothing. Most are faults that other engines had, or the
original of this one; `like` says where they were seen.

Three detectors look for them: the explorer of crashes, the explorer with injected faults, and the flipping of
bits. Which one has to find a mutant is part of its definition.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from types import FunctionType, ModuleType
from typing import Any

from tests.simulation.damage import damage_sectors_and_files, flip_bits
from tests.simulation.explore import Explorer, Figures
from tests.simulation.fencing import check_fencing
from tests.simulation.history import Violation
from tests.simulation.scripts import SCRIPTS

__all__ = ["MUTANTS", "Caught", "Detector", "Mutant", "hunt", "planted"]


class Detector(Enum):
    """Who has to find a mutant."""

    CRASHES = "crashes"
    FAULTS = "faults"
    BITS = "bits"
    FENCING = "fencing"


@dataclass(frozen=True)
class Mutant:
    """One planted fault.

    Attributes:
        name: What is wrong.
        like: Where such a fault was seen.
        detector: Who has to find it.
        place: Module and name of the function, in `rstmdb_storage`.
        before: What stands there.
        after: What is put there.
        more: Further replacements, for faults that take more than one.
    """

    name: str
    like: str
    detector: Detector
    place: str
    before: str
    after: str
    more: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True)
class Caught:
    """How a mutant was found.

    Attributes:
        mutant: Which.
        cases: How many cases it took.
        seconds: How long.
        finding: What broke; `None` when it got away.
    """

    mutant: Mutant
    cases: int
    seconds: float
    finding: str | None

    def __str__(self) -> str:
        result = self.finding or "GOT AWAY"
        return f"{self.mutant.name}: {self.cases} cases, {self.seconds:.2f} s: {result}"


MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "acknowledge before sync",
        "etcd #14370",
        Detector.CRASHES,
        "schedule:SyncSchedule.wants_sync",
        "if self._every_write or",
        "if",
    ),
    Mutant(
        "a group acknowledges what came in behind it",
        "the class of etcd #14370: the boundary of a group commit",
        Detector.CRASHES,
        "log:EmbeddedLog.finish_commit",
        "durable = done.last_sequence",
        "durable = self.next_sequence - 1",
    ),
    Mutant(
        "every_ms never syncs",
        "original: no timer anywhere",
        Detector.CRASHES,
        "schedule:SyncSchedule.sync_due_at",
        "if self._policy.mode is not FsyncMode.EVERY_MS or not self.unsynced_records:",
        "if True:",
        (("schedule:SyncSchedule.wants_sync", "if policy.mode is FsyncMode.EVERY_MS and", "if False and"),),
    ),
    Mutant(
        "every_n counts one record too few",
        "a boundary",
        Detector.CRASHES,
        "schedule:SyncSchedule.wants_sync",
        "self.unsynced_records + records >= policy.amount",
        "self.unsynced_records + records > policy.amount",
    ),
    Mutant(
        "the old segment is not synced at rotation",
        "original: rotation leaves the finished segment unsynced",
        Detector.CRASHES,
        "jobs:Rotation.run",
        "self.before.sync()",
        "pass",
    ),
    Mutant(
        "a new segment's name is not synced",
        "original: directories are never synced",
        Detector.CRASHES,
        "segment:put_in_place",
        "fs.sync_directory(directory)",
        "pass",
    ),
    Mutant(
        "a new segment's header is not synced",
        "original: files are renamed before they are synced",
        Detector.CRASHES,
        "segment:put_in_place",
        "prepared.file.sync()",
        "pass",
    ),
    Mutant(
        "a new data directory's name is not synced",
        "original: directories are never synced",
        Detector.CRASHES,
        "datadir:_make_durable_directory",
        "fs.sync_directory(parent)",
        "pass",
    ),
    Mutant(
        "a directory that exists is taken for a safe one",
        "this data directory, until a soak found it",
        Detector.CRASHES,
        "datadir:_make_durable_directory",
        "fs.sync_directory(parent)",
        "existed or fs.sync_directory(parent)",
    ),
    Mutant(
        "a snapshot's name is not synced",
        "original: directories are never synced",
        Detector.CRASHES,
        "snapshot:SnapshotStore._publish",
        "self.fs.sync_directory(self.directory)",
        "pass",
    ),
    Mutant(
        "a snapshot is renamed before it is synced",
        "original: the index refers to files that were never synced",
        Detector.CRASHES,
        "snapshot_writer:SnapshotWriter.finishing",
        "self._sync()",
        "pass",
    ),
    Mutant(
        "the torn tail is kept, and the next record goes behind it",
        "original: the length of the file is where it goes on",
        Detector.CRASHES,
        "survey:survey",
        "end=tail.end",
        "end=max(tail.end, (judged.data_end + 7) & ~7)",
    ),
    Mutant(
        "what is left of a torn tail is not zeroed",
        "etcd: stale bytes behind a shorter record",
        Detector.CRASHES,
        "repair:repair",
        "for position in range(found.end, found.data_end, WINDOW_BYTES):",
        "for position in ():",
    ),
    Mutant(
        "what was found is trusted without being written again",
        "the fsync study; TigerBeetle, docs/concepts/safety.md",
        Detector.FAULTS,
        "repair:repair",
        "for position in range(found.proven_bytes, found.end, WINDOW_BYTES):",
        "for position in ():",
    ),
    Mutant(
        "what was found is trusted without a sync",
        "the fsync study",
        Detector.CRASHES,
        "repair:repair",
        "file.sync()",
        "pass",
        (("opening:_write_epoch", "file.sync()", "pass"),),
    ),
    Mutant(
        "a failed sync is tried again, and believed",
        "PostgreSQL before 2018; the fsync study",
        Detector.FAULTS,
        "jobs:SegmentCommit.run",
        "if self.sync:\n    file.sync()",
        "if self.sync:\n    try:\n        file.sync()\n    except OSError:\n        file.sync()",
    ),
    Mutant(
        "a failed commit does not poison the log",
        "original: the client gets an error, and the next write goes on",
        Detector.FAULTS,
        "log:EmbeddedLog.finish_commit",
        "self._room = -1",
        "self._room = self._writer.room()",
    ),
    Mutant(
        "a short write is taken for a whole one",
        "original: a failed write leaves bytes behind and the size unchanged",
        Detector.FAULTS,
        "jobs:SegmentCommit.run",
        "if written != len(data):",
        "if False:",
    ),
    Mutant(
        "numbers that were shown come again after a power loss",
        "original: offsets start over behind what was lost",
        Detector.CRASHES,
        "opening:open_log",
        "jumped = SEQUENCE_JUMP if",
        "jumped = 0 if",
    ),
    Mutant(
        "an end that was not clean counts as clean",
        "a mark of an earlier process is believed",
        Detector.CRASHES,
        "tail:_follow",
        "tail.clean = last.kind == KIND_CLOSE",
        "tail.clean = tail.clean or any(frame.kind == KIND_CLOSE for frame in frames)",
    ),
    Mutant(
        "two epochs are the same",
        "no fencing",
        Detector.CRASHES,
        "opening:open_log",
        "epoch=found.epoch + 1",
        "epoch=max(1, found.epoch)",
    ),
    Mutant(
        "a failing frame is cut, whatever it looks like",
        "original: recovery searches for the next magic",
        Detector.BITS,
        "judgement:judge",
        "verdict = DECISIONS[proven, place, behind]",
        "verdict = DECISIONS[proven, place, behind]\n"
        "if verdict is Verdict.REFUSE:\n    verdict = Verdict.CUT",
    ),
    Mutant(
        "nothing is proven by what stands behind it",
        "the end of the log is where the first bad record is",
        Detector.BITS,
        "judgement:judge",
        "verdict = DECISIONS[proven, place, behind]",
        "verdict = DECISIONS[False, place, behind]",
    ),
    Mutant(
        "the checksum does not cover the header",
        "original: the checksum covers the payload only",
        Detector.BITS,
        "frame_decoder:take_frames",
        "if crc32c(0, window[offset + 12 : body]) != header_checksum or kind not in FRAME_KINDS or zero:",
        "if kind not in FRAME_KINDS or zero:",
    ),
    Mutant(
        "a reader passes over damage",
        "original: replay skips what it cannot read",
        Detector.BITS,
        "reader:SegmentReader._read_frames",
        "if not frames:\n    raise",
        "if not frames:\n    self._position = end\n    return 0\n    raise",
    ),
    Mutant(
        "snapshots are loaded unchecked",
        "original: the checksum of a snapshot is never compared",
        Detector.BITS,
        "snapshot_file:read_chunks",
        "if found != crc or len(stored) != stored_length:",
        "if len(stored) != stored_length:",
    ),
    Mutant(
        "replay ignores snapshots",
        "original: replay starts at the beginning, and no snapshot is ever loaded",
        Detector.CRASHES,
        "snapshot:SnapshotStore.newest",
        "found = self.open(info)",
        "self.open(info).close()",
    ),
    Mutant(
        "a failed snapshot does not hold compaction back",
        "original: compaction ignores the error",
        Detector.CRASHES,
        "compaction:compact",
        "trim_point(snapshots, log.statistics.segments, retention, now_ms=now_ms)",
        "log.durable_sequence + 1",
    ),
    Mutant(
        "compaction goes as far as the newest snapshot",
        "one damaged file loses everything",
        Detector.CRASHES,
        "compaction:trim_point",
        "needed_after = snapshots[-SNAPSHOTS_KEPT].sequence",
        "needed_after = snapshots[-1].sequence",
    ),
    Mutant(
        "compaction removes one segment too many",
        "a boundary",
        Detector.CRASHES,
        "trimming:Trimmer.begin",
        "self._leftovers += segments[:count]",
        "self._leftovers += segments[: count + 1]",
    ),
    Mutant(
        "only one snapshot is kept",
        "one damaged file loses everything",
        Detector.CRASHES,
        "snapshot:SnapshotStore._publish",
        "infos[-SNAPSHOTS_KEPT:]",
        "infos[-1:]",
        (
            ("snapshot:SnapshotStore._publish", "if len(kept) == SNAPSHOTS_KEPT:", "if True:"),
            ("snapshot:SnapshotStore._publish", "infos[:-SNAPSHOTS_KEPT]", "infos[:-1]"),
        ),
    ),
    Mutant(
        "the old snapshot goes before the new one is safe",
        "original: superseded by name only",
        Detector.CRASHES,
        "snapshot:SnapshotStore._publish",
        "self._write_index(kept)",
        "for gone in infos[:-1]:\n    self._remove(gone.name)\nself._write_index(kept)",
    ),
    Mutant(
        "the index is written in place and believed",
        "original: index.json is rewritten in place, unsynced; unparsable, the server does not start",
        Detector.CRASHES,
        "snapshot:SnapshotStore._write_index",
        "self.fs.rename(temporary, path)",
        "self.fs.unlink(temporary)\n"
        "file = self.fs.open(path, write=True, create=not self.fs.exists(path))\n"
        "file.truncate(0)\n"
        "write_fully(file, json.dumps(document).encode(), 0)\n"
        "file.close()",
        (
            (
                "snapshot:SnapshotStore._index_agrees",
                "except (ValueError, TypeError, KeyError, RecursionError):",
                "except ZeroDivisionError:",
            ),
        ),
    ),
    Mutant(
        "what is left unfinished stays",
        "temporary files fill the disk",
        Detector.CRASHES,
        "snapshot:SnapshotStore._remove_unfinished",
        "self._remove(name)",
        "pass",
        (("snapshot_writer:SnapshotWriter.__init__", "self._fs.unlink(self._path)", "pass"),),
    ),
    Mutant(
        "a full disk is found only while writing",
        "original: the write fails after the number was taken",
        Detector.CRASHES,
        "space:SegmentSpace.require",
        "raise self._refusal(size) from error",
        "return",
    ),
    Mutant(
        "the room that a mark takes is still promised to records",
        "this log, until a soak found it",
        Detector.CRASHES,
        "log:EmbeddedLog.begin_sync",
        "self._room = writer.room()",
        "pass",
    ),
    Mutant(
        "no lock",
        "original: two servers on one directory",
        Detector.FENCING,
        "datadir:DataDirectory.open",
        'lock = fs.lock(f"{path}/{_LOCK_NAME}")',
        "from types import SimpleNamespace\nlock = SimpleNamespace(release=lambda: None)",
    ),
)


@contextlib.contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    """Put a mutant in the place of the original."""
    undo: list[Callable[[], None]] = []
    try:
        for place, before, after in ((mutant.place, mutant.before, mutant.after), *mutant.more):
            undo.append(_replace(place, before, after))
        yield
    finally:
        for action in reversed(undo):
            action()


def hunt(mutant: Mutant) -> Caught:
    """Plant a mutant, and look for it as its detector does."""
    began = time.perf_counter()
    with planted(mutant):
        if mutant.detector is Detector.BITS:
            damage = flip_bits(seed=1, findings_max=1)
            cases, findings = damage.cases, damage.findings
            if not findings:
                damage = damage_sectors_and_files(seed=1, findings_max=1)
                cases, findings = cases + damage.cases, damage.findings
        elif mutant.detector is Detector.FENCING:
            cases, findings = 1, _fencing()
        else:
            figures = _explore(faults=mutant.detector is Detector.FAULTS)
            cases, findings = figures.cases, [str(finding) for finding in figures.findings]
    return Caught(mutant, cases, time.perf_counter() - began, findings[0] if findings else None)


def _explore(*, faults: bool) -> Figures:
    """Walk all scripts until something is found: first one death, which is quick, then two in a row."""
    figures = Figures()
    for deaths in (1, 2):
        for script in SCRIPTS:
            explorer = Explorer(script, deaths=deaths)
            figures.add(explorer.explore_faults() if faults else explorer.explore())
            if figures.findings:
                return figures
    return figures


_SOURCES: dict[object, str] = {}
"""The sources of planted functions, for a second replacement in the same one."""


def _fencing() -> list[str]:
    try:
        check_fencing()
    except Violation as error:
        return [str(error)]
    return []


def _replace(place: str, before: str, after: str) -> Callable[[], None]:
    """Compile a function anew with some of its text replaced; return what puts the original back."""
    module_name, _, path = place.partition(":")
    module = importlib.import_module(f"rstmdb_storage.{module_name}")
    owner: Any = module
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    stored = inspect.getattr_static(owner, name)
    original = stored.__func__ if isinstance(stored, classmethod) else stored
    source = _SOURCES.get(original) or textwrap.dedent(inspect.getsource(original))
    made = _compile(module, _mutate(source, before, after), original)
    replacement: Any = classmethod(made) if isinstance(stored, classmethod) else made
    users = _users_of(stored, name) if owner is module else [owner]
    for user in users:
        setattr(user, name, replacement)

    def undo() -> None:
        for user in users:
            setattr(user, name, stored)

    return undo


def _mutate(source: str, before: str, after: str) -> str:
    """Replace a text that must stand in the source once; further lines are indented like its first one."""
    first = before.split("\n")[0]
    matches = []
    for number, line in enumerate(source.split("\n")):
        if first in line:
            indent = "\n" + " " * (len(line) - len(line.lstrip()))
            matches.append((number, indent))
    fitting = {indent for _, indent in matches if before.replace("\n", indent) in source}
    if len(matches) != 1 or not fitting:
        raise LookupError(f"a mutant no longer fits: {before!r} stands there {len(matches)} times")
    indent = fitting.pop()
    return source.replace(before.replace("\n", indent), after.replace("\n", indent))


def _compile(module: ModuleType, source: str, original: Any) -> FunctionType:
    """Compile the source of a function in the names of its module, and its class."""
    decorators = source.index("def ")
    names: dict[str, Any] = {}
    exec(
        compile("from __future__ import annotations\n" + source[decorators:], module.__file__ or "", "exec"),
        module.__dict__,
        names,
    )
    made: FunctionType = names[original.__name__]
    _SOURCES[made] = source
    return made


def _users_of(function: object, name: str) -> list[ModuleType]:
    """Return the modules that own a function or have imported a function by its name."""
    return [
        user
        for user_name, user in list(sys.modules.items())
        if user_name.startswith(("rstmdb_storage", "tests.simulation"))
        and getattr(user, name, None) is function
    ]
