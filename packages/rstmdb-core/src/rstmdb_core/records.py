"""What is logged: records of numbered effects.

    record  = [first sequence, time_ms, [effect, ...], [key, ...]]               msgpack, array-like
    effect  = [tag, field, ...]                                                  tag: a small integer
    key     = [effect index | -1, scope, fingerprint, expires_ms, answer]        see idempotency.py

An effect says what happened, not what was asked: `apply` needs no guard, no clock and no merge to repeat
it. The effect at index i of a record has the sequence `first_sequence + i`. Fields are only ever appended,
with a default, so that old logs stay readable and old readers skip what they do not know.
"""

from typing import Final

import msgspec

from rstmdb_core.errors import RecordError


class MachinePut(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=1):
    """A machine version was registered; `definition` is its canonical text."""

    machine: str
    version: int
    definition: bytes
    checksum: str


class InstanceCreated(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=2):
    """An instance was created in `state`, its machine's initial one."""

    instance_id: str
    machine: str
    version: int
    state: str
    ctx: bytes
    idempotency_key: str | None = None


class EventApplied(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=3):
    """An event was applied: `payload` as sent (`b""`: none), `ctx` whole, after the merge."""

    instance_id: str
    machine: str
    version: int
    event: str
    from_state: str
    to_state: str
    payload: bytes
    ctx: bytes
    event_id: str | None = None
    idempotency_key: str | None = None


class InstanceDeleted(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=4):
    """An instance was deleted; its tombstone is kept until `expires_ms`."""

    instance_id: str
    machine: str
    version: int
    expires_ms: int
    idempotency_key: str | None = None


class Flushed(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=5):
    """Everything was removed; the counts are those that were shown to the caller."""

    instances_removed: int
    machines_removed: int


class InstanceImported(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=6):
    """An instance was taken over from another database, as it was there."""

    instance_id: str
    machine: str
    version: int
    state: str
    ctx: bytes
    last_event_id: str | None
    created_ms: int
    updated_ms: int


Effect = MachinePut | InstanceCreated | EventApplied | InstanceDeleted | Flushed | InstanceImported


class Key(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An idempotency key to remember.

    Attributes:
        index: The effect it belongs to; -1 for one of the whole record.
        scope: Operation, instance (or machine, or principal) and key in one string.
        fingerprint: BLAKE2 of the request's canonical parameters.
        expires_ms: When it is forgotten, Unix milliseconds.
        answer: The answer of a replay; empty when the `EventApplied` at `index` says it all.
    """

    index: int
    scope: str
    fingerprint: bytes
    expires_ms: int
    answer: bytes = b""


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One atomic entry of the log.

    Attributes:
        first_sequence: Sequence of the first effect.
        time_ms: When it was decided, Unix milliseconds; never less than the record before.
        effects: One or more effects; the record takes as many sequences.
        keys: The idempotency keys it stores.
    """

    first_sequence: int
    time_ms: int
    effects: tuple[Effect, ...]
    keys: tuple[Key, ...] = ()


encode_record: Final = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Record).decode


def decode_record(body: bytes, first_sequence: int | None = None) -> Record:
    """Decode a record's bytes.

    Args:
        body: What `encode_record` returned.
        first_sequence: The sequence the log gave it, checked when present.

    Raises:
        RecordError: The bytes are no record, or one with another sequence.
    """
    try:
        record = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RecordError(f"bytes are not a record of this version ({error})") from None
    if first_sequence is not None and record.first_sequence != first_sequence:
        raise RecordError(f"record holds sequence {record.first_sequence}, the log says {first_sequence}")
    return record
