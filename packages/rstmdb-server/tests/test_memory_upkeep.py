"""When memory is looked through and given back, with figures instead of memory."""

import pytest

from rstmdb_server.memory_upkeep import (
    EFFECTS_LOOKED_THROUGH_MAX,
    QUIET_OCCURRENCES_MAX,
    QUIET_SECONDS,
    MemoryUpkeep,
)

MB = 1024 * 1024


class Process:
    """A process whose memory is two numbers, and a server in it that ticks."""

    def __init__(self) -> None:
        self.needed = 100 * MB
        self.free = 0  # and kept
        self.done: list[str] = []
        self.now = 0.0
        self.occurrences = 0.0
        self.sequence = 1000
        self.upkeep = MemoryUpkeep(
            resident=lambda: self.needed + self.free,
            freeze=lambda: self.done.append("freeze"),
            give_back=self.give_back,
            sequence=self.sequence,
        )

    def give_back(self) -> None:
        self.done.append("give back")
        self.free = 0

    def seconds(self, count: float, *, each: int = 0, busy: bool = False) -> int:
        """Let time go by, with so many requests a second; returns what was given back meanwhile."""
        given = 0
        until = self.now + count
        while self.now < until:
            self.now += QUIET_SECONDS / 20
            self.occurrences += each / 20
            given += self.upkeep.check(
                self.now, occurrences=int(self.occurrences), sequence=self.sequence, busy=busy
            )
        return given


@pytest.fixture
def process() -> Process:
    """Past the first second, in which it gives back what the start left."""
    process = Process()
    process.seconds(3)
    assert process.done == ["give back"]
    process.done.clear()
    return process


def test_what_a_crowd_leaves_is_given_back_once_it_is_quiet(process: Process) -> None:
    process.free = 20 * MB
    assert process.seconds(10, each=1000) == 0
    assert process.seconds(3) == 20 * MB
    assert process.seconds(100) == 0
    assert process.done == ["give back"]


def test_a_health_check_is_no_traffic(process: Process) -> None:
    process.free = 20 * MB
    assert process.seconds(3, each=QUIET_OCCURRENCES_MAX // 2) == 20 * MB


def test_not_while_a_snapshot_is_written(process: Process) -> None:
    process.free = 20 * MB
    assert process.seconds(10, busy=True) == 0
    assert process.seconds(3) == 20 * MB


def test_a_little_is_not_worth_it(process: Process) -> None:
    process.free = 1 * MB
    assert process.seconds(100) == 0
    process.free = 2 * MB
    assert process.seconds(100) == 2 * MB
    assert process.done == ["give back"]


def test_what_is_needed_costs_one_try_for_each_64th(process: Process) -> None:
    for _ in range(100):
        process.needed += MB
        assert process.seconds(2) == 0
    assert 20 < len(process.done) < 60


def test_growth_counts_from_the_least(process: Process) -> None:
    process.needed -= 50 * MB
    process.seconds(3)
    process.free = 20 * MB
    assert process.seconds(3) == 20 * MB


def test_a_system_that_does_not_tell(process: Process) -> None:
    process.needed = process.free = 0
    assert process.seconds(100, each=1) == 0
    assert process.done == []


def test_a_snapshot_freezes_what_is_quickly_looked_through(process: Process) -> None:
    process.sequence += EFFECTS_LOOKED_THROUGH_MAX
    process.upkeep.snapshot_written(process.sequence)
    assert process.done == ["freeze"]
    process.sequence += EFFECTS_LOOKED_THROUGH_MAX + 1
    process.upkeep.snapshot_written(process.sequence)
    assert process.done == ["freeze"]
    process.free = 20 * MB
    process.seconds(3)  # which freezes, too
    process.sequence += 1
    process.upkeep.snapshot_written(process.sequence)
    assert process.done == ["freeze", "give back", "freeze"]
