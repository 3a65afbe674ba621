"""Apply: the one fold of records into the state, live and in replay.

Nothing is checked here but the order of records: whether something may happen was decided before it was
logged. Eviction of keys and tombstones happens here too, from the record's time, so that a replay forgets
what the live engine forgot.
"""

from collections.abc import Callable
from sys import intern, maxsize
from typing import Any, Final

from rstmdb_core.definition import parse_definition
from rstmdb_core.errors import SequenceError
from rstmdb_core.idempotency import Applied, KeyEntry, entry_size, text_bytes
from rstmdb_core.index import InstanceIndex
from rstmdb_core.instance import Instance, Machine, Tombstone, make_machine
from rstmdb_core.records import (
    Effect,
    EventApplied,
    Flushed,
    InstanceCreated,
    InstanceDeleted,
    InstanceImported,
    Key,
    MachinePut,
    Record,
)
from rstmdb_core.state import State

TOMBSTONE_BYTES: Final = 384
"""Charged for each tombstone besides its id."""


def apply(state: State, record: Record) -> None:
    """Apply a record.

    Args:
        state: The state the record was decided on, or a replica of it.
        record: The record.

    Raises:
        SequenceError: The record does not follow the last one.
    """
    sequence = first = record.first_sequence
    if first != state.next_sequence:
        raise SequenceError(state.next_sequence, first)
    # One integer object for all that happened in the same millisecond.
    time_ms = state.time_ms if record.time_ms == state.time_ms else record.time_ms
    effects = record.effects
    for effect in effects:
        if type(effect) is EventApplied:
            _apply_event(state, effect, sequence, time_ms)
        else:
            _FOLDS[type(effect)](state, effect, sequence, time_ms)
        sequence += 1
    state.next_sequence = sequence
    state.entry_count += len(effects)
    keys = state.idempotency
    if record.keys or time_ms >= keys.due_ms:
        for key in record.keys:
            effect_of_key = effects[key.index] if key.index >= 0 else None
            keys.put(entry_of(key, effect_of_key, first + key.index, keys.table.next_ordinal))
        keys.evict(time_ms, state.settings.idempotency_bytes_max)
    if time_ms >= state.tombstones.due_ms:
        state.tombstones.evict(time_ms, state.settings.tombstone_bytes_max)
    state.time_ms = time_ms


def created(effect: InstanceCreated, machine: Machine, sequence: int, time_ms: int, ordinal: int) -> Instance:
    """Return the instance an effect creates."""
    return Instance(
        id=effect.instance_id,
        machine=machine.name,
        version=machine.version,
        state=machine.states.get(effect.state, effect.state),
        ctx=effect.ctx,
        last_event_id=None,
        last_offset=sequence,
        created_ms=time_ms,
        updated_ms=time_ms,
        ordinal=ordinal,
    )


def advanced(instance: Instance, effect: EventApplied, state: str, sequence: int, time_ms: int) -> Instance:
    """Return an instance after an event; `state` is the shared object of its new state's name."""
    return Instance(
        instance.id,
        instance.machine,
        instance.version,
        state,
        effect.ctx,
        effect.event_id,
        sequence,
        instance.created_ms,
        time_ms,
        instance.ordinal,
    )


def tombstone_of(effect: InstanceDeleted, sequence: int, ordinal: int) -> Tombstone:
    """Return the tombstone an effect leaves."""
    return Tombstone(
        effect.instance_id, sequence, effect.expires_ms, tombstone_size(effect.instance_id), ordinal
    )


def tombstone_size(instance_id: str) -> int:
    """Return the bytes charged for a tombstone."""
    return TOMBSTONE_BYTES + text_bytes(instance_id)


def entry_of(key: Key, effect: Effect | None, sequence: int, ordinal: int) -> KeyEntry:
    """Return the entry of a record's key; `effect` is the one it belongs to, `sequence` that effect's."""
    answer: bytes | Applied = key.answer
    if not answer:
        assert isinstance(effect, EventApplied), "only an event's answer can be left out"
        # A replay decodes each name anew; interned, all keys share one object a state.
        answer = Applied(
            intern(effect.from_state), intern(effect.to_state), effect.ctx, sequence, effect.event_id
        )
    return KeyEntry(
        key.scope, key.fingerprint, answer, key.expires_ms, entry_size(key.scope, answer), ordinal
    )


def _apply_event(state: State, effect: EventApplied, sequence: int, time_ms: int) -> None:
    instances = state.instances
    old = instances[effect.instance_id]
    to_state = effect.to_state
    from_state = old.state
    if to_state == from_state:
        to_state = from_state
    else:
        states = state.index.groups[old.machine].states
        entered = states.get(to_state)
        if entered is None:
            to_state = state.machines[old.machine][old.version].states[to_state]
            entered = state.index.groups[old.machine].state(to_state)
        to_state = entered.name
        states[from_state].move(old.ordinal, entered)
    new = advanced(old, effect, to_state, sequence, time_ms)
    instances[old.id] = new
    state.table.replace(old.ordinal, new)


def _create(state: State, effect: InstanceCreated, sequence: int, time_ms: int) -> None:
    machine = state.machines[effect.machine][effect.version]
    state.tombstones.discard(effect.instance_id)
    _insert(state, created(effect, machine, sequence, time_ms, state.table.next_ordinal))


def _import(state: State, effect: InstanceImported, sequence: int, time_ms: int) -> None:
    machine = state.machines[effect.machine][effect.version]
    state.tombstones.discard(effect.instance_id)
    _insert(
        state,
        Instance(
            id=effect.instance_id,
            machine=machine.name,
            version=machine.version,
            state=machine.states[effect.state],
            ctx=effect.ctx,
            last_event_id=effect.last_event_id,
            last_offset=sequence,
            created_ms=effect.created_ms,
            updated_ms=effect.updated_ms,
            ordinal=state.table.next_ordinal,
        ),
    )


def _insert(state: State, instance: Instance) -> None:
    state.instances[instance.id] = instance
    state.table.append(instance)
    state.index.add(instance.machine, instance.state, instance.ordinal)


def _delete(state: State, effect: InstanceDeleted, sequence: int, time_ms: int) -> None:
    instance = state.instances.pop(effect.instance_id)
    state.table.remove(instance.ordinal)
    state.index.remove(instance.machine, instance.state, instance.ordinal)
    tombstones = state.tombstones
    tombstones.put(tombstone_of(effect, sequence, tombstones.table.next_ordinal))
    tombstones.evict(time_ms, state.settings.tombstone_bytes_max)


def _put_machine(state: State, effect: MachinePut, sequence: int, time_ms: int) -> None:
    # The limit on size was checked when it was decided; the settings may have changed since.
    definition = parse_definition(effect.definition, bytes_max=maxsize)
    versions = state.machines.setdefault(effect.machine, {})
    versions[effect.version] = make_machine(effect.machine, effect.version, definition)


def _flush(state: State, effect: Flushed, sequence: int, time_ms: int) -> None:
    state.machines = {}
    state.instances = {}
    state.table.clear()
    state.index = InstanceIndex()
    state.tombstones.clear()
    state.idempotency.clear()


_FOLDS: Final[dict[type, Callable[[State, Any, int, int], None]]] = {
    MachinePut: _put_machine,
    InstanceCreated: _create,
    InstanceDeleted: _delete,
    InstanceImported: _import,
    Flushed: _flush,
}
