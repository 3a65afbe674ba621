"""The reactor: turns and time; the whole server without event loop, socket, clock or thread.

One turn::

    receive(session, bytes)  ...every session that is ready...      decode, gate, decide, append, apply
    end of turn              one commit for all of them              write + sync
    durable                  answers leave in request order a session, then watch events in log order

A turn ends when everything that was ready has been handled, or after 2 ms, or with 256 KiB of records,
whichever comes first. While a commit runs in a thread the next turn's requests are handled and held.

What it is made of, each knowing only those above it::

    Outbox       what was decided and waits to be seen (outbox.py)
    Sessions     who may come, how long one may stay, how it goes (sessions.py)
    Dispatcher   one request, from its bytes to its outcome (dispatch.py)
    Reactor      which session is served when; when a turn ends; what a failed sync means
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from rstmdb_server.answers import sync_failed
from rstmdb_server.auth import Authenticator
from rstmdb_server.commit_loop import CommitLoop
from rstmdb_server.dispatch import Dispatcher
from rstmdb_server.outbox import Outbox
from rstmdb_server.segment_preparation import SegmentPreparation
from rstmdb_server.services import Services
from rstmdb_server.session import Phase, Session
from rstmdb_server.sessions import Sessions
from rstmdb_server.settings import Settings
from rstmdb_server.world import Wire
from rstmdb_storage import CommitPolicy

if TYPE_CHECKING:
    from rstmdb_server.world import Host

REQUESTS_A_TURN_MAX = 32
"""Requests of one session served in one turn: a session that floods waits for the others after these."""

INBOX_MAX = 4 * REQUESTS_A_TURN_MAX
"""Decoded requests that may wait in a session before its socket is no longer read."""

_CLOSING = Phase.CLOSING  # looked at several times a request


class Reactor:
    """Takes what the streams bring and drives the database; see the module docstring.

    Args:
        services: What handlers work with.
        policy: Where commits run.
        host: The process around it.

    Attributes:
        sessions: All that are open.
        commits: Writes and syncs what turns appended.
    """

    def __init__(self, services: Services, *, policy: CommitPolicy, host: Host) -> None:
        self._services = services
        self._host = host
        self._monotonic = host.monotonic
        self._policy = policy
        self._database = services.database
        self._log = services.database.log
        self._preparation = SegmentPreparation(self._log, host, log=services.log)
        self._turn_scheduled = False
        self._turn_started = 0.0
        self._backlog: dict[Session, None] = {}  # in this order the next turn goes on with them
        self._outbox = Outbox(services, open_turn=self._open_turn, on_room=self._serve_next_turn)
        self.sessions = Sessions(services, touch=self._outbox.touch)
        self._dispatcher = Dispatcher(
            services, self._outbox, close=self.sessions.close_after_answers, on_poisoned=self._fail
        )
        self.commits = CommitLoop(
            self._log,
            policy,
            host,
            on_durable=self._outbox.release,
            on_failure=self._sync_failed,
            on_commit=services.counters.observe_commit,
        )
        services.touch = self._outbox.touch
        services.after_durable = self._outbox.after_durable

    # -- what the shell tells of a stream ---------------------------------------------------------------

    def connect(self, wire: Wire, peer: str) -> Session | None:
        """Open a session; None when there are so many that the socket is to be closed without a word."""
        return self.sessions.open(wire, peer)

    def handshake_failed(self) -> None:
        """Count a peer that never became a session: its TLS handshake failed or took too long."""
        self._services.counters.refused("tls")

    def receive(self, session: Session, data: bytes) -> None:
        """Handle bytes of a session."""
        now = self._monotonic()
        if not self._turn_scheduled:
            self._open_turn(now)
        decoder = session.decoder
        messages = decoder.feed(data)
        if messages:
            session.last_activity = now
            session.inbox.extend(messages)
            self._serve(session, now)
        if decoder.error is not None:
            self.sessions.framing_lost(session)
        if pending_bytes := self._log.pending_bytes:
            self._end_turn_if_long(now, pending_bytes)

    def end_of_stream(self, session: Session) -> None:
        """The peer has sent everything it will send: answer it, then close."""
        if session.phase is not _CLOSING:
            self.sessions.finish(session)

    def disconnect(self, session: Session) -> None:
        """The stream is gone."""
        if not session.closed:
            self._backlog.pop(session, None)
            self.sessions.remove(session)

    def pause_writing(self, session: Session) -> None:
        """The peer does not read: stop reading it, too, so that nothing piles up."""
        session.writing_paused = True
        session.pause_reading()

    def resume_writing(self, session: Session) -> None:
        """The peer has read enough: go on."""
        session.writing_paused = False
        self._open_turn(self._monotonic())
        if session.inbox:
            self._backlog[session] = None
        elif not session.end_of_stream and session.phase is not _CLOSING:
            session.resume_reading()
        if session.subscriptions:
            self._services.hub.resume(session)

    # -- serving ----------------------------------------------------------------------------------------

    def _serve(self, session: Session, now: float) -> None:
        """Handle the requests that wait in a session, as far as its turn and its answers allow."""
        inbox = session.inbox
        outbox = self._outbox
        quota = REQUESTS_A_TURN_MAX
        blocked = False
        while inbox and session.phase is not _CLOSING:
            if not quota:
                self._backlog[session] = None  # the next turn goes on, after the other sessions
                break
            if (
                session.writing_paused
                or len(session.out) >= outbox.in_flight_max
                or session.held_bytes >= outbox.held_bytes_max
            ):
                blocked = True  # resume_writing or the flush of answers goes on
                break
            quota -= 1
            payload, framing = inbox.popleft()
            self._dispatcher.handle(session, payload, framing, now)
        if session.phase is _CLOSING:
            inbox.clear()
        elif inbox:
            # What waits is bounded in bytes, too: one message may have megabytes.
            if blocked or session.decoder.withheld or len(inbox) >= INBOX_MAX:
                session.pause_reading()
        elif session.decoder.withheld:
            # What came before it is handled, and has raised the limit of this message, or not.
            inbox.extend(session.decoder.feed(b""))
            if session.decoder.error is not None:
                self.sessions.framing_lost(session)
            else:
                self._serve(session, now)
        elif session.end_of_stream:
            self.sessions.close_after_answers(session)
        elif session.reading_paused and not session.writing_paused:
            session.resume_reading()

    def _serve_next_turn(self, session: Session, now: float) -> None:
        self._backlog[session] = None
        self._open_turn(now)

    # -- turns ------------------------------------------------------------------------------------------

    def _open_turn(self, now: float) -> None:
        if not self._turn_scheduled:
            self._turn_scheduled = True
            self._turn_started = now
            self._database.now_ms = self._host.wall_ms()
            self._host.call_soon(self._scheduled_turn)

    def _scheduled_turn(self) -> None:
        self._turn_scheduled = False
        self._end_turn()
        if self._backlog:
            now = self._monotonic()
            self._open_turn(now)
            backlog, self._backlog = self._backlog, {}
            for session in backlog:
                if not session.closed:
                    self._serve(session, now)
                    if pending_bytes := self._log.pending_bytes:
                        self._end_turn_if_long(self._monotonic(), pending_bytes)

    def _end_turn_if_long(self, now: float, pending_bytes: int) -> None:
        if self._policy.turn_over(began=self._turn_started, now=now, pending_bytes=pending_bytes):
            self._end_turn()

    def _end_turn(self) -> None:
        self._turn_started = self._monotonic()
        self.commits.end_turn()
        self._outbox.flush()

    # -- time, reload, the end --------------------------------------------------------------------------

    def tick(self) -> None:
        """Do what is due by time: background syncs, deadlines, idle sessions. Called every 10 to 100 ms."""
        now = self._monotonic()
        wall_ms = self._host.wall_ms()
        self.commits.sync_if_due()
        self._preparation.tick()
        self.sessions.check_deadlines(now, wall_ms)

    def reload(self, settings: Settings, authenticator: Authenticator) -> None:
        """Put new limits and tokens into force; what cannot change while serving stays as it was.

        Args:
            settings: Its network limits, authentication, TLS and logging sections count.
            authenticator: Made from them. Sessions whose token is gone are nobody from now on: their
                subscriptions end, and their requests are refused until they authenticate anew.
        """
        services = self._services
        services.settings = msgspec.structs.replace(
            services.settings,
            network=settings.network,
            auth=settings.auth,
            tls=settings.tls,
            logging=settings.logging,
        )
        services.authenticator = authenticator
        self._outbox.limit(services.settings)
        self.sessions.renew(self._host.wall_ms())

    def drain(self, drained: Callable[[], None]) -> None:
        """Finish what is in flight, close every session, then call ``drained``."""
        self.sessions.drain(drained)

    def _sync_failed(self, error: BaseException) -> None:
        self._database.poison(f"the log could not be written or synced: {error}")
        self._fail()

    def _fail(self) -> None:
        """Answer everything in flight with "outcome unknown", commit nothing more, then end the process."""
        reason = self._database.poison_reason
        assert reason is not None, "only a poisoned database ends the process"
        self.commits.poisoned = True
        refusal = sync_failed(reason)
        for session in self.sessions:
            self._outbox.refuse_all(session, refusal)
            session.phase = Phase.CLOSING
            session.wire.close()
        self._database.unpublished.clear()
        self._host.fail(reason)
