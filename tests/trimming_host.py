"""A host that stops the world between the removal of old segments and the news of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rstmdb_storage import Trimming
from tests.in_process import VirtualHost


class TrimmingHost(VirtualHost):
    """One whose trims remove their files at once, and are not known to be over until the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.trims: list[Callable[[], None]] = []

    def run_blocking(
        self,
        job: Callable[[], Any],
        done: Callable[[Any, BaseException | None], None],
        *,
        urgent: bool = False,
    ) -> None:
        if isinstance(getattr(job, "__self__", None), Trimming):
            job()
            self.trims.append(lambda: done(None, None))
        else:
            super().run_blocking(job, done, urgent=urgent)

    def finish_trims(self) -> None:
        """Let the loop know of the trims that have run."""
        trims, self.trims = self.trims, []
        for finish in trims:
            finish()
        self.settle()
