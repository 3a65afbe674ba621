"""From snapshot and log to a state, outside a server, trusting nothing.

``apply`` checks the order of records and no more: what the engine decided was right when it was logged. Here
the log comes from a disk that is under suspicion, so each effect is held against the state it claims to
change, before it is applied.
"""

from __future__ import annotations

from typing import Any

from rstmdb_core import (
    EventApplied,
    Flushed,
    Instance,
    InstanceCreated,
    InstanceDeleted,
    InstanceImported,
    Record,
    State,
    apply,
    digest,
    load,
)
from rstmdb_server.offline.contents import UNBOUNDED, Contents, LogFrame
from rstmdb_storage import CorruptionError, SnapshotInfo


def load_snapshot(contents: Contents, info: SnapshotInfo) -> State:
    """Load the state that a snapshot holds, with every byte of it verified.

    Raises:
        CorruptionError: It is damaged.
        DumpError: It is whole, and not the dump of a state.
    """
    snapshot = contents.snapshots.open(info)
    try:
        state = load(snapshot.chunks(), UNBOUNDED)
    finally:
        snapshot.close()
    if state.next_sequence != info.sequence + 1:
        raise CorruptionError(
            contents.snapshots.path(info.name),
            0,
            f"the snapshot of sequence {info.sequence} holds a state whose next is {state.next_sequence}",
        )
    return state


def apply_checked(state: State, item: LogFrame, record: Record) -> None:
    """Apply a record after checking that it can have been decided on this state.

    Raises:
        CorruptionError: It cannot; names the frame.
    """
    sequence = record.first_sequence
    if sequence < state.next_sequence:
        raise _broken(item, sequence, f"the state already stands at {state.next_sequence}")
    if record.time_ms < state.time_ms:
        raise _broken(item, sequence, f"its time {record.time_ms} is before that of the record before")
    changed: dict[str, str | None] = {}
    machines: set[tuple[str, int]] = set()
    flushed = False
    for index, effect in enumerate(record.effects):
        fault = _fault(state, effect, changed, machines, flushed=flushed)
        if fault is not None:
            raise _broken(item, sequence + index, fault)
        flushed = flushed or type(effect) is Flushed
    if sequence > state.next_sequence:
        state.skip_to(sequence)
    try:
        apply(state, record)
    except (AssertionError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise _broken(item, sequence, f"it does not fit the state ({error!r})") from None
    except Exception as error:
        raise _broken(item, sequence, str(error)) from None


def _broken(item: LogFrame, sequence: int, reason: str) -> CorruptionError:
    return CorruptionError(item.path, item.position, f"sequence {sequence} cannot follow: {reason}")


def _fault(
    state: State,
    effect: Any,
    changed: dict[str, str | None],
    machines: set[tuple[str, int]],
    *,
    flushed: bool,
) -> str | None:
    """Return why an effect cannot have happened, or None.

    Args:
        state: The state before the record.
        effect: The effect.
        changed: Instances that the record has changed so far: their state then, None for deleted.
        machines: Machine versions that the record has put so far.
        flushed: Whether the record has removed everything so far.
    """
    name = type(effect).__name__
    if isinstance(effect, Flushed):
        changed.clear()
        machines.clear()
        return None
    if not isinstance(effect, EventApplied | InstanceCreated | InstanceDeleted | InstanceImported):
        machines.add((effect.machine, effect.version))
        return None
    known = (effect.machine, effect.version) in machines or (
        not flushed and effect.version in state.machines.get(effect.machine, {})
    )
    if not known:
        return f"{name} of machine {effect.machine!r} version {effect.version}, which is not there"
    instance_id = effect.instance_id
    instance = None if flushed else state.instances.get(instance_id)
    now = changed.get(instance_id, None if instance is None else instance.state)
    if isinstance(effect, InstanceCreated | InstanceImported):
        if now is not None:
            return f"{name} of instance {instance_id!r}, which is there"
        changed[instance_id] = effect.state
        return None
    if now is None:
        return f"{name} of instance {instance_id!r}, which is not there"
    if instance is not None and instance_id not in changed and _other_machine(instance, effect):
        return f"{name} of instance {instance_id!r} names another machine than its own"
    if isinstance(effect, InstanceDeleted):
        changed[instance_id] = None
        return None
    if effect.from_state != now:
        return (
            f"event {effect.event!r} leaves {effect.from_state!r}, but instance {instance_id!r} is in {now!r}"
        )
    changed[instance_id] = effect.to_state
    return None


def _other_machine(instance: Instance, effect: Any) -> bool:
    return (instance.machine, instance.version) != (effect.machine, effect.version)


def differences(replayed: State, held: State) -> str | None:
    """Say in what the state of a snapshot differs from the replayed one; None if in nothing.

    The snapshot may have forgotten keys and tombstones that the replay still has: a server keeps only so many
    bytes of them, as its configuration says.
    """
    if digest(replayed) == digest(held):
        return None
    for what in ("next_sequence", "time_ms", "entry_count"):
        if getattr(replayed, what) != getattr(held, what):
            return f"{what} {getattr(held, what)} instead of {getattr(replayed, what)}"
    if _machine_texts(replayed) != _machine_texts(held):
        return "machines"
    if replayed.instances != held.instances:
        return "instances"
    for key in held.idempotency.values():
        twin = replayed.idempotency.get(key.key)
        if twin is None or (twin.fingerprint, twin.expires_ms, twin.replay()) != (
            key.fingerprint,
            key.expires_ms,
            key.replay(),
        ):
            return f"idempotency key {key.key!r}"
    for tombstone in held.tombstones.values():
        grave = replayed.tombstones.get(tombstone.key)
        if grave is None or (grave.offset, grave.expires_ms) != (tombstone.offset, tombstone.expires_ms):
            return f"the tombstone of instance {tombstone.key!r}"
    return None


def _machine_texts(state: State) -> dict[tuple[str, int], bytes]:
    return {
        (name, version): machine.definition.canonical
        for name, versions in state.machines.items()
        for version, machine in versions.items()
    }
