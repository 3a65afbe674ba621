"""Where the parts of a drawing go: layers from left to right, nothing on top of anything else.

```
1 ranks       longest path from the first node, over edges that close no cycle; doubled, a label between
2 chains      an edge becomes a chain of places, one a rank, one of them as large as its label
3 order       within a rank by the barycentre of the neighbours, in a few sweeps there and back
4 heights     each place as near its neighbours' height as the ones above and below allow
```

Coordinates are pixels with the origin top left. Knows nothing of machines or SVG.
"""

from collections import defaultdict
from itertools import pairwise

import msgspec

SWEEPS = 6
RANK_GAP_PX = 34.0
PLACE_GAP_PX = 16.0
PORT_SHARE = 0.7  # of a node's side that its arrows are spread over


class Node(msgspec.Struct):
    """Something to place; `x` and `y` are its centre once it is laid out, `above` is kept free over it."""

    name: str
    width: float
    height: float
    above: float = 0.0
    x: float = 0.0
    y: float = 0.0


class Edge(msgspec.Struct, frozen=True):
    """An arrow between two nodes, and the size of its label."""

    source: str
    target: str
    label_width: float
    label_height: float


class Layout(msgspec.Struct):
    """The result: nodes in place, a list of points for each edge, the bottom centre of each label."""

    nodes: list[Node]
    paths: list[tuple[Edge, list[tuple[float, float]]]]
    labels: dict[tuple[str, str], tuple[float, float]]
    width: float
    height: float


class _Place(msgspec.Struct, eq=False):
    """A node, a label or a bend, in one rank."""

    rank: int
    width: float
    above: float  # what it needs over its line
    below: float
    left: list["_Place"] = msgspec.field(default_factory=list)
    right: list["_Place"] = msgspec.field(default_factory=list)
    order: float = 0.0
    y: float = 0.0
    x: float = 0.0


def lay_out(nodes: list[Node], edges: list[Edge], *, first: str) -> Layout:
    """Place nodes and edges.

    Args:
        nodes: With distinct names.
        edges: Between them; at most one for each pair and direction, none from a node to itself.
        first: The node to start from on the left.
    """
    turned = _turned(nodes, edges, first)
    ranks = _ranks(nodes, edges, turned)
    places = {
        node.name: _Place(2 * ranks[node.name], node.width, node.height / 2 + node.above, node.height / 2)
        for node in nodes
    }
    columns: dict[int, list[_Place]] = defaultdict(list)
    for place in places.values():
        columns[place.rank].append(place)
    chains = [_chain(edge, edge in turned, places, columns) for edge in edges]
    _order(columns)
    _heights(columns)
    width = _spread(columns)
    _move_to_origin(columns)
    for node in nodes:
        node.x, node.y = places[node.name].x, places[node.name].y
    paths, labels = _paths(edges, turned, chains, places)
    height = max(place.y + place.below for column in columns.values() for place in column)
    return Layout(nodes, paths, labels, width, height)


def _turned(nodes: list[Node], edges: list[Edge], first: str) -> set[Edge]:
    """Return the edges that close a cycle when walking depth first from `first`, then from the others."""
    leaving: dict[str, list[Edge]] = defaultdict(list)
    for edge in edges:
        leaving[edge.source].append(edge)
    open_nodes: set[str] = set()
    done: set[str] = set()
    turned = set()
    for start in [first, *(node.name for node in nodes)]:
        if start in done:
            continue
        open_nodes.add(start)
        stack = [(start, iter(leaving[start]))]
        while stack:
            name, rest = stack[-1]
            following = next(rest, None)
            if following is None:
                stack.pop()
                open_nodes.discard(name)
                done.add(name)
            elif following.target in open_nodes:
                turned.add(following)
            elif following.target not in done:
                open_nodes.add(following.target)
                stack.append((following.target, iter(leaving[following.target])))
    return turned


def _ranks(nodes: list[Node], edges: list[Edge], turned: set[Edge]) -> dict[str, int]:
    """Return the longest path to each node, counted in edges, over the graph without cycles."""
    after: dict[str, list[str]] = defaultdict(list)
    before = {node.name: 0 for node in nodes}
    for edge in edges:
        source, target = (edge.target, edge.source) if edge in turned else (edge.source, edge.target)
        after[source].append(target)
        before[target] += 1
    ranks = dict.fromkeys(before, 0)
    ready = [name for name, count in before.items() if count == 0]
    for name in ready:  # grows while it is walked: an order of the graph
        for target in after[name]:
            ranks[target] = max(ranks[target], ranks[name] + 1)
            before[target] -= 1
            if before[target] == 0:
                ready.append(target)
    assert len(ready) == len(nodes), "turning edges left a cycle"
    return ranks


