"""What the commands say while they work: on a terminal, one line that is rewritten; elsewhere, nothing."""

from __future__ import annotations

import sys
import time
from typing import TextIO

INTERVAL_SECONDS = 0.2


class Progress:
    """One line of progress on a terminal.

    Args:
        stream: Where to; only a terminal is written to.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._shown = self._stream.isatty()
        self._due = time.monotonic() + INTERVAL_SECONDS
        self._written = False

    def __call__(self, text: str) -> None:
        """Show how far the work is, unless that was shown just now."""
        if not self._shown or time.monotonic() < self._due:
            return
        self._due = time.monotonic() + INTERVAL_SECONDS
        self._written = True
        self._stream.write(f"\r\x1b[K{text}")
        self._stream.flush()

    def clear(self) -> None:
        """Take the line away, before anything else is said."""
        if self._written:
            self._written = False
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def warn(text: str) -> None:
    """Say one line on stderr, whatever it is connected to."""
    print(f"rstmdb: {' '.join(text.split())}", file=sys.stderr)  # noqa: T201


def say(text: str) -> None:
    """Say one line of the result."""
    print(text)  # noqa: T201
