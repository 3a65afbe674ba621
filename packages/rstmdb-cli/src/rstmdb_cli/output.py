"""How results leave the process: data on standard output, everything else on standard error.

    -o        one result                       several rows                  an event
    (none)    the command's own lines          its lines; else a table on    one compact JSON object
                                               a terminal, ndjson in a pipe
    table     two columns, name and value      aligned columns               one compact JSON object
    json      pretty, 2 spaces                 one array                     one compact JSON object
    ndjson    one line                         one line each                 one compact JSON object
    yaml      a mapping                        a sequence                    a document each
    raw       the server's result as it came   the server's result           one compact JSON object

Colour is for terminals only, and never with NO_COLOR. msgspec and rich are imported when something needs
them: most one-shot commands need neither rich nor a formatter.
"""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, TextIO

_COLOURS = {"green": "32", "yellow": "33", "red": "31", "dim": "2", "bold": "1", "cyan": "36"}


class Format(StrEnum):
    """The values of `-o`."""

    TABLE = "table"
    JSON = "json"
    NDJSON = "ndjson"
    YAML = "yaml"
    RAW = "raw"


class Output:
    """Writes results in the chosen format.

    Args:
        chosen: The format asked for; None is each command's own lines.
        stdout: Where data goes.
        stderr: Where notes go.
    """

    def __init__(
        self, *, chosen: Format | None = None, stdout: TextIO | None = None, stderr: TextIO | None = None
    ) -> None:
        self.chosen = chosen
        self._stdout = stdout
        self._stderr = stderr

    @property
    def stdout(self) -> TextIO:
        """Where data goes now; looked up late, because the prompt patches `sys.stdout`."""
        return self._stdout or sys.stdout

    @property
    def stderr(self) -> TextIO:
        """Where notes go now."""
        return self._stderr or sys.stderr

    @property
    def terminal(self) -> bool:
        """Whether a person reads the data."""
        return self.stdout.isatty()

    def styled(self, text: str, *styles: str, stream: TextIO | None = None) -> str:
        """Return the text with colour, if the stream is a terminal that wants it."""
        if not colour_wanted(stream or self.stdout):
            return text
        return f"\x1b[{';'.join(_COLOURS[style] for style in styles)}m{text}\x1b[0m"

    def line(self, text: str = "") -> None:
        """Write one line (or several) of data."""
        self.stdout.write(text + "\n")

    def note(self, text: str) -> None:
        """Write one line for the person, on standard error."""
        self.stdout.flush()
        self.stderr.write(text + "\n")
        self.stderr.flush()

    def success(self, first: str, *rest: str) -> None:
        """Write the lines of something done: the first in green on a terminal."""
        self.line(self.styled(first, "green"))
        for text in rest:
            self.line(text)

    def document(self, value: Mapping[str, Any]) -> bool:
        """Write one result in the chosen format; return False if the command's own lines are wanted."""
        match self.chosen:
            case None:
                return False
            case Format.TABLE:
                self.table(
                    [{"name": key, "value": item} for key, item in value.items()],
                    ["name", "value"],
                    header=False,
                )
            case Format.JSON:
                self.line(pretty(value))
            case Format.NDJSON | Format.RAW:
                self.line(compact(value))
            case Format.YAML:
                self.line(yaml_text(value))
        return True

    def rows(
        self,
        rows: Iterable[Mapping[str, Any]],
        columns: Sequence[str],
        *,
        raw: Any = None,
        own_lines: bool = False,
        empty: str | None = None,
    ) -> bool:
        """Write several rows in the chosen format.

        Args:
            rows: Row by row; consumed lazily where the format allows it.
            columns: What a table shows, in order; the other formats show every field.
            raw: The server's own result for `-o raw`; the rows when there is none.
            own_lines: Whether the command has lines of its own for the default format.
            empty: What a table says when there are no rows.

        Returns:
            False when the command must write its own lines.
        """
        chosen = self.chosen
        if chosen is None:
            if own_lines:
                return False
            chosen = Format.TABLE if self.terminal else Format.NDJSON
        match chosen:
            case Format.TABLE:
                listed = list(rows)
                if listed or empty is None:
                    self.table(listed, columns)
                else:
                    self.note(empty)
            case Format.JSON:
                self.line(pretty(list(rows)))
            case Format.NDJSON:
                for row in rows:
                    self.line(compact(row))
            case Format.YAML:
                self.line(yaml_text(list(rows)))
            case Format.RAW:
                self.line(compact(raw if raw is not None else list(rows)))
        return True

    def event(self, value: Mapping[str, Any]) -> None:
        """Write one event of a stream and hand it on at once: a reader must not wait for a full buffer."""
        self.line(f"---\n{yaml_text(value)}" if self.chosen is Format.YAML else compact(value))
        self.stdout.flush()

    def table(
        self, rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, header: bool = True
    ) -> None:
        """Write aligned columns: coloured and fitted to a terminal, plain and untruncated anywhere else."""
        from rich.table import Table

        table = Table(box=None, show_header=header, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for column in columns:
            numeric = bool(rows) and all(isinstance(row.get(column), int) for row in rows)
            table.add_column(
                column.upper().replace("_", " "), justify="right" if numeric else "left", overflow="fold"
            )
        for row in rows:
            table.add_row(*(cell(row.get(column)) for column in columns))
        self.render(table)

    def render(self, renderable: Any) -> None:
        """Write anything rich can draw; in a pipe without colour and as wide as it needs."""
        from rich.console import Console

        stream = self.stdout
        colour = colour_wanted(stream)
        width = None if stream.isatty() else 4096
        console = Console(
            file=stream,
            no_color=not colour,
            highlight=False,
            markup=False,
            soft_wrap=False,
            width=width,
            emoji=False,
        )
        with console.capture() as captured:
            console.print(renderable)
        for text in captured.get().splitlines():
            self.line(text.rstrip())


def colour_wanted(stream: TextIO) -> bool:
    """Say whether a stream is a terminal that wants colour (https://no-color.org)."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and stream.isatty()


def cell(value: Any) -> str:
    """Return a value as one table cell."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return compact(value)


def compact(value: Any) -> str:
    """Return compact JSON, keys in their own order."""
    import msgspec

    return msgspec.json.encode(value).decode()


def pretty(value: Any) -> str:
    """Return pretty JSON as the original prints it: 2 spaces, keys sorted."""
    import msgspec

    return msgspec.json.format(msgspec.json.encode(value, order="sorted"), indent=2).decode()


def human_bytes(size: int) -> str:
    """Return a size as the original prints it: `17 B`, `1.50 KB`, steps of 1024."""
    if size < 1024:
        return f"{size} B"
    scaled = float(size)
    for unit in ("KB", "MB"):
        scaled /= 1024
        if scaled < 1024:
            return f"{scaled:.2f} {unit}"
    return f"{scaled / 1024:.2f} GB"


def time_text(milliseconds: int | None) -> str:
    """Return a time of the log as local ISO 8601 with milliseconds; empty when there is none."""
    if not milliseconds:
        return ""
    from datetime import datetime

    return datetime.fromtimestamp(milliseconds / 1000).astimezone().isoformat(timespec="milliseconds")


def yaml_text(value: Any, *, indent: int = 0) -> str:
    """Return a JSON value as block YAML; strings that YAML could read as something else are quoted."""
    pad = "  " * indent
    if isinstance(value, Mapping):
        if not value:
            return f"{pad}{{}}"
        return "\n".join(
            _yaml_entry(f"{pad}{_yaml_scalar(str(key))}:", item, indent) for key, item in value.items()
        )
    if isinstance(value, list | tuple):
        if not value:
            return f"{pad}[]"
        return "\n".join(_yaml_item(pad, item, indent) for item in value)
    return pad + _yaml_scalar(value)


def _yaml_entry(head: str, item: Any, indent: int) -> str:
    if isinstance(item, Mapping | list | tuple) and item:
        return f"{head}\n{yaml_text(item, indent=indent + 1)}"
    return f"{head} {yaml_text(item)}"


def _yaml_item(pad: str, item: Any, indent: int) -> str:
    if isinstance(item, Mapping | list | tuple) and item:
        inner = yaml_text(item, indent=indent + 1)
        return f"{pad}- {inner[len(pad) + 2 :]}"
    return f"{pad}- {yaml_text(item)}"


_YAML_WORDS = frozenset(["true", "false", "null", "yes", "no", "on", "off", "y", "n", "~", ""])


def _yaml_scalar(value: Any) -> str:
    if not isinstance(value, str):
        return compact(value)
    plain = (
        value.isascii()
        and value.lower() not in _YAML_WORDS
        and value[0].isalpha()
        and all(letter.isalnum() or letter in "_-./" for letter in value)
    )
    if plain:
        return value
    # What JSON leaves as it is but YAML does not allow, or takes for the end of a line.
    return "".join(
        letter if _yaml_printable(letter) else f"\\u{ord(letter):04x}" for letter in compact(value)
    )


def _yaml_printable(letter: str) -> bool:
    if letter <= "~":
        return True
    return letter >= "\xa0" and letter not in "\u2028\u2029\ufeff\ufffe\uffff"
