"""Where a part of a JSON text stands: from a path such as `transitions[2].guard` to a line and column."""

import json
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import NamedTuple

_BLANK = " \t\r\n"
_DECODER = json.JSONDecoder()


class Place(NamedTuple):
    """A line and a column, both from 1."""

    line: int
    column: int


def place_of(text: str, path: str, *, inside: int | None = None) -> Place:
    """Return where a path's value begins; of a path that leads nowhere, where its last existing part begins.

    Args:
        text: Valid JSON.
        path: Keys separated by dots, indexes in brackets; empty for the whole.
        inside: For a string without escapes: the index of a character in it.
    """
    position = _skip(text, 0)
    for step in (part for part in path.replace("[", ".[").split(".") if part):
        found = (
            _element(text, position, int(step[1:-1]))
            if step.startswith("[")
            else _member(text, position, step)
        )
        if found is None:
            inside = None
            break
        position = found
    if inside is not None and text[position] == '"':
        position += 1 + inside
    return Place(text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position))


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position] in _BLANK:
        position += 1
    return position


def _end(text: str, position: int) -> int:
    """Return where the value that begins at a position ends."""
    return _DECODER.raw_decode(text, position)[1]


def _member(text: str, position: int, key: str) -> int | None:
    if text[position] != "{":
        return None
    found = None  # of two equal keys the last one counts
    position = _skip(text, position + 1)
    while text[position] == '"':
        name, position = scanstring(text, position + 1)
        value = _skip(text, _skip(text, position) + 1)
        if name == key:
            found = value
        position = _skip(text, _end(text, value))
        if text[position] != ",":
            break
        position = _skip(text, position + 1)
    return found


def _element(text: str, position: int, index: int) -> int | None:
    if text[position] != "[":
        return None
    position = _skip(text, position + 1)
    while text[position] != "]":
        if index == 0:
            return position
        index -= 1
        position = _skip(text, _end(text, position))
        if text[position] != ",":
            break
        position = _skip(text, position + 1)
    return None
