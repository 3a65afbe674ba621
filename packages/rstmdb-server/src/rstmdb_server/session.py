"""One client session: what the server knows of it, without I/O.

::

    bytes -> decoder -> inbox -> dispatch -> out (answers, each with its hold) -> wire
                                             events (of live subscriptions)    /

    state      requests served          ends by
    REFUSED    one, with a refusal      close (too many sessions)
    NEW        HELLO AUTH PING BYE      AUTH -> READY, handshake deadline -> close
    READY      all that its role may    BYE, end of stream, framing error, idleness -> CLOSING
    CLOSING    none                     what was decided leaves, then close
"""

from __future__ import annotations

import enum
from collections import deque
from typing import TYPE_CHECKING

from rstmdb_protocol import HANDSHAKE_PAYLOAD_BYTES_MAX, Framing, MessageDecoder
from rstmdb_server.answers import Held
from rstmdb_server.auth import Principal, RefusalReason
from rstmdb_server.world import Wire

if TYPE_CHECKING:
    from rstmdb_core import Refusal
    from rstmdb_server.subscription import Subscription


class Phase(enum.Enum):
    """Where a session is in its life; see the module docstring."""

    REFUSED = "refused"
    NEW = "new"
    READY = "ready"
    CLOSING = "closing"


class Session:
    """The state of one session; `sessions.py` begins and ends it, the reactor serves it.

    Args:
        wire: Its byte stream.
        peer: The peer's address, for logs and attempt limits.
        now: Monotonic seconds.
    """

    __slots__ = (
        "arming",
        "closed",
        "decoder",
        "dirty",
        "end_of_stream",
        "events",
        "events_bytes",
        "features",
        "framing",
        "held_bytes",
        "inbox",
        "last_activity",
        "opened",
        "out",
        "peer",
        "phase",
        "principal",
        "reading_paused",
        "refusal",
        "revoked",
        "subscriptions",
        "unrestricted",
        "wire",
        "writing_paused",
    )

    def __init__(self, wire: Wire, peer: str, now: float) -> None:
        self.wire = wire
        self.peer = peer
        self.opened = now
        self.last_activity = now
        self.phase = Phase.NEW
        self.refusal: Refusal | None = None
        self.principal: Principal | None = None
        self.unrestricted = False  # the principal may do everything: nothing is asked a request
        self.revoked: RefusalReason | None = None  # why it is nobody any more, after a reload
        self.features: frozenset[str] = frozenset()
        self.decoder = MessageDecoder(payload_bytes_max=HANDSHAKE_PAYLOAD_BYTES_MAX)
        self.inbox: deque[tuple[bytes, Framing]] = deque()
        self.framing = Framing.FRAME  # of the request that is being handled
        self.out: deque[Held] = deque()
        self.arming = ""  # id of the subscription that the answer being made will arm
        self.held_bytes = 0  # of large answers in `out`, with a reserve for each that is not known yet
        self.events: list[bytes] = []
        self.events_bytes = 0
        self.subscriptions: dict[str, Subscription] = {}
        self.dirty = False
        self.reading_paused = False
        self.writing_paused = False
        self.end_of_stream = False
        self.closed = False

    def admit(self, principal: Principal) -> None:
        """Let the session act as this principal from now on."""
        self.principal = principal
        self.unrestricted = principal.unrestricted
        self.revoked = None

    def dismiss(self, reason: RefusalReason) -> None:
        """Make the session nobody again; it may authenticate anew."""
        self.principal = None
        self.unrestricted = False
        self.revoked = reason
        self.decoder.payload_bytes_max = HANDSHAKE_PAYLOAD_BYTES_MAX

    def pause_reading(self) -> None:
        """Read no more of the stream until further notice."""
        if not self.reading_paused:
            self.reading_paused = True
            self.wire.pause_reading()

    def resume_reading(self) -> None:
        """Read on, if that was paused."""
        if self.reading_paused:
            self.reading_paused = False
            self.wire.resume_reading()

    def __repr__(self) -> str:
        return f"<Session {self.peer} {self.phase.value}>"
