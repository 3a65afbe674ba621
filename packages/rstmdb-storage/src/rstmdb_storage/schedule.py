"""When the log syncs in the background, and when it marks its end: pure, told the time by the host.

::

    commit without a sync ──▶ unsynced ──every_ms: t ms later──────▶ sync
                                 │
    any commit ──▶ unmarked ─────┴─a second without a commit───────▶ sync and mark     (not under `never`)

The host tells the time when it asks; what happened since it last did is dated then.
"""

from __future__ import annotations

from rstmdb_storage.commit import UNSYNCED_EFFECTS_MAX, FsyncMode, FsyncPolicy

__all__ = ["SyncSchedule"]


class SyncSchedule:
    """Knows what waits for a sync and since when.

    Attributes:
        unsynced_records: Records that were committed and are not synced.
        marked: Whether nothing was committed since the last mark or the open.
    """

    __slots__ = (
        "_every_write",
        "_idle_seconds",
        "_idle_since",
        "_policy",
        "_unsynced_since",
        "marked",
        "unsynced_records",
    )

    def __init__(self, policy: FsyncPolicy, idle_seconds: float) -> None:
        self._policy = policy
        self._every_write = policy.mode is FsyncMode.EVERY_WRITE
        self._idle_seconds = idle_seconds
        self._idle_since: float | None = None
        self._unsynced_since: float | None = None
        self.unsynced_records = 0
        self.marked = True

    def wants_sync(self, records: int, unsynced_effects: int, now: float | None) -> bool:
        """Say whether a commit should end with a sync.

        Args:
            records: The records of the commit.
            unsynced_effects: The effects that would wait for a sync without one.
            now: Monotonic seconds, if known.
        """
        if self._every_write or unsynced_effects > UNSYNCED_EFFECTS_MAX:
            return True
        policy = self._policy
        if policy.mode is FsyncMode.EVERY_N:
            return self.unsynced_records + records >= policy.amount
        if policy.mode is FsyncMode.EVERY_MS and now is not None:
            if self._unsynced_since is None:
                self._unsynced_since = now
            return now - self._unsynced_since >= policy.amount / 1000
        return False

    def committed(self, records: int) -> None:
        """Take note of a commit, and then of its sync, if it has one."""
        self.marked = False
        self._idle_since = None
        self.unsynced_records += records

    def synced(self) -> None:
        """Take note that everything committed is synced."""
        self.unsynced_records = 0
        self._unsynced_since = None

    def note_time(self, now: float) -> None:
        """Date what has happened since the time was last told."""
        if self._idle_since is None:
            self._idle_since = now
        if self.unsynced_records and self._unsynced_since is None:
            self._unsynced_since = now

    def sync_due_at(self) -> float | None:
        """Return when the policy wants a sync of what waits for one."""
        if self._policy.mode is not FsyncMode.EVERY_MS or not self.unsynced_records:
            return None
        assert self._unsynced_since is not None, "the time was not told"
        return self._unsynced_since + self._policy.amount / 1000

    def mark_due_at(self) -> float | None:
        """Return when the log has rested long enough for a mark."""
        if self.marked or self._policy.mode is FsyncMode.NEVER:
            return None
        assert self._idle_since is not None, "the time was not told"
        return self._idle_since + self._idle_seconds

    def due_at(self, *, may_mark: bool) -> float | None:
        """Return when the first of the two is due; a mark only if there is a place for it."""
        sync = self.sync_due_at()
        mark = self.mark_due_at() if may_mark else None
        if sync is None or mark is None:
            return mark if sync is None else sync
        return min(sync, mark)

    def sync_is_due(self, now: float) -> bool:
        """Say whether the policy wants a sync of what waits for one."""
        at = self.sync_due_at()
        return at is not None and now >= at

    def mark_is_due(self, now: float) -> bool:
        """Say whether the log has rested long enough for a mark."""
        at = self.mark_due_at()
        return at is not None and now >= at
