"""BATCH: up to a hundred writes as one record.

Each item passes the same gate as if it stood alone; an item that may not run is refused as an item (best
effort) or refuses the whole (atomic). Only the three documented operations may stand inside.
"""

from __future__ import annotations

from typing import Any

import msgspec

from rstmdb_core import Batch, Refusal, Refused
from rstmdb_protocol import (
    ApplyEventParams,
    BatchParams,
    CreateInstanceParams,
    DeleteInstanceParams,
    ParamsError,
    decode_params,
)
from rstmdb_server.answers import bad_request, unauthorized
from rstmdb_server.dispatch_types import Handler
from rstmdb_server.handlers.commands import apply_command, create_command, delete_command
from rstmdb_server.handlers.scope import instance_refusal, machine_refusal, principal_of
from rstmdb_server.services import Services
from rstmdb_server.session import Session


class BatchOperations:
    """The handler of BATCH."""

    __slots__ = ("_audit", "_database")

    def __init__(self, services: Services) -> None:
        self._database = services.database
        self._audit = services.audit

    def batch(self, session: Session, params: msgspec.Raw) -> bytes | Refusal:
        """BATCH."""
        p = decode_params(BatchParams, params)
        items = p.items
        principal = principal_of(session)
        answer = self._database.execute(
            Batch(
                atomic=p.atomic,
                operations=[self._item(session, item.op, item.params) for item in items],
                idempotency_key=p.idempotency_key,
                idempotency_ttl_secs=p.idempotency_ttl_secs,
                principal=principal.name,
            )
        )
        if self._audit is not None and type(answer) is bytes:
            self._audit(session, "BATCH", f"{len(items)} operations")
        return answer

    def _item(self, session: Session, op: str | None, params: msgspec.Raw) -> Any:
        refusal = self._gate(session, op)
        if refusal is None:
            try:
                command, refusal = self._command(session, op, params)
            except ParamsError as error:
                refusal = bad_request(str(error))
            if refusal is None:
                return command
        return Refused(code=refusal.code, message=refusal.message)

    def _gate(self, session: Session, op: str | None) -> Refusal | None:
        if op not in ("CREATE_INSTANCE", "APPLY_EVENT", "DELETE_INSTANCE"):
            named = "an item without `op`" if op is None else f"{op[:64]!r}"
            return bad_request(
                f"{named} may not stand in a BATCH: only CREATE_INSTANCE, APPLY_EVENT and DELETE_INSTANCE"
            )
        principal = principal_of(session)
        if not principal.may(op):
            return unauthorized(f"{principal.name!r} may not {op}", "FORBIDDEN")
        return None

    def _command(self, session: Session, op: str | None, params: msgspec.Raw) -> tuple[Any, Refusal | None]:
        state = self._database.state
        if op == "CREATE_INSTANCE":
            c = decode_params(CreateInstanceParams, params)
            return create_command(c), machine_refusal(session, c.machine)
        if op == "APPLY_EVENT":
            a = decode_params(ApplyEventParams, params)
            return apply_command(a), instance_refusal(session, state, a.instance_id)
        d = decode_params(DeleteInstanceParams, params)
        return delete_command(d), instance_refusal(session, state, d.instance_id)


def bind(services: Services) -> dict[str, Handler]:
    """Return the handlers of this module by operation name."""
    return {"BATCH": BatchOperations(services).batch}
