"""Decide CREATE_INSTANCE, APPLY_EVENT and DELETE_INSTANCE, alone or inside a BATCH.

Order of checks: form of the request, idempotency key, then for
    CREATE   id taken · machine
    APPLY    instance · expected_state · expected_wal_offset · transition · guard · size of context and answer
    DELETE   instance, or its tombstone

A key is looked up before the instance, so a retry is answered also when the instance has changed or gone
since.
"""

from collections.abc import Callable
from itertools import islice
from typing import Any, Final

from rstmdb_core.answers import (
    Refusal,
    Step,
    answer_too_large,
    as_replay,
    bad_request,
    document_refused,
    fits_name,
    guard_failed,
    instance_exists,
    instance_not_found,
    invalid_transition,
    key_reused,
    machine_not_found,
    name_fault,
    offset_conflict,
    state_conflict,
)
from rstmdb_core.commands import ApplyEvent, CreateInstance, DeleteInstance
from rstmdb_core.definition import Transition
from rstmdb_core.document import EMPTY, canonical, decode_object, encode, intake, merge
from rstmdb_core.errors import DocumentError
from rstmdb_core.idempotency import applied_answer, event_fingerprint, fingerprint, key_scope
from rstmdb_core.instance import Instance, Machine
from rstmdb_core.limits import DETAILS_ITEMS_MAX, NAME_BYTES_MAX, OFFSET_MAX, VERSION_MAX
from rstmdb_core.records import EventApplied, InstanceCreated, InstanceDeleted, Key
from rstmdb_core.view import View

_NO_EVENTS: Final[dict[str, tuple[Transition, ...]]] = {}


def decide_create(
    view: View, command: CreateInstance, time_ms: int, index: int, new_id: Callable[[], str]
) -> Step | Refusal:
    """Decide a CREATE_INSTANCE whose effect will have this index in its record."""
    instance_id = command.instance_id
    if instance_id is not None and (fault := name_fault("instance_id", instance_id)) is not None:
        return fault
    if not fits_name(command.machine) or not 0 <= command.version <= VERSION_MAX:
        return machine_not_found(command.machine, command.version)
    try:
        document, ctx = intake(
            command.initial_ctx, place="initial_ctx", bytes_max=view.settings.ctx_bytes_max
        )
    except DocumentError as error:
        return document_refused(error)
    key = scope = None
    if command.idempotency_key is not None:
        if (fault := key_fault(command.idempotency_key, command.idempotency_ttl_secs)) is not None:
            return fault
        if instance_id is None:
            scope = key_scope("M", command.machine, command.idempotency_key)
        else:
            scope = key_scope("C", instance_id, command.idempotency_key)
        mark = create_mark(command, document)
        found = _remembered(view, scope, mark, time_ms)
        if found is not None:
            return found
    if instance_id is not None:
        if view.instances.get(instance_id) is not None:
            return instance_exists(instance_id)
        if not view.settings.allow_instance_recreate and view.tombstones.get(instance_id) is not None:
            return instance_exists(instance_id, deleted=True)
    machine = find_machine(view, command.machine, command.version)
    if machine is None:
        return machine_not_found(command.machine, command.version)
    if instance_id is None:
        instance_id = new_id()
        if view.instances.get(instance_id) is not None:
            return instance_exists(instance_id)
    initial = machine.definition.initial
    answer = b'{"instance_id":%b,"state":%b,"wal_offset":%d}' % (
        encode(instance_id),
        encode(initial),
        view.next_sequence,
    )
    if scope is not None:
        key = Key(
            index, scope, mark, key_expiry(view, command.idempotency_ttl_secs, time_ms), as_replay(answer)
        )
    effect = InstanceCreated(
        instance_id, machine.name, machine.version, initial, ctx, command.idempotency_key
    )
    return Step(effect, key, answer)


