"""The seam between the server's logic and the world.

Everything under :class:`~rstmdb_server.reactor.Reactor` (sessions, dispatch, watches, the commit loop,
compaction) runs without event loop, socket, clock, thread or randomness of its own. What it needs of the
world it asks of two objects:

* :class:`Host`: time, ids, "call me at the end of this turn", "run this blocking job and tell me".
* :class:`Wire`: the byte stream of one session.

``listener.py`` implements both on asyncio; the simulation implements both on a virtual clock, from one seed.
Files are a third seam and belong to rstmdb-storage (``FileSystem``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class Host(Protocol):
    """What the reactor may ask of the process around it."""

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        ...

    def wall_ms(self) -> int:
        """Return milliseconds since the epoch; may jump both ways."""
        ...

    def new_id(self) -> str:
        """Return a fresh UUIDv4 in its usual spelling."""
        ...

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` after everything that is ready now has been handled: the end of the turn."""
        ...

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call ``callback`` after so many seconds."""
        ...

    def run_blocking(
        self,
        job: Callable[[], Any],
        done: Callable[[Any, BaseException | None], None],
        *,
        urgent: bool = False,
    ) -> None:
        """Run ``job`` where blocking is allowed, then call ``done(result, error)`` where the reactor runs.

        An urgent job never queues behind others: a commit, which everybody waits for; there is one at a time.
        """
        ...

    def fail(self, reason: str) -> None:
        """End the process with a non-zero exit code once the answers that were queued have left."""
        ...


class Wire(Protocol):
    """The byte stream of one session, as the reactor sees it."""

    def write(self, data: bytes) -> None:
        """Queue bytes; never blocks. The shell reports a full buffer through ``Session.pause_writing``."""
        ...

    def pause_reading(self) -> None:
        """Stop delivering bytes until :meth:`resume_reading`."""
        ...

    def resume_reading(self) -> None:
        """Deliver bytes again."""
        ...

    def close(self) -> None:
        """Send what is queued, then close."""
        ...

    def abort(self) -> None:
        """Close at once; what is queued is lost."""
        ...
