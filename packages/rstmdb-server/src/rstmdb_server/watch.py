"""Watches: a subscription is a cursor on the log.

A slow consumer therefore costs an integer, blocks nobody and loses nothing. It is fed from memory while it
keeps up, which happens here, and from the log when it does not (`catch_up.py`). The hand-over between the two
happens in one step: an event goes out exactly when its sequence is at or above the cursor, and the cursor
moves past it. So there is no gap and no repeat. The phases of a subscription stand in `subscription.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rstmdb_core import Record
from rstmdb_protocol import frame_for
from rstmdb_server.catch_up import CatchUp
from rstmdb_server.subscription import SESSION_EVENTS_BYTES_MAX, Phase, Subscription
from rstmdb_server.wire_effects import EventEncoder, encode_end
from rstmdb_storage import Log

if TYPE_CHECKING:
    from rstmdb_server.session import Session
    from rstmdb_server.world import Host


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
        self._touch = touch
        self._on_forwarded = on_forwarded
        self._by_id: dict[str, Subscription] = {}
        self._counts = {"instance": 0, "all": 0}
        self._live_all: dict[str, Subscription] = {}
        self._live_by_instance: dict[str, dict[str, Subscription]] = {}
        self.published = log.durable_sequence  # everything up to here was offered to live subscriptions
        self._catch_up = CatchUp(
            log,
            host,
            published=lambda: self.published,
            pass_on=self._pass_on,
            caught_up=self._go_live,
            end=self.end,
        )

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, subscription_id: str) -> Subscription | None:
        """Return the subscription of this id, of whichever session."""
        return self._by_id.get(subscription_id)

    def count(self, kind: str) -> int:
        """Return how many subscriptions of type ``instance`` or ``all`` exist."""
        return self._counts[kind]

    def lag_max(self) -> int:
        """Return how many sequences the slowest subscription is behind.

        A live one is not, although its cursor only moves with what concerns it.
        """
        cursor = self._catch_up.cursor_min()
        return 0 if cursor is None else max(0, self.published + 1 - cursor)

    def lagging(self) -> int:
        """Return how many subscriptions read from the log at the moment."""
        return len(self._catch_up)

    def readers_open(self) -> int:
        """Return how many files of the log are open for them."""
        return self._catch_up.readers_open

    def add(self, subscription: Subscription) -> None:
        """Register; events flow after :meth:`arm`."""
        self._by_id[subscription.id] = subscription
        self._counts[subscription.type] += 1
        subscription.session.subscriptions[subscription.id] = subscription

    def arm(self, subscription_id: str) -> None:
        """Let events flow: the WATCH answer has left."""
        subscription = self._by_id.get(subscription_id)
        if subscription is not None and subscription.phase is Phase.ARMING:
            if subscription.cursor > self.published:
                self._go_live(subscription)
            else:
                self._catch_up.join(subscription)

    def remove(self, subscription: Subscription) -> None:
        """Forget a subscription; nothing of it is sent any more."""
        if self._by_id.pop(subscription.id, None) is None:
            return
        self._counts[subscription.type] -= 1
        self._leave_live(subscription)
        self._catch_up.leave(subscription)
        subscription.phase = Phase.ENDED
        subscription.session.subscriptions.pop(subscription.id, None)

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
        self._catch_up.note(records)
        self.published = durable

    def resume(self, session: Session) -> None:
        """Go on with the lagging subscriptions of a session whose wire has drained."""
        self._catch_up.resume(session)

    def _offer(self, subscription: Subscription, encoder: EventEncoder, sequence: int) -> None:
        if sequence < subscription.cursor:
            return
        session = subscription.session
        if session.writing_paused or session.events_bytes > SESSION_EVENTS_BYTES_MAX:
            # Not has_room(): a call for each watcher of each event counts.
            subscription.cursor = sequence
            self._leave_live(subscription)
            self._catch_up.join(subscription)
            return
        subscription.cursor = sequence + 1
        if subscription.filter.wants(encoder.effect):
            self._send(subscription, encoder)
            self._on_forwarded(subscription.type, 1)

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
