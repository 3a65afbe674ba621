"""One subscription: who watches what, and how far it has come.

::

    ARMING   its WATCH answer has not left yet; nothing is sent
    LIVE     at the tail: fed from memory as records become durable (watch.py)
    LAGGING  behind (an old from_offset, or a consumer that does not read): fed from the log, a page at a
             time, off the loop; back to LIVE once the cursor has caught up (catch_up.py)
    ENDED    unsubscribed, session gone, or the history under the cursor was compacted
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from rstmdb_protocol import Framing, event_prefix
from rstmdb_server.watch_filter import Filter

if TYPE_CHECKING:
    from rstmdb_server.session import Session

SESSION_EVENTS_BYTES_MAX = 1024 * 1024
"""Events queued for one session within a turn; beyond it its subscriptions fall back to reading the log."""


class Phase(enum.Enum):
    """Where a subscription is; see the module docstring."""

    ARMING = "arming"
    LIVE = "live"
    LAGGING = "lagging"
    ENDED = "ended"


class Subscription:
    """One subscription of one session."""

    __slots__ = ("cursor", "filter", "framing", "id", "include_ctx", "phase", "prefix", "session", "type")

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


def has_room(session: Session) -> bool:
    """Return whether a session's peer reads its events, so that more of them may be made."""
    return not session.writing_paused and session.events_bytes <= SESSION_EVENTS_BYTES_MAX
