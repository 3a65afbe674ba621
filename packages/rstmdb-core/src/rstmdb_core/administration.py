"""Decide PUT_MACHINE, FLUSH_ALL and an import.

PUT_MACHINE of a version that exists is idempotent: the same definition (by canonical form) succeeds and
changes nothing, another is refused, because instances of that version rely on what it says.
"""

import hashlib
from typing import Any, Final

from rstmdb_core.answers import (
    Outcome,
    Refusal,
    as_replay,
    bad_request,
    definition_refused,
    document_refused,
    instance_exists,
    machine_not_found,
    name_fault,
)
from rstmdb_core.commands import FlushAll, Import, ImportedKey, ImportInstance, PutMachine
from rstmdb_core.definition import Definition, parse_definition
from rstmdb_core.document import encode, intake
from rstmdb_core.errors import DefinitionError, DocumentError, quote
from rstmdb_core.idempotency import applied_answer, key_scope
from rstmdb_core.operations import apply_mark, key_expiry, version_fault
from rstmdb_core.records import Effect, Flushed, InstanceImported, Key, MachinePut, Record
from rstmdb_core.state import State

_SHA256_DIGITS: Final = 64


def decide_put_machine(state: State, command: PutMachine, time_ms: int) -> Outcome | Refusal:
    """Decide a PUT_MACHINE."""
    if (fault := name_fault("machine", command.machine)) is not None:
        return fault
    versions = state.machines.get(command.machine, {}).keys()
    decided = _put(state, command, versions, state.machine_version_count)
    if isinstance(decided, Refusal):
        return decided
    definition, effect = decided
    answer = b'{"machine":%b,"version":%d,"stored_checksum":"%b","created":%b}' % (
        encode(command.machine),
        command.version,
        definition.checksum.encode(),
        b"false" if effect is None else b"true",
    )
    record = None if effect is None else Record(state.next_sequence, time_ms, (effect,))
    return Outcome(record, answer)


def decide_flush(state: State, command: FlushAll, time_ms: int) -> Outcome | Refusal:
    """Decide a FLUSH_ALL. Keys go too: they must not answer for instances to come."""
    deleted = sum(1 for tombstone in state.tombstones.values() if tombstone.expires_ms > time_ms)
    instances = len(state.instances) + deleted
    machines = state.machine_version_count
    answer = b'{"flushed":true,"instances_removed":%d,"machines_removed":%d}' % (instances, machines)
    if not instances and not machines and not state.tombstones.count and not state.idempotency.count:
        return Outcome(None, answer)
    return Outcome(Record(state.next_sequence, time_ms, (Flushed(instances, machines),)), answer)


def decide_import(state: State, command: Import, time_ms: int) -> Outcome | Refusal:
    """Decide an import: all of it or nothing. Limits on names do not apply, those on documents do."""
    effects: list[Effect] = []
    keys: list[Key] = []
    imported: dict[str, dict[int, Definition]] = {}
    taken: set[str] = set()
    for number, item in enumerate(command.items):
        place = f"item {number}"
        try:
            _encodable(item.machine)
        except DocumentError as error:
            return document_refused(error)
        if isinstance(item, PutMachine):
            new = imported.setdefault(item.machine, {})
            known = state.machines.get(item.machine, {}).keys() | new.keys()
            if item.version in new:
                return bad_request(f"{place}: machine {quote(item.machine)} appears twice")
            decided = _put(state, item, known - new.keys(), 0)
            if isinstance(decided, Refusal):
                return decided
            definition, effect = decided
            new[item.version] = definition
            if effect is not None:
                effects.append(effect)
            continue
        known_definition = imported.get(item.machine, {}).get(item.version)
        if known_definition is None:
            machine = state.machines.get(item.machine, {}).get(item.version)
            known_definition = None if machine is None else machine.definition
        if known_definition is None:
            return machine_not_found(item.machine, item.version)
        if item.instance_id in taken or item.instance_id in state.instances:
            return instance_exists(item.instance_id)
        taken.add(item.instance_id)
        if item.state not in known_definition.states:
            return bad_request(f"{place}: machine has no state {quote(item.state)}")
        sequence = state.next_sequence + len(effects)
        try:
            effects.append(_imported(state, item))
            keys.extend(
                _imported_key(state, item.instance_id, key, len(effects) - 1, sequence, time_ms)
                for key in item.keys
            )
        except DocumentError as error:
            return document_refused(error)
    answer = b'{"imported":%d}' % len(effects)
    if not effects:
        return Outcome(None, answer)
    return Outcome(Record(state.next_sequence, time_ms, tuple(effects), tuple(keys)), answer)


