"""Every death around every file operation of every script, and of every recovery from it."""

from __future__ import annotations

import pytest

from tests.simulation.explore import Explorer, Figures
from tests.simulation.fencing import check_fencing
from tests.simulation.scripts import SCRIPTS, Script

FULL = pytest.mark.full
ALL = [pytest.param(script, id=script.name, marks=() if script.fast else FULL) for script in SCRIPTS]


def report(figures: Figures, record_property) -> None:
    """Hand the figures to the summary of the test run, and fail for what was found."""
    for name in ("cases", "second", "faults", "run", "seconds"):
        record_property(name, getattr(figures, name))
    assert not figures.findings, "\n".join(map(str, figures.findings))


@pytest.mark.parametrize("script", ALL)
def test_no_death_breaks_a_promise(script: Script, record_property):
    figures = Explorer(script, deaths=2).explore()
    report(figures, record_property)
    assert figures.cases > 1000
    assert figures.second > figures.cases / 2


@pytest.mark.parametrize("script", ALL)
def test_no_fault_breaks_a_promise(script: Script, record_property):
    figures = Explorer(script, deaths=2).explore_faults()
    report(figures, record_property)
    assert figures.faults > 10


@FULL
@pytest.mark.parametrize("script", [script for script in SCRIPTS if script.fast], ids=str)
def test_three_deaths_in_a_row_break_no_promise(script: Script, record_property):
    # The walk is the same one level deeper; what is new in it is found in the first thousands of cases.
    report(Explorer(script, deaths=3, cases_max=20_000).explore(), record_property)


@FULL
@pytest.mark.parametrize("script", SCRIPTS, ids=str)
def test_torn_sectors_are_refused_at_worst(script: Script, record_property):
    report(Explorer(script, deaths=1, hostile=True).explore(), record_property)


@pytest.mark.parametrize("script", SCRIPTS, ids=str)
def test_no_first_death_breaks_a_promise(script: Script, record_property):
    report(Explorer(script, deaths=1).explore(), record_property)


def test_one_process_at_a_time():
    check_fencing()
