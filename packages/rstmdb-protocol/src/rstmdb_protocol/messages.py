"""Answers and events: the JSON that a server sends, written by servers and read by clients.

    answer    {"type": "response", "id": "1", "status": "ok", "result": {"pong": true}}
    refusal   {"type": "response", "id": "1", "status": "error", "error": {code, message, retryable, …}}
    event     {"type": "event", "subscription_id": …, "wal_offset": …, …}
    end       {"type": "end", "subscription_id": …, "reason": …}

`result` is always an object; `error` always has `code`, `message` and `retryable`, and `details` only when it
is an object: published clients break on anything else.
"""

from typing import Any, Final, Literal, TypeVar

import msgspec
from msgspec import Raw, Struct

from rstmdb_protocol.decoder import Framing
from rstmdb_protocol.errors import RETRYABLE, FramingError, FramingFault, MessageError
from rstmdb_protocol.frames import encode_frame
from rstmdb_protocol.limits import LINE_BYTES_MAX
from rstmdb_protocol.reasons import reason_of

_ABSENT: Final = Raw()
_FRAME: Final = Framing.FRAME
_encode: Final = msgspec.json.Encoder().encode

# Answers. Pieces are joined, not encoded as a whole: the result is JSON text already.


def encode_ok(request_id: str, result_json: bytes) -> bytes:
    """Return the payload of a successful answer; `result_json` is the JSON text of an object."""
    return b'{"type":"response","id":%b,"status":"ok","result":%b}' % (_encode(request_id), result_json)


class ErrorBody(Struct, gc=False, omit_defaults=True, frozen=True):
    """The `error` member of an answer.

    Attributes:
        code: One of `ErrorCode`; any string is accepted from a newer server.
        message: For people.
        retryable: Whether the same request may succeed later.
        details: Why, for programs; absent when there is nothing to say.
    """

    code: str
    # Factories are never equal to the values they make, so that both are always written.
    message: str = msgspec.field(default_factory=str)
    retryable: bool = msgspec.field(default_factory=bool)
    details: dict[str, Any] | None = None


def encode_error(
    request_id: str,
    code: str,
    message: str,
    *,
    retryable: bool | None = None,
    details: dict[str, Any] | None = None,
) -> bytes:
    """Return the payload of a refusal.

    Args:
        request_id: The id of the request.
        code: One of `ErrorCode`.
        message: Says what is wrong. Published clients take the word "connection" in it for a lost one.
        retryable: Whether the same request may succeed later; by default what the code says.
        details: Why, as a JSON object; never sent as null.
    """
    if retryable is None:
        retryable = code in RETRYABLE
    body = _encode(ErrorBody(str(code), message, retryable, details))
    return b'{"type":"response","id":%b,"status":"error","error":%b}' % (_encode(request_id), body)


# Events. All subscribers of a change share the bytes behind the subscription's own prefix.


def event_prefix(subscription_id: str) -> bytes:
    """Return what all event messages of one subscription begin with; keep it with the subscription."""
    return b'{"type":"event","subscription_id":%b,' % _encode(subscription_id)


def event_body(
    *,
    instance_id: str,
    machine: str,
    version: int,
    wal_offset: int,
    from_state: str | None,
    to_state: str | None,
    event: str | None,
    payload: bytes = b"",
    ctx: bytes = b"",
    kind: str | None = None,
    timestamp_ms: int | None = None,
) -> bytes:
    """Return what all subscriptions share of one event message; append it to an `event_prefix`.

    Args:
        instance_id: The instance that changed.
        machine: Its machine.
        version: The machine's version.
        wal_offset: Offset of the change.
        from_state: State before; None for a change that has none.
        to_state: State after; None for a change that has none.
        event: Name of the applied event; None for other kinds of change.
        payload: JSON text; empty is sent as null.
        ctx: JSON text of the context after the change; empty leaves it out.
        kind: Only for the kinds of change that a watch asked to include.
        timestamp_ms: When it happened, in Unix milliseconds.
    """
    body = (
        b'"instance_id":%b,"machine":%b,"version":%d,"wal_offset":%d,"from_state":%b,"to_state":%b,"event":%b'
        % (
            _encode(instance_id),
            _encode(machine),
            version,
            wal_offset,
            _encode(from_state),
            _encode(to_state),
            _encode(event),
        )
    )
    body += b',"payload":%b' % (payload or b"null")
    if ctx:
        body += b',"ctx":%b' % ctx
    if kind is not None:
        body += b',"kind":%b' % _encode(kind)
    if timestamp_ms is not None:
        body += b',"timestamp":%d' % timestamp_ms
    return body + b"}"


