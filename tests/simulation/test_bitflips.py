"""A thousand flipped bits, and coarser damage: the shadow's state, or a refusal with file and position."""

from __future__ import annotations

import pytest

from tests.simulation.damage import FLIPS, closed_directory, damage_sectors_and_files, flip_bits


def by_outcome(figures) -> dict[str, int]:
    counts: dict[str, int] = {}
    for (_, outcome), count in figures.outcomes.items():
        counts[outcome] = counts.get(outcome, 0) + count
    return counts


FULL = pytest.mark.full


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=FULL), pytest.param(3, marks=FULL)])
def test_a_thousand_flipped_bits(seed):
    figures = flip_bits(seed=seed)
    assert figures.findings == []
    assert figures.cases == sum(FLIPS.values()) == 1000
    assert FLIPS["record"] + FLIPS["last commit"] >= 700
    assert FLIPS["last commit"] == FLIPS["header"] == FLIPS["snapshot"] == 100
    assert FLIPS["small file"] == 50
    outcomes = figures.outcomes
    # The directory was closed: its last commit is proven, and damage there is not taken for a torn write.
    assert outcomes["last commit", "refused"] == 100
    assert outcomes["record", "refused"] + outcomes["record", "history refused"] == 600
    assert outcomes["record", "refused"] > 50, "records that recovery needs"
    assert outcomes["record", "history refused"] > 50, "records that only readers of history need"
    assert outcomes["header", "refused"] + outcomes["header", "history refused"] == 100
    # What is damaged in the newest snapshot is found by its checksums; the older one takes its place.
    assert outcomes["snapshot", "older snapshot"] > 20
    assert outcomes["snapshot", "older snapshot"] + outcomes["snapshot", "equal"] == 100
    assert outcomes["small file", "equal"] + outcomes["small file", "refused"] == 50


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=FULL)])
def test_zeroed_sectors_and_lost_files(seed):
    figures = damage_sectors_and_files(seed=seed)
    assert figures.findings == []
    counts = by_outcome(figures)
    assert counts["refused"] > 30
    assert counts["history refused"] > 30
    # Zeroed together with the mark behind it, the last commit looks torn; nothing else may.
    assert 1 <= counts["known limit: like a torn write"] <= 3
    assert counts["known limit: like compaction"] == 1


def test_the_directory_is_what_the_flips_need():
    closed = closed_directory(1)
    assert len(closed.disk.files()) > 8
    assert closed.oldest > 1
    assert len(closed.regions["record"]) > 60
    assert len(closed.regions["snapshot"]) == 2
    assert {path.rpartition("/")[2] for path, _, _ in closed.regions["small file"]} == {
        "FORMAT",
        "LOCK",
        "index.json",
    }
