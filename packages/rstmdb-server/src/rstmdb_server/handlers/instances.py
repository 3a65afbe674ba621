"""CREATE_INSTANCE, GET_INSTANCE, LIST_INSTANCES, DELETE_INSTANCE, SNAPSHOT_INSTANCE."""

from __future__ import annotations

import msgspec

from rstmdb_core import Refusal, get_instance, list_instances
from rstmdb_protocol import (
    CreateInstanceParams,
    DeleteInstanceParams,
    GetInstanceParams,
    ListInstancesParams,
    SnapshotInstanceParams,
    decode_params,
)
from rstmdb_server.answers import Deferred
from rstmdb_server.dispatch_types import Handler
from rstmdb_server.handlers.commands import create_command, delete_command
from rstmdb_server.handlers.scope import instance_refusal, machine_refusal, visible_machines
from rstmdb_server.instance_snapshots import write_instance_snapshot
from rstmdb_server.services import Services
from rstmdb_server.session import Session


class InstanceOperations:
    """Handlers of single instances and of lists."""

    __slots__ = ("_audit", "_database", "_execute", "_host", "_new_id")

    def __init__(self, services: Services) -> None:
        self._database = services.database
        self._execute = services.database.execute
        self._audit = services.audit
        self._host = services.host
        self._new_id = services.host.new_id

    def create(self, session: Session, params: msgspec.Raw) -> bytes | Refusal:
        """CREATE_INSTANCE."""
        p = decode_params(CreateInstanceParams, params)
        refusal = machine_refusal(session, p.machine)
        if refusal is not None:
            return refusal
        answer = self._execute(create_command(p))
        if self._audit is not None and type(answer) is bytes:
            created = msgspec.json.decode(answer)["instance_id"]
            self._audit(session, "CREATE_INSTANCE", created, machine=p.machine)
        return answer

    def get(self, session: Session, params: msgspec.Raw) -> bytes | Refusal:
        """GET_INSTANCE."""
        instance_id = decode_params(GetInstanceParams, params).instance_id
        refusal = instance_refusal(session, self._database.state, instance_id)
        return refusal if refusal is not None else get_instance(self._database.state, instance_id)

    def list(self, session: Session, params: msgspec.Raw) -> bytes | Refusal:
        """LIST_INSTANCES; a scoped principal sees the instances of its machines."""
        p = decode_params(ListInstancesParams, params)
        return list_instances(
            self._database.state,
            machine=p.machine,
            state_name=p.state,
            limit=p.limit,
            offset=p.offset or 0,
            cursor=p.cursor,
            machines=visible_machines(session, self._database.state),
        )

    def delete(self, session: Session, params: msgspec.Raw) -> bytes | Refusal:
        """DELETE_INSTANCE."""
        p = decode_params(DeleteInstanceParams, params)
        refusal = instance_refusal(session, self._database.state, p.instance_id)
        if refusal is not None:
            return refusal
        answer = self._execute(delete_command(p))
        if self._audit is not None and type(answer) is bytes:
            self._audit(session, "DELETE_INSTANCE", p.instance_id)
        return answer

    def snapshot(self, session: Session, params: msgspec.Raw) -> bytes | Refusal | Deferred:
        """SNAPSHOT_INSTANCE: the instance as a file of its own; recovery does not depend on it."""
        instance_id = decode_params(SnapshotInstanceParams, params).instance_id
        refusal = instance_refusal(session, self._database.state, instance_id)
        if refusal is not None:
            return refusal
        answer = get_instance(self._database.state, instance_id)
        if isinstance(answer, Refusal):
            return answer
        return write_instance_snapshot(
            self._host,
            self._database.file_system,
            self._database.directory,
            instance_id=instance_id,
            document=answer,
            snapshot_id=f"snap-{self._new_id()}",
        )


def bind(services: Services) -> dict[str, Handler]:
    """Return the handlers of this module by operation name."""
    operations = InstanceOperations(services)
    return {
        "CREATE_INSTANCE": operations.create,
        "GET_INSTANCE": operations.get,
        "LIST_INSTANCES": operations.list,
        "DELETE_INSTANCE": operations.delete,
        "SNAPSHOT_INSTANCE": operations.snapshot,
    }
