"""Drawings of machines: everything is on it, nothing on top of anything, the same bytes the same picture."""

import itertools
import json
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rstmdb_server.diagram import EDGES_MAX, STATES_MAX, draw_machine
from rstmdb_server.diagram_layout import Edge, Node, lay_out

SVG = "{http://www.w3.org/2000/svg}"

ORDER = {
    "states": ["created", "paid", "shipped", "cancelled"],
    "initial": "created",
    "transitions": [
        {"from": ["created"], "event": "PAY", "to": "paid", "guard": "ctx.amount > 0 && ctx.name == \"<x>\""},
        {"from": ["created", "paid"], "event": "CANCEL", "to": "cancelled"},
        {"from": "paid", "event": "SHIP", "to": "shipped"},
        {"from": ["shipped"], "event": "RETURN", "to": "paid"},
        {"from": ["shipped"], "event": "LOSE", "to": "paid"},
        {"from": ["paid"], "event": "NOTE", "to": "paid"},
    ],
}  # fmt: skip


def draw(definition):
    return draw_machine(json.dumps(definition).encode())


def texts(svg):
    return ["".join(element.itertext()) for element in ET.fromstring(svg).iter(f"{SVG}text")]


def boxes(svg):
    return [
        tuple(float(rect.get(name)) for name in ("x", "y", "width", "height"))
        for rect in ET.fromstring(svg).iter(f"{SVG}rect")
    ]


def test_every_state_and_event_is_on_it():
    svg = draw(ORDER)
    everything = " ".join(texts(svg))
    for word in (
        "created",
        "paid",
        "shipped",
        "cancelled",
        "PAY [",
        "CANCEL",
        "SHIP",
        "RETURN",
        "LOSE",
        "NOTE",
    ):
        assert word in everything
    assert 'ctx.amount > 0 && ctx.name == "<x>"' in everything, "the whole guard is in the title"
    assert len(boxes(svg)) == 4
    # created-paid, created-cancelled, paid-cancelled, paid-shipped, shipped-paid (two lines), paid-paid
    assert len(re.findall("marker-end", svg)) == 6


def test_the_first_and_the_last_states_look_different():
    groups = {
        group.find(f"{SVG}title").text: group.get("class")
        for group in ET.fromstring(draw(ORDER)).iter(f"{SVG}g")
    }
    assert groups == {"created": "s i", "paid": "s", "shipped": "s", "cancelled": "s f"}


def test_the_same_definition_is_the_same_picture():
    draw_machine.cache_clear()
    first = draw(ORDER)
    draw_machine.cache_clear()
    assert draw(ORDER) == first


def test_a_single_state_without_transitions():
    svg = draw({"states": ["only"], "initial": "only", "transitions": []})
    assert "only" in texts(svg)[0]


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", "a&b\"'", "\x00\x1b\ufffe", "状態" * 40, "x" * 256, " "]
)
def test_names_are_text_whatever_is_in_them(name):
    svg = draw(
        {"states": [name], "initial": name, "transitions": [{"from": [name], "event": name, "to": name}]}
    )
    assert "<script" not in svg
    assert ET.fromstring(svg) is not None


def test_too_large_is_said_not_drawn():
    states = [f"s{n}" for n in range(STATES_MAX + 1)]
    svg = draw({"states": states, "initial": "s0", "transitions": []})
    assert texts(svg) == [f"{STATES_MAX + 1} states and 0 arrows are too many to draw"]
    pairs = list(itertools.permutations(states[:12], 2))[: EDGES_MAX + 1]
    transitions = [{"from": [a], "event": "E", "to": b} for a, b in pairs]
    assert (
        "too many to draw"
        in texts(draw({"states": states[:12], "initial": "s0", "transitions": transitions}))[0]
    )


def test_many_events_between_two_states_are_summed_up():
    transitions = [{"from": ["a"], "event": f"E{n}", "to": "b"} for n in range(40)]
    everything = " ".join(texts(draw({"states": ["a", "b"], "initial": "a", "transitions": transitions})))
    assert "and 35 more" in everything


def overlap(one, other):
    return (
        one[0] < other[0] + other[2] and other[0] < one[0] + one[2]
        and one[1] < other[1] + other[3] and other[1] < one[1] + one[3]
    )  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9).flatmap(lambda n: st.tuples(
    st.just(n), st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=24)
)))  # fmt: skip
def test_nothing_lies_on_anything_in_any_graph(graph):
    count, pairs = graph
    nodes = [Node(f"n{n}", 60.0, 34.0, above=20.0 if (n, n) in pairs else 0.0) for n in range(count)]
    edges = [Edge(f"n{a}", f"n{b}", 50.0, 15.0) for a, b in dict.fromkeys(pairs) if a != b]
    layout = lay_out(nodes, edges, first="n0")
    placed = [
        (n.x - n.width / 2, n.y - n.height / 2 - n.above, n.width, n.height + n.above) for n in layout.nodes
    ]
    labels = [(x - 25.0, y - 15.0, 50.0, 15.0) for x, y in layout.labels.values()]
    for one, other in itertools.combinations(placed + labels, 2):
        assert not overlap(one, other)
    for x, y, width, height in placed + labels:
        assert x >= -0.01
        assert y >= -0.01
        assert x + width <= layout.width + 0.01
        assert y + height <= layout.height + 0.01
    by_name = {node.name: node for node in layout.nodes}
    assert len(layout.paths) == len(edges) == len(layout.labels)
    for edge, points in layout.paths:
        source, target = by_name[edge.source], by_name[edge.target]
        assert abs(points[0][0] - source.x) == pytest.approx(source.width / 2)
        assert abs(points[-1][0] - target.x) == pytest.approx(target.width / 2)
        assert abs(points[-1][1] - target.y) <= target.height / 2


def test_a_loop_free_machine_runs_from_left_to_right():
    nodes = [Node(name, 40.0, 30.0) for name in "dcba"]
    edges = [
        Edge("a", "b", 10.0, 15.0),
        Edge("b", "c", 10.0, 15.0),
        Edge("c", "d", 10.0, 15.0),
        Edge("a", "d", 10.0, 15.0),
    ]
    x = {node.name: node.x for node in lay_out(nodes, edges, first="a").nodes}
    assert x["a"] < x["b"] < x["c"] < x["d"]


def test_arrows_of_one_side_end_apart():
    nodes = [Node(name, 40.0, 30.0) for name in "abc"]
    layout = lay_out(nodes, [Edge("a", "c", 10.0, 15.0), Edge("b", "c", 10.0, 15.0)], first="a")
    ends = {points[-1] for _, points in layout.paths}
    assert len(ends) == 2
