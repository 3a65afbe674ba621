"""A definition as a graph: states, edges grouped by their two ends, and which states are special."""

import unicodedata
from typing import Any, NamedTuple


class Edge(NamedTuple):
    """All transitions from one state to another."""

    source: str
    target: str
    labels: tuple[str, ...]
    """One per transition: `EVENT`, or `EVENT [guard]`."""


class Graph(NamedTuple):
    """What is drawn."""

    title: str
    states: tuple[str, ...]
    initial: str
    edges: tuple[Edge, ...]
    current: str | None = None

    @property
    def final(self) -> frozenset[str]:
        """States that nothing leaves."""
        left = {edge.source for edge in self.edges}
        return frozenset(state for state in self.states if state not in left)


def graph_of(definition: dict[str, Any], *, title: str, current: str | None = None) -> Graph:
    """Build the graph of a definition as GET_MACHINE gives it, or as a file has it.

    Args:
        definition: States, initial, transitions; `from` may be a string.
        title: What the picture is called.
        current: The state to mark, if any.

    Raises:
        KeyError: A part is missing. TypeError: A part has another shape.
    """
    labels: dict[tuple[str, str], list[str]] = {}
    for transition in definition["transitions"]:
        sources = transition["from"]
        guard = transition.get("guard")
        label = transition["event"] if guard is None else f"{transition['event']} [{guard}]"
        for source in [sources] if isinstance(sources, str) else sources:
            labels.setdefault((source, transition["to"]), []).append(label)
    states = dict.fromkeys(definition["states"])
    for source, target in labels:  # a file may be wrong; draw what it says
        states.setdefault(source)
        states.setdefault(target)
    edges = tuple(Edge(source, target, tuple(texts)) for (source, target), texts in labels.items())
    return Graph(title, tuple(states), definition["initial"], edges, current)


def columns_of(text: str) -> int:
    """Return how many columns of a terminal a text takes: wide characters take two, combining ones none."""
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )
