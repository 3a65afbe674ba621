"""A machine definition as a drawing: SVG text, made without a library, for the status page.

```
definition --> Graph: states, one edge for each (from, to) with its events as lines of a label
           --> ranks: states on even ones, labels on odd ones, so that a label never lies on anything
           --> order in each rank (barycentres), then heights, then curves

rank:    0          1           2          3
      +------+                +------+
      | new  |---- PAY ------>| paid |---- SHIP ---> ...
      +------+                +------+
```

Layered drawing after Sugiyama, Tagawa and Toda (1981): edges that close a cycle are laid out backwards and
drawn with their arrow at the other end. Pure, the same picture for the same bytes, and bounded: what would
take longer than a moment of the loop's time is not drawn but said.
"""

import functools
import html
from typing import Any

import msgspec

from rstmdb_server.diagram_layout import Edge, Layout, Node, lay_out

STATES_MAX = 60
EDGES_MAX = 100
LABEL_LINES_MAX = 6
NAME_CHARACTERS_MAX = 28
LINE_CHARACTERS_MAX = 34

CHARACTER_PX = 7.3  # of the fixed-width font at 12 px
LINE_PX = 15.0
STATE_HEIGHT_PX = 34.0
STATE_PADDING_PX = 26.0
MARGIN_PX = 16.0
LOOP_PX = 22.0

_STYLE = (
    "text{font:12px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;fill:#1d2733}"
    ".s rect{fill:#eef3f8;stroke:#5b7691}.i rect{fill:#dff0e3;stroke:#3a7d4c}.f rect{stroke-width:3}"
    ".e{fill:none;stroke:#7d8b99;stroke-width:1.3}.a{fill:#7d8b99}.l{fill:#44505c}"
    "@media(prefers-color-scheme:dark){text{fill:#e3e9ef}.s rect{fill:#26313c;stroke:#7f9ab5}"
    ".i rect{fill:#20382a;stroke:#63b07a}.l{fill:#b6c2cd}.e{stroke:#8795a3}.a{fill:#8795a3}}"
)


@functools.lru_cache(maxsize=64)
def draw_machine(definition: bytes) -> str:
    """Return the SVG of a machine.

    Args:
        definition: A valid definition as JSON text. Definitions never change, so a drawing is kept.
    """
    document = msgspec.json.decode(definition)
    states: list[str] = document["states"]
    labels = _labels(document["transitions"])
    if len(states) > STATES_MAX or len(labels) > EDGES_MAX:
        return _notice(f"{len(states)} states and {len(labels)} arrows are too many to draw")
    loops = {source: lines for (source, target), lines in labels.items() if source == target}
    nodes = []
    for name in states:
        loop = _shown(loops.get(name, []))
        width = max(_width(_cut(name, NAME_CHARACTERS_MAX)) + STATE_PADDING_PX, *map(_width, loop), 0.0)
        above = LOOP_PX + LINE_PX * len(loop) if loop else 0.0
        nodes.append(Node(name, width, STATE_HEIGHT_PX, above=above))
    edges = []
    for (source, target), lines in labels.items():
        if source != target:
            shown = _shown(lines)
            edges.append(Edge(source, target, max(map(_width, shown)), LINE_PX * len(shown)))
    layout = lay_out(nodes, edges, first=document["initial"])
    final = {name for name in states if not any(source == name != target for source, target in labels)}
    return _svg(layout, labels, initial=document["initial"], final=final)


def _labels(transitions: list[dict[str, Any]]) -> dict[tuple[str, str], list[str]]:
    """Return the lines of each arrow: an event, and its guard in brackets."""
    labels: dict[tuple[str, str], list[str]] = {}
    for transition in transitions:
        sources = transition["from"]
        line = str(transition["event"])
        if transition.get("guard") is not None:
            line += f" [{transition['guard']}]"
        for source in [sources] if isinstance(sources, str) else sources:
            labels.setdefault((source, transition["to"]), []).append(line)
    return labels


