"""What the server says: one line an occurrence, as text on a terminal and as JSON otherwise, to stderr.

```
structlog logger --+
standard library --+--> filter by level and target --> time stamp --> text | JSON --> stream
audit -------------+    (audit lines are never filtered)
```

Nothing is said for each request: what is frequent is counted by `metrics.py`. Three kinds of lines have a
rule of their own: slow operations (at most `SLOW_LINES_PER_SECOND`, the rest as a number), audit lines (who
changed what; in the log or in a file of their own), and lines of libraries, from the standard library's
logging.

Settings of the process, not of a server: one process has one stderr. A stream that fails is not worth a
crash: the line is lost.
"""

import contextlib
import logging
import os
import sys
from collections.abc import Callable, MutableMapping
from typing import Any, Protocol, TextIO

import structlog

from rstmdb_server.log_filter import LEVELS, LogFilter, parse_filter
from rstmdb_server.log_lines import (
    json_line,
    render_coloured,
    render_json,
    render_text,
    time_text,
    traceback_text,
)
from rstmdb_server.settings import ConfigError, LoggingSettings

AUDIT_TARGET = "rstmdb_server.audit"
SLOW_LINES_PER_SECOND = 10

_NUMBERS = {"debug": 10, "info": 20, "warning": 30, "warn": 30, "error": 40, "exception": 40, "critical": 50}


class _Output:
    """Where lines go and how they look, for the whole process."""

    def __init__(self) -> None:
        self.stream: TextIO | None = None  # None: whatever sys.stderr is by then
        self.filter = LogFilter()
        self.render: Callable[[int, str, str, dict[str, Any]], str] = render_text

    def write(self, line: str) -> None:
        stream = self.stream or sys.stderr
        with contextlib.suppress(OSError, ValueError):  # full, gone, or closed at the very end
            stream.write(line)
            stream.flush()


