"""Random histories of the storage engine: some fixed seeds, and each seed always the same."""

from __future__ import annotations

import pytest

from tests.simulation.soak import SoakFigures, run_seed, soak

# Seeds that once found something; where the storage engine broke is in the fault ledger.
FOUND = (45, 53, 64, 114, 205)


def test_fixed_seeds():
    figures = soak(1, seeds=40)
    assert figures.findings == []
    assert figures.deaths > 200
    assert figures.records > 2000


@pytest.mark.full
@pytest.mark.parametrize("first", range(1000, 1400, 100))
def test_more_seeds(first):
    figures = soak(first, seeds=100)
    assert figures.findings == []
    assert figures.faults > 50
    assert figures.refusals > 50


@pytest.mark.parametrize("seed", FOUND)
def test_seeds_that_once_found_something(seed):
    figures = SoakFigures()
    run_seed(seed, figures)
    assert figures.findings == []


def test_a_seed_always_gives_the_same_history():
    assert run_seed(7, SoakFigures()) == run_seed(7, SoakFigures())
    assert run_seed(7, SoakFigures()) != run_seed(8, SoakFigures())