def _chain(
    edge: Edge, is_turned: bool, places: dict[str, _Place], columns: dict[int, list[_Place]]
) -> list[_Place]:
    """Make the places between the two ends, from left to right; the one in the middle carries the label."""
    source, target = places[edge.source], places[edge.target]
    left, right = (target, source) if is_turned else (source, target)
    ranks = range(left.rank + 1, right.rank)
    middle = left.rank + 1 + 2 * ((right.rank - left.rank) // 4)  # odd: no node is in its rank
    chain = [left]
    for rank in ranks:
        is_label = rank == middle
        place = _Place(
            rank, edge.label_width if is_label else 0.0, edge.label_height if is_label else 2.0, 6.0
        )
        columns[rank].append(place)
        chain.append(place)
    chain.append(right)
    for one, other in pairwise(chain):
        one.right.append(other)
        other.left.append(one)
    return chain[1:-1]


def _order(columns: dict[int, list[_Place]]) -> None:
    for column in columns.values():
        for position, place in enumerate(column):
            place.order = position
    for sweep in range(2 * SWEEPS):
        rightwards = sweep % 2 == 0
        for rank in sorted(columns, reverse=not rightwards):
            column = columns[rank]
            weights = {}
            for place in column:
                near = place.left if rightwards else place.right
                weights[id(place)] = sum(n.order for n in near) / len(near) if near else place.order
            column.sort(key=lambda place: (weights[id(place)], place.order))
            for position, place in enumerate(column):
                # As a share of the column: ranks with many places and with few compare.
                place.order = (position + 0.5) / len(column)


def _heights(columns: dict[int, list[_Place]]) -> None:
    for column in columns.values():
        y = 0.0
        for place in column:
            y += place.above
            place.y = y
            y += place.below + PLACE_GAP_PX
        for place in column:
            place.y -= y / 2
    for sweep in range(2 * SWEEPS):
        rightwards = sweep % 2 == 0
        for rank in sorted(columns, reverse=not rightwards):
            _settle(columns[rank], rightwards)


def _settle(column: list[_Place], rightwards: bool) -> None:
    """Move a column's places towards their neighbours without changing their order or touching."""
    wished = []
    for place in column:
        near = (place.left if rightwards else place.right) or (place.right if rightwards else place.left)
        wished.append(sum(n.y for n in near) / len(near) if near else place.y)
    # Places that would overlap form a block, which settles at the mean of what its members want.
    blocks: list[tuple[float, list[tuple[_Place, float]]]] = []
    for place, wish in zip(column, wished, strict=True):
        members = [(place, 0.0)]
        y = wish
        while blocks:
            above_y, above = blocks[-1]
            last, last_offset = above[-1]
            distance = last.below + PLACE_GAP_PX + members[0][0].above
            if above_y + last_offset + distance <= y + members[0][1]:
                break
            blocks.pop()
            shift = last_offset + distance - members[0][1]
            count = len(above) + len(members)
            y = (above_y * len(above) + (y - shift) * len(members)) / count
            members = [*above, *((member, offset + shift) for member, offset in members)]
        blocks.append((y, members))
    for y, members in blocks:
        for place, offset in members:
            place.y = y + offset


def _spread(columns: dict[int, list[_Place]]) -> float:
    x = 0.0
    for rank in sorted(columns):
        width = max(place.width for place in columns[rank])
        for place in columns[rank]:
            place.x = x + width / 2
        x += width + RANK_GAP_PX
    return x - RANK_GAP_PX


def _move_to_origin(columns: dict[int, list[_Place]]) -> None:
    top = min(place.y - place.above for column in columns.values() for place in column)
    for column in columns.values():
        for place in column:
            place.y -= top


def _paths(
    edges: list[Edge], turned: set[Edge], chains: list[list[_Place]], places: dict[str, _Place]
) -> tuple[list[tuple[Edge, list[tuple[float, float]]]], dict[tuple[str, str], tuple[float, float]]]:
    """Return each edge's points, its ends spread over the sides of its nodes so that arrows do not merge."""
    ports: dict[tuple[int, str], list[tuple[float, int]]] = defaultdict(list)
    for number, (edge, chain) in enumerate(zip(edges, chains, strict=True)):
        left, right = (edge.target, edge.source) if edge in turned else (edge.source, edge.target)
        ports[id(places[left]), "right"].append((chain[0].y, number))
        ports[id(places[right]), "left"].append((chain[-1].y, number))
    shifts: dict[tuple[int, str], float] = {}
    for (place_id, side), ends in ports.items():
        place = next(p for p in places.values() if id(p) == place_id)
        room = place.below * 2 * PORT_SHARE
        for position, (_, number) in enumerate(sorted(ends)):
            shifts[number, side] = room * ((position + 0.5) / len(ends) - 0.5)
    paths, labels = [], {}
    for number, (edge, chain) in enumerate(zip(edges, chains, strict=True)):
        left, right = (edge.target, edge.source) if edge in turned else (edge.source, edge.target)
        start, end = places[left], places[right]
        points = [(start.x + start.width / 2, start.y + shifts[number, "right"])]
        for place in chain:
            if place.width:
                points += [(place.x - place.width / 2, place.y), (place.x + place.width / 2, place.y)]
                labels[edge.source, edge.target] = (place.x, place.y)
            else:
                points.append((place.x, place.y))
        points.append((end.x - end.width / 2, end.y + shifts[number, "left"]))
        paths.append((edge, points[::-1] if edge in turned else points))
    return paths, labels
