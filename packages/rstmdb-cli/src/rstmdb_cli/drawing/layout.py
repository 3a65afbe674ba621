"""Where things go in a picture: layers from the initial state down, after Sugiyama, Tagawa and Toda (1981).

    1. cycles   a depth-first walk from the initial state finds edges that go back; they lie reversed
2. layers   a state lies below everything that leads to it (longest path); every edge crosses a layer of its
            own for its label, so labels take part in the layout like states and never overlap
3. order    sweeps down and up put each box at the mean of its neighbours, which unties most crossings
4. places   boxes are pulled towards their neighbours and pushed apart until they fit
5. ports    edges leave and enter a box side by side, in the order of where they go

All lengths are in SVG pixels.
"""

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import NamedTuple

from rstmdb_cli.drawing.model import Edge, Graph, columns_of

LETTER_WIDTH = 7.3
LINE_HEIGHT = 15.0
STATE_HEIGHT = 34.0
STATE_PADDING = 14.0
GAP_X = 26.0
GAP_Y = 22.0
LOOP_WIDTH = 34.0
SWEEPS = 12


class Point(NamedTuple):
    """A place; y grows downwards."""

    x: float
    y: float


class StateBox(NamedTuple):
    """Where a state is drawn."""

    state: str
    left: float
    top: float
    width: float
    height: float


class EdgePath(NamedTuple):
    """Where an edge is drawn: through its points from source to target, its labels around one of them."""

    edge: Edge
    points: tuple[Point, ...]
    label_at: Point


class Loop(NamedTuple):
    """An edge from a state to itself: at the right side of its box, labels further right."""

    edge: Edge
    at: Point
    label_left: float


class Picture(NamedTuple):
    """A layout: everything with its place, and how large it all is."""

    width: float
    height: float
    boxes: tuple[StateBox, ...]
    paths: tuple[EdgePath, ...]
    loops: tuple[Loop, ...]


class _Box:
    """Something that takes room in a layer: a state, a label, or a point an edge passes."""

    __slots__ = ("above", "below", "height", "layer", "left_width", "order", "right_width", "x")

    def __init__(self, layer: int, width: float, height: float, *, extra_right: float = 0.0) -> None:
        self.layer = layer
        self.left_width = width / 2
        self.right_width = width / 2 + extra_right
        self.height = height
        self.above: list[_Box] = []
        self.below: list[_Box] = []
        self.order = 0
        self.x = 0.0


def label_width(labels: Iterable[str]) -> float:
    """Return how wide the widest of some lines is."""
    return max((columns_of(text) for text in labels), default=0) * LETTER_WIDTH


def lay_out(graph: Graph) -> Picture:
    """Find a place for everything in a graph."""
    loops = {edge.source: edge for edge in graph.edges if edge.source == edge.target}
    edges = [edge for edge in graph.edges if edge.source != edge.target]
    backward = _backward(graph, edges)
    layers = _layers(graph, edges, backward)
    boxes: dict[str, _Box] = {}
    for state in graph.states:
        extra = LOOP_WIDTH + label_width(loops[state].labels) if state in loops else 0.0
        width = columns_of(state) * LETTER_WIDTH + 2 * STATE_PADDING
        boxes[state] = _Box(layers[state], max(width, 44.0), STATE_HEIGHT, extra_right=extra)
    chains = [_chain(edge, boxes, reverse=index in backward) for index, edge in enumerate(edges)]
    everything = list(dict.fromkeys([*boxes.values(), *(box for chain in chains for box in chain)]))
    rows = _rows(everything)
    _untangle(rows)
    _place(rows)
    return _picture(graph, edges, backward, boxes, chains, rows, loops)


def _backward(graph: Graph, edges: list[Edge]) -> frozenset[int]:
    """Return the edges that close a cycle, found by walking from the initial state.

    The walk is iterative, for machines can be long.
    """
    leaving: dict[str, list[int]] = {state: [] for state in graph.states}
    for index, edge in enumerate(edges):
        leaving[edge.source].append(index)
    back: set[int] = set()
    open_states: set[str] = set()
    done: set[str] = set()
    for root in (graph.initial, *graph.states):
        if root in done:
            continue
        walk = [(root, iter(leaving.get(root, ())))]
        open_states.add(root)
        while walk:
            state, rest = walk[-1]
            for index in rest:
                target = edges[index].target
                if target in open_states:
                    back.add(index)
                elif target not in done:
                    open_states.add(target)
                    walk.append((target, iter(leaving[target])))
                    break
            else:
                walk.pop()
                open_states.discard(state)
                done.add(state)
    return frozenset(back)


def _layers(graph: Graph, edges: list[Edge], backward: frozenset[int]) -> dict[str, int]:
    """Return each state's layer: twice the longest way to it, for the odd layers belong to labels."""
    following: dict[str, list[str]] = {state: [] for state in graph.states}
    entering: dict[str, int] = dict.fromkeys(graph.states, 0)
    for index, edge in enumerate(edges):
        source, target = (edge.target, edge.source) if index in backward else (edge.source, edge.target)
        following[source].append(target)
        entering[target] += 1
    layers = dict.fromkeys(graph.states, 0)
    ready = [state for state in graph.states if entering[state] == 0]
    for state in ready:
        for target in following[state]:
            layers[target] = max(layers[target], layers[state] + 2)
            entering[target] -= 1
            if entering[target] == 0:
                ready.append(target)
    assert len(ready) == len(graph.states), "cycles are broken before"
    return layers


