"""WATCH_INSTANCE, WATCH_ALL, UNWATCH."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from rstmdb_core import Refusal, instance_position
from rstmdb_protocol import UnwatchParams, WatchAllParams, WatchInstanceParams, decode_params
from rstmdb_server.answers import bad_request
from rstmdb_server.dispatch_types import Handler
from rstmdb_server.handlers.scope import instance_refusal, principal_of
from rstmdb_server.services import Services
from rstmdb_server.session import Session
from rstmdb_server.subscription import Subscription
from rstmdb_server.watch_filter import APPLY_ONLY, FILTER_BYTES_MAX, Filter

_encode = msgspec.json.encode


class WatchOperations:
    """Handlers that begin and end subscriptions."""

    __slots__ = ("_counters", "_database", "_hub", "_new_id", "_services")

    def __init__(self, services: Services) -> None:
        self._database = services.database
        self._hub = services.hub
        self._counters = services.counters
        self._new_id = services.host.new_id
        self._services = services

    def instance(self, session: Session, params: msgspec.Raw) -> bytes | Refusal:
        """WATCH_INSTANCE."""
        p = decode_params(WatchInstanceParams, params)
        state = self._database.state
        refusal = instance_refusal(session, state, p.instance_id)
        if refusal is not None:
            return refusal
        position = instance_position(state, p.instance_id)
        if isinstance(position, Refusal):
            return position
        cursor = self._cursor(p.from_offset, p.after_offset, p.from_position)
        kinds = _kinds(p.include)
        if isinstance(cursor, Refusal):
            return cursor
        subscription = self._subscribe(
            session,
            # Also here: the id may have belonged, or come to belong, to a machine that is not seen.
            Filter(instance_id=p.instance_id, kinds=kinds, visible=_visible(session)),
            include_ctx=p.include_ctx,
            cursor=cursor,
        )
        if isinstance(subscription, Refusal):
            return subscription
        self._counters.subscriptions_instance += 1
        return _encode(
            {
                "subscription_id": subscription.id,
                "instance_id": p.instance_id,
                "current_state": position.state,
                "current_wal_offset": position.last_offset,
            }
        )

    def all(self, session: Session, params: msgspec.Raw) -> bytes | Refusal:
        """WATCH_ALL."""
        p = decode_params(WatchAllParams, params)
        cursor = self._cursor(p.from_offset, p.after_offset, p.from_position)
        kinds = _kinds(p.include)
        if isinstance(cursor, Refusal):
            return cursor
        subscription = self._subscribe(
            session,
            Filter(
                machines=p.machines or (),
                from_states=p.from_states or (),
                to_states=p.to_states or (),
                events=p.events or (),
                kinds=kinds,
                visible=_visible(session),
            ),
            include_ctx=p.include_ctx,
            cursor=cursor,
        )
        if isinstance(subscription, Refusal):
            return subscription
        self._counters.subscriptions_all += 1
        return _encode(
            {
                "subscription_id": subscription.id,
                "wal_offset": self._database.log.next_sequence,
                "oldest_offset": self._database.log.oldest_sequence,
            }
        )

    def unwatch(self, session: Session, params: msgspec.Raw) -> bytes | Refusal:
        """UNWATCH: also of another session of the same principal, which is then told of the end."""
        subscription_id = decode_params(UnwatchParams, params).subscription_id
        subscription = self._hub.get(subscription_id)
        removed = False
        if subscription is not None:
            owner = subscription.session
            if owner is session:
                self._hub.remove(subscription)
                removed = True
            elif owner.principal is not None and owner.principal.name == principal_of(session).name:
                self._hub.end(subscription, reason="UNWATCHED")
                removed = True
        return _encode({"subscription_id": subscription_id, "removed": removed})

    def _subscribe(
        self, session: Session, wanted: Filter, *, include_ctx: bool, cursor: int
    ) -> Subscription | Refusal:
        limit = self._services.settings.network.subscriptions_max
        if len(session.subscriptions) >= limit:
            return Refusal(
                code="RATE_LIMITED",
                message=f"a session has at most {limit} subscriptions",
                details={"reason": "SUBSCRIPTIONS_MAX", "limit": limit},
            )
        if wanted.size_bytes:
            held = sum(subscription.filter.size_bytes for subscription in session.subscriptions.values())
            if held + wanted.size_bytes > FILTER_BYTES_MAX:
                return bad_request(
                    f"the filters of a session take at most {FILTER_BYTES_MAX} bytes",
                    reason="FILTERS_TOO_LARGE",
                    limit=FILTER_BYTES_MAX,
                )
        subscription = Subscription(
            f"sub-{self._new_id()}",
            session,
            filter=wanted,
            include_ctx=include_ctx,
            cursor=cursor,
            framing=session.framing,
        )
        self._hub.add(subscription)
        session.arming = subscription.id
        return subscription

    def _cursor(self, from_offset: int | None, after_offset: int | None, start: str | None) -> int | Refusal:
        """Return the first sequence a subscription is to see.

        ``from_offset`` 0 means the same as none, live only, because one published client always sends it.
        """
        log = self._database.log
        if start is not None:
            return log.oldest_sequence
        if after_offset is not None:
            cursor = after_offset + 1
        elif from_offset:
            cursor = from_offset
        else:
            return log.next_sequence
        if cursor > log.next_sequence:
            return bad_request(
                f"offset {cursor} lies beyond the log, whose next offset is {log.next_sequence}: "
                "what was seen there is gone",
                reason="OFFSET_AHEAD",
                latest_offset=log.next_sequence,
            )
        if cursor < log.oldest_sequence:
            return bad_request(
                f"offset {cursor} was compacted; the oldest still kept is {log.oldest_sequence}",
                reason="OFFSET_COMPACTED",
                oldest_offset=log.oldest_sequence,
            )
        return cursor


def _visible(session: Session) -> Callable[[str], bool] | None:
    principal = principal_of(session)
    return principal.sees if principal.scoped else None


def _kinds(include: Iterable[str] | None) -> frozenset[str]:
    if include is None:
        return APPLY_ONLY
    return APPLY_ONLY.union(include)


def bind(services: Services) -> dict[str, Handler]:
    """Return the handlers of this module by operation name."""
    operations = WatchOperations(services)
    return {
        "WATCH_INSTANCE": operations.instance,
        "WATCH_ALL": operations.all,
        "UNWATCH": operations.unwatch,
    }
