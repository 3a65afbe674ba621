"""Writes the commands of docs/reference/cli.md from the parser itself: `python -m tests.cli.reference`."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import typer

from rstmdb_cli.app import COMMANDS, build

PATH = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"
BEGIN = "<!-- commands: written by python -m tests.cli.reference -->"
END = "<!-- end of commands -->"


def _row(param: object) -> tuple[str, str]:
    names = ", ".join(f"`{name}`" for name in (*param.opts, *param.secondary_opts))  # type: ignore[attr-defined]
    metavar = param.metavar  # type: ignore[attr-defined]
    if getattr(param, "is_flag", False):
        shown = names
    elif param.param_type_name == "argument":  # type: ignore[attr-defined]
        shown = f"`{metavar or param.name.upper()}`"  # type: ignore[attr-defined]
    else:
        choices = getattr(getattr(param, "type_descriptor", None), "choices", None)
        shown = f"{names} `{'|'.join(map(str, choices)) if choices else metavar or 'VALUE'}`"
    notes = [param.help or ""]  # type: ignore[attr-defined]
    default = param.default  # type: ignore[attr-defined]
    if param.required:  # type: ignore[attr-defined]
        notes.append("(required)")
    elif default not in (None, False, ()) and "[default" not in notes[0]:
        notes.append(f"[default: {default}]")
    return shown.replace("|", "\\|"), " ".join(filter(None, notes)).replace("|", "\\|")


def _table(params: list[object]) -> list[str]:
    if not params:
        return []
    return ["", "| | |", "|---|---|", *(f"| {shown} | {notes} |" for shown, notes in map(_row, params))]


def commands() -> str:
    """Return the generated part."""
    group = build()
    lines = ["## Global options", *_table(list(group.params))]
    section = ""
    for name, listed in COMMANDS.items():
        if listed.section != section:
            section = listed.section
            lines += ["", f"## {section}"]
        command = group.get_command(typer.Context(group), name)
        assert command is not None
        own = [param for param in command.params if not param.name.startswith("global_")]
        help_text = inspect.cleandoc(command.help or "")
        tail = " `[-- COMMAND]`" if listed.takes_tail else ""
        lines += ["", f"### {name}", "", re.sub(r"(?<!\n)\n(?!\n)", " ", help_text) + tail]
        lines += _table(list(own))
    return "\n".join(lines)


def written(text: str) -> str:
    """Return the page with the generated part renewed."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{commands()}\n\n{END}{after}"


if __name__ == "__main__":
    PATH.write_text(written(PATH.read_text(encoding="utf-8")), encoding="utf-8")
