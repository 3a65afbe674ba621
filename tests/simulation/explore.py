"""The exhaustive explorer: every death at every place of short histories, and every recovery from it.

For each script, at each moment around each of its file operations, the process dies::

    moment ──┬─ kill ──────────────────────────┐
             └─ power loss, with of the unsynced:│
                 none, all, each beginning,      ├─▶ recover, check ─▶ lose power, recover, check,
                 each single effect missing,     │      │              append, lose power, recover, check
                 names only, data only ──────────┘      └─ and die again at each moment of that recovery,
                                                           in each of these ways, and recover, check

A *case* is one death and the recovery after it. Two cases in which the disk holds the same bytes, with the
same parts uncertain, and the same promises hold, have the same outcome; such a case is counted and not run
again.

`explore_faults` lets each operation fail once, in each way that fits it, before the process dies.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from rstmdb_storage.errors import CorruptionError, StorageError
from tests.simulation.filesystem import (
    Disk,
    Effect,
    Fault,
    FaultKind,
    Keep,
    Kind,
    Moment,
    Operation,
    SimulatedFileSystem,
    keep_only,
)
from tests.simulation.history import Shadow, Violation
from tests.simulation.host import Host, Settings, Stopped
from tests.simulation.scripts import Script, Story

__all__ = ["Explorer", "FaultPlan", "Figures", "Finding"]


@dataclass(frozen=True)
class Finding:
    """A promise that was broken, and how to see it again.

    Attributes:
        script: The script.
        path: The deaths that led there, and faults.
        error: What broke.
    """

    script: str
    path: tuple[str, ...]
    error: BaseException

    def __str__(self) -> str:
        return f"{self.script}: {' > '.join(self.path)}: {type(self.error).__name__}: {self.error}"


@dataclass
class Figures:
    """What an exploration has looked at.

    Attributes:
        cases: Deaths with their recoveries.
        second: How many of these were a second or later death, inside a recovery.
        faults: Runs with an injected fault.
        run: Recoveries that were run, as no equal one had been.
        seconds: How long it took.
        findings: What broke; empty is good.
    """

    cases: int = 0
    second: int = 0
    faults: int = 0
    run: int = 0
    seconds: float = 0.0
    findings: list[Finding] = field(default_factory=list)

    def add(self, other: Figures) -> None:
        """Add the figures of another exploration."""
        self.cases += other.cases
        self.second += other.second
        self.faults += other.faults
        self.run += other.run
        self.seconds += other.seconds
        self.findings += other.findings

    def __str__(self) -> str:
        return (
            f"{self.cases} cases ({self.second} of them with another death inside a recovery), "
            f"{self.faults} runs with a fault, {self.run} different recoveries, {self.seconds:.1f} s, "
            f"{len(self.findings)} findings"
        )


class Enough(BaseException):
    """As many findings as were wanted."""


class Explorer:
    """Walks all deaths of one script.

    Attributes:
        figures: What was looked at so far.
    """

    def __init__(
        self,
        script: Script,
        *,
        deaths: int = 2,
        hostile: bool = False,
        findings_max: int = 1,
        cases_max: int | None = None,
    ) -> None:
        """Make an explorer.

        Args:
            script: The script to walk.
            deaths: How often the process dies in a row: 2 interrupts the recovery, 3 also the next one.
            hostile: The disk tears sectors, which disks promise not to do; then an honest refusal is good.
            findings_max: Stop after so many findings.
            cases_max: Stop after so many cases.
        """
        self.figures = Figures()
        self._script = script
        self._deaths_max = deaths
        self._hostile = hostile
        self._findings_max = findings_max
        self._cases_max = cases_max
        self._seen: dict[object, int] = {}
        self._dead: set[object] = set()
        self._fault: tuple[str, ...] = ()

    def explore(self) -> Figures:
        """Play the script once, and try every death around each operation."""
        return self._timed(self._play_watched)

    def explore_faults(self) -> Figures:
        """Play the script with each fault at each operation, and try every death at the end of each."""
        return self._timed(self._play_faults)

    def _timed(self, action: Callable[[], None]) -> Figures:
        began = time.perf_counter()
        try:
            action()
        except Enough:
            pass
        finally:
            self.figures.seconds += time.perf_counter() - began
        return self.figures

    # Playing

    def _play_watched(self) -> None:
        def watch(fs: SimulatedFileSystem, shadow: Shadow, operation: Operation, moment: Moment) -> None:
            self._deaths(fs.disk, shadow, 1, (_place(operation, moment),))

        try:
            story = Story(self._script.settings, watcher=watch)
            self._script.play(story)
            self._deaths(story.disk, story.shadow, 1, ("at the end",))
        except Exception as error:
            self._found((), error)

    def _play_faults(self) -> None:
        story = Story(self._script.settings)
        try:
            self._script.play(story)
        except Exception as error:
            self._found(("without any fault",), error)
        for number, operation in enumerate(story.operations):
            for fault in _fitting_faults(operation):
                self.figures.faults += 1
                self._play_with(FaultPlan(number, fault), f"{fault.kind.value} at {_place(operation, None)}")

    def _play_with(self, plan: FaultPlan, text: str) -> None:
        """Play the script with one fault, to its end or to where the process gives up; then let it die."""
        self._fault = (text,)
        story = None
        try:
            story = Story(self._script.settings, fault_for=plan)
            self._script.play(story)
        except Violation as error:
            # A script says so itself when it did not come where it wanted; a fault may be the reason.
            if "shows nothing" not in str(error) and not plan.excuses(error):
                self._found(("while running",), error)
        except (StorageError, OSError, Stopped):
            # The process gives up. That is what it may do; what it has promised must hold.
            pass
        except AssertionError as error:
            self._found(("while running",), error)
        if story is not None:
            self._deaths(story.disk, story.shadow, 1, ("at the end",))
        self._fault = ()

    # Dying

    def _deaths(self, disk: Disk, shadow: Shadow, depth: int, path: tuple[str, ...]) -> None:
        """Let the process die here in every way."""
        key = (disk.fingerprint(), shadow.key(), depth)
        effects = disk.effects()
        if key in self._dead:
            self._count(depth, 1 + sum(1 for _ in _survivals(effects)))
            return
        self._dead.add(key)
        self._case(disk.after_kill(), shadow, False, depth, (*path, "kill"))
        for name, keep in _survivals(effects):
            self._case(disk.after_power_loss(keep), shadow, True, depth, (*path, f"power loss, {name}"))
        if self._hostile:
            for place, new in _tears(effects):
                torn = disk.after_power_loss(lambda _: True, torn=(place, new))
                self._case(torn, shadow, True, depth, (*path, f"power loss, effect {place} torn at {new}"))

    def _count(self, depth: int, cases: int) -> None:
        self.figures.cases += cases
        if depth > 1:
            self.figures.second += cases
        if self._cases_max is not None and self.figures.cases >= self._cases_max:
            raise Enough

    def _case(
        self, disk: Disk, promised: Shadow, power_lost: bool, depth: int, path: tuple[str, ...]
    ) -> None:
        self._count(depth, 1)
        shadow = promised.copy()
        shadow.die(power_lost=power_lost)
        key = (disk.fingerprint(), shadow.key())
        if self._seen.get(key, 9) <= depth:
            return
        self._seen[key] = depth
        self.figures.run += 1
        try:
            self._recover(disk, shadow, depth, path)
        except CorruptionError as error:
            if not self._hostile:
                self._found(path, error)
        except Exception as error:
            self._found(path, error)

    def _recover(self, disk: Disk, shadow: Shadow, depth: int, path: tuple[str, ...]) -> None:
        promised = shadow.copy()

        def watch(operation: Operation, moment: Moment) -> None:
            self._deaths(fs.disk, promised, depth + 1, (*path, _place(operation, moment)))

        fs = SimulatedFileSystem(disk, observer=watch if depth < self._deaths_max else None)
        host = Host(fs, self._settings, shadow)
        host.open()
        fs.stop_watching()
        recovered = shadow.copy()
        lost = fs.disk.after_power_loss(_nothing)
        # What was recovered has been shown: from here on not even a power loss may take it. And what is
        # appended behind it, before such a loss or after it, must not be lost for what a crash left there.
        self._append(host)
        self._reopen(fs.disk.after_power_loss(_nothing), shadow)
        host = self._reopen(lost, recovered)
        self._append(host)
        self._reopen(host.fs.disk.after_power_loss(_nothing), recovered)

    def _append(self, host: Host) -> None:
        host.append(30)
        host.sync()

    def _reopen(self, disk: Disk, shadow: Shadow) -> Host:
        shadow.die(power_lost=True)
        host = Host(SimulatedFileSystem(disk), self._settings, shadow)
        host.open()
        return host

    @property
    def _settings(self) -> Settings:
        return self._script.settings

    def _found(self, path: tuple[str, ...], error: BaseException) -> None:
        self.figures.findings.append(Finding(self._script.name, (*self._fault, *path), error))
        if len(self.figures.findings) >= self._findings_max:
            raise Enough


class FaultPlan:
    """One fault at one operation.

    Attributes:
        number: The operation, counted over the whole story.
        fault: What goes wrong.
    """

    def __init__(self, number: int, fault: Fault) -> None:
        self.number = number
        self.fault = fault

    def __call__(self, operation: Operation) -> Fault | None:
        return self.fault if operation.number == self.number else None

    def excuses(self, error: Violation) -> bool:
        """Say whether the fault explains that a script did not get what it insists on."""
        return "(11)" in str(error) and "loses" not in str(error)


def _nothing(place: int) -> bool:
    return False


def _place(operation: Operation, moment: Moment | None) -> str:
    name = operation.path.rpartition("/")[2]
    when = "" if moment is None else f"{moment.value} "
    extent = f" {operation.size}@{operation.offset}" if operation.name == "pwrite" else ""
    return f"{when}#{operation.number} {operation.name} {name}{extent}"


def _survivals(effects: list[Effect]) -> Iterator[tuple[str, Keep]]:
    """Yield the ways in which a power loss may leave these effects, each once."""
    everything = range(len(effects))
    seen: set[frozenset[int]] = set()
    for name, places in _candidates(effects, everything):
        kept = frozenset(places)
        if kept not in seen:
            seen.add(kept)
            yield name, keep_only(kept)


def _tears(effects: list[Effect]) -> Iterator[tuple[int, int]]:
    """Yield places and how many bytes of that sector are new, in steps that disks with 8-byte words make."""
    for place, (_, kind, _, _, _) in enumerate(effects):
        if kind is Kind.SECTOR:
            for new in (8, 64, 256, 448, 504):
                yield place, new


def _candidates(effects: list[Effect], everything: range) -> Iterator[tuple[str, list[int]]]:
    yield "nothing survives", []
    yield "all survives", list(everything)
    for count in everything:
        yield f"the first {count} survive", list(range(count))
    targets: dict[tuple[object, ...], list[int]] = {}
    for place, (_, kind, number, value, _) in enumerate(effects):
        # All forms of a sector go together; each change of names or of a length is one of its own.
        target = (kind, number, value) if kind is Kind.SECTOR else (kind, number, value, place)
        targets.setdefault(target, []).append(place)
    for places in targets.values():
        yield f"all but {places} survives", [place for place in everything if place not in places]
    names = [place for place in everything if effects[place][1] is Kind.ENTRY]
    lengths = [place for place in everything if effects[place][1] is Kind.SIZE]
    yield "only names survive", names
    yield "only names and lengths survive", names + lengths
    yield "all but names survives", [place for place in everything if place not in names]


def _fitting_faults(operation: Operation) -> list[Fault]:
    """Return the faults worth trying at an operation."""
    name = operation.name
    if name == "sync":
        return [Fault(FaultKind.SYNC_DROP), Fault(FaultKind.SYNC_KEEP)]
    if name == "pwrite":
        half = operation.size // 2
        return [
            Fault(FaultKind.SHORT_WRITE, half),
            Fault(FaultKind.TORN_WRITE, half),
            Fault(FaultKind.ERROR),
            Fault(FaultKind.FULL),
        ]
    if name in ("create", "preallocate", "rename", "make_directory"):
        return [Fault(FaultKind.ERROR), Fault(FaultKind.FULL)]
    return [Fault(FaultKind.ERROR)]
