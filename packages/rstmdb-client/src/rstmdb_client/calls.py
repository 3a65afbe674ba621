"""Each operation once: what it sends, what it returns, what it means to execute it twice.

A function here checks and encodes its arguments, so whatever cannot be sent is refused before a byte leaves,
and returns a `Call`. Both faces and the batch builder use these functions; nothing here does I/O.

The idempotency key stands beside the parameters, not in them: which key is sent depends on what the server
offered in HELLO (see `Call.request_params`).
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

import msgspec

from rstmdb_client import results
from rstmdb_client.documents import decode, decode_document, decoder_for, encode_document, text
from rstmdb_client.errors import InvalidDocument, ProtocolViolation
from rstmdb_client.keys import AUTO, AUTOMATIC_KEY_TTL_SECS, Auto, new_key
from rstmdb_client.results import Applied, Instance, Json
from rstmdb_client.retry import Effect
from rstmdb_protocol import BATCHABLE, FEATURES

__all__ = ["BATCHABLE", "DURABLE_KEYS", "Call", "Need"]

R = TypeVar("R")
C = TypeVar("C")

DURABLE_KEYS = "idempotency.durable"
INTEGER_MAX = 2**53

_json = msgspec.json.Encoder().encode
_TTL = b',"idempotency_ttl_secs":%d' % AUTOMATIC_KEY_TTL_SECS


class Need(msgspec.Struct, frozen=True):
    """A feature without which a call must not be sent, and what it is needed for."""

    feature: str
    reason: str


class Call(msgspec.Struct, Generic[R], frozen=True, kw_only=True):
    """One operation, encoded and ready to be sent any number of times.

    Attributes:
        op: the operation's name on the wire.
        params: the JSON text of its parameters, without an idempotency key.
        effect: what executing it twice means.
        decode: turns the JSON text of the result into what the caller gets.
        key: the idempotency key, or None.
        key_is_automatic: the client made the key up, so it is sent only where the server keeps it durably.
        needs: features the server must have offered.
        subject: the instance or machine it is about, for traces.
    """

    op: str
    params: bytes
    effect: Effect
    decode: Callable[[Any], R]
    key: str | None = None
    key_is_automatic: bool = False
    needs: tuple[Need, ...] = ()
    subject: str | None = None

    def request_params(self, *, durable_keys: bool) -> bytes:
        """Return the parameters as they are sent to a server that keeps keys durably, or does not.

        A server without durable keys (the original) keeps them in memory for ever: made-up keys would only
        fill it, and could not make a second attempt safe. So it gets the caller's own keys alone.
        """
        if self.key is None or (self.key_is_automatic and not durable_keys):
            return self.params
        separator = b"," if len(self.params) > 2 else b""
        ttl = _TTL if self.key_is_automatic else b""
        return b'%b%b"idempotency_key":%b%b}' % (self.params[:-1], separator, _json(self.key), ttl)


def _object(*members: tuple[bytes, bytes | None]) -> bytes:
    parts = [b'"%b":%b' % (name, value) for name, value in members if value is not None]
    return b"{" + b",".join(parts) + b"}"


def _optional_text(value: str | None, path: str) -> bytes | None:
    return None if value is None else text(value, path)


def _integer(value: int, path: str) -> bytes:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidDocument(path, f"it must be an integer, not {type(value).__name__}")
    if not 0 <= value < INTEGER_MAX:
        raise InvalidDocument(path, f"{value} is not between 0 and 2**53")
    return b"%d" % value


def optional_integer(value: int | None, path: str) -> bytes | None:
    return None if value is None else _integer(value, path)


def _optional_document(value: Any, path: str) -> bytes | None:
    return None if value is None else encode_document(value, path)


def texts(values: Iterable[str] | None, path: str) -> bytes | None:
    if values is None:
        return None
    if isinstance(values, str):
        raise InvalidDocument(path, "it must be a list of strings, not a string")
    items = [text(value, f"{path}[{index}]") for index, value in enumerate(values)]
    return b"[" + b",".join(items) + b"]" if items else None


def _key(key: str | Auto | None) -> tuple[str | None, bool]:
    if key is AUTO:
        return new_key(), True
    if key is not None:
        text(key, "idempotency_key")
        if not key:
            raise InvalidDocument("idempotency_key", "it must not be empty")
    return key, False


def _plain(kind: Any, operation: str) -> Callable[[Any], Any]:
    return partial(decode, decoder_for(kind), operation=operation)


_decode_json = _plain(dict[str, Any], "this operation")
_CREATED = _plain(results.Created, "CREATE_INSTANCE")
_DELETED = _plain(results.Deleted, "DELETE_INSTANCE")
_SIMPLE: dict[str, Callable[[Any], Any]] = {
    name: _plain(kind, name)
    for name, kind in {
        "HELLO": results.Hello,
        "PUT_MACHINE": results.MachineStored,
        "GET_MACHINE": results.Machine,
        "LIST_INSTANCES": results.InstancePage,
        "SNAPSHOT_INSTANCE": results.Snapshot,
        "WAL_READ": results.WalPage,
        "WAL_STATS": results.WalStats,
        "COMPACT": results.Compacted,
        "FLUSH_ALL": results.Flushed,
        "UNWATCH": results.Unwatched,
        "WATCH_INSTANCE": results.WatchHeader,
        "WATCH_ALL": results.WatchHeader,
    }.items()
}


class _MachineList(msgspec.Struct, frozen=True):
    items: list[results.MachineSummary] = []


_MACHINE_LIST = _plain(_MachineList, "LIST_MACHINES")


def hello(client_name: str | None) -> Call[results.Hello]:
    """HELLO: name the version and ask for every feature this client can use."""
    params = _object(
        (b"protocol_version", b"1"),
        (b"client_name", text(client_name or "rstmdb-client", "client_name")),
        (b"wire_modes", b'["binary_json"]'),
        (b"features", _json(FEATURES)),
    )
    return Call(op="HELLO", params=params, effect=Effect.READ, decode=_SIMPLE["HELLO"])


def authenticate(token: str) -> Call[None]:
    """AUTH with a bearer token."""
    params = _object((b"method", b'"bearer"'), (b"token", text(token, "token")))
    return Call(op="AUTH", params=params, effect=Effect.READ, decode=_nothing)


def _nothing(_result: Any) -> None:
    return None


def ping() -> Call[None]:
    """PING."""
    return Call(op="PING", params=b"{}", effect=Effect.READ, decode=_nothing)


def bye() -> Call[None]:
    """BYE."""
    return Call(op="BYE", params=b"{}", effect=Effect.READ, decode=_nothing)


def info() -> Call[results.Info]:
    """INFO."""
    return Call(op="INFO", params=b"{}", effect=Effect.READ, decode=_decode_info)


def _decode_info(result: Any) -> results.Info:
    raw = decode(decoder_for(dict[str, Any]), result, "INFO")
    try:
        return msgspec.convert({**raw, "raw": raw}, results.Info)
    except msgspec.ValidationError as error:
        raise ProtocolViolation(f"the result of INFO has another shape: {error}") from error


def stats() -> Call[results.Stats]:
    """STATS, which only servers with the feature `stats` know."""
    return Call(
        op="STATS",
        params=b"{}",
        effect=Effect.READ,
        decode=lambda result: results.Stats(decode(decoder_for(dict[str, Any]), result, "STATS")),
        needs=(Need("stats", "statistics"),),
    )


def put_machine(
    machine: str, version: int, definition: Any, *, checksum: str | None = None
) -> Call[results.MachineStored]:
    """PUT_MACHINE: storing the same definition again changes nothing."""
    params = _object(
        (b"machine", text(machine, "machine")),
        (b"version", _integer(version, "version")),
        (b"definition", encode_document(definition, "definition")),
        (b"checksum", _optional_text(checksum, "checksum")),
    )
    decoder = _SIMPLE["PUT_MACHINE"]
    return Call(op="PUT_MACHINE", params=params, effect=Effect.REPEATABLE, decode=decoder, subject=machine)


def get_machine(machine: str, version: int) -> Call[results.Machine]:
    """GET_MACHINE."""
    params = _object((b"machine", text(machine, "machine")), (b"version", _integer(version, "version")))
    decoder = _SIMPLE["GET_MACHINE"]
    return Call(op="GET_MACHINE", params=params, effect=Effect.READ, decode=decoder, subject=machine)


def list_machines() -> Call[list[results.MachineSummary]]:
    """LIST_MACHINES."""
    return Call(
        op="LIST_MACHINES",
        params=b"{}",
        effect=Effect.READ,
        decode=lambda result: _MACHINE_LIST(result).items,
    )


def create_instance(
    machine: str,
    version: int,
    *,
    instance_id: str | None = None,
    ctx: Any = None,
    idempotency_key: str | Auto | None = AUTO,
) -> Call[results.Created]:
    """CREATE_INSTANCE."""
    params = _object(
        (b"instance_id", _optional_text(instance_id, "instance_id")),
        (b"machine", text(machine, "machine")),
        (b"version", _integer(version, "version")),
        (b"initial_ctx", _optional_document(ctx, "ctx")),
    )
    key, automatic = _key(idempotency_key)
    return Call(
        op="CREATE_INSTANCE",
        params=params,
        effect=Effect.ONCE if key is None else Effect.KEYED,
        decode=_CREATED,
        key=key,
        key_is_automatic=automatic,
        subject=instance_id,
    )


_instance_of_dict = decoder_for(Instance[dict[str, Any]]).decode
_applied_of_dict = decoder_for(Applied[dict[str, Any]]).decode


def _decode_instance(result: Any) -> Any:
    try:
        return _instance_of_dict(result)
    except msgspec.MsgspecError:
        return decode_document(Instance, result, dict[str, Any], "GET_INSTANCE")


def _decode_applied(result: Any) -> Any:
    try:
        return _applied_of_dict(result)
    except msgspec.MsgspecError:
        return decode_document(Applied, result, dict[str, Any], "APPLY_EVENT")


def get_instance(instance_id: str, *, ctx_type: type[C]) -> Call[Instance[C]]:
    """GET_INSTANCE."""
    decoder: Callable[[Any], Instance[C]] = _decode_instance
    if ctx_type is not dict:
        decoder = partial(decode_document, Instance, ctx_type=ctx_type, operation="GET_INSTANCE")
    params = b'{"instance_id":%b}' % text(instance_id, "instance_id")
    return Call(op="GET_INSTANCE", params=params, effect=Effect.READ, decode=decoder, subject=instance_id)


def apply_event(
    instance_id: str,
    event: str,
    *,
    payload: Any = None,
    expected_state: str | None = None,
    expected_wal_offset: int | None = None,
    event_id: str | None = None,
    idempotency_key: str | Auto | None = AUTO,
    ctx_type: type[C],
) -> Call[Applied[C]]:
    """APPLY_EVENT."""
    params = b'{"instance_id":%b,"event":%b' % (text(instance_id, "instance_id"), text(event, "event"))
    if payload is not None:
        params += b',"payload":%b' % encode_document(payload, "payload")
    if expected_state is not None:
        params += b',"expected_state":%b' % text(expected_state, "expected_state")
    if expected_wal_offset is not None:
        params += b',"expected_wal_offset":%b' % _integer(expected_wal_offset, "expected_wal_offset")
    if event_id is not None:
        params += b',"event_id":%b' % text(event_id, "event_id")
    key, automatic = _key(idempotency_key)
    decoder: Callable[[Any], Applied[C]] = _decode_applied
    if ctx_type is not dict:
        decoder = partial(decode_document, Applied, ctx_type=ctx_type, operation="APPLY_EVENT")
    return Call(
        op="APPLY_EVENT",
        params=params + b"}",
        effect=Effect.ONCE if key is None else Effect.KEYED,
        decode=decoder,
        key=key,
        key_is_automatic=automatic,
        subject=instance_id,
    )


def delete_instance(instance_id: str, *, idempotency_key: str | Auto | None = AUTO) -> Call[results.Deleted]:
    """DELETE_INSTANCE."""
    key, automatic = _key(idempotency_key)
    return Call(
        op="DELETE_INSTANCE",
        params=_object((b"instance_id", text(instance_id, "instance_id"))),
        effect=Effect.ONCE if key is None else Effect.KEYED,
        decode=_DELETED,
        key=key,
        key_is_automatic=automatic,
        subject=instance_id,
    )


def list_instances(
    *,
    machine: str | None = None,
    state: str | None = None,
    limit: int | None = None,
    offset: int | None = None,
    cursor: str | None = None,
) -> Call[results.InstancePage]:
    """LIST_INSTANCES: one page, by offset or by cursor."""
    if cursor is not None and offset is not None:
        raise InvalidDocument("cursor", "a page begins at a cursor or at an offset, not at both")
    params = _object(
        (b"machine", _optional_text(machine, "machine")),
        (b"state", _optional_text(state, "state")),
        (b"limit", optional_integer(limit, "limit")),
        (b"offset", optional_integer(offset, "offset")),
        (b"cursor", _optional_text(cursor, "cursor")),
    )
    needs = (Need("list.cursor", "cursors"),) if cursor is not None else ()
    decoder = _SIMPLE["LIST_INSTANCES"]
    return Call(op="LIST_INSTANCES", params=params, effect=Effect.READ, decode=decoder, needs=needs)


def snapshot_instance(instance_id: str) -> Call[results.Snapshot]:
    """SNAPSHOT_INSTANCE."""
    params = _object((b"instance_id", text(instance_id, "instance_id")))
    decoder = _SIMPLE["SNAPSHOT_INSTANCE"]
    return Call(op="SNAPSHOT_INSTANCE", params=params, effect=Effect.REPEATABLE, decode=decoder)


def wal_read(
    from_offset: int = 0, *, limit: int | None = None, instance_id: str | None = None
) -> Call[results.WalPage]:
    """WAL_READ: changes from an offset on, of all instances or of one."""
    params = _object(
        (b"from_offset", _integer(from_offset, "from_offset")),
        (b"limit", optional_integer(limit, "limit")),
        (b"instance_id", _optional_text(instance_id, "instance_id")),
    )
    needs = (Need("history", "the history of one instance"),) if instance_id is not None else ()
    decoder = _SIMPLE["WAL_READ"]
    return Call(op="WAL_READ", params=params, effect=Effect.READ, decode=decoder, needs=needs)


def wal_stats() -> Call[results.WalStats]:
    """WAL_STATS."""
    return Call(op="WAL_STATS", params=b"{}", effect=Effect.READ, decode=_SIMPLE["WAL_STATS"])


def compact(*, force_snapshot: bool = False) -> Call[results.Compacted]:
    """COMPACT."""
    params = b'{"force_snapshot":true}' if force_snapshot else b"{}"
    return Call(op="COMPACT", params=params, effect=Effect.REPEATABLE, decode=_SIMPLE["COMPACT"])


def flush_all() -> Call[results.Flushed]:
    """FLUSH_ALL: a second time would remove what others wrote in between."""
    return Call(op="FLUSH_ALL", params=b"{}", effect=Effect.ONCE, decode=_SIMPLE["FLUSH_ALL"])


def unwatch(subscription_id: str) -> Call[results.Unwatched]:
    """UNWATCH."""
    params = _object((b"subscription_id", text(subscription_id, "subscription_id")))
    return Call(op="UNWATCH", params=params, effect=Effect.REPEATABLE, decode=_SIMPLE["UNWATCH"])


def explain_event(
    instance_id: str, event: str | None = None, payload: Any = None
) -> Call[results.Explanation]:
    """EXPLAIN_EVENT: what would happen, which events are allowed, why not."""
    params = _object(
        (b"instance_id", text(instance_id, "instance_id")),
        (b"event", _optional_text(event, "event")),
        (b"payload", _optional_document(payload, "payload")),
    )
    return Call(
        op="EXPLAIN_EVENT",
        params=params,
        effect=Effect.READ,
        decode=lambda result: results.Explanation(
            decode(decoder_for(dict[str, Any]), result, "EXPLAIN_EVENT")
        ),
        needs=(Need("explain", "explaining an event"),),
        subject=instance_id,
    )


def batch(
    operations: Sequence[Call[Any]], *, atomic: bool, idempotency_key: str | Auto | None = AUTO
) -> Call[list[Json]]:
    """BATCH: several writes in one request, all or nothing when atomic.

    Raises:
        InvalidDocument: an operation that cannot stand in a batch, or an automatic key of the caller's own.
    """
    items = []
    for index, operation in enumerate(operations):
        if operation.op not in BATCHABLE:
            raise InvalidDocument(f"operations[{index}]", f"{operation.op} cannot stand in a batch")
        # One key covers the whole batch; an operation keeps only a key of the caller's own.
        params = operation.request_params(durable_keys=False)
        items.append(b'{"op":"%b","params":%b}' % (operation.op.encode(), params))
    mode = b'"atomic"' if atomic else b'"best_effort"'
    key, automatic = _key(idempotency_key)
    needs = []
    if atomic:
        needs.append(Need("batch.atomic", "a batch that is all or nothing"))
    if key is not None and not automatic:
        needs.append(Need(DURABLE_KEYS, "an idempotency key on a batch"))
    return Call(
        op="BATCH",
        params=_object((b"mode", mode), (b"ops", b"[" + b",".join(items) + b"]")),
        effect=Effect.ONCE if key is None else Effect.KEYED,
        decode=_batch_results,
        key=key,
        key_is_automatic=automatic,
        needs=tuple(needs),
    )


class _BatchResult(msgspec.Struct, frozen=True):
    results: list[Json]


_BATCH_RESULT = _plain(_BatchResult, "BATCH")


def _batch_results(result: Any) -> list[Json]:
    found: list[Json] = _BATCH_RESULT(result).results
    return found


def watch(
    op: str, members: Sequence[tuple[str, Any]], *, needs: tuple[Need, ...], subject: str | None
) -> Call[results.WatchHeader]:
    """WATCH_INSTANCE or WATCH_ALL, with the parameters that are not None."""
    params = _object(*[(name.encode(), value) for name, value in members])
    return Call(op=op, params=params, effect=Effect.READ, decode=_SIMPLE[op], needs=needs, subject=subject)


def custom(op: str, params: Any, *, repeatable: bool) -> Call[Any]:
    """Any operation by name, for what this client does not know yet."""
    document = encode_document({} if params is None else params, "params")
    if not (op.isascii() and op.replace("_", "").isalnum()):
        raise InvalidDocument("op", f"{op!r} is not the name of an operation")
    effect = Effect.REPEATABLE if repeatable else Effect.ONCE
    return Call(op=op, params=document, effect=effect, decode=partial(decode, decoder_for(Any), operation=op))
