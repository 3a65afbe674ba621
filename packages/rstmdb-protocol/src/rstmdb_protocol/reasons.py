"""Turns the decoder's errors into sentences that a client can act on.

A sentence names the place first (`params.version: expected an integer, got a string`), never quotes a value
that the client sent, and avoids the word that published clients take for a lost socket.
"""

import re
from typing import Final

_AT: Final = " - at `$"
_TYPE_NAMES: Final = {
    "int": "an integer",
    "float": "a decimal number",
    "str": "a string",
    "bool": "a boolean",
    "object": "an object",
    "array": "an array",
    "null": "null",
}
_BACKTICKED: Final = re.compile(r"`([^`]*)`")


def _plain(match: re.Match[str]) -> str:
    """Return a type or a name as a decoder's error quotes it, in words."""
    names = [_TYPE_NAMES.get(name) for name in match[1].split(" | ")]
    return " or ".join(name for name in names if name) if all(names) else f"'{match[1]}'"


def split_reason(error: ValueError | RecursionError) -> tuple[str, str]:
    """Return the place (a path behind the root) and the reason that a decoder's error tells."""
    if isinstance(error, RecursionError):
        return "", "nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "", "invalid UTF-8"
    text, _, place = str(error).partition(_AT)
    text = _BACKTICKED.sub(_plain, text)
    if text == "Input data was truncated":
        text = "JSON ends too early, or half a surrogate pair"
    elif text.startswith("Invalid enum value"):
        text = "not one of the values that are allowed here"
    elif not text.startswith("JSON"):
        text = text[:1].lower() + text[1:]
    return place.rstrip("`"), text


def reason_of(error: ValueError | RecursionError) -> str:
    """Return place and reason of a decoder's error as one sentence."""
    place, text = split_reason(error)
    return f"{place.lstrip('.')}: {text}" if place else text
