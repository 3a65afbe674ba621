"""How one log line looks.

```
2026-11-21T21:40:37.123Z  INFO rstmdb_server: recovered records=3 log="3 segments, clean"
{"time":"2026-11-21T21:40:37.123Z","level":"info","target":"rstmdb_server","message":"recovered","records":3}
```

Whatever a peer put into a value, it stays inside its line: text is quoted when it has anything but printable
characters. A traceback follows a text line, indented; in JSON it is a member.
"""

import json
import sys
import traceback
from datetime import UTC, datetime
from typing import Any

import msgspec

from rstmdb_server.log_filter import LEVELS

_COLOURS = {10: "\033[2m", 20: "\033[32m", 30: "\033[33m", 40: "\033[31m", 50: "\033[31m"}
_DIM, _PLAIN = "\033[2m", "\033[0m"


def traceback_text(trace: Any) -> str:
    """Return the traceback of an exception, of an `exc_info` triple, or of what is being handled now."""
    if isinstance(trace, BaseException):
        trace = (type(trace), trace, trace.__traceback__)
    elif not isinstance(trace, tuple):
        trace = sys.exc_info()
    return "".join(traceback.format_exception(*trace)).rstrip()


def time_text() -> str:
    """Return now, in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def level_name(number: int) -> str:
    """Return the word for a level number of the standard library."""
    return next((name for name in ("error", "warn", "info", "debug") if number >= LEVELS[name]), "trace")


def render_json(number: int, target: str, event: str, fields: dict[str, Any]) -> str:
    """Return an occurrence as a JSON line."""
    return json_line(
        {"time": time_text(), "level": level_name(number), "target": target, "message": event, **fields}
    )


def json_line(value: dict[str, Any]) -> str:
    """Return a value as a JSON line, whatever is in it."""
    try:
        line = msgspec.json.encode(value, enc_hook=str).decode()
    except (UnicodeError, TypeError, ValueError):
        line = ""  # half a surrogate pair, keys that are not text
    if not line.isprintable() or not line:
        # The slower encoder takes everything and escapes what some readers take for the end of a line.
        line = json.dumps(value, default=str, skipkeys=True)
    return line + "\n"


def render_text(number: int, target: str, event: str, fields: dict[str, Any]) -> str:
    """Return an occurrence as text."""
    return _text_line(number, target, event, fields, "", "", "")


def render_coloured(number: int, target: str, event: str, fields: dict[str, Any]) -> str:
    """Return an occurrence as text for a terminal."""
    colour = _COLOURS.get(number, _COLOURS[40] if number > 40 else _DIM)
    return _text_line(number, target, event, fields, colour, _DIM, _PLAIN)


def _text_line(
    number: int, target: str, event: str, fields: dict[str, Any], colour: str, dim: str, plain: str
) -> str:
    trace = fields.pop("exception", "")
    said = "".join(f" {name}={_value(value)}" for name, value in fields.items())
    level = level_name(number).upper()
    head = f"{dim}{time_text()}{plain} {colour}{level:>5}{plain} {dim}{target}:{plain}"
    return f"{head} {_value(event, bare=True)}{said}\n" + "".join(
        f"    {part}\n" for part in str(trace).splitlines()
    )


def _value(value: Any, *, bare: bool = False) -> str:
    """Return a value so that it stays on its line, whatever a peer put into it."""
    text = value if isinstance(value, str) else str(value)
    if text.isprintable() and (bare or (text and " " not in text and '"' not in text)):
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())
