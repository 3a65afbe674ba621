"""A progress bar on standard error, for people only: a pipe gets none."""

import time
from types import TracebackType
from typing import Any

from rstmdb_cli.output import Output

REFRESH_S = 0.1


class Progress:
    """Shows how far something long has come. Use as a context manager.

    Args:
        output: Where people are.
        noun: What is counted.
        total: How many there are, if known.
    """

    def __init__(self, output: Output, noun: str, *, total: int | None = None) -> None:
        self._output = output
        self._noun = noun
        self.total = total
        self._count = 0
        self._bar: Any = None
        self._task: Any = None
        self._shown = 0.0

    def __enter__(self) -> "Progress":
        if self._output.stderr.isatty():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=Console(file=self._output.stderr, stderr=True),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task(self._noun, total=self.total)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self) -> None:
        """Count one more."""
        self.at(self._count + 1)

    def at(self, count: int, *, share: float | None = None) -> None:
        """Set the count.

        Args:
            count: How many are done.
            share: The part that is done, where the total is not known otherwise.
        """
        self._count = count
        now = time.monotonic()
        if self._bar is None or now - self._shown < REFRESH_S:
            return
        self._shown = now
        total = self.total if share is None else max(count, round(count / share)) if share > 0 else None
        self._bar.update(self._task, completed=count, total=total)
