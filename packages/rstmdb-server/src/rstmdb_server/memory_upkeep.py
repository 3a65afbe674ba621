"""When the server looks through its memory for garbage, and when it gives back what it does not need.

::

    a snapshot has been written, and little since the last freeze -> freeze
    grown and quiet                                               -> give back

    freeze     look through what is new and take it out of the collector's sight
    give back  freeze, and return free pages to the system
    grown      resident memory is a 64th, and half a megabyte, above what it was after the last time
    quiet      for a second hardly anybody has asked for anything, and no snapshot is being written

Both stop the server for milliseconds; ``tuning.py`` does them. By itself the C library returns free memory
only where the heap ends: after a crowd of clients has left, one block near the end that is still in use keeps
all of it (measured, 18 MB of 74 after 9,000 sessions at once). Asking for it walks the heap: 2 ms after those
9,000, 30 ms after half a gigabyte of instances was deleted. So nobody may be waiting.
"""

from __future__ import annotations

from collections.abc import Callable

QUIET_SECONDS = 1.0
"""How long it has to be quiet, and how often it is looked; looking costs ten microseconds."""

QUIET_OCCURRENCES_MAX = 10
"""Requests and new sessions in that time that still are quiet: somebody's health check is no traffic."""

GROWN_BYTES_MIN = 512 * 1024
GROWN_FRACTION = 64
"""Less than either is what a server of some size takes and gives back all the time."""

EFFECTS_LOOKED_THROUGH_MAX = 50_000
"""What these have built is looked through in a millisecond, even in traffic; more waits until it is quiet."""


class MemoryUpkeep:
    """Decides; see the module docstring.

    Args:
        resident: Returns the resident bytes of the process, or 0 where the system does not tell: then nothing
            is ever given back.
        freeze: Freezes.
        give_back: Gives back.
        sequence: The last of the log, all of which is frozen.
    """

    def __init__(
        self,
        *,
        resident: Callable[[], int],
        freeze: Callable[[], None],
        give_back: Callable[[], None],
        sequence: int,
    ) -> None:
        self._resident = resident
        self._freeze = freeze
        self._give_back = give_back
        self._frozen = sequence
        self._look_at = 0.0
        self._occurrences = 0
        self._least = 0  # resident bytes since the last time; none yet, so the first quiet second is one

    def snapshot_written(self, sequence: int) -> None:
        """Freeze, unless that would take long."""
        if sequence - self._frozen <= EFFECTS_LOOKED_THROUGH_MAX:
            self._freeze()
            self._frozen = sequence

    def check(self, now: float, *, occurrences: int, sequence: int, busy: bool) -> int:
        """Give memory back if it is time; returns how many bytes the process has fewer now.

        Args:
            now: Monotonic seconds; called several times a second.
            occurrences: Requests and sessions since the start.
            sequence: The last of the log.
            busy: Whether a snapshot is being written.
        """
        if now < self._look_at:
            return 0
        quiet = occurrences - self._occurrences <= QUIET_OCCURRENCES_MAX
        self._look_at = now + QUIET_SECONDS
        self._occurrences = occurrences
        if busy or not quiet:
            return 0
        resident = self._resident()
        self._least = min(self._least, resident)
        if resident - self._least < max(GROWN_BYTES_MIN, self._least // GROWN_FRACTION):
            return 0
        self._give_back()
        self._frozen = sequence
        self._least = self._resident()
        return max(0, resident - self._least)
