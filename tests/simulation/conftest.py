"""Which part of the simulation runs, and the sum of what it has looked at.

Asked for by its path (`pytest tests/simulation`), all of it runs; in a run of all tests of the repository,
what is marked `full` is left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line("markers", "full: left out unless tests/simulation is asked for by its path")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked `full` in a run of everything."""
    asked = [Path(config.invocation_params.dir, str(argument).partition("::")[0]) for argument in config.args]
    if any(path.resolve().is_relative_to(HERE) for path in asked):
        return
    left_out = [item for item in items if HERE in item.path.parents and item.get_closest_marker("full")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the figures of the explorer."""
    totals: dict[str, float] = {}
    caught: list[int] = []
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            properties = dict(report.user_properties)
            if "faults" in properties:
                for name, value in properties.items():
                    totals[name] = totals.get(name, 0) + value
            if "server_world" in properties:
                terminalreporter.write_line(f"server simulation: {properties['server_world']}")
            if "caught_after" in properties:
                caught.append(properties["caught_after"])
    if totals:
        terminalreporter.write_line(
            f"explorer: {totals['cases']:,.0f} cases, {totals['second']:,.0f} of them with another death "
            f"inside a recovery, {totals['faults']:,.0f} runs with a fault, {totals['run']:,.0f} different "
            f"recoveries, {totals['seconds']:.0f} s"
        )
    if caught:
        terminalreporter.write_line(f"mutants: {len(caught)} caught, the slowest after {max(caught):,} cases")
