"""What deciding returns: an outcome with its record, or a refusal with its reason.

Every refusal of the engine is built here, so that codes, texts and details stay alike. Messages say "not
found" of what is missing, because published clients look for it; `details` says why in a form programs can
read.
"""

from typing import Any, Final

import msgspec

from rstmdb_core.errors import DefinitionError, DocumentError, quote
from rstmdb_core.instance import Instance
from rstmdb_core.limits import DETAILS_TEXT_MAX, NAME_BYTES_MAX, VERSION_MAX
from rstmdb_core.records import Effect, Key, Record

_APPLIED: Final = b'{"applied":true,'
_REPLAYED: Final = b'{"applied":false,'


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """A command was accepted.

    Attributes:
        record: What to log and apply; None when nothing changes.
        answer: The operation's result as JSON text, to be shown once the record is durable.
    """

    record: Record | None
    answer: bytes


class Refusal(msgspec.Struct, frozen=True):
    """A command was refused; nothing changes.

    Attributes:
        code: Wire error code.
        message: Why, for people.
        details: Why, for programs; absent when the code says it all.
    """

    code: str
    message: str
    details: dict[str, Any] | None = None


class Step(msgspec.Struct, frozen=True, gc=False):
    """One operation was accepted: part of a record to be.

    Attributes:
        effect: What it changes, or None.
        key: The idempotency key it stores, or None.
        answer: Its result as JSON text.
    """

    effect: Effect | None
    key: Key | None
    answer: bytes


def as_replay(answer: bytes) -> bytes:
    """Mark a result of this engine as the replay of an earlier one: `applied` is false."""
    if answer.startswith(_APPLIED):
        return _REPLAYED + answer[len(_APPLIED) :]
    if answer.startswith(_REPLAYED):
        return answer
    return _REPLAYED + answer[1:]


def fits_name(text: str) -> bool:
    """Tell whether a text is valid Unicode and within the limit of names."""
    if text.isascii():
        return len(text) <= NAME_BYTES_MAX
    try:
        return len(text.encode()) <= NAME_BYTES_MAX
    except UnicodeEncodeError:
        return False


def name_fault(parameter: str, text: str) -> Refusal | None:
    """Refuse a name that is empty, too long or not Unicode; None when it is fine."""
    if not text:
        return bad_request(f"{parameter} must not be empty", parameter=parameter)
    if not fits_name(text):
        return bad_request(
            f"{parameter} must be Unicode text of at most {NAME_BYTES_MAX} bytes", parameter=parameter
        )
    return None


def bad_request(message: str, **details: Any) -> Refusal:
    """Refuse a request that can never succeed as it is."""
    return Refusal("BAD_REQUEST", message, details or None)


def document_refused(error: DocumentError) -> Refusal:
    """Refuse a document of the request."""
    return bad_request(str(error), parameter=error.place)


def definition_refused(error: DefinitionError) -> Refusal:
    """Refuse a definition, with every fault."""
    faults = [
        {"path": fault.path, "message": fault.message}
        | ({} if fault.position is None else {"position": fault.position})
        for fault in error.faults
    ]
    return bad_request(f"invalid definition: {error}", faults=faults)


def instance_not_found(instance_id: str) -> Refusal:
    """Refuse: there is no such live instance."""
    return Refusal(
        "INSTANCE_NOT_FOUND",
        f"instance {quote(instance_id)} not found",
        {"instance_id": shortened(instance_id)},
    )


def instance_exists(instance_id: str, *, deleted: bool = False) -> Refusal:
    """Refuse: the id is taken (or was, where ids may not be used again)."""
    message = f"instance {quote(instance_id)} already exists"
    if deleted:
        message = f"instance {quote(instance_id)} was deleted and its id may not be used again"
    return Refusal("INSTANCE_EXISTS", message, {"instance_id": shortened(instance_id)})


def machine_not_found(machine: str, version: int) -> Refusal:
    """Refuse: there is no such machine version."""
    if not 0 <= version <= VERSION_MAX:
        # A number JSON readers could not hold, so it is not repeated.
        return Refusal(
            "MACHINE_NOT_FOUND",
            f"machine {quote(machine)} not found in a version outside 0 to {VERSION_MAX}",
            {"machine": shortened(machine)},
        )
    return Refusal(
        "MACHINE_NOT_FOUND",
        f"machine {quote(machine)} version {version} not found",
        {"machine": shortened(machine), "version": version},
    )


def key_reused() -> Refusal:
    """Refuse: the key belongs to another request."""
    return Refusal(
        "CONFLICT",
        "idempotency key was used before with another request",
        {"reason": "IDEMPOTENCY_KEY_REUSED"},
    )


def state_conflict(instance: Instance, expected: str) -> Refusal:
    """Refuse: the instance is not in the expected state."""
    return Refusal(
        "CONFLICT",
        f"instance is in state {quote(instance.state)}, expected {quote(expected)}",
        {"reason": "STATE", "expected_state": shortened(expected), "actual_state": instance.state},
    )


def offset_conflict(instance: Instance, expected: int) -> Refusal:
    """Refuse: the instance changed after the expected offset."""
    return Refusal(
        "CONFLICT",
        f"instance is at offset {instance.last_offset}, expected {expected}",
        {"reason": "WAL_OFFSET", "expected_wal_offset": expected, "actual_wal_offset": instance.last_offset},
    )


def invalid_transition(state: str, event: str, allowed: list[str]) -> Refusal:
    """Refuse: the state has no transition for the event; `allowed` are some that would be taken now."""
    return Refusal(
        "INVALID_TRANSITION",
        f"no transition for event {quote(event)} in state {quote(state)}",
        {
            "current_state": state,
            "event": shortened(event),
            "allowed_events": allowed,
        },
    )


def guard_failed(state: str, event: str, tried: list[dict[str, Any]], count: int) -> Refusal:
    """Refuse: none of `count` guards passed; `tried` are the first of them with the values they saw."""
    guards = "guard" if count == 1 else f"any of {count} guards"
    return Refusal(
        "GUARD_FAILED",
        f"event {quote(event)} in state {quote(state)} did not pass its {guards}",
        {"current_state": state, "event": event, "guards": tried},
    )


def answer_too_large(size: int, limit: int) -> Refusal:
    """Refuse: the answer would not fit a frame, so the operation must not happen."""
    return bad_request(f"the answer would take {size} bytes, the limit is {limit}", reason="ANSWER_TOO_LARGE")


def shortened(text: str) -> str:
    """Shorten a text for details."""
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= DETAILS_TEXT_MAX else text[:DETAILS_TEXT_MAX] + "…"
