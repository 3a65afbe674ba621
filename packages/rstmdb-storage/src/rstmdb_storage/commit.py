"""When to sync, and where: two pure policies, and no clock of their own.

`FsyncPolicy` says which commits end with a sync, and so what a power loss may take:

==============  ========================================  ============================================
policy          syncs                                     a power loss takes, of what was acknowledged
==============  ========================================  ============================================
`every_write`   each commit, once for its whole group     nothing
`every_n`       the commit that brings the unsynced       fewer than n records
                records to n; after a second of rest
`every_ms`      t ms after the first unsynced commit;     what the last t ms brought
                after a second of rest
`never`         only at rotation and at close             what the kernel had not yet written
==============  ========================================  ============================================

Under each, the end of the process alone takes nothing, a finished segment is synced, closing syncs, and at
most `UNSYNCED_EFFECTS_MAX` effects ever wait for a sync. What is lost is always the end of the log.

`CommitPolicy` says whether the next commit runs inline in the loop or in a thread::

                 the average sync is slower than `slow_sync_seconds`
        INLINE ────────────────────────────────────────────────────────────────────────▶ THREAD
               ◀────────────────────────────────────────────────────────────────────────
                 the average has been quick for `calm_seconds`

The average is a moving one over about eight commits: one slow sync among quick ones is no reason to leave
the loop, several in a row are (`docs/decisions/0004-when-commits-leave-the-loop.md`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

__all__ = ["UNSYNCED_EFFECTS_MAX", "CommitPolicy", "FsyncMode", "FsyncPolicy"]

UNSYNCED_EFFECTS_MAX: Final = 1 << 20
"""How many effects may have been shown without being synced. The sequence jumps by as many after an
unclean end under a relaxed policy, so that a number once shown never comes again."""


class FsyncMode(Enum):
    """The four kinds of policy."""

    EVERY_WRITE = "every_write"
    EVERY_N = "every_n"
    EVERY_MS = "every_ms"
    NEVER = "never"


_TEXT: Final = re.compile(r"!?(every_n|every_ms)[: ]\s*([0-9]+)")


@dataclass(frozen=True, slots=True)
class FsyncPolicy:
    """When a commit ends with a sync.

    Attributes:
        mode: The kind.
        amount: Records for `every_n`, milliseconds for `every_ms`, else 0.
    """

    mode: FsyncMode = FsyncMode.EVERY_WRITE
    amount: int = 0

    def __post_init__(self) -> None:
        if self.mode in (FsyncMode.EVERY_N, FsyncMode.EVERY_MS):
            if not 1 <= self.amount < 1 << 31:
                raise ValueError(f"{self.mode.value} takes a number from 1 on, not {self.amount}")
        elif self.amount:
            raise ValueError(f"{self.mode.value} takes no number")

    @classmethod
    def every_write(cls) -> FsyncPolicy:
        """Return the policy that syncs each commit."""
        return cls(FsyncMode.EVERY_WRITE)

    @classmethod
    def every_n(cls, records: int) -> FsyncPolicy:
        """Return the policy that lets fewer than `records` records wait for a sync."""
        return cls(FsyncMode.EVERY_N, records)

    @classmethod
    def every_ms(cls, milliseconds: int) -> FsyncPolicy:
        """Return the policy that syncs `milliseconds` after the first unsynced commit."""
        return cls(FsyncMode.EVERY_MS, milliseconds)

    @classmethod
    def never(cls) -> FsyncPolicy:
        """Return the policy that leaves it to the kernel."""
        return cls(FsyncMode.NEVER)

    @classmethod
    def parse(cls, value: str | Mapping[str, object]) -> FsyncPolicy:
        """Read a policy as configurations spell it.

        Args:
            value: `"every_write"` (also `"everywrite"`), `"never"`, `"every_n:100"`, `"every_ms:100"`, the
                same two as a mapping of one entry (`{"every_ms": 100}`) or as YAML tags (`"!every_ms 100"`).

        Raises:
            ValueError: It is none of these.
        """
        if isinstance(value, Mapping):
            if len(value) == 1:
                ((name, amount),) = value.items()
                if name in ("every_n", "every_ms") and isinstance(amount, int) and amount is not True:
                    return cls(FsyncMode(name), amount)
        elif isinstance(value, str):
            text = value.strip()
            if text.removeprefix("!") in ("every_write", "everywrite"):
                return cls.every_write()
            if text.removeprefix("!") == "never":
                return cls.never()
            if match := _TEXT.fullmatch(text):
                return cls(FsyncMode(match[1]), int(match[2]))
        raise ValueError(
            f"fsync policy {value!r} is none of every_write, never, every_n:<records>, every_ms:<ms>"
        )

    @property
    def relaxed(self) -> bool:
        """Whether records are shown that a power loss may take."""
        return self.mode is not FsyncMode.EVERY_WRITE

    def __str__(self) -> str:
        return f"{self.mode.value}:{self.amount}" if self.amount else self.mode.value


_AVERAGE_WEIGHT: Final = 1 / 8


class CommitPolicy:
    """Decides where commits run and when a turn of the loop ends; told the time, never asks it.

    A thread has to win the interpreter's lock back after each sync, which costs more than a quick sync
    takes. While the disk is slow, the loop is the more precious of the two.

    Attributes:
        inline_allowed: Set to False by a host that wants every commit in a thread.
    """

    __slots__ = (
        "_average_seconds",
        "_calm_seconds",
        "_slow_sync_seconds",
        "_thread_until",
        "_turn_bytes_max",
        "_turn_seconds_max",
        "inline_allowed",
    )

    def __init__(
        self,
        *,
        slow_sync_seconds: float = 0.005,
        calm_seconds: float = 0.5,
        turn_seconds_max: float = 0.002,
        turn_bytes_max: int = 256 * 1024,
    ) -> None:
        """Make a policy that begins inline.

        Args:
            slow_sync_seconds: An average above this moves the next commits to a thread.
            calm_seconds: For so long after the average was last above it.
            turn_seconds_max: A turn that has collected records for this long is committed.
            turn_bytes_max: A turn that has collected so many bytes is committed.
        """
        self._slow_sync_seconds = slow_sync_seconds
        self._average_seconds = 0.0
        self._calm_seconds = calm_seconds
        self._turn_seconds_max = turn_seconds_max
        self._turn_bytes_max = turn_bytes_max
        self._thread_until = float("-inf")
        self.inline_allowed = True

    def inline(self, now: float) -> bool:
        """Say whether the next commit should run in the loop itself.

        Args:
            now: Monotonic seconds.
        """
        return self.inline_allowed and now >= self._thread_until

    def observed(self, seconds: float, now: float) -> None:
        """Take note of how long a commit took, wherever it ran.

        Args:
            seconds: The duration of `Commit.run`.
            now: Monotonic seconds at its end.
        """
        self._average_seconds += (seconds - self._average_seconds) * _AVERAGE_WEIGHT
        if self._average_seconds > self._slow_sync_seconds:
            self._thread_until = now + self._calm_seconds

    def turn_over(self, *, began: float, now: float, pending_bytes: int) -> bool:
        """Say whether the loop should stop taking requests and commit.

        Args:
            began: When the turn's first record was appended, in monotonic seconds.
            now: Monotonic seconds.
            pending_bytes: What has been appended since.
        """
        return pending_bytes >= self._turn_bytes_max or now - began >= self._turn_seconds_max
