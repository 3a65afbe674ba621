"""Decide a BATCH: one record for all of its operations.

    atomic        the first refused operation refuses the whole batch; nothing of it happens
    best_effort   each operation is answered by itself; those that succeed are one record

Operations are decided in order on a staging layer, so later ones see earlier ones.
"""

from collections.abc import Callable
from typing import Any, Final

from rstmdb_core.answers import (
    Outcome,
    Refusal,
    Step,
    answer_too_large,
    as_replay,
    bad_request,
    fits_name,
    key_reused,
)
from rstmdb_core.commands import ApplyEvent, Batch, CreateInstance, DeleteInstance, Operation, Refused
from rstmdb_core.document import canonical, decode_checked, encode
from rstmdb_core.errors import DocumentError
from rstmdb_core.idempotency import fingerprint, key_scope
from rstmdb_core.operations import decide_apply, decide_create, decide_delete, key_expiry, key_fault
from rstmdb_core.records import Effect, Key, Record
from rstmdb_core.state import State
from rstmdb_core.view import Staging

RETRYABLE: Final = frozenset(("WAL_IO_ERROR", "INTERNAL_ERROR", "RATE_LIMITED"))
"""The wire codes a client may retry; an item of a batch carries its own flag."""


def decide_batch(state: State, command: Batch, time_ms: int, new_id: Callable[[], str]) -> Outcome | Refusal:
    """Decide a BATCH."""
    settings = state.settings
    if len(command.operations) > settings.batch_operations_max:
        return bad_request(
            f"batch of {len(command.operations)} operations, the limit is {settings.batch_operations_max}"
        )
    scope = mark = None
    if command.idempotency_key is not None:
        fault = key_fault(command.idempotency_key, command.idempotency_ttl_secs)
        if fault is not None:
            return fault
        if not fits_name(command.principal):
            return bad_request("principal must be a name", parameter="principal")
        scope = key_scope("B", command.principal, command.idempotency_key)
        mark = batch_mark(command, settings.ctx_bytes_max)
        entry = state.idempotency.get(scope)
        if entry is not None and entry.expires_ms > time_ms:
            return key_reused() if entry.fingerprint != mark else Outcome(None, entry.replay())
    staging = Staging(state, time_ms)
    effects: list[Effect] = []
    keys: list[Key] = []
    items: list[Step | Refusal] = []
    size = 0
    for number, operation in enumerate(command.operations):
        item = _decide(staging, operation, time_ms, len(effects), new_id)
        if isinstance(item, Refusal):
            if command.atomic:
                return _failed(number, item)
        else:
            if item.effect is not None:
                staging.take(item.effect, item.key)
                effects.append(item.effect)
            if item.key is not None:
                keys.append(item.key)
            size += len(item.answer)
            if size > settings.answer_bytes_max:
                return answer_too_large(size, settings.answer_bytes_max)
        items.append(item)
    answer = _results(items, b"{", replayed=False)
    # A replay says `applied: false` once more for the whole, so it is a little longer than the answer.
    if len(answer) + 32 * (len(items) + 1) > settings.answer_bytes_max:
        return answer_too_large(len(answer), settings.answer_bytes_max)
    if not effects:
        return Outcome(None, answer)
    if scope is not None and mark is not None:
        expires_ms = key_expiry(state, command.idempotency_ttl_secs, time_ms)
        replay = _results(items, b'{"applied":false,', replayed=True)
        keys.append(Key(-1, scope, mark, expires_ms, replay))
    return Outcome(Record(state.next_sequence, time_ms, tuple(effects), tuple(keys)), answer)


def batch_mark(command: Batch, document_bytes_max: int) -> bytes:
    """Return the fingerprint of a BATCH: its operations without their keys, event ids and expectations."""
    marks = [_operation_mark(operation, document_bytes_max) for operation in command.operations]
    return fingerprint(b"batch", b"atomic" if command.atomic else b"best_effort", *marks)


def _operation_mark(operation: Operation, document_bytes_max: int) -> bytes:
    if isinstance(operation, ApplyEvent):
        names: list[Any] = [operation.instance_id, operation.event]
        return _joined("apply", names, operation.payload, document_bytes_max)
    if isinstance(operation, CreateInstance):
        names = [operation.instance_id, operation.machine, operation.version]
        return _joined("create", names, operation.initial_ctx, document_bytes_max)
    if isinstance(operation, DeleteInstance):
        return _joined("delete", [operation.instance_id], b"", document_bytes_max)
    return _joined("refused", [operation.code, operation.message], b"", document_bytes_max)


def _joined(kind: str, names: list[Any], document: bytes, bytes_max: int) -> bytes:
    try:
        text = b"{}"
        if document:
            value = decode_checked(bytes(document), place="", bytes_max=bytes_max)
            text = canonical(value or {})
    except DocumentError:
        # It will be refused; what was sent still tells two requests apart.
        text = bytes(document)
    return encode([kind, *names]) + text


def _decide(
    staging: Staging, operation: Operation, time_ms: int, index: int, new_id: Callable[[], str]
) -> Step | Refusal:
    if isinstance(operation, ApplyEvent):
        return decide_apply(staging, operation, time_ms, index)
    if isinstance(operation, CreateInstance):
        return decide_create(staging, operation, time_ms, index, new_id)
    if isinstance(operation, DeleteInstance):
        return decide_delete(staging, operation, time_ms, index)
    assert isinstance(operation, Refused)
    return Refusal(operation.code, operation.message)


def _failed(number: int, refusal: Refusal) -> Refusal:
    details: dict[str, Any] = {
        "failed_index": number,
        "code": refusal.code,
        "reason": refusal.message,
        "rolled_back": True,
    }
    if refusal.details is not None:
        details["details"] = refusal.details
    return Refusal(
        "BAD_REQUEST",
        f"operation {number} of the atomic batch failed and nothing was applied: {refusal.message}",
        details,
    )


def _results(items: list[Step | Refusal], head: bytes, *, replayed: bool) -> bytes:
    return b'%b"results":[%b]}' % (head, b",".join([_result(item, replayed) for item in items]))


def _result(item: Step | Refusal, replayed: bool) -> bytes:
    if isinstance(item, Step):
        answer = as_replay(item.answer) if replayed else item.answer
        return b'{"status":"ok","result":%b,"error":null}' % answer
    error: dict[str, Any] = {
        "code": item.code,
        "message": item.message,
        "retryable": item.code in RETRYABLE,
    }
    if item.details is not None:
        error["details"] = item.details
    return b'{"status":"error","result":null,"error":%b}' % encode(error)