def encode_end(subscription_id: str, reason: str, *, oldest_offset: int | None = None) -> bytes:
    """Return the payload that tells a client that a subscription has ended.

    Args:
        subscription_id: The subscription.
        reason: `UNWATCHED` or `OFFSET_COMPACTED`.
        oldest_offset: With `OFFSET_COMPACTED`, the oldest offset that can still be read.
    """
    return _encode(End(subscription_id, reason, oldest_offset))


def frame_for(payload: bytes, framing: Framing) -> bytes:
    """Return a message as it goes on the wire, framed like the message it belongs to.

    Args:
        payload: JSON text without a raw line feed, as everything in this module makes it.
        framing: Of the request, or for an event of the watch, that it belongs to.

    Raises:
        FramingError: The payload is larger than a message can be.
    """
    if framing is _FRAME:
        return encode_frame(payload)
    if len(payload) > LINE_BYTES_MAX:
        detail = f"{len(payload)} bytes, at most {LINE_BYTES_MAX} fit"
        raise FramingError(FramingFault.LINE_TOO_LONG, detail)
    return payload + b"\n"


# What a client reads.


class Response(Struct, gc=False, frozen=True, tag_field="type", tag="response"):
    """An answer.

    Attributes:
        id: The id of the request.
        status: Whether `result` or `error` counts.
        result: JSON text; empty or null when there is none.
        error: Set when the status is "error".
    """

    id: str
    status: Literal["ok", "error"]
    result: Raw = _ABSENT
    error: ErrorBody | None = None


class Event(Struct, gc=False, frozen=True, tag_field="type", tag="event"):
    """A change that a subscription reports.

    An applied event has every member up to `payload`, and `ctx` if the watch wants it. Other kinds of change,
    sent only to watches that asked for them, leave out what they do not have.
    """

    subscription_id: str
    wal_offset: int
    instance_id: str | None = None
    machine: str | None = None
    version: int | None = None
    from_state: str | None = None
    to_state: str | None = None
    event: str | None = None
    payload: Raw = _ABSENT
    ctx: Raw = _ABSENT
    kind: str | None = None
    timestamp: int | None = None


class End(Struct, gc=False, frozen=True, tag_field="type", tag="end", omit_defaults=True):
    """The end of a subscription that the client did not end itself.

    Attributes:
        subscription_id: The subscription.
        reason: Why, as `encode_end` says; None from a server that does not tell.
        oldest_offset: Where a new watch can begin, if history was compacted away.
    """

    subscription_id: str
    reason: str | None = None
    oldest_offset: int | None = None


class Unknown(Struct, gc=False, frozen=True):
    """A message of a type that this version does not know; ignore it.

    Attributes:
        type: Its `type` member.
        payload: The whole message.
    """

    type: str
    payload: bytes


class _Typed(Struct, gc=False):
    type: str


_decode_message: Final = msgspec.json.Decoder(Response | Event | End).decode
_decode_type: Final = msgspec.json.Decoder(_Typed).decode
_KNOWN_TYPES: Final = frozenset({"response", "event", "end"})


def decode_message(payload: bytes) -> Response | Event | End | Unknown:
    """Read one message of a server.

    Raises:
        MessageError: It is malformed. The server cannot be trusted to be in step any more.
    """
    try:
        if not payload.isascii():
            payload.decode()
        message: Response | Event | End = _decode_message(payload)
    except (ValueError, RecursionError) as error:
        try:
            kind = _decode_type(payload).type
        except (ValueError, RecursionError):
            raise MessageError(reason_of(error)) from None
        if kind in _KNOWN_TYPES:
            raise MessageError(reason_of(error)) from None
        return Unknown(kind, payload)
    if type(message) is Response and message.status == "error" and message.error is None:
        raise MessageError("status is error but the error is missing")
    return message


ResultT = TypeVar("ResultT", bound=Struct)
_result_decoders: Final[dict[type[Struct], Any]] = {}


def decode_result(result_type: type[ResultT], raw: Raw | bytes) -> ResultT:
    """Read the result of an operation; unknown members are ignored.

    Args:
        result_type: One of the result structs of `operations`.
        raw: The `result` of a successful response.

    Raises:
        MessageError: It is not what the operation promises.
    """
    try:
        decode = _result_decoders[result_type]
    except KeyError:
        decode = _result_decoders[result_type] = msgspec.json.Decoder(result_type).decode
    try:
        result: ResultT = decode(raw)
    except (ValueError, RecursionError) as error:
        raise MessageError(f"result: {reason_of(error)}") from None
    return result
