"""Watches: a subscription is a cursor on the log.

::

    ARMING   its WATCH answer has not left yet; nothing is sent
    LIVE     at the tail: fed from memory as records become durable
    LAGGING  behind (an old from_offset, or a consumer that does not read): fed from the log, a page at a
             time, off the loop; back to LIVE once the cursor has caught up
    ENDED    unsubscribed, session gone, or the history under the cursor was compacted

A slow consumer therefore costs an integer, blocks nobody and loses nothing. The hand-over between LAGGING
and LIVE happens in one step: an event goes out exactly when its sequence is at or above the cursor, and the
cursor moves past it. So there is no gap and no repeat. What is published while a page is read is kept for as
long; otherwise a subscription would never reach the tail of a log that is always written to.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rstmdb_core import Record, decode_record
from rstmdb_protocol import Framing, event_prefix, frame_for
from rstmdb_server.watch_filter import Filter
from rstmdb_server.wire_effects import EventEncoder, encode_end
from rstmdb_storage import Log, LogReader, LogRecord, SequenceTrimmed

if TYPE_CHECKING:
    from rstmdb_server.session import Session
    from rstmdb_server.world import Host

CATCH_UP_BYTES = 32 * 1024
CATCH_UP_RECORDS = 250
"""One page of catching up: about a millisecond of work, so that other sessions hardly notice."""

SESSION_EVENTS_BYTES_MAX = 1024 * 1024
"""Events queued for one session within a turn; beyond it the subscription falls back to reading the log."""

RECENT_RECORDS_MAX = 1024
"""Records kept while a page is read, for those whose page ends where it was asked for."""


class Phase(enum.Enum):
    """Where a subscription is; see the module docstring."""

    ARMING = "arming"
    LIVE = "live"
    LAGGING = "lagging"
    ENDED = "ended"


class Subscription:
    """One subscription of one session."""

    __slots__ = (
        "cursor",
        "filter",
        "framing",
        "id",
        "include_ctx",
        "phase",
        "prefix",
        "reader",
        "reading",
        "session",
        "type",
    )

    def __init__(
        self,
        subscription_id: str,
        session: Session,
        *,
        filter: Filter,  # noqa: A002 - the word users know
        include_ctx: bool,
        cursor: int,
        framing: Framing,
    ) -> None:
        self.id = subscription_id
        self.session = session
        self.filter = filter
        self.include_ctx = include_ctx
        self.cursor = cursor  # the next sequence that this subscription has not seen
        self.framing = framing
        self.type = "all" if filter.instance_id is None else "instance"
        self.phase = Phase.ARMING
        self.prefix = event_prefix(subscription_id)
        self.reader: LogReader | None = None
        self.reading = False  # a page is being read in another thread


class WatchHub:
    """All subscriptions of the server.

    Args:
        log: Where lagging subscriptions read.
        host: Runs those reads off the loop.
        touch: Marks a session as having something to send.
        on_forwarded: Counts events sent, by type and number.
    """

    def __init__(
        self,
        log: Log,
        host: Host,
        *,
        touch: Callable[[Session], None],
        on_forwarded: Callable[[str, int], None],
    ) -> None:
        self._log = log
        self._host = host
        self._touch = touch
        self._on_forwarded = on_forwarded
        self._by_id: dict[str, Subscription] = {}
        self._live_all: dict[str, Subscription] = {}
        self._live_by_instance: dict[str, dict[str, Subscription]] = {}
        self._reads = 0  # pages that are being read
        self._recent: deque[Record] = deque(maxlen=RECENT_RECORDS_MAX)  # published while one is
        self.published = log.durable_sequence  # everything up to here was offered to live subscriptions

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, subscription_id: str) -> Subscription | None:
        """Return the subscription of this id, of whichever session."""
        return self._by_id.get(subscription_id)

    def count(self, kind: str) -> int:
        """Return how many subscriptions of type ``instance`` or ``all`` exist."""
        return sum(1 for subscription in self._by_id.values() if subscription.type == kind)

    def lag_max(self) -> int:
        """Return how many sequences the slowest subscription is behind.

        A live one is not, although its cursor only moves with what concerns it.
        """
        cursors = [s.cursor for s in self._by_id.values() if s.phase is Phase.LAGGING]
        return max(0, self.published + 1 - min(cursors)) if cursors else 0

    def lagging(self) -> int:
        """Return how many subscriptions read from the log at the moment."""
        return sum(1 for s in self._by_id.values() if s.phase is Phase.LAGGING)

    def add(self, subscription: Subscription) -> None:
        """Register; events flow after :meth:`arm`."""
        self._by_id[subscription.id] = subscription
        subscription.session.subscriptions[subscription.id] = subscription

    def arm(self, subscription_id: str) -> None:
        """Let events flow: the WATCH answer has left."""
        subscription = self._by_id.get(subscription_id)
        if subscription is not None and subscription.phase is Phase.ARMING:
            if subscription.cursor > self.published:
                self._go_live(subscription)
            else:
                self._go_lagging(subscription)

    def remove(self, subscription: Subscription) -> None:
        """Forget a subscription; nothing of it is sent any more."""
        if self._by_id.pop(subscription.id, None) is None:
            return
        self._leave_live(subscription)
        subscription.phase = Phase.ENDED
        subscription.session.subscriptions.pop(subscription.id, None)
        if subscription.reader is not None and not subscription.reading:
            subscription.reader.close()
            subscription.reader = None

    def end(self, subscription: Subscription, **details: object) -> None:
        """Tell the session that its subscription has ended, and forget it."""
        session = subscription.session
        if not session.closed:
            frame = frame_for(encode_end(subscription.id, details), subscription.framing)
            session.events.append(frame)
            session.events_bytes += len(frame)
            self._touch(session)
        self.remove(subscription)

    def publish(self, records: Sequence[Record], durable: int) -> None:
        """Offer newly durable records to the live subscriptions, in log order."""
        live_all, by_instance = self._live_all, self._live_by_instance
        if live_all or by_instance:
            for record in records:
                sequence = record.first_sequence
                for effect in record.effects:
                    targets: list[Subscription] = list(live_all.values()) if live_all else []
                    instance_id = getattr(effect, "instance_id", None)
                    if instance_id is not None and instance_id in by_instance:
                        targets.extend(by_instance[instance_id].values())
                    if targets:
                        encoder = EventEncoder(effect, sequence)
                        for subscription in targets:
                            self._offer(subscription, encoder, sequence)
                    sequence += 1
        if self._reads:
            self._recent.extend(records)
        self.published = durable

    def resume(self, session: Session) -> None:
        """Go on with the lagging subscriptions of a session whose wire has drained."""
        for subscription in list(session.subscriptions.values()):
            if subscription.phase is Phase.LAGGING:
                self._read_on(subscription)

    def _offer(self, subscription: Subscription, encoder: EventEncoder, sequence: int) -> None:
        if sequence < subscription.cursor:
            return
        session = subscription.session
        if session.writing_paused or session.events_bytes > SESSION_EVENTS_BYTES_MAX:
            subscription.cursor = sequence
            self._go_lagging(subscription)
            return
        subscription.cursor = sequence + 1
        if subscription.filter.wants(encoder.effect):
            self._send(subscription, encoder)
            self._on_forwarded(subscription.type, 1)

    def _send(self, subscription: Subscription, encoder: EventEncoder) -> None:
        session = subscription.session
        payload = subscription.prefix + encoder.tail(include_ctx=subscription.include_ctx)
        frame = frame_for(payload, subscription.framing)
        session.events.append(frame)
        session.events_bytes += len(frame)
        if not session.dirty:
            self._touch(session)

    def _go_live(self, subscription: Subscription) -> None:
        subscription.phase = Phase.LIVE
        if subscription.reader is not None:
            subscription.reader.close()
            subscription.reader = None
        instance_id = subscription.filter.instance_id
        if instance_id is None:
            self._live_all[subscription.id] = subscription
        else:
            self._live_by_instance.setdefault(instance_id, {})[subscription.id] = subscription

    def _leave_live(self, subscription: Subscription) -> None:
        self._live_all.pop(subscription.id, None)
        instance_id = subscription.filter.instance_id
        if instance_id is not None and instance_id in self._live_by_instance:
            of_instance = self._live_by_instance[instance_id]
            of_instance.pop(subscription.id, None)
            if not of_instance:
                del self._live_by_instance[instance_id]

    def _go_lagging(self, subscription: Subscription) -> None:
        self._leave_live(subscription)
        subscription.phase = Phase.LAGGING
        self._read_on(subscription)

    def _read_on(self, subscription: Subscription) -> None:
        session = subscription.session
        if subscription.reading or session.closed:
            return
        if session.writing_paused or session.events_bytes > SESSION_EVENTS_BYTES_MAX:
            return  # resume() calls again when the wire has drained
        if subscription.reader is None:
            subscription.reader = self._log.reader()
        reader, cursor, published = subscription.reader, subscription.cursor, self.published
        subscription.reading = True
        self._reads += 1
        self._host.run_blocking(
            lambda: reader.read(cursor, bytes_max=CATCH_UP_BYTES, records_max=CATCH_UP_RECORDS),
            lambda result, error: self._page_read(subscription, published, result, error),
        )

    def _page_read(
        self,
        subscription: Subscription,
        published: int,
        page: list[LogRecord] | None,
        error: BaseException | None,
    ) -> None:
        subscription.reading = False
        self._reads -= 1
        try:
            self._take_page(subscription, published, page, error)
        finally:
            if not self._reads:
                self._recent.clear()

    def _take_page(
        self,
        subscription: Subscription,
        published: int,
        page: list[LogRecord] | None,
        error: BaseException | None,
    ) -> None:
        if subscription.phase is not Phase.LAGGING:
            if subscription.reader is not None:
                subscription.reader.close()
                subscription.reader = None
            return
        if isinstance(error, SequenceTrimmed):
            self.end(subscription, reason="OFFSET_COMPACTED", oldest_offset=self._log.oldest_sequence)
            return
        if error is not None:
            # Told rather than left hanging: whoever resumes elsewhere, or later, loses nothing.
            self.end(subscription, reason="LOG_UNREADABLE", message=str(error))
            raise error
        assert page is not None
        for entry in page:
            self._pass_on(subscription, decode_record(entry.body, entry.first_sequence))
        if not page:
            # The log had nothing between the cursor and what was published when the page was asked for (a
            # jump of the sequence is no effect). What was published since is still to be read.
            subscription.cursor = max(subscription.cursor, published + 1)
        if self._recent and self._recent[0].first_sequence <= subscription.cursor:
            for record in self._recent:
                if subscription.session.events_bytes > SESSION_EVENTS_BYTES_MAX:
                    break  # the rest is read when the wire has drained
                self._pass_on(subscription, record)
        if subscription.cursor > self.published:
            self._go_live(subscription)
        else:
            self._read_on(subscription)

    def _pass_on(self, subscription: Subscription, record: Record) -> None:
        """Send what the cursor has not passed of a record, and move the cursor behind it."""
        sequence, sent = record.first_sequence, 0
        for effect in record.effects:
            if sequence >= subscription.cursor and subscription.filter.wants(effect):
                self._send(subscription, EventEncoder(effect, sequence))
                sent += 1
            sequence += 1
        subscription.cursor = max(subscription.cursor, sequence)
        if sent:
            self._on_forwarded(subscription.type, sent)