def decide_apply(view: View, command: ApplyEvent, time_ms: int, index: int) -> Step | Refusal:
    """Decide an APPLY_EVENT whose effect will have this index in its record."""
    payload: dict[str, Any] = {}
    payload_text = b""
    if command.payload:
        try:
            payload, payload_text = intake(
                command.payload, place="payload", bytes_max=view.settings.ctx_bytes_max
            )
        except DocumentError as error:
            return document_refused(error)
        if not payload and bytes(command.payload).strip() == b"null":
            payload_text = b""
    event_id = command.event_id
    if event_id is not None and not fits_name(event_id):
        return bad_request(
            f"event_id must be Unicode text of at most {NAME_BYTES_MAX} bytes", parameter="event_id"
        )
    expected_offset = command.expected_wal_offset
    if expected_offset is not None and not 0 <= expected_offset < 2**64:
        return bad_request("expected_wal_offset must be 0 or more", parameter="expected_wal_offset")
    key = scope = None
    if command.idempotency_key is not None:
        if (fault := key_fault(command.idempotency_key, command.idempotency_ttl_secs)) is not None:
            return fault
        scope = key_scope("A", command.instance_id, command.idempotency_key)
        mark = apply_mark(command.event, payload)
        found = _remembered(view, scope, mark, time_ms)
        if found is not None:
            return found
    instance = view.instances.get(command.instance_id)
    if instance is None:
        return instance_not_found(command.instance_id)
    if command.expected_state is not None and command.expected_state != instance.state:
        return state_conflict(instance, command.expected_state)
    if expected_offset is not None and expected_offset != instance.last_offset:
        return offset_conflict(instance, expected_offset)
    machine = find_machine(view, instance.machine, instance.version)
    if machine is None:
        return machine_not_found(instance.machine, instance.version)
    options = machine.definition.table.get(instance.state, _NO_EVENTS).get(command.event)
    if options is None:
        return invalid_transition(instance.state, command.event, allowed_events(machine, instance))
    transition = options[0]
    context: dict[str, Any] | None = None
    if transition.test is not None:
        context = decode_object(instance.ctx)
        passing = choose(options, context)
        if passing is None:
            return guard_failed(instance.state, command.event, tried(options, context), len(options))
        transition = passing
    ctx = instance.ctx
    if payload:
        ctx = payload_text if ctx == EMPTY else merge(ctx, context, payload)
        if len(ctx) > view.settings.ctx_bytes_max:
            return bad_request(
                f"the context would take {len(ctx)} bytes, the limit is {view.settings.ctx_bytes_max}",
                reason="CONTEXT_TOO_LARGE",
            )
    sequence = view.next_sequence
    to_state = transition.to
    answer = applied_answer(True, instance.state, to_state, sequence, ctx, event_id)
    if len(answer) > view.settings.answer_bytes_max:
        return answer_too_large(len(answer), view.settings.answer_bytes_max)
    if scope is not None:
        key = Key(index, scope, mark, key_expiry(view, command.idempotency_ttl_secs, time_ms))
    effect = EventApplied(
        instance.id,
        instance.machine,
        instance.version,
        command.event,
        instance.state,
        to_state,
        payload_text,
        ctx,
        event_id,
        command.idempotency_key,
    )
    return Step(effect, key, answer)


def decide_delete(view: View, command: DeleteInstance, time_ms: int, index: int) -> Step | Refusal:
    """Decide a DELETE_INSTANCE whose effect will have this index in its record."""
    key = scope = None
    instance_id = command.instance_id
    if command.idempotency_key is not None:
        if (fault := key_fault(command.idempotency_key, command.idempotency_ttl_secs)) is not None:
            return fault
        scope = key_scope("D", instance_id, command.idempotency_key)
        mark = DELETE_MARK
        found = _remembered(view, scope, mark, time_ms)
        if found is not None:
            return found
    instance = view.instances.get(instance_id)
    if instance is None:
        tombstone = view.tombstones.get(instance_id)
        if tombstone is None or tombstone.expires_ms <= time_ms:
            return instance_not_found(instance_id)
        return Step(None, None, _deleted_answer(instance_id, tombstone.offset))
    answer = _deleted_answer(instance_id, view.next_sequence)
    if scope is not None:
        key = Key(
            index, scope, mark, key_expiry(view, command.idempotency_ttl_secs, time_ms), as_replay(answer)
        )
    forgotten_ms = OFFSET_MAX
    if view.settings.allow_instance_recreate:
        forgotten_ms = time_ms + view.settings.idempotency_retention_ms
    effect = InstanceDeleted(
        instance_id, instance.machine, instance.version, forgotten_ms, command.idempotency_key
    )
    return Step(effect, key, answer)


