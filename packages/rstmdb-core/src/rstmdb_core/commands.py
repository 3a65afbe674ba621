"""What a caller may ask the engine to decide.

Commands are plain values in the words of the wire; documents are the JSON text the client sent (`b""` when
absent). They are checked in `engine.decide`, not here.
"""

import msgspec


class PutMachine(msgspec.Struct, frozen=True):
    """Register a machine version.

    Attributes:
        machine: Machine name.
        version: Version, 0 to 2**32 - 1.
        definition: The definition's JSON text.
        checksum: SHA-256 of the definition as 64 hex digits, verified; any other form is ignored.
    """

    machine: str
    version: int
    definition: bytes
    checksum: str | None = None


class CreateInstance(msgspec.Struct, frozen=True, gc=False):
    """Create an instance; without an id one is chosen.

    Attributes:
        instance_id: The id, or None for an automatic one.
        machine: Machine name.
        version: Machine version.
        initial_ctx: The context's JSON text.
        idempotency_key: The key that makes a retry safe.
        idempotency_ttl_secs: A shorter life for that key, in seconds.
    """

    instance_id: str | None
    machine: str
    version: int
    initial_ctx: bytes = b""
    idempotency_key: str | None = None
    idempotency_ttl_secs: int | None = None


class ApplyEvent(msgspec.Struct, frozen=True, gc=False):
    """Apply an event to an instance.

    Attributes:
        instance_id: The instance.
        event: The event's name.
        payload: JSON text of the members to merge into the context.
        expected_state: Refuse unless the instance is in this state.
        expected_wal_offset: Refuse unless this is the instance's last offset.
        event_id: The caller's own id of the event, kept as `last_event_id`.
        idempotency_key: The key that makes a retry safe.
        idempotency_ttl_secs: A shorter life for that key, in seconds.
    """

    instance_id: str
    event: str
    payload: bytes = b""
    expected_state: str | None = None
    expected_wal_offset: int | None = None
    event_id: str | None = None
    idempotency_key: str | None = None
    idempotency_ttl_secs: int | None = None


class DeleteInstance(msgspec.Struct, frozen=True, gc=False):
    """Delete an instance (softly: the id may be used again).

    Attributes:
        instance_id: The instance.
        idempotency_key: The key that makes a retry safe.
        idempotency_ttl_secs: A shorter life for that key, in seconds.
    """

    instance_id: str
    idempotency_key: str | None = None
    idempotency_ttl_secs: int | None = None


class Refused(msgspec.Struct, frozen=True):
    """A batch operation the caller already refused: not one of the three, or malformed.

    Attributes:
        code: Wire error code.
        message: Why.
    """

    code: str
    message: str


Operation = CreateInstance | ApplyEvent | DeleteInstance | Refused


class Batch(msgspec.Struct, frozen=True):
    """Several operations as one record.

    Attributes:
        atomic: All or nothing; otherwise each operation succeeds or fails alone.
        operations: The operations in order; later ones see what earlier ones did.
        idempotency_key: The key that makes a retry of the whole safe.
        idempotency_ttl_secs: A shorter life for that key, in seconds.
        principal: Whose key it is.
    """

    atomic: bool
    operations: list[Operation]
    idempotency_key: str | None = None
    idempotency_ttl_secs: int | None = None
    principal: str = "default"


class FlushAll(msgspec.Struct, frozen=True):
    """Remove every instance and machine. Whether that is allowed is the host's decision."""


class ImportedKey(msgspec.Struct, frozen=True):
    """An idempotency key that another database knew for an event it applied.

    A retry of that event with the key answers as if it had been applied here.

    Attributes:
        key: The key.
        event: The event it was used for.
        payload: That event's payload as JSON text.
        from_state: State before the event.
        to_state: State after it.
        ctx: Context after it, as JSON text.
        event_id: The event's own id.
    """

    key: str
    event: str
    payload: bytes
    from_state: str
    to_state: str
    ctx: bytes
    event_id: str | None = None


class ImportInstance(msgspec.Struct, frozen=True):
    """An instance as another database had it.

    Attributes:
        instance_id: Its id; limits on names do not apply.
        machine: Its machine, registered before.
        version: Its machine's version.
        state: A state of that machine.
        ctx: Its context's JSON text.
        last_event_id: The last event's own id.
        created_ms: When it was created, Unix milliseconds.
        updated_ms: When it was changed last.
        keys: The idempotency keys of its events.
    """

    instance_id: str
    machine: str
    version: int
    state: str
    ctx: bytes
    last_event_id: str | None
    created_ms: int
    updated_ms: int
    keys: tuple[ImportedKey, ...] = ()


class Import(msgspec.Struct, frozen=True):
    """Take over machines, instances and keys of another database, as one record.

    Attributes:
        items: In an order in which each finds what it refers to.
    """

    items: list[PutMachine | ImportInstance]


Command = PutMachine | CreateInstance | ApplyEvent | DeleteInstance | Batch | FlushAll | Import
