"""Each known fault, planted in the storage engine, is found. A new kind of fault gets a line there first."""

from __future__ import annotations

import pytest

from rstmdb_storage import jobs, opening, repair, schedule, segment
from tests.simulation import host
from tests.simulation.mutants import MUTANTS, Detector, Mutant, hunt, planted

# Those that take a walk through most of the scripts before they are found.
SLOW = (
    "snapshot:",
    "compaction:",
    "space:",
    "schedule:SyncSchedule.sync_due_at",
    "jobs:Rotation",
    "tail:_follow",
)


@pytest.mark.parametrize(
    "mutant",
    [
        pytest.param(mutant, id=mutant.name, marks=pytest.mark.full if mutant.place.startswith(SLOW) else ())
        for mutant in MUTANTS
    ],
)
def test_a_planted_fault_is_found(mutant: Mutant, record_property):
    caught = hunt(mutant)
    assert caught.finding is not None, f"{mutant.name} got away after {caught.cases} cases"
    record_property("caught_after", caught.cases)


def originals() -> tuple[object, ...]:
    """Return some of the functions that mutants replace, and where they are used."""
    return (
        segment.put_in_place,
        jobs.put_in_place,
        repair.repair,
        opening.repair,
        schedule.SyncSchedule.wants_sync,
        host.compact,
    )


def test_what_was_planted_is_taken_out_again():
    before = originals()
    for mutant in MUTANTS:
        with planted(mutant):
            pass
    assert before == originals()


def test_a_mutant_that_does_not_fit_fails_loudly():
    stale = Mutant("stale", "nowhere", Detector.CRASHES, "jobs:Rotation.run", "no such text", "pass")
    with pytest.raises(LookupError, match="no longer fits"), planted(stale):
        pass
