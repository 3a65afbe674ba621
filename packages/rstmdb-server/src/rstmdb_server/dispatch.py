"""One request, from its bytes to its outcome.

::

    payload ─▶ decode ─▶ gate ─▶ handler ─▶ bytes │ Refusal ─▶ outbox.answer
                 │         │                Deferred ────────▶ outbox.defer
                 │         └─ refused: a session of this phase or principal may not ─▶ outbox.answer
                 └─ malformed ─▶ outbox.answer, or the end of the session if nobody can be answered

Exactly one thing is put into the outbox for each request, in the order of the requests; only a message that
nobody can be told about has none. A handler's exception is the server's fault: it is logged, answered with
INTERNAL_ERROR and concerns this request alone, unless it left the database poisoned.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable

import msgspec

from rstmdb_core import Refusal
from rstmdb_protocol import (
    FRAME_PAYLOAD_BYTES_MAX,
    OPERATIONS,
    ErrorCode,
    Framing,
    MalformedRequest,
    ParamsError,
    decode_request,
)
from rstmdb_server.access import Access
from rstmdb_server.answers import Deferred, bad_request
from rstmdb_server.dispatch_types import Handler
from rstmdb_server.handlers import admin, batch, events, instances, machines, negotiation, wal, watches
from rstmdb_server.metrics import OPERATION_INDEX, UNKNOWN_OPERATION
from rstmdb_server.outbox import Outbox
from rstmdb_server.services import Services
from rstmdb_server.session import Phase, Session

ECHOED_ID_CHARACTERS_MAX = 64 * 1024
"""A malformed request with a longer id is not answered: no client sends one, and it may not fit a frame."""

_READY = Phase.READY  # looked at for every request


class Operation(msgspec.Struct, frozen=True):
    """An operation as the dispatcher sees it."""

    name: str
    index: int  # in the metrics
    exempt: bool  # allowed without authentication
    handler: Handler


class Dispatcher:
    """Handles requests, one at a time; see the module docstring.

    Args:
        services: What the handlers of all operations are bound to.
        outbox: Takes the answers.
        close: Called with a session that is not to be served any more once its answers have left.
        on_poisoned: Called when a handler failed between the log and memory: the process has to end.
    """

    __slots__ = ("_access", "_close", "_database", "_log", "_on_poisoned", "_operations", "_outbox")

    def __init__(
        self,
        services: Services,
        outbox: Outbox,
        *,
        close: Callable[[Session], None],
        on_poisoned: Callable[[], None],
    ) -> None:
        self._operations = _bind(services)
        self._access = Access(services)
        self._database = services.database
        self._log = services.log
        self._outbox = outbox
        self._close = close
        self._on_poisoned = on_poisoned

    def handle(self, session: Session, payload: bytes, framing: Framing, now: float) -> None:
        """Serve one message of a session.

        Args:
            session: Whose message it is.
            payload: What it says.
            framing: How it came; its answer goes back likewise.
            now: When it came, in monotonic seconds.
        """
        request = decode_request(payload)
        if isinstance(request, MalformedRequest):
            self._malformed(session, request, framing, now)
            return
        operation = self._operations.get(request.op)
        if operation is None or not session.unrestricted or session.phase is not _READY:
            refusal = self._gate(session, operation, request.op)
            if refusal is not None:
                index = operation.index if operation is not None else UNKNOWN_OPERATION
                self._outbox.answer(session, request.id, framing, index, now, refusal)
                return
            assert operation is not None, "the gate refuses what is unknown"
        session.framing = framing
        outcome: bytes | Refusal | Deferred
        try:
            outcome = operation.handler(session, request.params)
        except ParamsError as error:
            outcome = bad_request(str(error))
        except Exception:
            outcome = self._failed(session, operation)
            if self._database.poison_reason is not None:
                self._outbox.answer(session, request.id, framing, operation.index, now, outcome)
                self._on_poisoned()
                return
        if session.decoder.payload_bytes_max != FRAME_PAYLOAD_BYTES_MAX and session.principal is not None:
            session.decoder.payload_bytes_max = FRAME_PAYLOAD_BYTES_MAX
        if isinstance(outcome, Deferred):
            self._outbox.defer(session, request.id, framing, operation.index, now, outcome)
        else:
            self._outbox.answer(session, request.id, framing, operation.index, now, outcome)

    def _malformed(self, session: Session, request: MalformedRequest, framing: Framing, now: float) -> None:
        if request.id is None or len(request.id) > ECHOED_ID_CHARACTERS_MAX:
            self._close(session)
        else:
            refused = bad_request(request.message)
            self._outbox.answer(session, request.id, framing, UNKNOWN_OPERATION, now, refused)

    def _gate(self, session: Session, operation: Operation | None, op: str) -> Refusal | None:
        """Decide, before anything else, whether the session may ask for this operation at all."""
        if session.phase is not Phase.READY:
            if session.phase is Phase.REFUSED:
                self._close(session)
                return session.refusal
            if session.principal is not None:
                session.phase = Phase.READY
        if operation is None:
            return bad_request(f"unknown operation {op!r}{self._suggestion(op)}")
        if session.unrestricted or operation.exempt:
            return None
        return self._access.refusal(session, op)

    def _suggestion(self, name: str) -> str:
        """Return ``, did you mean X?`` when an operation is spelled almost so, else nothing."""
        near = difflib.get_close_matches(name[:64].upper(), self._operations, n=1, cutoff=0.75)
        return f", did you mean {near[0]}?" if near else ""

    def _failed(self, session: Session, operation: Operation) -> Refusal:
        self._log.exception("operation failed", op=operation.name, peer=session.peer)
        return Refusal(
            code=ErrorCode.INTERNAL_ERROR.value,
            message=f"{operation.name} failed inside the server; its log has the reason",
            details=None,
        )


def _bind(services: Services) -> dict[str, Operation]:
    """Return all operations by their wire names."""
    handlers: dict[str, Handler] = {}
    for module in (negotiation, machines, instances, events, batch, wal, watches, admin):
        handlers.update(module.bind(services))
    assert handlers.keys() == OPERATIONS.keys(), handlers.keys() ^ OPERATIONS.keys()
    return {
        name: Operation(
            name=name,
            index=OPERATION_INDEX[name],
            exempt=not OPERATIONS[name].requires_auth,
            handler=handler,
        )
        for name, handler in handlers.items()
    }
