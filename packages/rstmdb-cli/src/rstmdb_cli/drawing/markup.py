"""A machine for other tools to draw: Mermaid (`stateDiagram-v2`) and Graphviz DOT."""

import re

from rstmdb_cli.drawing.model import Graph

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_MERMAID_WORDS = frozenset(
    [
        "state",
        "note",
        "end",
        "class",
        "classDef",
        "default",
        "direction",
        "as",
        "style",
        "click",
        "hide",
        "scale",
    ]
)
_MERMAID_ENTITIES = {letter: f"#{ord(letter)};" for letter in '#;:"<>&[]{}|`\\\n\r'}


def mermaid(graph: Graph) -> str:
    """Return Mermaid text; names and labels that Mermaid would read as syntax are escaped."""
    names = {
        state: state if _PLAIN.match(state) and state.lower() not in _MERMAID_WORDS else f"s{index}"
        for index, state in enumerate(graph.states)
    }
    for index, (state, name) in enumerate(names.items()):
        if name != state and name in names:  # a state may really be called s3
            names[state] = f"alias_{index}"
    lines = ["---", f"title: {_mermaid_text(graph.title)}", "---", "stateDiagram-v2"]
    lines += [
        f'    state "{_mermaid_text(state)}" as {name}' for state, name in names.items() if name != state
    ]
    lines.append(f"    [*] --> {names[graph.initial]}")
    for edge in graph.edges:
        lines += [
            f"    {names[edge.source]} --> {names[edge.target]}: {_mermaid_text(label)}"
            for label in edge.labels
        ]
    lines += [f"    {names[state]} --> [*]" for state in graph.states if state in graph.final]
    if graph.current in names:
        lines += [
            "    classDef current fill:#1f7a4d,color:#ffffff",
            f"    class {names[graph.current]} current",
        ]
    return "\n".join(lines)


def _mermaid_text(text: str) -> str:
    return "".join(_MERMAID_ENTITIES.get(letter, letter) for letter in text)


def dot(graph: Graph) -> str:
    """Return Graphviz DOT text."""
    lines = [
        f"digraph {_quoted(graph.title)} {{",
        "    rankdir=TB;",
        '    node [shape=box, style="rounded", fontname="sans-serif"];',
        '    edge [fontname="sans-serif", fontsize=10];',
        '    "__start" [shape=point, width=0.15, label=""];',
    ]
    for state in graph.states:
        marks = []
        if state in graph.final:
            marks.append("peripheries=2")
        if state == graph.current:
            marks.append('style="rounded,filled", fillcolor="#1f7a4d", fontcolor="#ffffff"')
        lines.append(f"    {_quoted(state)}{' [' + ', '.join(marks) + ']' if marks else ''};")
    lines.append(f'    "__start" -> {_quoted(graph.initial)};')
    for edge in graph.edges:
        lines += [
            f"    {_quoted(edge.source)} -> {_quoted(edge.target)} [label={_quoted(label)}];"
            for label in edge.labels
        ]
    return "\n".join([*lines, "}"])


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
