"""JSON that people type: inline, `@file` or `@-` (standard input), with errors that point at the place.

Error: --ctx is not valid JSON: expecting a value
{"amount": }
^
"""

import sys
from pathlib import Path
from typing import Any

from rstmdb_cli.failures import Failure

LINE_CHARS_MAX = 100
"""How much of a long line is shown around an error: one terminal line with room for the indent."""


def read_source(argument: str, *, name: str) -> tuple[str, str]:
    """Return the text an argument stands for, and how to call it in a message.

    Args:
        argument: Inline text, `@path`, or `@-` for standard input.
        name: The option or argument, for messages.

    Raises:
        Failure: The file cannot be read or is not UTF-8.
    """
    if not argument.startswith("@"):
        return argument, name
    path = argument[1:]
    return read_file(path), "standard input" if path == "-" else path


def read_file(path: str) -> str:
    """Return a file's text; `-` is standard input.

    Raises:
        Failure: It cannot be read or is not UTF-8.
    """
    where = "standard input" if path == "-" else path
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        raise Failure(
            f"cannot read {where}: {error.strerror or error}",
            hint="`@path` reads a file, `@-` standard input; JSON may also stand on the command line itself",
        ) from None
    except UnicodeDecodeError as error:
        raise Failure(f"{where} is not UTF-8: {error.reason} at byte {error.start}") from None


def parse_json(text: str, *, name: str, line_offset: int = 0) -> Any:
    """Decode one JSON value.

    Args:
        text: The text.
        name: What to call it in a message: an option or a path.
        line_offset: Lines before this text in its file.

    Raises:
        Failure: It is not JSON; the message shows the line with a caret under the place.
    """
    import json

    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise _json_failure(text, error.pos, _said(error.msg), name=name, line_offset=line_offset) from None
    except RecursionError:
        raise Failure(f"{name} is nested too deeply") from None
    except _Constant as error:
        at = text.find(error.name)
        said = f"{error.name} is not a JSON value"
        raise _json_failure(text, max(at, 0), said, name=name, line_offset=line_offset) from None


def parse_object(argument: str, *, name: str) -> dict[str, Any]:
    """Decode an argument that must be a JSON object (a context, a payload, a definition).

    Raises:
        Failure: It cannot be read, is not JSON, or is another kind of JSON value.
    """
    text, where = read_source(argument, name=name)
    value = parse_json(text, name=where)
    if isinstance(value, dict):
        return value
    kinds = {list: "an array", str: "a string", bool: "true or false", type(None): "null"}
    kind = kinds.get(type(value), "a number")
    raise Failure(f"{where} must be a JSON object, this is {kind}")


class _Constant(Exception):  # noqa: N818 - carries a name out of the decoder
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def _refuse_constant(name: str) -> None:
    raise _Constant(name)


def _said(message: str) -> str:
    return {"Expecting value": "a value is expected here"}.get(message, message[:1].lower() + message[1:])


def _json_failure(text: str, position: int, said: str, *, name: str, line_offset: int) -> Failure:
    line_start = text.rfind("\n", 0, position) + 1
    line_end = text.find("\n", position)
    line = text[line_start : line_end if line_end >= 0 else len(text)].rstrip("\r")
    column = position - line_start
    number = text.count("\n", 0, position) + 1 + line_offset
    cut = max(0, min(column - LINE_CHARS_MAX // 2, len(line) - LINE_CHARS_MAX))
    shown = line[cut : cut + LINE_CHARS_MAX].replace("\t", " ")
    several = number > 1 or "\n" in text.strip()
    place = f" (line {number}, column {column + 1})" if several else ""
    hint = None
    if "'" in shown and '"' not in shown:
        hint = "JSON wants double quotes; in a shell, put the whole text between single quotes"
    elif '"' not in shown and any(letter.isalpha() for letter in shown):
        hint = "are the double quotes gone? in a shell, put the whole text between single quotes"
    return Failure(
        f"{name} is not valid JSON: {said}{place}\n  {shown}\n  {' ' * (column - cut)}^",
        hint=hint,
    )
