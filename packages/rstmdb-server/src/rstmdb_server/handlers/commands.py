"""From the parameters of a write to the engine's command; alone or inside a BATCH, it is the same."""

from __future__ import annotations

from rstmdb_core import ApplyEvent, CreateInstance, DeleteInstance
from rstmdb_protocol import ApplyEventParams, CreateInstanceParams, DeleteInstanceParams


def create_command(p: CreateInstanceParams) -> CreateInstance:
    """Return the command of a CREATE_INSTANCE."""
    return CreateInstance(
        instance_id=p.instance_id,
        machine=p.machine,
        version=p.version,
        initial_ctx=bytes(p.initial_ctx),
        idempotency_key=p.idempotency_key,
        idempotency_ttl_secs=p.idempotency_ttl_secs,
    )


def apply_command(p: ApplyEventParams) -> ApplyEvent:
    """Return the command of an APPLY_EVENT."""
    return ApplyEvent(
        instance_id=p.instance_id,
        event=p.event,
        payload=bytes(p.payload),
        expected_state=p.expected_state,
        expected_wal_offset=p.expected_wal_offset,
        event_id=p.event_id,
        idempotency_key=p.idempotency_key,
        idempotency_ttl_secs=p.idempotency_ttl_secs,
    )


def delete_command(p: DeleteInstanceParams) -> DeleteInstance:
    """Return the command of a DELETE_INSTANCE."""
    return DeleteInstance(
        instance_id=p.instance_id,
        idempotency_key=p.idempotency_key,
        idempotency_ttl_secs=p.idempotency_ttl_secs,
    )
