"""From one value, as YAML or as the text of an environment variable, to the value of one key.

Every parser raises `ValueError` with the rest of the sentence that starts with the key's name, quoting the
value and saying what would be right.
"""

import difflib
from collections.abc import Callable
from typing import Any, get_args, get_origin

import msgspec

from rstmdb_server.log_filter import LEVELS, parse_filter
from rstmdb_server.settings import KEYS, FsyncPolicy, TokenEntry, parse_address
from rstmdb_server.tokens import parse_token_map, parse_token_text

_BOOLEANS = {"1": True, "true": True, "yes": True, "on": True}
_BOOLEANS |= {"0": False, "false": False, "no": False, "off": False, "": False}
_FSYNC_HINT = "every_write, every_n:<records>, every_ms:<milliseconds> or never"


def parse_value(section: str, key: str, value: Any) -> Any:
    """Return what `value` means for a key.

    Raises:
        ValueError: Quoting the value and saying what would be right.
    """
    parse = _PARSERS.get((section, key))
    return parse(value) if parse is not None else _plain(value, KEYS[section][key])


def takes_number(section: str, key: str) -> bool:
    """Return whether a key is a whole number, so that the text of a variable is read as one."""
    return _expectation(KEYS[section][key])[0] == "int"


def _plain(value: Any, kind: Any) -> Any:
    """Return a value of a key that needs no parser of its own."""
    if kind is bool:
        return _boolean(value)
    try:
        converted = msgspec.convert(value, kind)
    except msgspec.ValidationError:
        raise ValueError(
            f"{_quoted(value)} is not {_expectation(kind)[1]}{_near_choice(value, kind)}"
        ) from None
    if converted == "":
        raise ValueError("is empty")
    return converted


def _expectation(kind: Any) -> tuple[str, str]:
    """Return the basic type of a key and what it takes, in words."""
    bounds = [item for item in getattr(kind, "__metadata__", ()) if isinstance(item, msgspec.Meta)]
    if bounds:
        return "int", f"a whole number from {bounds[0].ge} to {bounds[0].le}"
    if get_origin(kind) is not None and all(isinstance(choice, str) for choice in get_args(kind)):
        return "str", "one of " + ", ".join(get_args(kind))
    return ("bool", "true or false") if kind is bool else ("str", "a text")


def _quoted(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _near_choice(value: Any, kind: Any) -> str:
    choices = [choice for choice in get_args(kind) if isinstance(choice, str)]
    near = difflib.get_close_matches(str(value), choices, n=1)
    return f", did you mean {near[0]!r}?" if near else ""


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    known = _BOOLEANS.get(value.strip().lower()) if isinstance(value, str) else None
    if known is None:
        raise ValueError(f"{_quoted(value)} is not true or false")
    return known


def _address(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{_quoted(value)} is not host:port")
    try:
        parse_address(value)
    except ValueError as error:
        raise ValueError(f"{_quoted(value)} is not host:port ({error})") from None
    return value.strip()


def _fsync_policy(value: Any) -> FsyncPolicy:
    """Read any published form: a word, `every_ms:100`, a map `{every_ms: 100}` (also what a tag becomes)."""
    kind, number = value, None
    if isinstance(value, dict) and len(value) == 1:
        ((kind, number),) = value.items()
    elif isinstance(value, str):
        kind, colon, text = value.partition(":")
        number = (int(text) if text.strip().isdigit() else text) if colon else None
    if kind in ("every_write", "everywrite", "never") and number is None:
        return FsyncPolicy("never" if kind == "never" else "every_write")
    if kind == "every_n" or kind == "every_ms":
        if type(number) is not int or not 1 <= number <= 2**31:
            raise ValueError(f"{_quoted(value)} needs a whole number of at least 1, as in {kind}:100")
        return FsyncPolicy(kind, number)
    near = difflib.get_close_matches(str(kind), ["every_write", "every_n", "every_ms", "never"], n=1)
    hint = f", did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{_quoted(value)} is not {_FSYNC_HINT}{hint}")


def _token_hashes(value: Any) -> tuple[TokenEntry, ...]:
    if not isinstance(value, list):
        raise ValueError("is not a list of hashes")
    return tuple(
        parse_token_map(item) if isinstance(item, dict) else parse_token_text(item) for item in value
    )


def _log_level(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{_quoted(value)} is not a level or a filter")
    try:
        log_filter = parse_filter(value)
    except ValueError as error:
        raise ValueError(str(error)) from None
    # A single unknown word would be a target by the grammar; far more often it is a misspelt level.
    if (
        "=" not in value
        and len(log_filter.targets) == 1
        and (near := difflib.get_close_matches(value.strip().lower(), LEVELS, n=1, cutoff=0.7))
    ):
        raise ValueError(f"{_quoted(value)} is not a level, did you mean {near[0]!r}?")
    return value.strip() or "info"


def _log_format(value: Any) -> str:
    name = value.strip().lower() if isinstance(value, str) else value
    return str(_plain(name, KEYS["logging"]["format"]))


def _audit(value: Any) -> bool | str:
    if isinstance(value, str) and value.strip().lower() not in _BOOLEANS:
        return value
    return _boolean(value)


_PARSERS: dict[tuple[str, str], Callable[[Any], Any]] = {
    ("network", "bind_addr"): _address,
    ("metrics", "bind_addr"): _address,
    ("storage", "fsync_policy"): _fsync_policy,
    ("auth", "token_hashes"): _token_hashes,
    ("logging", "level"): _log_level,
    ("logging", "format"): _log_format,
    ("logging", "audit"): _audit,
}
