"""A machine as one self-contained SVG file: no script, no font, no other program."""

from xml.sax.saxutils import escape

from rstmdb_cli.drawing.layout import LINE_HEIGHT, EdgePath, Loop, Picture, Point, StateBox, lay_out
from rstmdb_cli.drawing.model import Graph

_STYLE = (
    "text{font:12px ui-monospace,Menlo,Consolas,monospace;fill:#1b1f24}"
    ".title{font-weight:bold;font-size:14px}"
    ".state{fill:#f6f8fa;stroke:#57606a;stroke-width:1.2}"
    ".final{fill:none;stroke:#57606a;stroke-width:1.2}"
    ".current{fill:#1f7a4d;stroke:#0d4429}.on{fill:#ffffff;font-weight:bold}"
    ".edge{fill:none;stroke:#57606a;stroke-width:1.2}"
    ".paper{fill:#ffffff}.label{fill:#ffffff;fill-opacity:.9}"
)

_ARROW = (
    '<defs><marker id="arrow" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
    'orient="auto-start-reverse"><path d="M0 0L10 5L0 10z" fill="#57606a"/></marker></defs>'
)


def svg(graph: Graph) -> str:
    """Return the SVG text."""
    picture = lay_out(graph)
    width, height = _n(picture.width), _n(picture.height)
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
        f"<title>{escape(graph.title)}</title>",
        f"<style>{_STYLE}</style>",
        _ARROW,
        '<rect class="paper" width="100%" height="100%"/>',
        f'<text class="title" x="12" y="22">{escape(graph.title)}</text>',
    ]
    parts += [_path(path) for path in picture.paths]
    parts += [_loop(loop) for loop in picture.loops]
    parts += [_start(picture, graph.initial)]
    parts += [
        _state(box, final=box.state in graph.final, current=box.state == graph.current)
        for box in picture.boxes
    ]
    parts += [_labels(path.edge.labels, path.label_at) for path in picture.paths]
    return "\n".join([*parts, "</svg>"])


def _n(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")


def _state(box: StateBox, *, final: bool, current: bool) -> str:
    kind = "state current" if current else "state"
    shape = (
        f'<rect class="{kind}" x="{_n(box.left)}" y="{_n(box.top)}" width="{_n(box.width)}" '
        f'height="{_n(box.height)}" rx="8"/>'
    )
    if final:
        shape += (
            f'<rect class="final" x="{_n(box.left + 3)}" y="{_n(box.top + 3)}" width="{_n(box.width - 6)}" '
            f'height="{_n(box.height - 6)}" rx="6"/>'
        )
    text_class = ' class="on"' if current else ""
    middle = f'x="{_n(box.left + box.width / 2)}" y="{_n(box.top + box.height / 2 + 4)}"'
    return f'{shape}<text{text_class} {middle} text-anchor="middle">{escape(box.state)}</text>'


def _start(picture: Picture, initial: str) -> str:
    box = next(box for box in picture.boxes if box.state == initial)
    x = box.left + 10
    y = box.top - 18
    return (
        f'<circle cx="{_n(x)}" cy="{_n(y)}" r="4" fill="#57606a"/>'
        f'<path class="edge" d="M{_n(x)} {_n(y)}V{_n(box.top)}" marker-end="url(#arrow)"/>'
    )


def _path(path: EdgePath) -> str:
    """Draw a smooth line: between two points it leaves and arrives vertically."""
    first, *rest = path.points
    drawn = f"M{_n(first.x)} {_n(first.y)}"
    before = first
    for point in rest:
        bend = (point.y - before.y) / 2
        leaving, arriving = Point(before.x, before.y + bend), Point(point.x, point.y - bend)
        drawn += "C" + " ".join(f"{_n(at.x)} {_n(at.y)}" for at in (leaving, arriving, point))
        before = point
    return f'<path class="edge" d="{drawn}" marker-end="url(#arrow)"/>'


def _loop(loop: Loop) -> str:
    x, y = loop.at
    first = y + 4 - LINE_HEIGHT * (len(loop.edge.labels) - 1) / 2
    lines = "".join(
        f'<text x="{_n(loop.label_left)}" y="{_n(first + LINE_HEIGHT * index)}">{escape(label)}</text>'
        for index, label in enumerate(loop.edge.labels)
    )
    return (
        f'<path class="edge" d="M{_n(x)} {_n(y - 9)}C{_n(x + 26)} {_n(y - 16)} {_n(x + 26)} {_n(y + 16)} '
        f'{_n(x)} {_n(y + 9)}" marker-end="url(#arrow)"/>{lines}'
    )


def _labels(labels: tuple[str, ...], at: Point) -> str:
    from rstmdb_cli.drawing.layout import label_width

    width = label_width(labels) + 6
    height = LINE_HEIGHT * len(labels)
    drawn = (
        f'<rect class="label" x="{_n(at.x - width / 2)}" y="{_n(at.y - height / 2)}" '
        f'width="{_n(width)}" height="{_n(height)}"/>'
    )
    for index, label in enumerate(labels):
        y = at.y + 4 + LINE_HEIGHT * (index - (len(labels) - 1) / 2)
        drawn += f'<text x="{_n(at.x)}" y="{_n(y)}" text-anchor="middle">{escape(label)}</text>'
    return drawn