def find_machine(view: View, machine: str, version: int) -> Machine | None:
    """Return a machine version, or None."""
    versions = view.machines.get(machine)
    return None if versions is None else versions.get(version)


def choose(options: tuple[Transition, ...], context: dict[str, Any]) -> Transition | None:
    """Return the first transition whose guard passes, or None."""
    for transition in options:
        test = transition.test
        if test is None or test(context):
            return transition
    return None


def tried(options: tuple[Transition, ...], context: dict[str, Any]) -> list[dict[str, Any]]:
    """Describe the first guards of those that did not pass, with the values they saw."""
    return [
        {"guard": option.guard.text, "to": option.to, "values": option.guard.explain(context)}
        for option in options[:DETAILS_ITEMS_MAX]
        if option.guard is not None
    ]


def allowed_events(machine: Machine, instance: Instance) -> list[str]:
    """Return the first events that would be taken now, guards included, in the definition's order."""
    events = machine.definition.table.get(instance.state, _NO_EVENTS)
    if not events:
        return []
    context = decode_object(instance.ctx)
    allowed = (event for event, options in events.items() if choose(options, context) is not None)
    return list(islice(allowed, DETAILS_ITEMS_MAX))


DELETE_MARK: Final = fingerprint(b"delete")


def create_mark(command: CreateInstance, document: dict[str, Any]) -> bytes:
    """Return the fingerprint of a CREATE_INSTANCE."""
    return fingerprint(
        b"create", encode([command.instance_id, command.machine, command.version]), canonical(document)
    )


def apply_mark(event: str, payload: dict[str, Any]) -> bytes:
    """Return the fingerprint of an APPLY_EVENT."""
    return event_fingerprint(event.encode("utf-8", "replace"), canonical(payload) if payload else EMPTY)


def _deleted_answer(instance_id: str, offset: int) -> bytes:
    return b'{"instance_id":%b,"deleted":true,"wal_offset":%d}' % (encode(instance_id), offset)


def _remembered(view: View, scope: str, mark: bytes, time_ms: int) -> Step | Refusal | None:
    """Answer from a remembered key; None when there is none."""
    entry = view.idempotency.get(scope)
    if entry is None or entry.expires_ms <= time_ms:
        return None
    if entry.fingerprint != mark:
        return key_reused()
    return Step(None, None, entry.replay())


def key_expiry(view: View, ttl_secs: int | None, time_ms: int) -> int:
    """Return when a key stored now is forgotten; a request may shorten its life, not lengthen it."""
    retention_ms = view.settings.idempotency_retention_ms
    if ttl_secs is not None and ttl_secs * 1000 < retention_ms:
        retention_ms = ttl_secs * 1000
    return time_ms + retention_ms


def key_fault(key: str, ttl_secs: int | None) -> Refusal | None:
    """Refuse a key that is too long, or a life that is none."""
    if 0 < len(key) <= NAME_BYTES_MAX and key.isascii() and (ttl_secs is None or ttl_secs > 0):
        return None
    if (fault := name_fault("idempotency_key", key)) is not None:
        return fault
    if ttl_secs is not None and ttl_secs < 1:
        return bad_request("idempotency_ttl_secs must be at least 1", parameter="idempotency_ttl_secs")
    return None


def version_fault(version: int) -> Refusal | None:
    """Refuse a version outside the wire's range."""
    if not 0 <= version <= VERSION_MAX:
        return bad_request(f"version must be 0 to {VERSION_MAX}", parameter="version")
    return None
