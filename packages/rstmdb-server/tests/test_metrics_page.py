"""docs/reference/metrics.md lists what is exported: every name with its type, labels and meaning."""

import re
from pathlib import Path

from rstmdb_server.metrics import Collector, Counters, Gauges

PAGE = Path(__file__).parents[3] / "docs/reference/metrics.md"


def exported():
    """Return a table row for every family, in the order of the exposition."""
    counters = Counters()
    counters.observe(1, 0.1)
    counters.error("BAD_REQUEST")
    counters.refused("limit")
    counters.subscriptions_all = counters.events_all = 1
    text = Collector(counters, Gauges, version="0").render().decode()
    rows = []
    for name, meaning in re.findall(r"(?m)^# HELP (\S+) (.+)$", text):
        kind = re.search(rf"(?m)^# TYPE {name} (\S+)$", text)[1]
        labels = re.search(rf"(?m)^{name}(?:_bucket)?{{(.+?)}}", text)
        names = [label for label in re.findall(r"(\w+)=", labels[1] if labels else "") if label != "le"]
        rows.append(f"| `{name}` | {kind} | {', '.join(names)} | {meaning} |")
    return rows


def test_the_page_lists_every_figure_as_it_is():
    listed = [line for line in PAGE.read_text().splitlines() if re.match(r"\| `(rstmdb|process)_", line)]
    assert listed == exported()