def _shown(lines: list[str]) -> list[str]:
    shown = [_cut(line, LINE_CHARACTERS_MAX) for line in lines[:LABEL_LINES_MAX]]
    if len(lines) > LABEL_LINES_MAX:
        shown[-1] = f"and {len(lines) - LABEL_LINES_MAX + 1} more"
    return shown


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[: characters - 1] + "…"


def _width(text: str) -> float:
    # Characters of East Asian scripts are twice as wide; more than that no font will tell us here.
    return CHARACTER_PX * sum(2 if ord(character) > 0x2E80 else 1 for character in text)


def _escape(text: str) -> str:
    """Return text that XML can carry: it has no way to write most control characters."""
    return html.escape("".join(c if c.isprintable() else "�" for c in text))


def _notice(text: str) -> str:
    width = _width(text) + 2 * MARGIN_PX
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="48"'
        f' viewBox="0 0 {width:.0f} 48" role="img">'
        f'<style>{_STYLE}</style><text x="{MARGIN_PX}" y="28">{_escape(text)}</text></svg>'
    )


def _svg(layout: Layout, labels: dict[tuple[str, str], list[str]], *, initial: str, final: set[str]) -> str:
    parts: list[str] = []
    for edge, points in layout.paths:
        parts.append(f'<path class="e" marker-end="url(#a)" d="{_curve(points)}"/>')
        lines = labels[edge.source, edge.target]
        x, y = layout.labels[edge.source, edge.target]
        parts.append(_lines(_shown(lines), x, y - 4, title="\n".join(lines)))
    parts += [
        _state(node, labels.get((node.name, node.name), []), node.name == initial, node.name in final)
        for node in layout.nodes
    ]
    width, height = layout.width + 2 * MARGIN_PX, layout.height + 2 * MARGIN_PX
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}"'
        f' viewBox="{-MARGIN_PX} {-MARGIN_PX} {width:.1f} {height:.1f}" role="img">'
        f"<style>{_STYLE}</style>"
        '<defs><marker id="a" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="8" markerHeight="8"'
        ' orient="auto-start-reverse"><path class="a" d="M0 0.5 8 4 0 7.5z"/></marker></defs>'
        f"{''.join(parts)}</svg>"
    )


def _state(node: Node, loop: list[str], initial: bool, final: bool) -> str:
    kind = "s" + (" i" if initial else "") + (" f" if final else "")
    left, top = node.x - node.width / 2, node.y - node.height / 2
    text = (
        f'<g class="{kind}"><title>{_escape(node.name)}</title>'
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{node.width:.1f}" height="{node.height:.1f}" rx="8"/>'
        f'<text x="{node.x:.1f}" y="{node.y + 4:.1f}" text-anchor="middle">'
        f"{_escape(_cut(node.name, NAME_CHARACTERS_MAX))}</text></g>"
    )
    if not loop:
        return text
    start, end, high = node.x - 12, node.x + 12, top - LOOP_PX
    arc = f"M{start:.1f} {top:.1f}C{start - 10:.1f} {high:.1f} {end + 10:.1f} {high:.1f} {end:.1f} {top:.1f}"
    return (
        text
        + f'<path class="e" marker-end="url(#a)" d="{arc}"/>'
        + _lines(_shown(loop), node.x, high + 2, title="\n".join(loop))
    )


def _lines(lines: list[str], x: float, bottom: float, *, title: str) -> str:
    top = bottom - LINE_PX * (len(lines) - 1)
    spans = "".join(
        f'<tspan x="{x:.1f}" y="{top + LINE_PX * number:.1f}">{_escape(line)}</tspan>'
        for number, line in enumerate(lines)
    )
    return f'<text class="l" text-anchor="middle"><title>{_escape(title)}</title>{spans}</text>'


def _curve(points: list[tuple[float, float]]) -> str:
    """Return a path through points that leaves and enters each of them horizontally."""
    (x, y), *rest = points
    path = f"M{x:.1f} {y:.1f}"
    for end_x, end_y in rest:
        middle = (x + end_x) / 2
        path += f"C{middle:.1f} {y:.1f} {middle:.1f} {end_y:.1f} {end_x:.1f} {end_y:.1f}"
        x, y = end_x, end_y
    return path
