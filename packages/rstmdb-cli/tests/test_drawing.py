"""Layouts and markup of machines."""

from itertools import pairwise
from xml.etree import ElementTree as ET

from hypothesis import given, settings
from hypothesis import strategies as st

from rstmdb_cli.drawing.layout import Picture, lay_out
from rstmdb_cli.drawing.markup import dot, mermaid
from rstmdb_cli.drawing.model import graph_of
from rstmdb_cli.drawing.svg import svg
from rstmdb_cli.drawing.text import draw
from rstmdb_cli.output import Output

names = st.sampled_from(["a", "b", "c", "on hold", "end", "s1", 'q"uote', "日本", "<&>"])
transitions = st.lists(
    st.fixed_dictionaries(
        {"from": names | st.lists(names, max_size=3), "event": names, "to": names},
        optional={"guard": st.sampled_from(["ctx.a > 1", "ctx.b"])},
    ),
    max_size=14,
)
definitions = st.builds(
    lambda states, initial, edges: {"states": [*states, initial], "initial": initial, "transitions": edges},
    st.lists(names),
    names,
    transitions,
)


def boxes_apart(picture: Picture) -> bool:
    boxes = picture.boxes
    return all(
        first.left + first.width <= second.left + 0.01
        or second.left + second.width <= first.left + 0.01
        or first.top + first.height <= second.top + 0.01
        or second.top + second.height <= first.top + 0.01
        for index, first in enumerate(boxes)
        for second in boxes[index + 1 :]
    )


@settings(deadline=None, max_examples=60)
@given(definitions)
def test_every_machine_is_laid_out_without_overlap_inside_the_picture(definition: dict[str, object]) -> None:
    graph = graph_of(definition, title="t")
    picture = lay_out(graph)
    assert {box.state for box in picture.boxes} == set(graph.states)
    assert boxes_apart(picture)
    assert len(picture.paths) + len(picture.loops) == len(graph.edges)
    for box in picture.boxes:
        assert 0 <= box.left <= box.left + box.width <= picture.width
        assert 0 <= box.top <= box.top + box.height <= picture.height
    for path in picture.paths:
        ends = {box.state: box for box in picture.boxes}
        source, target = ends[path.edge.source], ends[path.edge.target]
        first, last = path.points[0], path.points[-1]
        assert source.left <= first.x <= source.left + source.width
        assert target.left <= last.x <= target.left + target.width


@settings(deadline=None, max_examples=60)
@given(definitions)
def test_every_form_can_be_drawn(definition: dict[str, object]) -> None:
    graph = graph_of(definition, title='a "title" & more', current="a")
    root = ET.fromstring(svg(graph))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert set(graph.states) <= set(texts)
    assert all(label in texts for edge in graph.edges for label in edge.labels)
    drawn = draw(graph, Output())
    assert len(drawn) == 2 + len(graph.states) + sum(len(edge.labels) for edge in graph.edges)
    arrows = sum(" --> " in line for line in mermaid(graph).splitlines())
    assert arrows == 1 + len(graph.final) + sum(len(edge.labels) for edge in graph.edges)
    assert dot(graph).count(" -> ") == 1 + sum(len(edge.labels) for edge in graph.edges)


def test_a_long_machine_does_not_recurse() -> None:
    states = [f"s{number}" for number in range(3000)]
    edges = [{"from": a, "event": "E", "to": b} for a, b in pairwise(states)]
    edges.append({"from": states[-1], "event": "AGAIN", "to": states[0]})
    graph = graph_of({"states": states, "initial": "s0", "transitions": edges[:300]}, title="long")
    assert lay_out(graph).height > 300 * 34
    whole = graph_of({"states": states, "initial": "s0", "transitions": edges}, title="long")
    assert len(draw(whole, Output())) == 2 + 3000 + 3000
