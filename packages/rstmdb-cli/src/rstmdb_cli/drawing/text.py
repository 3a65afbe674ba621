"""A machine as text for a terminal: a block a state, in breadth-first order from the initial one.

    order v1

    ▶ created
        ├─ PAY [ctx.ready] ──▶ paid
        └─ CANCEL ──▶ cancelled
    ● paid            ◀ order-123
        └─ SHIP ──▶ shipped
    ■ shipped

`▶` initial, `■` final (nothing leaves it), `●` where the instance is, `·` any other; `↺` comes back to its
own state.
"""

from rstmdb_cli.drawing.model import Graph
from rstmdb_cli.output import Output


def draw(graph: Graph, output: Output, *, marked: str | None = None) -> list[str]:
    """Return the drawing's lines.

    Args:
        graph: The machine.
        output: Says whether colour is wanted.
        marked: What stands at the current state, usually an instance id.
    """
    leaving: dict[str, list[tuple[str, str]]] = {state: [] for state in graph.states}
    for edge in graph.edges:
        leaving[edge.source].extend((label, edge.target) for label in edge.labels)
    final = graph.final
    lines = [output.styled(graph.title, "bold"), ""]
    order = _breadth_first(graph)
    reached = set(order)
    for state in [*order, *(state for state in graph.states if state not in reached)]:
        here = state == graph.current
        sign = "●" if here else "▶" if state == graph.initial else "■" if state in final else "·"
        head = f"{sign} {state}"
        notes = []
        if here and state == graph.initial:
            notes.append("(initial)")
        if here and state in final:
            notes.append("(final)")
        if state not in reached:
            notes.append("(cannot be reached)")
        if here:
            notes.append(f"◀ {marked or 'here'}")
        if notes:
            head += "  " + " ".join(notes)
        lines.append(output.styled(head, "green", "bold") if here else head)
        for index, (label, target) in enumerate(leaving[state]):
            branch = "└─" if index == len(leaving[state]) - 1 else "├─"
            arrow = f"↺ {target}" if target == state else f"──▶ {target}"
            lines.append(f"    {branch} {label} {arrow}")
    return lines


def _breadth_first(graph: Graph) -> list[str]:
    following: dict[str, list[str]] = {}
    for edge in graph.edges:
        following.setdefault(edge.source, []).append(edge.target)
    order = [graph.initial]
    seen = {graph.initial}
    for state in order:
        for target in following.get(state, ()):
            if target not in seen:
                seen.add(target)
                order.append(target)
    return order
