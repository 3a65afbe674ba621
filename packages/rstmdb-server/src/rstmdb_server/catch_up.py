"""Catching up: pages of the log for subscriptions that are behind, read off the loop.

::

    JOINED --its peer reads--> WAITING --its turn--> READING --page taken--> WAITING ... --at the tail--> gone
       ^                          |                     |
       +--- its peer does not ----+---------------------+        resume() when it does again

However many subscriptions lag, two pages are read at a time and some fifty files are open: the threads and
the descriptors of the process are also those of commits, of snapshots and of new segments, and a log that
finds no descriptor for its next segment can promise nothing any more.

What is published while pages are read is kept for as long, up to a limit; otherwise a subscription would
never reach the tail of a log that is always written to.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rstmdb_core import Record, decode_record
from rstmdb_server.subscription import Phase, Subscription, has_room
from rstmdb_storage import Log, LogReader, LogRecord, SequenceTrimmed

if TYPE_CHECKING:
    from rstmdb_server.session import Session
    from rstmdb_server.world import Host

PAGE_BYTES = 32 * 1024
PAGE_RECORDS = 250
"""One page: about a millisecond of work, so that other sessions hardly notice."""

READS_AT_ONCE = 2
"""Pages that are read at a time: one while the loop deals with the other."""

READERS_OPEN_MAX = 48
"""Readers that stay open between pages, each with a file; others find their place again, a window further."""

RECENT_BYTES_MAX = 4 * 1024 * 1024
RECENT_RECORDS_MAX = 1024
"""What was published and is kept while pages are read, for those whose page ends where it was asked for."""

_RECORD_BYTES = 512


class CatchUp:
    """All lagging subscriptions; see the module docstring.

    Args:
        log: Where they read.
        host: Runs the reads off the loop.
        published: Returns the sequence up to which everything was offered to live subscriptions.
        pass_on: Sends what a subscription has not seen of a record, and moves its cursor behind it.
        caught_up: Takes over a subscription that is at the tail.
        end: Ends a subscription, with the details that its peer is told.
    """

    def __init__(
        self,
        log: Log,
        host: Host,
        *,
        published: Callable[[], int],
        pass_on: Callable[[Subscription, Record], None],
        caught_up: Callable[[Subscription], None],
        end: Callable[..., None],
    ) -> None:
        self._log = log
        self._host = host
        self._published = published
        self._pass_on = pass_on
        self._caught_up = caught_up
        self._end = end
        self._lagging: dict[Session, dict[Subscription, None]] = {}
        self._waiting: OrderedDict[Subscription, None] = OrderedDict()
        self._reading: dict[Subscription, LogReader] = {}
        self._readers: OrderedDict[Subscription, LogReader] = OrderedDict()  # the one used last at the end
        self._recent = _Recent()

    def __len__(self) -> int:
        return sum(map(len, self._lagging.values()))

    def cursor_min(self) -> int | None:
        """Return the cursor of the subscription that is furthest behind, or None when none is."""
        cursors = (subscription.cursor for group in self._lagging.values() for subscription in group)
        return min(cursors, default=None)

    @property
    def readers_open(self) -> int:
        """How many readers hold a file at the moment."""
        return len(self._reading) + len(self._readers)

    def join(self, subscription: Subscription) -> None:
        """Take a subscription that has fallen behind, or begins in the past."""
        subscription.phase = Phase.LAGGING
        self._lagging.setdefault(subscription.session, {})[subscription] = None
        self._ask(subscription)

    def leave(self, subscription: Subscription) -> None:
        """Forget a subscription; nothing more is read for it."""
        group = self._lagging.get(subscription.session)
        if group is None or subscription not in group:
            return
        del group[subscription]
        if not group:
            del self._lagging[subscription.session]
        self._waiting.pop(subscription, None)
        reader = self._readers.pop(subscription, None)
        if reader is not None:
            reader.close()

    def resume(self, session: Session) -> None:
        """Go on with the subscriptions of a session whose wire has drained."""
        for subscription in list(self._lagging.get(session, ())):
            self._ask(subscription)

    def note(self, records: Sequence[Record]) -> None:
        """Keep what has just been published, if a page is being read."""
        if self._reading:
            self._recent.add(records)

    def _ask(self, subscription: Subscription) -> None:
        if subscription not in self._reading and has_room(subscription.session):
            self._waiting[subscription] = None
            self._read_next()

    def _read_next(self) -> None:
        while self._waiting and len(self._reading) < READS_AT_ONCE:
            subscription, _ = self._waiting.popitem(last=False)
            if has_room(subscription.session):  # otherwise resume() asks again
                self._read(subscription)

    def _read(self, subscription: Subscription) -> None:
        reader = self._readers.pop(subscription, None) or self._log.reader()
        self._reading[subscription] = reader
        cursor, published = subscription.cursor, self._published()
        self._host.run_blocking(
            lambda: reader.read(cursor, bytes_max=PAGE_BYTES, records_max=PAGE_RECORDS),
            lambda page, error: self._page_read(subscription, published, page, error),
        )

    def _page_read(
        self,
        subscription: Subscription,
        published: int,
        page: list[LogRecord] | None,
        error: BaseException | None,
    ) -> None:
        reader = self._reading.pop(subscription)
        if subscription.phase is not Phase.LAGGING or error is not None:
            reader.close()
        else:
            self._keep(subscription, reader)
        try:
            if subscription.phase is Phase.LAGGING:
                self._take_page(subscription, published, page, error)
        finally:
            self._read_next()
            if not self._reading:
                self._recent.clear()

    def _keep(self, subscription: Subscription, reader: LogReader) -> None:
        self._readers[subscription] = reader
        if len(self._readers) > READERS_OPEN_MAX:
            self._readers.popitem(last=False)[1].close()

    def _take_page(
        self,
        subscription: Subscription,
        published: int,
        page: list[LogRecord] | None,
        error: BaseException | None,
    ) -> None:
        if isinstance(error, SequenceTrimmed):
            self._end(subscription, reason="OFFSET_COMPACTED", oldest_offset=self._log.oldest_sequence)
            return
        if error is not None:
            # Told rather than left hanging: whoever resumes elsewhere, or later, loses nothing.
            self._end(subscription, reason="LOG_UNREADABLE", message=str(error))
            raise error
        assert page is not None
        for entry in page:
            self._pass_on(subscription, decode_record(entry.body, entry.first_sequence))
        if not page:
            # The log had nothing between the cursor and what was published when the page was asked for (a
            # jump of the sequence is no effect). What was published since is still to be read.
            subscription.cursor = max(subscription.cursor, published + 1)
        if self._recent.reaches(subscription.cursor):
            for record in self._recent.records:
                if not has_room(subscription.session):
                    break  # the rest is read when the wire has drained
                self._pass_on(subscription, record)
        if subscription.cursor > self._published():
            self.leave(subscription)
            self._caught_up(subscription)
        else:
            self._ask(subscription)


class _Recent:
    """The last records that were published, without a gap, oldest first."""

    __slots__ = ("_bytes", "_sizes", "records")

    def __init__(self) -> None:
        self.records: deque[Record] = deque()
        self._sizes: deque[int] = deque()
        self._bytes = 0

    def reaches(self, sequence: int) -> bool:
        """Return whether what begins at a sequence, or behind it, is all there."""
        return bool(self.records) and self.records[0].first_sequence <= sequence

    def add(self, records: Sequence[Record]) -> None:
        """Take records; the oldest make room."""
        for record in records:
            size = _size_of(record)
            self.records.append(record)
            self._sizes.append(size)
            self._bytes += size
        while self._bytes > RECENT_BYTES_MAX or len(self.records) > RECENT_RECORDS_MAX:
            self.records.popleft()
            self._bytes -= self._sizes.popleft()

    def clear(self) -> None:
        """Forget all."""
        self.records.clear()
        self._sizes.clear()
        self._bytes = 0


def _size_of(record: Record) -> int:
    """Return about how many bytes a record takes."""
    documents = sum(
        len(getattr(effect, name, b""))
        for effect in record.effects
        for name in ("ctx", "payload", "definition")
    )
    return documents + sum(len(key.answer) for key in record.keys) + _RECORD_BYTES * len(record.effects)
