"""PUT_MACHINE, GET_MACHINE, LIST_MACHINES."""

from __future__ import annotations

import msgspec

from rstmdb_core import PutMachine, Refusal, get_machine, list_machines
from rstmdb_protocol import GetMachineParams, ListMachinesParams, PutMachineParams, decode_params
from rstmdb_server.dispatch_types import Handler
from rstmdb_server.handlers.scope import machine_refusal, visible_machines
from rstmdb_server.services import Services
from rstmdb_server.session import Session


class MachineOperations:
    """Handlers of machine definitions."""

    __slots__ = ("_audit", "_database", "_execute")

    def __init__(self, services: Services) -> None:
        self._database = services.database
        self._execute = services.database.execute
        self._audit = services.audit

    def put(self, session: Session, params: msgspec.Raw) -> bytes | Refusal:
        """PUT_MACHINE."""
        p = decode_params(PutMachineParams, params)
        refusal = machine_refusal(session, p.machine)
        if refusal is not None:
            return refusal
        answer = self._execute(
            PutMachine(
                machine=p.machine, version=p.version, definition=bytes(p.definition), checksum=p.checksum
            )
        )
        if self._audit is not None and type(answer) is bytes:
            self._audit(session, "PUT_MACHINE", f"{p.machine} v{p.version}")
        return answer

    def get(self, session: Session, params: msgspec.Raw) -> bytes | Refusal:
        """GET_MACHINE."""
        p = decode_params(GetMachineParams, params)
        refusal = machine_refusal(session, p.machine)
        return refusal if refusal is not None else get_machine(self._database.state, p.machine, p.version)

    def list(self, session: Session, params: msgspec.Raw) -> bytes | Refusal:
        """LIST_MACHINES; a scoped principal sees its machines."""
        decode_params(ListMachinesParams, params)
        state = self._database.state
        return list_machines(state, machines=visible_machines(session, state))


def bind(services: Services) -> dict[str, Handler]:
    """Return the handlers of this module by operation name."""
    operations = MachineOperations(services)
    return {
        "PUT_MACHINE": operations.put,
        "GET_MACHINE": operations.get,
        "LIST_MACHINES": operations.list,
    }
