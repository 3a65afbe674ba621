"""The reactor: sessions, turns and time; the whole server without event loop, socket, clock or thread.

One turn::

    receive(session, bytes)  ...every session that is ready...      decode, gate, decide, append, apply
    end of turn              one commit for all of them              write + sync
    durable                  answers leave in request order a session, then watch events in log order

A turn ends when everything that was ready has been handled, or after 2 ms, or with 256 KiB of records,
whichever comes first. While a commit runs in a thread the next turn's requests are handled and held.

Nothing is shown that a crash could take back: each answer carries, as its hold, the last sequence that was
appended when it was decided, and leaves when the log is durable up to there. Reads and refusals too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import msgspec

from rstmdb_core import Refusal
from rstmdb_protocol import (
    FRAME_PAYLOAD_BYTES_MAX,
    ErrorCode,
    Framing,
    MalformedRequest,
    ParamsError,
    decode_request,
)
from rstmdb_server.access import Access
from rstmdb_server.answer_frames import AnswerFrames
from rstmdb_server.answers import NEVER, Deferred, Held, bad_request, sync_failed
from rstmdb_server.auth import UNRESTRICTED, Authenticator
from rstmdb_server.commit_loop import CommitLoop
from rstmdb_server.dispatch import Dispatcher, Operation
from rstmdb_server.logs import SlowOperations
from rstmdb_server.metrics import OPERATION_INDEX, OPERATION_NAMES, UNKNOWN_OPERATION
from rstmdb_server.segment_preparation import SegmentPreparation
from rstmdb_server.services import Services
from rstmdb_server.session import Phase, Session
from rstmdb_server.settings import Settings
from rstmdb_server.world import Wire
from rstmdb_storage import CommitPolicy

if TYPE_CHECKING:
    from rstmdb_server.world import Host

REQUESTS_A_TURN_MAX = 32
"""Requests of one session served in one turn: a session that floods waits for the others after these."""

INBOX_MAX = 4 * REQUESTS_A_TURN_MAX
"""Decoded requests that may wait in a session before its socket is no longer read."""

LARGE_ANSWER_BYTES = 16 * 1024
"""Answers up to here are bounded by their number; larger ones are counted by their bytes."""

DEFERRED_RESERVE_BYTES = 1024 * 1024
"""What an answer that is not known yet counts as: a page of the log may take megabytes."""

ECHOED_ID_CHARACTERS_MAX = 64 * 1024
"""A malformed request with a longer id is not answered: no client sends one, and it may not fit a frame."""

REFUSED_SESSIONS_MAX = 64
"""Sessions over ``max_connections`` that are still told so; beyond these the socket is just closed."""

CLOSE_GRACE_SECONDS = 10.0
"""How long the last answers may take to leave; then a peer that does not read is cut off."""


_AUTH = OPERATION_INDEX["AUTH"]
_READY, _CLOSING = Phase.READY, Phase.CLOSING  # looked at several times a request


def _held_bytes(out: Iterable[Held]) -> int:
    held = 0
    for answer in out:
        size = len(answer.frame)
        if answer.hold == NEVER:
            held += DEFERRED_RESERVE_BYTES
        elif size > LARGE_ANSWER_BYTES:
            held += size
    return held


class Reactor:
    """Owns every session and drives the database; see the module docstring.

    Args:
        services: What handlers work with.
        policy: Where commits run.
        host: The process around it.
    """

    def __init__(self, services: Services, *, policy: CommitPolicy, host: Host) -> None:
        self._services = services
        self._host = host
        self._monotonic = host.monotonic
        self._turn_over = policy.turn_over
        self._database = services.database
        self._log = services.database.log
        self._counters = services.counters
        frames = AnswerFrames(services.counters)
        self._ok_frame, self._error_frame = frames.ok, frames.error
        self._dispatcher = Dispatcher(services)
        self._operation = self._dispatcher.get
        self._dirty: list[Session] = []
        self._backlog: dict[Session, None] = {}
        self._turn_scheduled = False
        self._turn_started = 0.0
        self._preparation = SegmentPreparation(self._log, host, log=services.log)
        self._durable_callbacks: list[tuple[int, Callable[[], None]]] = []
        self._draining: Callable[[], None] | None = None
        self._refused_sessions = 0
        self._access = Access(services)
        self._apply_limits()
        self.sessions: dict[Session, None] = {}
        self.commits = CommitLoop(
            self._log,
            policy,
            host,
            on_durable=self._durable,
            on_failure=self._sync_failed,
            on_commit=services.counters.observe_commit,
        )
        services.touch = self.touch
        services.after_durable = self.after_durable

    # -- sessions ---------------------------------------------------------------------------------------

    def connect(self, wire: Wire, peer: str) -> Session | None:
        """Open a session; None when there are so many that the socket is to be closed without a word."""
        limits = self._services.settings.network
        session = Session(wire, peer, self._monotonic())
        refused = len(self.sessions) - self._refused_sessions >= limits.max_connections
        if refused:
            self._counters.refused("limit")
            if self._refused_sessions >= REFUSED_SESSIONS_MAX:
                return None
            self._refused_sessions += 1
            session.phase = Phase.REFUSED
            session.refusal = Refusal(
                code=ErrorCode.RATE_LIMITED.value,
                message=f"the server serves {limits.max_connections} sessions, its configured limit",
                details={"reason": "MAX_CONNECTIONS", "limit": limits.max_connections},
            )
        elif not self._services.authenticator.required:
            session.admit(UNRESTRICTED)
        if self._draining is not None:
            session.phase = Phase.CLOSING
        self.sessions[session] = None
        if not refused:
            self._counters.connection_opened()
        return session

    def handshake_failed(self) -> None:
        """Count a peer that never became a session: its TLS handshake failed or took too long."""
        self._counters.refused("tls")

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
            self._framing_lost(session)
        if pending_bytes := self._log.pending_bytes:
            self._end_long_turn(now, pending_bytes)

    def end_of_stream(self, session: Session) -> None:
        """The peer has sent everything it will send: answer it, then close."""
        if session.phase is not Phase.CLOSING:
            self._finish(session)

    def disconnect(self, session: Session) -> None:
        """The stream is gone."""
        if session.closed:
            return
        session.closed = True
        session.phase = Phase.CLOSING
        for subscription in list(session.subscriptions.values()):
            self._services.hub.remove(subscription)
        session.inbox.clear()
        session.out.clear()
        session.events.clear()
        self._backlog.pop(session, None)
        if session in self.sessions:
            del self.sessions[session]
            if session.refusal is None:
                self._counters.connection_closed()
            else:
                self._refused_sessions -= 1
        if not self.sessions and self._draining is not None:
            self._draining()

    def pause_writing(self, session: Session) -> None:
        """The peer does not read: stop reading it, too, so that nothing piles up."""
        session.writing_paused = True
        self._pause_reading(session)

    def resume_writing(self, session: Session) -> None:
        """The peer has read enough: go on."""
        session.writing_paused = False
        self._open_turn(self._monotonic())
        if session.inbox:
            self._backlog[session] = None
        elif session.reading_paused and not session.end_of_stream and session.phase is not Phase.CLOSING:
            self._resume_reading(session)
        if session.subscriptions:
            self._services.hub.resume(session)

    # -- requests ---------------------------------------------------------------------------------------

    def _serve(self, session: Session, now: float) -> None:
        inbox = session.inbox
        quota = REQUESTS_A_TURN_MAX
        in_flight_max, held_max = self._in_flight_max, self._held_bytes_max
        blocked = False
        while inbox and session.phase is not _CLOSING:
            if not quota:
                self._backlog[session] = None  # the next turn goes on, after the other sessions
                break
            if session.writing_paused or len(session.out) >= in_flight_max or session.held_bytes >= held_max:
                blocked = True  # resume_writing or the flush of answers goes on
                break
            quota -= 1
            payload, framing = inbox.popleft()
            self._request(session, payload, framing, now)
        if session.phase is _CLOSING:
            inbox.clear()
        elif inbox:
            # What waits is bounded in bytes, too: one message may have megabytes.
            if blocked or session.decoder.withheld or len(inbox) >= INBOX_MAX:
                self._pause_reading(session)
        elif session.decoder.withheld:
            # What came before it is handled, and has raised the limit of this message, or not.
            inbox.extend(session.decoder.feed(b""))
            if session.decoder.error is not None:
                self._framing_lost(session)
            else:
                self._serve(session, now)
        elif session.end_of_stream:
            self._close_after_answers(session)
        elif session.reading_paused and not session.writing_paused:
            self._resume_reading(session)

    def _request(self, session: Session, payload: bytes, framing: Framing, now: float) -> None:
        request = decode_request(payload)
        if isinstance(request, MalformedRequest):
            if request.id is None or len(request.id) > ECHOED_ID_CHARACTERS_MAX:
                self._close_after_answers(session)
            else:
                refused = bad_request(request.message)
                self._answer(session, request.id, framing, UNKNOWN_OPERATION, now, refused)
            return
        operation = self._operation(request.op)
        refusal = None
        if operation is None or not session.unrestricted or session.phase is not _READY:
            refusal = self._gate(session, operation, request.op)
        outcome: bytes | Refusal | Deferred
        if refusal is not None:
            outcome = refusal
        else:
            assert operation is not None
            session.framing = framing
            try:
                outcome = operation.handler(session, request.params)
            except ParamsError as error:
                outcome = bad_request(str(error))
            except Exception:
                self._services.log.exception("operation failed", op=request.op, peer=session.peer)
                outcome = Refusal(
                    code=ErrorCode.INTERNAL_ERROR.value,
                    message=f"{request.op} failed inside the server; its log has the reason",
                    details=None,
                )
                if self._database.poison_reason is not None:
                    self._answer(session, request.id, framing, operation.index, now, outcome)
                    self._fail()
                    return
            if session.decoder.payload_bytes_max != FRAME_PAYLOAD_BYTES_MAX and session.principal is not None:
                session.decoder.payload_bytes_max = FRAME_PAYLOAD_BYTES_MAX
        index = operation.index if operation is not None else UNKNOWN_OPERATION
        if isinstance(outcome, Deferred):
            self._defer(session, request.id, framing, index, now, outcome)
        else:
            self._answer(session, request.id, framing, index, now, outcome)

    def _gate(self, session: Session, operation: Operation | None, op: str) -> Refusal | None:
        """Decide, before anything else, whether the session may ask for this operation at all."""
        if session.phase is not Phase.READY:
            if session.phase is Phase.REFUSED:
                self._close_after_answers(session)
                return session.refusal
            if session.principal is not None:
                session.phase = Phase.READY
        if operation is None:
            return bad_request(f"unknown operation {op!r}{self._dispatcher.suggestion(op)}")
        if session.unrestricted or operation.exempt:
            return None
        return self._access.refusal(session, op)

    def _answer(
        self,
        session: Session,
        request_id: str,
        framing: Framing,
        index: int,
        started: float,
        outcome: bytes | Refusal,
    ) -> None:
        arms = ""
        if isinstance(outcome, bytes):
            frame = self._ok_frame(request_id, framing, outcome)
            if session.arming:
                arms, session.arming = session.arming, ""
        else:
            frame = self._error_frame(request_id, framing, outcome)
        if len(frame) > LARGE_ANSWER_BYTES:
            session.held_bytes += len(frame)
        session.out.append(
            Held(self._database.appended_sequence, frame, request_id, framing, index, started, arms)
        )
        if not session.dirty:
            session.dirty = True
            self._dirty.append(session)

    def _defer(
        self,
        session: Session,
        request_id: str,
        framing: Framing,
        index: int,
        started: float,
        deferred: Deferred,
    ) -> None:
        held = Held(NEVER, b"", request_id, framing, index, started)
        session.out.append(held)
        session.held_bytes += DEFERRED_RESERVE_BYTES

        def deliver(outcome: bytes | Refusal) -> None:
            if isinstance(outcome, bytes):
                held.frame = self._ok_frame(request_id, framing, outcome)
            else:
                held.frame = self._error_frame(request_id, framing, outcome)
            held.hold = self._database.appended_sequence
            if not session.closed:
                self.touch(session)

        deferred.subscribe(deliver)

    # -- turns ------------------------------------------------------------------------------------------

    def touch(self, session: Session) -> None:
        """Make sure that what is queued for the session leaves at the end of this turn."""
        if not session.dirty:
            session.dirty = True
            self._dirty.append(session)
        self._open_turn(self._monotonic())

    def after_durable(self, sequence: int, callback: Callable[[], None]) -> None:
        """Call ``callback`` once the log is durable up to ``sequence``: now, or after a commit."""
        if sequence <= self._log.durable_sequence:
            callback()
        else:
            self._durable_callbacks.append((sequence, callback))

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
                        self._end_long_turn(self._monotonic(), pending_bytes)

    def _end_long_turn(self, now: float, pending_bytes: int) -> None:
        if self._turn_over(began=self._turn_started, now=now, pending_bytes=pending_bytes):
            self._end_turn()

    def _end_turn(self) -> None:
        self._turn_started = self._monotonic()
        self.commits.end_turn()
        if self._dirty:
            # Answers that wait for nothing (reads in a quiet turn), and what an earlier commit released.
            self._flush_dirty()

    def _durable(self, durable: int) -> None:
        self._flush_dirty()
        database = self._database
        unpublished = database.unpublished
        ready = []
        while unpublished and unpublished[0].first_sequence <= durable:
            ready.append(unpublished.popleft())
        self._services.hub.publish(ready, durable)
        if self._durable_callbacks:
            waiting, self._durable_callbacks = self._durable_callbacks, []
            for sequence, callback in waiting:
                self.after_durable(sequence, callback)
        self._flush_dirty()

    def _flush_dirty(self) -> None:
        if not self._dirty:
            return
        dirty, self._dirty = self._dirty, []
        durable = self._log.durable_sequence
        now = self._monotonic()
        for session in dirty:
            session.dirty = False
            if not session.closed:
                self._flush(session, durable, now)

    def _flush(self, session: Session, durable: int, now: float) -> None:
        out = session.out
        frames: list[bytes] = []
        if out:
            observe = self._counters.observe
            slow_seconds = self._slow.threshold_seconds
            while out:
                held = out[0]
                if held.hold > durable:
                    if held.hold < NEVER:
                        # It waits for a commit; the end of that commit flushes it.
                        session.dirty = True
                        self._dirty.append(session)
                    break
                out.popleft()
                frames.append(held.frame)
                seconds = now - held.started
                observe(held.operation_index, seconds)
                if seconds >= slow_seconds:
                    self._tell_slow(session, held.operation_index, seconds, now)
                if held.arms:
                    self._services.hub.arm(held.arms)
            if session.held_bytes:
                session.held_bytes = _held_bytes(out)
            if (
                session.inbox
                and not session.writing_paused
                and len(out) < self._in_flight_max
                and session.held_bytes < self._held_bytes_max
            ):
                self._backlog[session] = None
                self._open_turn(now)
        had_events = False
        if session.events:
            had_events = True
            frames.extend(session.events)
            session.events.clear()
            session.events_bytes = 0
        if frames:
            session.wire.write(frames[0] if len(frames) == 1 else b"".join(frames))
        if had_events and session.subscriptions:
            self._services.hub.resume(session)
        if session.phase is _CLOSING and not out:
            session.wire.close()

    # -- failure, time, end -----------------------------------------------------------------------------

    def _sync_failed(self, error: BaseException) -> None:
        self._database.poison(f"the log could not be written or synced: {error}")
        self._fail()

    def _fail(self) -> None:
        """Answer everything in flight with "outcome unknown", commit nothing more, then end the process."""
        reason = self._database.poison_reason
        assert reason is not None, "only a poisoned database ends the process"
        self.commits.poisoned = True
        refusal = sync_failed(reason)
        for session in list(self.sessions):
            frames = [self._error_frame(held.request_id, held.framing, refusal) for held in session.out]
            session.out.clear()
            session.events.clear()
            if frames:
                session.wire.write(b"".join(frames))
            session.phase = Phase.CLOSING
            session.wire.close()
        self._database.unpublished.clear()
        self._host.fail(reason)

    def tick(self) -> None:
        """Do what is due by time: background syncs, deadlines, idle sessions. Called every 10 to 100 ms."""
        now = self._monotonic()
        wall_ms = self._host.wall_ms()
        self.commits.sync_if_due()
        self._preparation.tick()
        network = self._services.settings.network
        for session in list(self.sessions):
            if session.phase is Phase.READY:
                quiet = now - session.last_activity > network.idle_timeout_secs and not session.out
                # Watchers are spared, but not with a message that they began and never finished.
                if quiet and (not session.subscriptions or session.decoder.buffered_bytes):
                    self._close_after_answers(session)
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

    def reload(self, settings: Settings, authenticator: Authenticator) -> None:
        """Put new limits and tokens into force; what cannot change while serving stays as it was.

        Args:
            settings: Its network limits, authentication, TLS and logging sections count.
            authenticator: Made from them. Sessions whose token is gone are nobody from now on: their
                subscriptions end, and their requests are refused until they authenticate anew.
        """
        self._services.settings = msgspec.structs.replace(
            self._services.settings,
            network=settings.network,
            auth=settings.auth,
            tls=settings.tls,
            logging=settings.logging,
        )
        self._apply_limits()
        self._services.authenticator = authenticator
        wall_ms = self._host.wall_ms()
        for session in list(self.sessions):
            if session.phase in (Phase.NEW, Phase.READY):
                self._access.renew(session, wall_ms)

    def _apply_limits(self) -> None:
        settings = self._services.settings
        self._in_flight_max = settings.network.requests_in_flight_max
        self._held_bytes_max = settings.network.write_buffer_bytes_max
        self._slow = SlowOperations(settings.logging.slow_operation_ms)

    def _tell_slow(self, session: Session, operation: int, seconds: float, now: float) -> None:
        if operation == _AUTH:
            return  # a wrong token is answered late on purpose
        self._counters.slow_operations += 1
        name = session.principal.name if session.principal is not None else None
        self._slow.report(OPERATION_NAMES[operation], seconds, now, peer=session.peer, principal=name)

    def _framing_lost(self, session: Session) -> None:
        # What came before is answered, then the stream ends. Nothing is said about it, since nobody could
        # tell which request such an answer belongs to.
        if session.phase is not Phase.CLOSING and not session.end_of_stream:
            self._counters.framing_errors += 1
            self._services.log.debug("framing error", peer=session.peer, error=str(session.decoder.error))
            self._finish(session)

    def drain(self, drained: Callable[[], None]) -> None:
        """Finish what is in flight, close every session, then call ``drained``."""
        self._draining = drained
        for session in list(self.sessions):
            if session.phase is not Phase.CLOSING:
                self._finish(session)
        if not self.sessions:
            drained()

    def _finish(self, session: Session) -> None:
        """Read no more; serve what was received, then close."""
        session.end_of_stream = True
        self._pause_reading(session)
        if not session.inbox:
            self._close_after_answers(session)

    def _close_after_answers(self, session: Session) -> None:
        session.phase = Phase.CLOSING
        session.last_activity = self._monotonic()
        session.inbox.clear()
        self._pause_reading(session)
        self.touch(session)

    def _pause_reading(self, session: Session) -> None:
        if not session.reading_paused:
            session.reading_paused = True
            session.wire.pause_reading()

    def _resume_reading(self, session: Session) -> None:
        session.reading_paused = False
        session.wire.resume_reading()
