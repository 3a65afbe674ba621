"""Adds up what the explorer has looked at, over all tests and workers of a run."""

from __future__ import annotations

from typing import Any


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