def configure(
    settings: LoggingSettings, *, stream: TextIO | None = None, colours: bool | None = None
) -> None:
    """Put the settings into force for this process; may be called again.

    Args:
        settings: Level and format; the rest concerns `SlowOperations` and `audit_writer`.
        stream: Where to write; None is stderr.
        colours: Whether text is coloured; None: on a terminal.
    """
    terminal = bool((stream or sys.stderr).isatty())
    _output.stream = stream
    text = settings.format == "text" or (settings.format == "auto" and terminal)
    if not text:
        _output.render = render_json
    else:
        _output.render = render_coloured if (terminal if colours is None else colours) else render_text
    structlog.configure(
        processors=[_process],
        wrapper_class=structlog.make_filtering_bound_logger(0),
        logger_factory=lambda *_: _Line(),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    for handler in [h for h in root.handlers if isinstance(h, _FromStandardLibrary)]:
        root.removeHandler(handler)
    root.addHandler(_FromStandardLibrary())
    set_level(settings.level)


def set_level(level: str) -> None:
    """Change the level or filter from the next line on.

    Raises:
        ValueError: If it does not parse; nothing has changed then.
    """
    _output.filter = parse_filter(level)
    logging.getLogger().setLevel(_output.filter.lowest)


def get_logger(name: str) -> Any:
    """Return a logger of a part of the server; `name` is what filters call it."""
    return structlog.get_logger(target=name)


# --- slow operations --------------------------------------------------------------------------------------


class SlowOperations:
    """Lines about requests that took long: a stalled disk makes thousands of them, which are not all told.

    Attributes:
        threshold_seconds: From here on it is worth a call of `report`; infinite where it is off.
    """

    __slots__ = ("_left", "_log", "_second", "_untold", "threshold_seconds")

    def __init__(self, threshold_ms: int) -> None:
        self.threshold_seconds = threshold_ms / 1000 if threshold_ms else float("inf")
        self._log = get_logger("rstmdb_server.slow")
        self._second = -1
        self._left = 0
        self._untold = 0

    def report(self, operation: str, seconds: float, now: float, **fields: Any) -> None:
        """Tell of one.

        Args:
            operation: Its wire name.
            seconds: How long it took.
            now: Seconds of a clock that does not go back.
            fields: What else is known: peer, principal.
        """
        if int(now) != self._second:
            self._second, self._left = int(now), SLOW_LINES_PER_SECOND
        if self._left == 0:
            self._untold += 1
            return
        self._left -= 1
        if self._untold:
            fields["untold"], self._untold = self._untold, 0
        self._log.warning("slow operation", operation=operation, ms=round(seconds * 1000, 3), **fields)


# --- audit ------------------------------------------------------------------------------------------------


class _Session(Protocol):
    @property
    def principal(self) -> Any: ...
    @property
    def peer(self) -> str: ...


class _HasLog(Protocol):
    @property
    def log(self) -> Any: ...


class AuditWriter:
    """One line a write that was answered with success: who, from where, what, and the offset it got.

    A line is written when the change is decided, before it is durable: a crash may leave a line whose change
    was never acknowledged, but no acknowledged change without its line.

    Args:
        database: Its log knows the offsets.
        path: A file to append JSON lines to, or None for the log.

    Raises:
        ConfigError: If the file cannot be opened.
    """

    def __init__(self, database: _HasLog, path: str | None) -> None:
        self._database = database
        self._path = path
        self._file: TextIO | None = None
        self._failed = False
        self._last_offset = database.log.next_sequence - 1
        if path is not None:
            try:
                self.reopen()
            except OSError as error:
                raise ConfigError(f"logging.audit {path!r} cannot be opened: {error.strerror}") from None

    def __call__(self, session: _Session, operation: str, subject: str, **fields: Any) -> None:
        """Write the line of one operation of a session."""
        last = self._database.log.next_sequence - 1
        # A repeated request that got its first answer logged nothing: there is no offset to give.
        offset = last if last != self._last_offset else None
        self._last_offset = last
        principal = session.principal.name if session.principal is not None else None
        line = {"principal": principal, "peer": session.peer, "operation": operation, "subject": subject}
        line |= fields | {"offset": offset}
        if self._path is None:
            # Past the filter: whoever wants audit lines wants all of them.
            _output.write(_output.render(LEVELS["info"], AUDIT_TARGET, "audit", line))
            return
        try:
            if self._file is None:
                self.reopen()
            assert self._file is not None
            self._file.write(json_line({"time": time_text(), **line}))
            self._file.flush()
            self._failed = False
        except OSError as error:
            if not self._failed:  # once, not with every line, until it works again
                get_logger("rstmdb_server").error(
                    "audit lines are being lost", path=self._path, reason=error.strerror
                )
            self._failed = True

    def reopen(self) -> None:
        """Open the file anew, after it was rotated; the old one is closed."""
        if self._path is not None:
            self.close()
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
            self._file = os.fdopen(descriptor, "a", encoding="utf-8")

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None


def audit_writer(settings: LoggingSettings, database: _HasLog) -> AuditWriter | None:
    """Return what writes audit lines under these settings, or None where nobody wants them.

    Raises:
        ConfigError: If the file cannot be opened.
    """
    if settings.audit is False:
        return None
    return AuditWriter(database, settings.audit if isinstance(settings.audit, str) else None)


# --- from an occurrence to a line -------------------------------------------------------------------------


class _Line:
    """The end of structlog's chain: the text is finished."""

    def msg(self, message: str) -> None:
        _output.write(message)

    debug = info = warning = warn = error = critical = exception = fatal = log = msg


def _process(_logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
    target = str(event.pop("target", "rstmdb_server"))
    number = _NUMBERS.get(method, 20)
    if number < _output.filter.level_of(target):
        raise structlog.DropEvent
    trace = event.pop("exc_info", None)
    if trace:
        event["exception"] = traceback_text(trace)
    return _output.render(number, target, str(event.pop("event", "")), dict(event))


class _FromStandardLibrary(logging.Handler):
    """Lines of libraries."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < _output.filter.level_of(record.name):
            return
        try:
            fields = {"exception": traceback_text(record.exc_info)} if record.exc_info else {}
            _output.write(_output.render(record.levelno, record.name, record.getMessage(), fields))
        except Exception:
            self.handleError(record)


_output = _Output()
