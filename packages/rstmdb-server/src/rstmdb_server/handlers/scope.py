"""Machine scope: what a principal that is limited to some machines may touch.

The table is ``auth.PERMISSIONS``; here is how it narrows an operation that names an instance or a machine.
An instance of a machine outside the scope is *not found*, as if it did not exist: a scoped token cannot
probe for ids.
"""

from __future__ import annotations

from rstmdb_core import Refusal, State
from rstmdb_protocol import ErrorCode
from rstmdb_server.answers import unauthorized
from rstmdb_server.auth import Principal
from rstmdb_server.session import Session


def principal_of(session: Session) -> Principal:
    """Return the principal of a session that passed the gate."""
    principal = session.principal
    assert principal is not None, "the gate lets nobody through without a principal"
    return principal


def machine_refusal(session: Session, machine: str) -> Refusal | None:
    """Return why the session may not touch this machine, or None."""
    principal = principal_of(session)
    if principal.sees(machine):
        return None
    return unauthorized(f"{principal.name!r} has no access to machine {machine!r}", "MACHINE_SCOPE")


def visible_machines(session: Session, state: State) -> list[str] | None:
    """Return the machines that the session may see, or None for all of them."""
    principal = principal_of(session)
    return [name for name in state.machines if principal.sees(name)] if principal.scoped else None


def instance_refusal(session: Session, state: State, instance_id: str) -> Refusal | None:
    """Return why the session may not touch this instance, or None (also when it does not exist)."""
    principal = principal_of(session)
    if not principal.scoped:
        return None
    instance = state.instances.get(instance_id)
    if instance is None or principal.sees(instance.machine):
        return None
    # To the letter what the engine says of an instance that does not exist.
    return Refusal(
        code=ErrorCode.INSTANCE_NOT_FOUND.value,
        message=f"instance {instance_id!r} not found",
        details={"instance_id": instance_id},
    )
