"""Say what an event would do, and which events are allowed now, without doing anything.

    {"instance_id", "machine", "version", "state", "last_wal_offset",
     "events": [{"event", "allowed",
                 "from_state", "to_state",                 when allowed
                 "ctx",                                    when this event was asked about: after the merge
                 "error": {"code", "message", "details"?}, when not allowed
                 "transitions": [{"to", "guard"?, "passes", "values"?}, ...]}, ...]}

An answer for one event comes from `decide` itself, so it cannot differ from what APPLY_EVENT would do.
"""

from typing import Any

import msgspec

from rstmdb_core.answers import (
    Refusal,
    answer_too_large,
    document_refused,
    guard_failed,
    instance_not_found,
    shortened,
)
from rstmdb_core.commands import ApplyEvent
from rstmdb_core.definition import Transition
from rstmdb_core.document import decode_object, encode, intake
from rstmdb_core.errors import DocumentError
from rstmdb_core.instance import Instance
from rstmdb_core.operations import choose, decide_apply, find_machine, tried
from rstmdb_core.records import EventApplied
from rstmdb_core.state import State


def explain(
    state: State, instance_id: str, event: str | None = None, payload: bytes = b""
) -> bytes | Refusal:
    """Explain one event, or every event that the current state has a transition for.

    Args:
        state: The state.
        instance_id: The instance.
        event: The event to explain; None for all of the current state.
        payload: The payload it would carry, as JSON text; without an event it is checked, and no more.

    Returns:
        The result as JSON text, or why nothing can be explained.
    """
    instance = state.instances.get(instance_id)
    if instance is None:
        return instance_not_found(instance_id)
    machine = find_machine(state, instance.machine, instance.version)
    assert machine is not None, "a live instance has its machine"
    table = machine.definition.table.get(instance.state, {})
    context = decode_object(instance.ctx)
    if event is None:
        try:
            intake(payload, place="payload", bytes_max=state.settings.ctx_bytes_max)
        except DocumentError as error:
            return document_refused(error)
        events = [_possible(instance, name, options, context) for name, options in table.items()]
    else:
        item = _asked(state, instance, event, payload)
        if isinstance(item, Refusal):
            return item
        item["transitions"] = _transitions(table.get(event, ()), context)
        events = [item]
    answer = encode(
        {
            "instance_id": instance.id,
            "machine": instance.machine,
            "version": instance.version,
            "state": instance.state,
            "last_wal_offset": instance.last_offset,
            "events": events,
        }
    )
    limit = state.settings.answer_bytes_max
    return answer_too_large(len(answer), limit) if len(answer) > limit else answer


def _possible(
    instance: Instance, event: str, options: tuple[Transition, ...], context: dict[str, Any]
) -> dict[str, Any]:
    chosen = choose(options, context)
    item: dict[str, Any] = {"event": event, "allowed": chosen is not None}
    if chosen is None:
        item["error"] = _error(guard_failed(instance.state, event, tried(options, context), len(options)))
    else:
        item["from_state"] = instance.state
        item["to_state"] = chosen.to
    item["transitions"] = _transitions(options, context)
    return item


def _asked(state: State, instance: Instance, event: str, payload: bytes) -> dict[str, Any] | Refusal:
    step = decide_apply(state, ApplyEvent(instance.id, event, payload), state.time_ms, 0)
    if isinstance(step, Refusal):
        if step.code == "BAD_REQUEST" and (step.details or {}).get("parameter") == "payload":
            return step
        return {"event": shortened(event), "allowed": False, "error": _error(step)}
    effect = step.effect
    assert isinstance(effect, EventApplied)
    return {
        "event": event,
        "allowed": True,
        "from_state": effect.from_state,
        "to_state": effect.to_state,
        "ctx": msgspec.Raw(effect.ctx),
    }


def _error(refusal: Refusal) -> dict[str, Any]:
    error: dict[str, Any] = {"code": refusal.code, "message": refusal.message}
    if refusal.details is not None:
        error["details"] = refusal.details
    return error


def _transitions(options: tuple[Transition, ...], context: dict[str, Any]) -> list[dict[str, Any]]:
    items = []
    for option in options:
        item: dict[str, Any] = {"to": option.to, "passes": option.test is None or option.test(context)}
        if option.guard is not None:
            item["guard"] = option.guard.text
            item["values"] = option.guard.explain(context)
        items.append(item)
    return items
