"""The outbox: what has been decided and must not be seen yet.

::

    what              where it waits         until                        then
    answer            session.out            durable up to its hold       to the wire, in request order
    answer to come    session.out            its job is done, as above    the same; later ones wait behind it
    record            database.unpublished   durable                      events of the watches, in log order
    event             session.events         the turn's end               to the wire, behind the answers
    callback          here                   durable up to its sequence   called

Nothing is shown that a crash could take back: each answer carries, as its hold, the last sequence that was
appended when it was decided, and leaves when the log is durable up to there. Reads and refusals too.

The outbox alone puts answers into a session's queue and sends them. It decides neither when a turn ends nor
whose requests are served: it says that something waits, and that a session has room again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from rstmdb_core import Refusal
from rstmdb_protocol import Framing
from rstmdb_server.answer_frames import AnswerFrames
from rstmdb_server.answers import NEVER, Deferred, Held
from rstmdb_server.logs import SlowOperations
from rstmdb_server.metrics import OPERATION_INDEX, OPERATION_NAMES
from rstmdb_server.services import Services
from rstmdb_server.session import Phase, Session
from rstmdb_server.settings import Settings

LARGE_ANSWER_BYTES = 16 * 1024
"""Answers up to here are bounded by their number; larger ones are counted by their bytes."""

DEFERRED_RESERVE_BYTES = 1024 * 1024
"""What an answer that is not known yet counts as: a page of the log may take megabytes."""

_AUTH = OPERATION_INDEX["AUTH"]
_CLOSING = Phase.CLOSING  # looked at for every answer


class Outbox:
    """Holds what has been decided until it may be seen; see the module docstring.

    Args:
        services: The log that says what is durable, the hub of the watches, the counters and the settings.
        open_turn: Called, with the time, when something waits to leave: its end is to call :meth:`flush`.
        on_room: Called, with a session and the time, when its requests no longer wait for its answers.

    Attributes:
        in_flight_max: With so many answers in its queue, a session is not served.
        held_bytes_max: Neither with so many bytes of large ones; both are the caller's to heed.
    """

    __slots__ = (
        "_counters",
        "_database",
        "_dirty",
        "_frames",
        "_hub",
        "_log",
        "_monotonic",
        "_on_room",
        "_open_turn",
        "_slow",
        "_waiting",
        "held_bytes_max",
        "in_flight_max",
    )

    def __init__(
        self,
        services: Services,
        *,
        open_turn: Callable[[float], None],
        on_room: Callable[[Session, float], None],
    ) -> None:
        self._counters = services.counters
        self._database = services.database
        self._hub = services.hub
        self._log = services.database.log
        self._monotonic = services.host.monotonic
        self._open_turn = open_turn
        self._on_room = on_room
        self._frames = AnswerFrames(services.counters)
        self._dirty: list[Session] = []  # those that may have something to send
        self._waiting: list[tuple[int, Callable[[], None]]] = []
        self.limit(services.settings)

    def limit(self, settings: Settings) -> None:
        """Put limits into force: how much may wait, and from when on an operation is slow."""
        self.in_flight_max = settings.network.requests_in_flight_max
        self.held_bytes_max = settings.network.write_buffer_bytes_max
        self._slow = SlowOperations(settings.logging.slow_operation_ms)

    # -- in ---------------------------------------------------------------------------------------------

    def answer(
        self,
        session: Session,
        request_id: str,
        framing: Framing,
        operation: int,
        started: float,
        outcome: bytes | Refusal,
    ) -> None:
        """Queue an answer that was decided just now.

        Args:
            session: Whose request it was.
            request_id: Of that request.
            framing: Of that request.
            operation: Its index in the metrics.
            started: When it was received, in monotonic seconds.
            outcome: JSON text of a result, or a refusal.
        """
        arms = ""
        if isinstance(outcome, bytes):
            frame = self._frames.ok(request_id, framing, outcome)
            if session.arming:
                arms, session.arming = session.arming, ""
        else:
            frame = self._frames.error(request_id, framing, outcome)
        if len(frame) > LARGE_ANSWER_BYTES:
            session.held_bytes += len(frame)
        session.out.append(
            Held(self._database.appended_sequence, frame, request_id, framing, operation, started, arms)
        )
        if not session.dirty:
            session.dirty = True
            self._dirty.append(session)

    def defer(
        self,
        session: Session,
        request_id: str,
        framing: Framing,
        operation: int,
        started: float,
        deferred: Deferred,
    ) -> None:
        """Keep the place of an answer that is not known yet; see :meth:`answer`."""
        held = Held(NEVER, b"", request_id, framing, operation, started)
        session.out.append(held)
        session.held_bytes += DEFERRED_RESERVE_BYTES

        def deliver(outcome: bytes | Refusal) -> None:
            if isinstance(outcome, bytes):
                held.frame = self._frames.ok(request_id, framing, outcome)
            else:
                held.frame = self._frames.error(request_id, framing, outcome)
            held.hold = self._database.appended_sequence
            if not session.closed:
                self.touch(session)

        deferred.subscribe(deliver)

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
            self._waiting.append((sequence, callback))

    # -- out --------------------------------------------------------------------------------------------

    def release(self, durable: int) -> None:
        """Let go what waited for the log to be durable up to here: answers first, then watch events."""
        self.flush()
        unpublished = self._database.unpublished
        ready = []
        while unpublished and unpublished[0].first_sequence <= durable:
            ready.append(unpublished.popleft())
        self._hub.publish(ready, durable)
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for sequence, callback in waiting:
                self.after_durable(sequence, callback)
        self.flush()

    def flush(self) -> None:
        """Send what may be seen by now: also answers that wait for nothing, such as reads in a quiet turn."""
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
        while out and out[0].hold <= durable:
            held = out.popleft()
            frames.append(held.frame)
            seconds = now - held.started
            self._counters.observe(held.operation_index, seconds)
            if seconds >= self._slow.threshold_seconds:
                self._tell_slow(session, held.operation_index, seconds, now)
            if held.arms:
                self._hub.arm(held.arms)
        if out and out[0].hold != NEVER:
            # It waits for a commit; the end of that commit flushes it.
            session.dirty = True
            self._dirty.append(session)
        if session.held_bytes:
            session.held_bytes = _held_bytes(out)
        if (
            session.inbox
            and not session.writing_paused
            and len(out) < self.in_flight_max
            and session.held_bytes < self.held_bytes_max
        ):
            self._on_room(session, now)
        if session.events:
            frames += session.events
            session.events.clear()
            session.events_bytes = 0
            session.wire.write(b"".join(frames))
            if session.subscriptions:
                self._hub.resume(session)
        elif frames:
            session.wire.write(frames[0] if len(frames) == 1 else b"".join(frames))
        if session.phase is _CLOSING and not out:
            session.wire.close()

    def _tell_slow(self, session: Session, operation: int, seconds: float, now: float) -> None:
        if operation == _AUTH:
            return  # a wrong token is answered late on purpose
        self._counters.slow_operations += 1
        name = session.principal.name if session.principal is not None else None
        self._slow.report(OPERATION_NAMES[operation], seconds, now, peer=session.peer, principal=name)

    def refuse_all(self, session: Session, refusal: Refusal) -> None:
        """Send this, at once, in place of every answer in the session's queue; its events are dropped."""
        frames = [self._frames.error(held.request_id, held.framing, refusal) for held in session.out]
        session.out.clear()
        session.events.clear()
        if frames:
            session.wire.write(b"".join(frames))


def _held_bytes(out: Iterable[Held]) -> int:
    held = 0
    for answer in out:
        size = len(answer.frame)
        if answer.hold == NEVER:
            held += DEFERRED_RESERVE_BYTES
        elif size > LARGE_ANSWER_BYTES:
            held += size
    return held
