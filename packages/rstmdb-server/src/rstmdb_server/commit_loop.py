"""The commit loop: one write and one sync for everything that a turn appended.

::

    turn ends -> begin_commit -> run() -> finish_commit -> on_durable(sequence)
                                  |
                     inline while syncs are quick, else in a worker thread;
                     meanwhile the next turn's records collect (one commit in flight)

The policy (pure, rstmdb-storage) says where ``run`` happens. The loop treats both alike, so the log may as
well be one that answers some milliseconds later from elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable

from rstmdb_server.world import Host
from rstmdb_storage import Commit, CommitPolicy, Log, LogPoisoned


class CommitLoop:
    """Drives a log; see the module docstring.

    Args:
        log: Where records were appended.
        policy: Decides between inline and thread, and when a turn has grown long enough.
        host: Time and blocking jobs.
        on_durable: Called with the last sequence that may now be shown.
        on_failure: Called once when a write or sync failed; the log is poisoned from then on.
        on_commit: Called with (seconds, records) after each commit, for the figures.
    """

    __slots__ = (
        "_force_sync",
        "_host",
        "_in_flight",
        "_log",
        "_on_commit",
        "_on_durable",
        "_on_failure",
        "_records",
        "_started",
        "poisoned",
        "policy",
    )

    def __init__(
        self,
        log: Log,
        policy: CommitPolicy,
        host: Host,
        *,
        on_durable: Callable[[int], None],
        on_failure: Callable[[BaseException], None],
        on_commit: Callable[[float, int], None],
    ) -> None:
        self._log = log
        self._host = host
        self._on_durable = on_durable
        self._on_failure = on_failure
        self._on_commit = on_commit
        self._in_flight: Commit | None = None
        self._records = 0
        self._started = 0.0
        self._force_sync = False
        self.policy = policy
        self.poisoned = False

    @property
    def in_flight(self) -> bool:
        """Whether a commit is running in a thread at this moment."""
        return self._in_flight is not None

    def end_turn(self) -> None:
        """Commit what was appended; does nothing while a commit is in flight (its end starts the next)."""
        if self._in_flight is None and not self.poisoned:
            records = self._log.pending_records
            if records:
                now = self._host.monotonic()
                commit = self._log.begin_commit(now)
                if commit is not None:
                    self._run(commit, records, now, inline=self.policy.inline(now) and not commit.lengthy)

    def sync_if_due(self) -> None:
        """Run the background sync or mark that is due, always in a thread; called by the reactor's tick.

        Does nothing while a commit is in flight: the next tick asks again, and what must not wait for a quiet
        moment (:meth:`sync_soon`) comes right after that commit.
        """
        if self._in_flight is None and not self.poisoned:
            now = self._host.monotonic()
            commit = self._log.begin_sync(now, force=self._force_sync)
            self._force_sync = False
            if commit is not None:
                self._run(commit, 0, now, inline=False)

    def sync_soon(self) -> None:
        """Have everything that is committed synced, whatever the policy; a snapshot rests on it."""
        self._force_sync = True
        self.sync_if_due()

    def _run(self, commit: Commit, records: int, now: float, *, inline: bool) -> None:
        self._started = now
        self._records = records
        if inline:
            commit.run()
            self._finish(commit)
        else:
            self._in_flight = commit
            self._host.run_blocking(commit.run, self._done, urgent=True)

    def _done(self, _result: object, error: BaseException | None) -> None:
        commit = self._in_flight
        assert commit is not None, "a commit ended that was not in flight"
        assert error is None, f"Commit.run does not raise, but: {error!r}"
        self._in_flight = None
        self._finish(commit)
        if self._force_sync:
            # Before the next turn's records: under steady load there is always a commit in flight.
            self.sync_if_due()
        self.end_turn()

    def _finish(self, commit: Commit) -> None:
        try:
            durable = self._log.finish_commit(commit)
        except LogPoisoned as error:
            # Never retried: after a failed sync the kernel may have dropped the pages and would report
            # success the next time.
            self.poisoned = True
            self._on_failure(error)
            return
        now = self._host.monotonic()
        seconds = now - self._started
        self.policy.observed(seconds, now)
        if self._records:
            self._on_commit(seconds, self._records)
        self._on_durable(durable)