def _put(
    state: State, command: PutMachine, versions: Any, count: int
) -> tuple[Definition, MachinePut | None] | Refusal:
    if (fault := version_fault(command.version)) is not None:
        return fault
    settings = state.settings
    existing = state.machines.get(command.machine, {}).get(command.version)
    if existing is None:
        limit = settings.machine_versions_max
        if limit and len(versions) >= limit:
            return Refusal(
                "MACHINE_VERSION_LIMIT_EXCEEDED",
                f"machine {quote(command.machine)} has {len(versions)} versions, the limit is {limit}",
                {"limit": limit},
            )
        if count >= settings.machines_max:
            return Refusal(
                "MACHINE_VERSION_LIMIT_EXCEEDED",
                f"there are {count} machine versions, the limit is {settings.machines_max}",
                {"limit": settings.machines_max},
            )
    try:
        definition = parse_definition(command.definition, bytes_max=settings.definition_bytes_max)
    except DefinitionError as error:
        return definition_refused(error)
    if (fault := _checksum_fault(command, definition)) is not None:
        return fault
    if existing is None:
        return definition, MachinePut(
            command.machine, command.version, definition.canonical, definition.checksum
        )
    if existing.definition.checksum != definition.checksum:
        return Refusal(
            "MACHINE_VERSION_EXISTS",
            f"machine {quote(command.machine)} version {command.version} exists with another definition",
            {"stored_checksum": existing.definition.checksum, "checksum": definition.checksum},
        )
    return definition, None


def _checksum_fault(command: PutMachine, definition: Definition) -> Refusal | None:
    """Verify a SHA-256 the caller sent: of the canonical form, or of the text as it was sent."""
    given = command.checksum
    if given is None or len(given) != _SHA256_DIGITS:
        return None
    given = given.lower()
    if given in (definition.checksum, hashlib.sha256(bytes(command.definition)).hexdigest()):
        return None
    return bad_request(
        "checksum does not match the definition",
        reason="CHECKSUM_MISMATCH",
        expected=given,
        actual=definition.checksum,
    )


def _imported(state: State, item: ImportInstance) -> InstanceImported:
    _encodable(item.instance_id, item.last_event_id or "")
    # A name may take six times its length as JSON; the rest of a GET_INSTANCE answer is short.
    room = (
        state.settings.answer_bytes_max - 6 * (len(item.instance_id) + len(item.last_event_id or "")) - 8192
    )
    _, ctx = intake(item.ctx, place="ctx", bytes_max=room)
    return InstanceImported(
        item.instance_id,
        item.machine,
        item.version,
        item.state,
        ctx,
        item.last_event_id,
        item.created_ms,
        item.updated_ms,
    )


def _imported_key(
    state: State, instance_id: str, key: ImportedKey, index: int, sequence: int, time_ms: int
) -> Key:
    """Return a key whose replay shows the offset of the import: offsets of another log mean nothing here."""
    _encodable(instance_id, key.key, key.event, key.from_state, key.to_state, key.event_id or "")
    payload, _ = intake(key.payload, place="payload", bytes_max=state.settings.answer_bytes_max)
    _, ctx = intake(key.ctx, place="ctx", bytes_max=state.settings.answer_bytes_max)
    answer = applied_answer(True, key.from_state, key.to_state, sequence, ctx, key.event_id)
    return Key(
        index,
        key_scope("A", instance_id, key.key),
        apply_mark(key.event, payload),
        key_expiry(state, None, time_ms),
        as_replay(answer),
    )


def _encodable(*texts: str) -> None:
    """Refuse text that is not Unicode, which a log could not hold.

    Raises:
        DocumentError: One of the texts holds half a surrogate pair.
    """
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise DocumentError("import", "holds text that is not Unicode") from None
