"""What a log was told, and what it must still know: the shadow that every recovery is held to.

The shadow is kept by the tests alone, from what was appended and what was acknowledged; it never asks the
storage engine what it believes. Invariants are numbered as in the design of the simulation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Entry", "Shadow", "Violation"]


class Violation(AssertionError):  # noqa: N818 - what it is, rather than how it travels
    """The storage engine has broken a promise."""


class Entry(NamedTuple):
    """One record as it was issued."""

    first_sequence: int
    length: int
    body: bytes

    @property
    def last_sequence(self) -> int:
        return self.first_sequence + self.length - 1


class Shadow:
    """The promises that hold at one moment.

    Attributes:
        issued: Every record of the log, in order, whether or not its outcome is known.
        acknowledged: How many of them were shown to somebody: a kill may not take these.
        safe: How many of them a power loss may not take, by the promise of the policy.
        shown: The highest sequence that anybody has ever seen.
        snapshots: The sequences of the finished snapshots, in order.
        attempted: Those of all snapshots that were begun.
        trimmed: The oldest sequence that must still be readable.
    """

    __slots__ = ("acknowledged", "attempted", "issued", "safe", "shown", "snapshots", "trimmed")

    def __init__(self) -> None:
        self.issued: tuple[Entry, ...] = ()
        self.acknowledged = 0
        self.safe = 0
        self.shown = 0
        self.snapshots: tuple[int, ...] = ()
        self.attempted: frozenset[int] = frozenset()
        self.trimmed = 1

    def copy(self) -> Shadow:
        """Return the same promises, to be kept for later."""
        other = Shadow()
        other.issued = self.issued
        other.acknowledged = self.acknowledged
        other.safe = self.safe
        other.shown = self.shown
        other.snapshots = self.snapshots
        other.attempted = self.attempted
        other.trimmed = self.trimmed
        return other

    def key(self) -> tuple[object, ...]:
        """Return what tells two sets of promises apart."""
        return tuple(getattr(self, name) for name in self.__slots__)

    def issue(self, first_sequence: int, length: int, body: bytes) -> None:
        """Note a record that the log has taken."""
        if first_sequence <= self.shown:
            raise Violation(f"sequence {first_sequence} comes again: {self.shown} has been shown (1)")
        if self.issued and first_sequence <= self.issued[-1].last_sequence:
            raise Violation(f"sequence {first_sequence} was given out twice (2)")
        self.issued = (*self.issued, Entry(first_sequence, length, body))

    def acknowledge(self, sequence: int) -> None:
        """Note that everything up to `sequence` may be shown."""
        count = self.acknowledged
        while count < len(self.issued) and self.issued[count].last_sequence <= sequence:
            count += 1
        self.acknowledged = count
        if count:
            self.shown = max(self.shown, self.issued[count - 1].last_sequence)

    def secure(self, count: int) -> None:
        """Note that a power loss may not take the first `count` records."""
        self.safe = max(self.safe, min(count, self.acknowledged))

    def die(self, *, power_lost: bool) -> None:
        """Note that the process has ended: what only the page cache promised is gone with the power."""
        if power_lost:
            self.acknowledged = self.safe

    def judge(self, recovered: Sequence[Entry], next_sequence: int) -> None:
        """Hold what a recovery has found to the promises, then promise that.

        Args:
            recovered: The records of the whole state, from the snapshot and from the log.
            next_sequence: What the log would give to the next effect.

        Raises:
            Violation: A promise is broken.
        """
        count = len(recovered)
        if tuple(recovered) != self.issued[:count]:
            raise Violation(f"not a beginning of what was issued (2): {_difference(recovered, self)}")
        if count < self.acknowledged:
            raise Violation(f"only {count} of {self.acknowledged} promised records are there (1)")
        if next_sequence <= self.shown:
            raise Violation(f"sequence {next_sequence} would come again: {self.shown} has been shown (1)")
        self.issued = self.issued[:count]
        self.acknowledged = self.safe = count
        if count:
            self.shown = max(self.shown, self.issued[-1].last_sequence)

    def judge_history(self, oldest_sequence: int, history: Sequence[Entry]) -> None:
        """Hold what can be read from the log to what must be kept.

        Raises:
            Violation: A record is missing, or one is there that was never issued.
        """
        if self.issued and oldest_sequence > max(self.trimmed, 1):
            lost = [entry for entry in self.issued if self.trimmed <= entry.last_sequence < oldest_sequence]
            if lost:
                raise Violation(f"the log begins at {oldest_sequence}, and {self.trimmed} was to stay (13)")
        expected = tuple(entry for entry in self.issued if entry.last_sequence >= oldest_sequence)
        if tuple(history) != expected:
            raise Violation(f"the log reads otherwise than it was written (2): {_difference(history, self)}")


def _difference(found: Sequence[Entry], shadow: Shadow) -> str:
    def brief(entries: Sequence[Entry]) -> str:
        return ", ".join(f"{entry.first_sequence}:{entry.body[:6]!r}" for entry in entries)

    return f"found [{brief(found)}], issued [{brief(shadow.issued)}]"
