"""Long random histories of the storage engine, each from one seed: what the short scripts do not think of.

A seed draws the settings (policy, sizes, retention, a small disk or not), which operations there are and how
often, which faults may happen, and then a few hundred operations with several deaths among them. The host
keeps the same shadow as in the explorer, so every recovery is held to every promise.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from rstmdb_storage.commit import FsyncPolicy
from rstmdb_storage.compaction import Retention
from rstmdb_storage.errors import DiskFull, StorageError
from tests.simulation.filesystem import (
    Disk,
    Fault,
    FaultKind,
    Operation,
    SimulatedFileSystem,
    draw_fault,
    keep_drawn,
)
from tests.simulation.history import Shadow
from tests.simulation.host import Host, Settings, Stopped
from tests.simulation.prng import Prng

__all__ = ["SoakFigures", "run_seed", "soak"]

OPERATIONS = 120


@dataclass
class SoakFigures:
    """What a soak has done.

    Attributes:
        seeds: How many histories.
        deaths: How often a process died in them.
        records: How many records were issued.
        refusals: How many appends a full disk refused.
        faults: How many faults were injected.
        seconds: How long it took.
        findings: Seeds and what broke.
    """

    seeds: int = 0
    deaths: int = 0
    records: int = 0
    refusals: int = 0
    faults: int = 0
    seconds: float = 0.0
    findings: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.seeds} seeds, {self.records} records, {self.deaths} deaths, {self.faults} faults, "
            f"{self.refusals} refusals of a full disk, {self.seconds:.1f} s, {len(self.findings)} findings"
        )


def soak(first_seed: int, *, seeds: int | None = None, seconds: float | None = None) -> SoakFigures:
    """Run seeds one after the other, for a number of them or for a time."""
    figures = SoakFigures()
    began = time.perf_counter()
    seed = first_seed
    while (seeds is None or seed < first_seed + seeds) and (
        seconds is None or time.perf_counter() - began < seconds
    ):
        run_seed(seed, figures)
        seed += 1
    figures.seconds = time.perf_counter() - began
    return figures


def run_seed(seed: int, figures: SoakFigures) -> str:
    """Run one history; return a digest of it, the same for the same seed."""
    life = _Life(seed, figures)
    figures.seeds += 1
    try:
        life.run()
    except Exception as error:
        figures.findings.append(f"seed {seed}: operation {life.done}: {type(error).__name__}: {error}")
    return f"{life.disk.fingerprint()} {life.shadow.key()}"


class _Life:
    """One directory through many processes."""

    def __init__(self, seed: int, figures: SoakFigures) -> None:
        prng = Prng(seed)
        self.figures = figures
        self.done = 0
        self.shadow = Shadow()
        self._settings = _draw_settings(prng.fork("settings"))
        self._choice = prng.fork("operations")
        self._sizes = prng.fork("sizes")
        self._deaths = prng.fork("deaths")
        self._fault_prng = prng.fork("faults")
        self._fault_rates = _draw_faults(prng.fork("fault rates"))
        weights = prng.fork("weights")
        self._weights = {
            name: weights.random() * weight
            for name, weight in _WEIGHTS.items()
            # Some operations do not occur at all in a history, which lets others go further.
            if weights.chance(0.8) or name == "append"
        }
        self._weights["kill"] = self._weights.get("kill", 0.3)
        self._full = False
        self._now = 1000.0
        self.disk = Disk()
        self.host: Host | None = None

    def run(self) -> None:
        """Live."""
        for self.done in range(OPERATIONS):
            if self.host is None and not self._start():
                continue
            assert self.host is not None
            try:
                self._step(self.host, self._choice.weighted(self._weights))
            except (Stopped, StorageError, OSError):
                # The process has given up for a fault; nothing else may make it do so.
                if not self._faulty():
                    raise
                self._die(power_lost=self._deaths.chance(0.5))
        # In the end the faults stop, and everything must be well.
        self._fault_rates = {}
        self.disk.capacity = None
        if self.host is not None:
            self._die(power_lost=True)
        if not self._start():
            raise AssertionError("it does not start, although nothing is wrong any more")
        assert self.host is not None
        self.host.append(50)

    def _faulty(self) -> bool:
        return bool(self._fault_rates) or self._full

    def _start(self) -> bool:
        """Start a process; say whether it runs."""
        fs = SimulatedFileSystem(self.disk, fault_for=self._fault)
        self.host = Host(fs, self._settings, self.shadow)
        self.host.now = self._now
        try:
            self.host.open()
        except (OSError, DiskFull):
            if not self._faulty():
                raise
            self._die(power_lost=self._deaths.chance(0.5))
            return False
        return True

    def _fault(self, operation: Operation) -> Fault | None:
        fault = draw_fault(self._fault_prng, operation, self._fault_rates)
        self.figures.faults += fault is not None
        return fault

    def _die(self, *, power_lost: bool) -> None:
        host = self.host
        assert host is not None
        self.host = None
        self._now = host.now
        self.figures.deaths += 1
        host.fs.crash()
        self.shadow.die(power_lost=power_lost)
        if power_lost:
            share = self._deaths.pick([0.0, 0.1, 0.5, 0.9, 1.0])
            self.disk = self.disk.after_power_loss(keep_drawn(self._deaths, share, len(self.disk.effects())))
        else:
            self.disk = self.disk.after_kill()

    def _step(self, host: Host, name: str) -> None:
        sizes = self._sizes
        if name == "append":
            count = sizes.pick([1, 1, 1, 2, 3, 5])
            before = len(self.shadow.issued)
            refused = host.refusals
            filler = sizes.pick([b"x", b"x", b"\0", b"\xd7rsf"])
            host.append(
                *[sizes.pick([20, 60, 300, 500, 900, 2500]) for _ in range(count)],
                lengths=[sizes.pick([1, 1, 2, 7]) for _ in range(count)],
                filler=filler,
            )
            self.figures.records += len(self.shadow.issued) - before
            self.figures.refusals += host.refusals - refused
            if host.refusals != refused and not self._faulty():
                raise AssertionError("an append was refused for want of space, and there is space (11)")
        elif name == "overlap":
            host.overlap(*[sizes.pick([20, 400, 900]) for _ in range(sizes.between(2, 4))])
        elif name == "tick":
            host.tick(sizes.pick([0.001, 0.05, 0.2, 1.5]))
        elif name == "prepare":
            host.prepare()
        elif name == "snapshot":
            if not host.snapshot() and not self._faulty():
                raise AssertionError("a snapshot failed, and nothing is wrong")
        elif name == "compact":
            host.compact()
        elif name == "close":
            host.close()
            self._die(power_lost=self._deaths.chance(0.5))
        elif name == "kill":
            self._die(power_lost=False)
        elif name == "power":
            self._die(power_lost=True)
        elif name == "fill":
            self._full = True
            self.disk.capacity = self.disk.used() + sizes.pick([0, 100, 3000, 9000])
        elif name == "empty":
            self._full = False
            self.disk.capacity = None
        else:
            raise AssertionError(name)


_WEIGHTS = {
    "append": 30,
    "overlap": 4,
    "tick": 4,
    "prepare": 4,
    "snapshot": 5,
    "compact": 4,
    "close": 1,
    "kill": 2,
    "power": 2,
    "fill": 0.7,
    "empty": 1.5,
}


def _draw_settings(prng: Prng) -> Settings:
    policies = (
        FsyncPolicy.every_write(),
        FsyncPolicy.every_write(),
        FsyncPolicy.every_n(prng.between(1, 6)),
        FsyncPolicy.every_ms(prng.pick([1, 50, 1000])),
        FsyncPolicy.never(),
    )
    return Settings(
        policy=prng.pick(policies),
        segment_bytes=prng.pick([2048, 2048, 4096, 8192, 1 << 16]),
        reserve_bytes=prng.pick([0, 0, 4096]),
        retention=Retention(bytes=prng.pick([0, 0, 2000, 20_000]), seconds=prng.pick([None, 0, 1, 100])),
    )


def _draw_faults(prng: Prng) -> dict[FaultKind, float]:
    """Draw which faults occur; none at all in half of the histories, as they end processes early."""
    if prng.chance(0.5):
        return {}
    return {kind: prng.pick([0.001, 0.01, 0.03]) for kind in FaultKind if prng.chance(0.4)}