def _chain(edge: Edge, boxes: Mapping[str, _Box], *, reverse: bool) -> list[_Box]:
    """Link an edge's two ends through a box in every layer between; the middle one holds the labels."""
    upper, lower = (edge.target, edge.source) if reverse else (edge.source, edge.target)
    top, bottom = boxes[upper], boxes[lower]
    between = range(top.layer + 1, bottom.layer)
    middle = between[len(between) // 2 - (len(between) // 2 + 1) % 2 if len(between) > 1 else 0]
    if middle % 2 == 0:
        middle += 1
    chain = [top]
    for layer in between:
        if layer == middle:
            box = _Box(layer, label_width(edge.labels) + 12, LINE_HEIGHT * len(edge.labels) + 4)
        else:
            box = _Box(layer, 6.0, 0.0)
        chain.append(box)
    chain.append(bottom)
    for above, below in pairwise(chain):
        above.below.append(below)
        below.above.append(above)
    return chain


def _rows(boxes: list[_Box]) -> list[list[_Box]]:
    rows: list[list[_Box]] = [[] for _ in range(max(box.layer for box in boxes) + 1)]
    for box in boxes:
        box.order = len(rows[box.layer])
        rows[box.layer].append(box)
    return rows


def _untangle(rows: list[list[_Box]]) -> None:
    for sweep in range(SWEEPS):
        downwards = sweep % 2 == 0
        for row in rows if downwards else reversed(rows):
            means: dict[int, float] = {}
            for box in row:
                near = box.above if downwards else box.below
                means[id(box)] = sum(other.order for other in near) / len(near) if near else float(box.order)
            row.sort(key=lambda box: (means[id(box)], box.order))
            for order, box in enumerate(row):
                box.order = order


def _place(rows: list[list[_Box]]) -> None:
    for row in rows:
        x = 0.0
        for box in row:
            box.x = x + box.left_width
            x = box.x + box.right_width + GAP_X
    for sweep in range(SWEEPS * 2):
        for row in rows if sweep % 2 == 0 else reversed(rows):
            wanted = []
            for box in row:
                near = box.above + box.below
                wanted.append(sum(other.x for other in near) / len(near) if near else box.x)
            _fit(row, wanted)


def _fit(row: list[_Box], wanted: list[float]) -> None:
    """Put boxes as near as possible to where they want to be, in order and without overlap.

    Boxes that would overlap become a group, which lies at the mean of what its members want (pool adjacent
    violators).
    """
    groups: list[tuple[float, int, int]] = []  # sum of wanted starts, first box, boxes
    shifts: list[float] = []
    shift = 0.0
    for index, box in enumerate(row):
        if index:
            shift += row[index - 1].right_width + GAP_X + box.left_width
        shifts.append(shift)
        groups.append((wanted[index] - shift, index, 1))
        while len(groups) > 1 and groups[-2][0] / groups[-2][2] > groups[-1][0] / groups[-1][2]:
            total, _, count = groups.pop()
            before_total, first, before_count = groups.pop()
            groups.append((before_total + total, first, before_count + count))
    for total, first, count in groups:
        for index in range(first, first + count):
            row[index].x = total / count + shifts[index]


def _picture(
    graph: Graph,
    edges: list[Edge],
    backward: frozenset[int],
    boxes: Mapping[str, _Box],
    chains: list[list[_Box]],
    rows: list[list[_Box]],
    loops: Mapping[str, Edge],
) -> Picture:
    left = min(box.x - box.left_width for row in rows for box in row) - GAP_X
    right = max(box.x + box.right_width for row in rows for box in row) + GAP_X
    centres: list[float] = []
    y = 56.0  # the title and the start mark
    for row in rows:
        height = max((box.height for box in row), default=0.0)
        centres.append(y + height / 2)
        y += height + GAP_Y
    drawn = []
    for state in graph.states:
        box = boxes[state]
        drawn.append(
            StateBox(
                state,
                box.x - box.left_width - left,
                centres[box.layer] - STATE_HEIGHT / 2,
                2 * box.left_width,
                STATE_HEIGHT,
            )
        )
    out_ports, in_ports = _ports(boxes, chains)
    paths = []
    for index, (edge, chain) in enumerate(zip(edges, chains, strict=True)):
        top, bottom = chain[0], chain[-1]
        points = [Point(out_ports[index] - left, centres[top.layer] + STATE_HEIGHT / 2)]
        points += [Point(box.x - left, centres[box.layer]) for box in chain[1:-1]]
        points.append(Point(in_ports[index] - left, centres[bottom.layer] - STATE_HEIGHT / 2))
        label = max(chain[1:-1], key=lambda box: box.height)
        label_at = Point(label.x - left, centres[label.layer])
        paths.append(EdgePath(edge, tuple(reversed(points) if index in backward else points), label_at))
    drawn_loops = [
        Loop(
            edge,
            Point(boxes[state].x + boxes[state].left_width - left, centres[boxes[state].layer]),
            boxes[state].x + boxes[state].left_width - left + LOOP_WIDTH - 6,
        )
        for state, edge in loops.items()
    ]
    return Picture(right - left, y + 8, tuple(drawn), tuple(paths), tuple(drawn_loops))


def _ports(boxes: Mapping[str, _Box], chains: list[list[_Box]]) -> tuple[list[float], list[float]]:
    """Return the x where each edge touches its upper and its lower box."""
    out_ports = [0.0] * len(chains)
    in_ports = [0.0] * len(chains)
    for box in boxes.values():
        down = sorted((i for i, chain in enumerate(chains) if chain[0] is box), key=lambda i: chains[i][1].x)
        up = sorted((i for i, chain in enumerate(chains) if chain[-1] is box), key=lambda i: chains[i][-2].x)
        for ports, touching in ((out_ports, down), (in_ports, up)):
            for place, index in enumerate(touching):
                ports[index] = box.x + 2 * box.left_width * ((place + 1) / (len(touching) + 1) - 0.5)
    return out_ports, in_ports
