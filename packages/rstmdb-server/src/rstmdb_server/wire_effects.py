"""Effects as clients see them: watch events, and the entries of WAL_READ.

A watch event is ``{"type":"event","subscription_id":...`` followed by a tail that is the same for every
subscriber, so the tail is encoded once an effect (twice, with and without context) however many watch.

``kind`` is only sent for effects other than applied events, which only subscriptions that named them in
``include`` get; published clients therefore see exactly the published shape.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from rstmdb_core import (
    EventApplied,
    Flushed,
    InstanceCreated,
    InstanceDeleted,
    InstanceImported,
    MachinePut,
)
from rstmdb_protocol import event_body

_encode = msgspec.json.encode

KINDS = ("apply", "create", "delete", "put_machine", "flush")
_KIND_OF: dict[type, str] = {
    EventApplied: "apply",
    InstanceCreated: "create",
    InstanceImported: "create",
    InstanceDeleted: "delete",
    MachinePut: "put_machine",
    Flushed: "flush",
}


def kind_of(effect: Any) -> str:
    """Return the word by which ``include`` names this kind of effect."""
    return _KIND_OF[type(effect)]


class Subject(NamedTuple):
    """What filters look at; None where the effect has no such thing."""

    instance_id: str | None
    machine: str | None
    from_state: str | None
    to_state: str | None
    event: str | None


def subject_of(effect: Any) -> Subject:
    """Return what filters look at."""
    match effect:
        case EventApplied():
            return Subject(
                effect.instance_id, effect.machine, effect.from_state, effect.to_state, effect.event
            )
        case InstanceCreated() | InstanceImported():
            return Subject(effect.instance_id, effect.machine, None, effect.state, None)
        case InstanceDeleted():
            return Subject(effect.instance_id, effect.machine, None, None, None)
        case MachinePut():
            return Subject(None, effect.machine, None, None, None)
        case _:
            return Subject(None, None, None, None, None)


class EventEncoder:
    """Encodes one effect for any number of subscribers.

    Args:
        effect: What happened.
        sequence: Its offset on the wire.
    """

    __slots__ = ("_bare", "_with_ctx", "effect", "sequence")

    def __init__(self, effect: Any, sequence: int) -> None:
        self.effect = effect
        self.sequence = sequence
        self._bare: bytes | None = None
        self._with_ctx: bytes | None = None

    def tail(self, *, include_ctx: bool) -> bytes:
        """Return everything behind ``"subscription_id":"...",``, closing brace included."""
        if include_ctx:
            if self._with_ctx is None:
                self._with_ctx = self._encode_tail(include_ctx=True)
            return self._with_ctx
        if self._bare is None:
            self._bare = self._encode_tail(include_ctx=False)
        return self._bare

    def _encode_tail(self, *, include_ctx: bool) -> bytes:
        effect = self.effect
        if type(effect) is EventApplied:
            return event_body(
                instance_id=effect.instance_id,
                machine=effect.machine,
                version=effect.version,
                wal_offset=self.sequence,
                from_state=effect.from_state,
                to_state=effect.to_state,
                event=effect.event,
                payload=effect.payload,
                ctx=effect.ctx if include_ctx else b"",
            )
        subject = subject_of(effect)
        fields: dict[str, Any] = {
            "kind": kind_of(effect),
            "instance_id": subject.instance_id,
            "machine": subject.machine,
            "version": getattr(effect, "version", None),
            "wal_offset": self.sequence,
            "from_state": subject.from_state,
            "to_state": subject.to_state,
            "event": None,
            "payload": None,
        }
        if include_ctx and type(effect) in (InstanceCreated, InstanceImported):
            fields["ctx"] = msgspec.Raw(effect.ctx)
        return _encode(fields)[1:]


def encode_end(subscription_id: str, details: dict[str, Any]) -> bytes:
    """Encode the message that a subscription has ended and why."""
    return _encode({"type": "end", "subscription_id": subscription_id, **details})


def entry_of(effect: Any, time_ms: int) -> dict[str, Any]:
    """Return an effect as the ``entry`` of a WAL_READ record: the original's fields and a timestamp."""
    match effect:
        case EventApplied():
            entry: dict[str, Any] = {
                "type": "apply_event",
                "instance_id": effect.instance_id,
                "machine": effect.machine,
                "version": effect.version,
                "event": effect.event,
                "from_state": effect.from_state,
                "to_state": effect.to_state,
                "payload": msgspec.Raw(effect.payload) if effect.payload else None,
                "ctx": msgspec.Raw(effect.ctx),
            }
            if effect.event_id is not None:
                entry["event_id"] = effect.event_id
        case InstanceCreated():
            entry = {
                "type": "create_instance",
                "instance_id": effect.instance_id,
                "machine": effect.machine,
                "version": effect.version,
                "initial_state": effect.state,
                "initial_ctx": msgspec.Raw(effect.ctx),
            }
        case InstanceDeleted():
            entry = {"type": "delete_instance", "instance_id": effect.instance_id}
        case MachinePut():
            entry = {
                "type": "put_machine",
                "machine": effect.machine,
                "version": effect.version,
                "definition_hash": effect.checksum,
                "definition": msgspec.Raw(effect.definition),
            }
        case InstanceImported():
            entry = {
                "type": "import_instance",
                "instance_id": effect.instance_id,
                "machine": effect.machine,
                "version": effect.version,
                "state": effect.state,
                "ctx": msgspec.Raw(effect.ctx),
            }
        case Flushed():
            entry = {
                "type": "flush_all",
                "instances_removed": effect.instances_removed,
                "machines_removed": effect.machines_removed,
            }
        case _:
            raise AssertionError(f"no wire form for {type(effect).__name__}")
    key = getattr(effect, "idempotency_key", None)
    if key is not None:
        entry["idempotency_key"] = key
    entry["timestamp"] = time_ms
    return entry
