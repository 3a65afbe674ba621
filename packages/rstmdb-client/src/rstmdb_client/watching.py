"""A watch without its I/O: what it asks for, where it stands, how it goes on after a lost connection.

```
            first subscription                 after a lost connection
feature     from_offset / after_offset /       after_offset = position: nothing missed, nothing twice
watch.resume  "oldest" / live
without     live only                          an instance whose offset is still the position: go on,
                                               anything else: WatchInterrupted, never a silent gap
```

The *position* is the offset of the last event that was handed out or, before the first one, the point at
which the subscription began, so that a connection lost at once leaves no gap either.

One instance's position may fall behind the history the server keeps although the instance did not change.
So when its resumption is answered with HistoryCompacted, the watch subscribes without an offset and compares
the instance's current offset with the position: equal means that nothing was missed.
"""

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, Generic, TypeVar

import msgspec

from rstmdb_client import calls
from rstmdb_client.documents import decoder_for, text
from rstmdb_client.errors import HistoryCompacted, InvalidDocument, ProtocolViolation, WatchInterrupted
from rstmdb_client.results import WatchEvent, WatchHeader
from rstmdb_protocol.messages import Event

__all__ = ["KINDS", "WatchPlan", "WatchProgress", "plan_all", "plan_instance"]

C = TypeVar("C")

RESUME = "watch.resume"
KINDS = frozenset({"apply", "create", "delete", "put_machine", "flush"})

_object_decoder: msgspec.json.Decoder[dict[str, Any] | None] = msgspec.json.Decoder(dict[str, Any] | None)


class WatchPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a watch asks for, whatever happens to its connections."""

    op: str
    members: tuple[tuple[str, bytes | None], ...]
    instance_id: str | None = None
    from_offset: int | None = None
    after_offset: int | None = None
    from_oldest: bool = False
    include: bool = False


def _include(kinds: Iterable[str] | None) -> bytes | None:
    if kinds is None:
        return None
    chosen = list(kinds)
    for index, kind in enumerate(chosen):
        if kind not in KINDS:
            raise InvalidDocument(f"include[{index}]", f"{kind!r} is not one of {', '.join(sorted(KINDS))}")
    return calls.texts(chosen, "include")


def _start(from_offset: int | None, after_offset: int | None, from_oldest: bool) -> None:
    if (from_offset is not None) + (after_offset is not None) + from_oldest > 1:
        raise InvalidDocument("from_offset", "a watch begins at one place: give one of the three")
    calls.optional_integer(from_offset, "from_offset")
    calls.optional_integer(after_offset, "after_offset")


def plan_instance(
    instance_id: str,
    *,
    include_ctx: bool,
    from_offset: int | None,
    after_offset: int | None,
    from_oldest: bool,
    include: Iterable[str] | None,
) -> WatchPlan:
    """Plan a watch of one instance.

    Raises:
        InvalidDocument: an argument cannot be sent.
    """
    _start(from_offset, after_offset, from_oldest)
    kinds = _include(include)
    return WatchPlan(
        op="WATCH_INSTANCE",
        members=(
            ("instance_id", text(instance_id, "instance_id")),
            ("include_ctx", b"true" if include_ctx else b"false"),
            ("include", kinds),
        ),
        instance_id=instance_id,
        from_offset=from_offset or None,
        after_offset=after_offset,
        from_oldest=from_oldest,
        include=kinds is not None,
    )


def plan_all(
    *,
    machines: Iterable[str] | None,
    from_states: Iterable[str] | None,
    to_states: Iterable[str] | None,
    events: Iterable[str] | None,
    include_ctx: bool,
    from_offset: int | None,
    after_offset: int | None,
    from_oldest: bool,
    include: Iterable[str] | None,
) -> WatchPlan:
    """Plan a watch of everything that passes the filters: any of a list, and all of the lists.

    Raises:
        InvalidDocument: an argument cannot be sent.
    """
    _start(from_offset, after_offset, from_oldest)
    kinds = _include(include)
    return WatchPlan(
        op="WATCH_ALL",
        members=(
            ("include_ctx", b"true" if include_ctx else b"false"),
            ("machines", calls.texts(machines, "machines")),
            ("from_states", calls.texts(from_states, "from_states")),
            ("to_states", calls.texts(to_states, "to_states")),
            ("events", calls.texts(events, "events")),
            ("include", kinds),
        ),
        from_offset=from_offset or None,
        after_offset=after_offset,
        from_oldest=from_oldest,
        include=kinds is not None,
    )


class _Mode(Enum):
    FIRST = "the first subscription"
    RESUME = "from the position on"
    COMPARE = "live, and compare the instance's offset with the position"


class WatchProgress(Generic[C]):
    """Where one watch stands.

    Attributes:
        position: the offset of the last event handed out, or where the subscription began, or None.
        header: the answer to the newest subscription.
    """

    def __init__(self, plan: WatchPlan, *, ctx_type: type[C], position: int | None = None) -> None:
        self.plan = plan
        self.position = position
        self.header: WatchHeader | None = None
        self._resumed = position is not None
        self._mode = _Mode.FIRST if position is None else _Mode.RESUME
        self._ordered = False
        document: Any = dict[str, Any] if ctx_type is dict else ctx_type
        self._decode_ctx: Callable[[Any], Any] = decoder_for(document | None).decode

    def subscription(self, features: frozenset[str]) -> calls.Call[WatchHeader]:
        """Return the request that starts or resumes the watch on a server with these features.

        Raises:
            WatchInterrupted: the server cannot resume, and what was missed cannot be told.
        """
        plan = self.plan
        start: list[tuple[str, bytes | None]] = []
        needs: list[calls.Need] = []
        resumable = RESUME in features
        self._ordered = resumable
        if self._mode is _Mode.RESUME and not resumable and self.header is not None:
            if plan.instance_id is None:
                raise WatchInterrupted("the server cannot resume a watch", self.position)
            self._mode = _Mode.COMPARE
        if self._mode is _Mode.RESUME:
            start = [("after_offset", b"%d" % (self.position or 0))]
        elif self._mode is _Mode.FIRST:
            if plan.from_offset is not None:
                start = [("from_offset", b"%d" % plan.from_offset)]
            elif plan.after_offset is not None:
                start = [("after_offset", b"%d" % plan.after_offset)]
            elif plan.from_oldest:
                start = [("from", b'"oldest"')]
        if start:
            needs.append(calls.Need(RESUME, "a watch from an offset"))
        if plan.include:
            needs.append(calls.Need(RESUME, "a watch of other changes than applied events"))
        return calls.watch(plan.op, [*plan.members, *start], needs=tuple(needs), subject=plan.instance_id)

    def subscribed(self, header: WatchHeader) -> None:
        """Take over the answer to a subscription.

        Raises:
            WatchInterrupted: something was missed that cannot be had again.
        """
        if self._mode is _Mode.COMPARE and header.current_wal_offset != self.position:
            raise WatchInterrupted("events were missed, and the server cannot send them again", self.position)
        live = self.plan.from_offset is None and self.plan.after_offset is None and not self.plan.from_oldest
        if self._mode is _Mode.FIRST and self.position is None:
            if self.plan.after_offset is not None:
                self.position = self.plan.after_offset
            elif live and self.plan.instance_id is not None:
                self.position = header.current_wal_offset
            elif live and header.wal_offset is not None:
                # It is the offset the next change gets, so the position is the one before.
                self.position = max(header.wal_offset - 1, 0)
        self.header = header
        self._mode = _Mode.FIRST if self.position is None else _Mode.RESUME

    def refused(self, error: HistoryCompacted) -> bool:
        """Say whether to subscribe once more after the server no longer has the history."""
        if self._mode is _Mode.RESUME and self.plan.instance_id is not None and self.position is not None:
            self._mode = _Mode.COMPARE
            return True
        return False

    def accept(self, message: Event) -> WatchEvent[C] | None:
        """Turn a message into the event to hand out, or None when it was handed out before.

        The position does not move: the caller moves it when the event has been handed out.

        Raises:
            ProtocolViolation: the event has another shape, or its context does not fit the caller's type.
        """
        header = self.header
        if header is None or message.subscription_id != header.subscription_id:
            return None
        # Only servers that resume promise log order; the original may send two events the wrong way round.
        if self._ordered and self.position is not None and message.wal_offset <= self.position:
            return None
        try:
            return WatchEvent(
                subscription_id=message.subscription_id,
                wal_offset=message.wal_offset,
                instance_id=message.instance_id or "",
                machine=message.machine or "",
                version=message.version or 0,
                event=message.event or "",
                from_state=message.from_state or "",
                to_state=message.to_state or "",
                payload=_object_decoder.decode(message.payload) if len(message.payload) else None,
                ctx=self._decode_ctx(message.ctx) if len(message.ctx) else None,
                kind=message.kind or "apply",
            )
        except Exception as error:  # a caller's type may raise anything while it validates
            raise ProtocolViolation(f"the event at offset {message.wal_offset}: {error}") from error
