"""All sessions: who may come, how long one may stay, and how it goes.

::

    when                                            what happens
    a stream begins                                 open: NEW, or CLOSING while the server drains
    ... over max_connections                        open: REFUSED, its first request is told so; at last: None
    end of stream, framing lost, drain              finish: what was received is served, then CLOSING
    idle for too long                               close_after_answers: CLOSING
    no handshake in time, answers that nobody reads abort
    the stream is gone                              remove

What each phase may do stands in `session.py`; from NEW to READY it is the requests' matter (`dispatch.py`).
Nothing here reads or serves: the reactor does, and tells this module when a session begins or is to end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rstmdb_core import Refusal
from rstmdb_protocol import ErrorCode
from rstmdb_server.access import Access
from rstmdb_server.auth import UNRESTRICTED
from rstmdb_server.services import Services
from rstmdb_server.session import Phase, Session
from rstmdb_server.world import Wire

REFUSED_SESSIONS_MAX = 64
"""Sessions over ``max_connections`` that are still told so; beyond these the socket is just closed."""

LOOKED_AT_MIN = 256
ROUND_CALLS = 20
"""Deadlines are looked at in portions, of so many sessions at least, so that all have been in a second.

Ten thousand at once, twenty times a second, took four milliseconds each time.
"""

CLOSE_GRACE_SECONDS = 10.0
"""How long the last answers may take to leave; then a peer that does not read is cut off."""


class Sessions:
    """Owns the set of sessions; see the module docstring.

    Args:
        services: Settings, authentication, counters and subscriptions.
        touch: Makes what is queued for a session leave at the end of this turn, and closes it if it is to be.
    """

    __slots__ = (
        "_access",
        "_drained",
        "_monotonic",
        "_refused",
        "_round",
        "_services",
        "_sessions",
        "_touch",
    )

    def __init__(self, services: Services, *, touch: Callable[[Session], None]) -> None:
        self._services = services
        self._monotonic = services.host.monotonic
        self._touch = touch
        self._access = Access(services)
        self._sessions: dict[Session, None] = {}
        self._refused = 0  # of them
        self._round: list[Session] = []  # whose deadlines are still to be looked at in this round
        self._drained: Callable[[], None] | None = None

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Session]:
        """Iterate over a copy, since sessions end while one looks at them."""
        return iter(list(self._sessions))

    # -- coming -----------------------------------------------------------------------------------------

    def open(self, wire: Wire, peer: str) -> Session | None:
        """Open a session; None when there are so many that the socket is to be closed without a word."""
        limits = self._services.settings.network
        counters = self._services.counters
        session = Session(wire, peer, self._monotonic())
        refused = len(self._sessions) - self._refused >= limits.max_connections
        if refused:
            counters.refused("limit")
            if self._refused >= REFUSED_SESSIONS_MAX:
                return None
            self._refused += 1
            session.phase = Phase.REFUSED
            session.refusal = Refusal(
                code=ErrorCode.RATE_LIMITED.value,
                message=f"the server serves {limits.max_connections} sessions, its configured limit",
                details={"reason": "MAX_CONNECTIONS", "limit": limits.max_connections},
            )
        elif not self._services.authenticator.required:
            session.admit(UNRESTRICTED)
        if self._drained is not None:
            session.phase = Phase.CLOSING
        self._sessions[session] = None
        if not refused:
            counters.connection_opened()
        return session

    # -- staying ----------------------------------------------------------------------------------------

    def check_deadlines(self, now: float, wall_ms: int) -> None:
        """End what has lasted too long: handshakes, idleness, tokens, peers that do not read their answers.

        Looks at a portion of the sessions; called twenty times a second, at all of them within one.

        Args:
            now: Monotonic seconds.
            wall_ms: Milliseconds since the epoch, for tokens.
        """
        network = self._services.settings.network
        for session in self._portion():
            if session.phase is Phase.READY:
                quiet = now - session.last_activity > network.idle_timeout_secs and not session.out
                # Watchers are spared, but not with a message that they began and never finished.
                if quiet and (not session.subscriptions or session.decoder.buffered_bytes):
                    self.close_after_answers(session)
                if session.subscriptions and not session.unrestricted:
                    self._access.end_expired(session, wall_ms)
            elif session.phase is Phase.CLOSING:
                if session.out:
                    session.last_activity = now  # its answers wait for the disk, not for the peer
                elif now - session.last_activity > CLOSE_GRACE_SECONDS:
                    session.wire.abort()
            elif now - session.opened > network.handshake_timeout_secs:
                self._services.log.debug("handshake deadline passed", peer=session.peer)
                session.wire.abort()

    def _portion(self) -> list[Session]:
        if not self._round:
            self._round = list(self._sessions)
        size = max(LOOKED_AT_MIN, len(self._sessions) // ROUND_CALLS + 1)
        portion = [session for session in self._round[-size:] if not session.closed]
        del self._round[-size:]
        return portion

    def renew(self, wall_ms: int) -> None:
        """Make every session what its token is worth under the authenticator that is in force now."""
        for session in self:
            if session.phase in (Phase.NEW, Phase.READY):
                self._access.renew(session, wall_ms)

    # -- going ------------------------------------------------------------------------------------------

    def finish(self, session: Session) -> None:
        """Read no more; serve what was received, then close."""
        session.end_of_stream = True
        session.pause_reading()
        if not session.inbox:
            self.close_after_answers(session)

    def framing_lost(self, session: Session) -> None:
        """Serve what came before, then end the stream.

        Nothing is said about it, since nobody could tell which request such an answer belongs to.
        """
        if session.phase is not Phase.CLOSING and not session.end_of_stream:
            self._services.counters.framing_errors += 1
            error = str(session.decoder.error)
            self._services.log.debug("framing error", peer=session.peer, error=error)
            self.finish(session)

    def close_after_answers(self, session: Session) -> None:
        """Serve nothing more; what was decided leaves, then the stream ends."""
        session.phase = Phase.CLOSING
        session.last_activity = self._monotonic()
        session.inbox.clear()
        session.pause_reading()
        self._touch(session)

    def drain(self, drained: Callable[[], None]) -> None:
        """Finish every session, open none that is served, and call ``drained`` when the last one has gone."""
        self._drained = drained
        for session in self:
            if session.phase is not Phase.CLOSING:
                self.finish(session)
        if not self._sessions:
            drained()

    def remove(self, session: Session) -> None:
        """Forget a session whose stream is gone, with everything that waited for it; once."""
        assert not session.closed, "a session is removed once"
        session.closed = True
        session.phase = Phase.CLOSING
        for subscription in list(session.subscriptions.values()):
            self._services.hub.remove(subscription)
        session.inbox.clear()
        session.out.clear()
        session.events.clear()
        del self._sessions[session]
        if session.refusal is None:
            self._services.counters.connection_closed()
        else:
            self._refused -= 1
        if not self._sessions and self._drained is not None:
            self._drained()
