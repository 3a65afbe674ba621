"""Makes the model importable and prints what it was driven through."""

import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


def pytest_terminal_summary(terminalreporter):
    """Print the counts of the runs against the model, summed over all workers."""
    total = Counter()
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "engine_model":
                total.update(value)
    if total:
        counts = ", ".join(f"{value:,} {name}" for name, value in sorted(total.items()))
        terminalreporter.write_line(f"engine against its model: {counts}")


@pytest.fixture
def engine():
    """Return an engine that knows the machine `order` version 1."""
    from core_model.embedded import Embedded

    return Embedded()


@pytest.fixture
def make_engine():
    """Return the maker of engines with other settings."""
    from core_model.embedded import Embedded

    return Embedded
