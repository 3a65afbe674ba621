"""APPLY_EVENT and EXPLAIN_EVENT: the hot path, and what it would do."""

from __future__ import annotations

import msgspec

from rstmdb_core import Refusal, explain
from rstmdb_protocol import ApplyEventParams, ExplainEventParams, decode_params
from rstmdb_server.dispatch_types import Handler
from rstmdb_server.handlers.commands import apply_command
from rstmdb_server.handlers.scope import instance_refusal
from rstmdb_server.services import Services
from rstmdb_server.session import Session


class EventOperations:
    """Handlers that need one instance and one event."""

    __slots__ = ("_audit", "_database", "_execute")

    def __init__(self, services: Services) -> None:
        self._database = services.database
        self._execute = services.database.execute
        self._audit = services.audit

    def apply(self, session: Session, params: msgspec.Raw) -> bytes | Refusal:
        """APPLY_EVENT."""
        p = decode_params(ApplyEventParams, params)
        if not session.unrestricted:
            refusal = instance_refusal(session, self._database.state, p.instance_id)
            if refusal is not None:
                return refusal
        answer = self._execute(apply_command(p))
        if self._audit is not None and type(answer) is bytes:
            self._audit(session, "APPLY_EVENT", p.instance_id, event=p.event)
        return answer

    def explain(self, session: Session, params: msgspec.Raw) -> bytes | Refusal:
        """EXPLAIN_EVENT: what an event would do, which are allowed and why others are not."""
        p = decode_params(ExplainEventParams, params)
        refusal = instance_refusal(session, self._database.state, p.instance_id)
        if refusal is not None:
            return refusal
        return explain(self._database.state, p.instance_id, p.event, bytes(p.payload))


def bind(services: Services) -> dict[str, Handler]:
    """Return the handlers of this module by operation name."""
    operations = EventOperations(services)
    return {"APPLY_EVENT": operations.apply, "EXPLAIN_EVENT": operations.explain}
