"""Requests, answers and events: the JSON inside a frame or on a line.

    request   {"type": "request", "id": "1", "op": "PING", "params": {}}
    answer    {"type": "response", "id": "1", "status": "ok", "result": {"pong": true}}
    refusal   {"type": "response", "id": "1", "status": "error", "error": {code, message, retryable, …}}
    event     {"type": "event", "subscription_id": …, "wal_offset": …, …}
    end       {"type": "end", "subscription_id": …}

Reading a request never raises. It is judged in two steps, and neither lets another exception out:

    decode_request   grammar of the whole text, valid UTF-8 everywhere, complete surrogate pairs, bounded
                     nesting, the types of the envelope's members
    decode_params    the types and ranges of the parameters

Free-form documents inside parameters (`ctx`, `payload`, `definition`) stay raw bytes: their grammar and UTF-8
have been checked, but numbers that fit no double (`1e400`) are found by whoever decodes the document. A
member that nobody reads is ignored whatever number stands in it.
"""

import re
from typing import Any, Final, Literal, TypeVar

import msgspec
from msgspec import Raw, Struct

from rstmdb_protocol.decoder import Framing
from rstmdb_protocol.errors import RETRYABLE, MessageError, ParamsError
from rstmdb_protocol.frames import encode_frame
from rstmdb_protocol.limits import REQUEST_ID_BYTES_MAX
from rstmdb_protocol.recovery import recover_envelope

ABSENT: Final = Raw()
"""A document that was not given. An explicit JSON null arrives as `Raw(b"null")`."""


class Request(Struct, gc=False):
    """A request as it arrived.

    Attributes:
        type: Must be present and a string; its value means nothing.
        id: Chosen by the client, echoed in the answer.
        op: Name of the operation, not looked up yet.
        params: Parameters, not decoded yet; empty when absent.
    """

    type: str
    id: str
    op: str
    params: Raw = ABSENT


class MalformedRequest(Struct, gc=False, frozen=True):
    """A message that is no request.

    Attributes:
        id: Recovered id, or None: then nobody can be answered and the stream is to be closed.
        op: Recovered name of the operation, or None.
        message: What is wrong, fit for a client to see.
    """

    id: str | None
    op: str | None
    message: str


_encode: Final = msgspec.json.Encoder().encode
_decode_request: Final = msgspec.json.Decoder(Request).decode

# Below this many characters an id cannot exceed the limit, at four bytes a character.
_ID_SURELY_SHORT: Final = REQUEST_ID_BYTES_MAX // 4


def encode_request(request_id: str, op: str, params: bytes = b"") -> bytes:
    """Return the payload of a request; `params` is JSON text, omitted when empty."""
    head = b'{"type":"request","id":%b,"op":%b' % (_encode(request_id), _encode(op))
    return b'%b,"params":%b}' % (head, params) if params else head + b"}"


def decode_request(payload: bytes) -> Request | MalformedRequest:
    """Read one request; never raises.

    Checks the grammar and the UTF-8 of the whole text, also inside `params` and ignored members. In a
    valid request the last of several equal members counts; the id of a malformed one is recovered as
    `recovery.py` says.
    """
    try:
        # The JSON decoder skips strings that nobody reads without looking at their UTF-8.
        if not payload.isascii():
            payload.decode()
        request = _decode_request(payload)
    except (ValueError, RecursionError) as error:
        recovered = recover_envelope(payload)
        return MalformedRequest(recovered.id, recovered.op, f"malformed request: {_reason(error)}")
    if len(request.id) > _ID_SURELY_SHORT and len(request.id.encode()) > REQUEST_ID_BYTES_MAX:
        message = f"malformed request: id is longer than {REQUEST_ID_BYTES_MAX} bytes"
        return MalformedRequest(request.id, request.op, message)
    return request


ParamsT = TypeVar("ParamsT", bound=Struct)
_params_decoders: Final[dict[type[Struct], Any]] = {}


def decode_params(params_type: type[ParamsT], raw: Raw | bytes) -> ParamsT:
    """Read the parameters of an operation; absent and null count as an empty object.

    Args:
        params_type: One of the parameter structs of `operations`.
        raw: What the request carried.

    Raises:
        ParamsError: They do not fit; the error names the place.
    """
    try:
        decode = _params_decoders[params_type]
    except KeyError:
        decode = _params_decoders[params_type] = msgspec.json.Decoder(params_type).decode
    try:
        if len(raw) > 4:
            result: ParamsT = decode(raw)
        else:
            text = bytes(raw)
            result = decode(b"{}" if text in (b"", b"null") else text)
    except (ValueError, RecursionError) as error:
        raise _params_error(error) from None
    return result


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
    return body + b"}"


def encode_end(subscription_id: str) -> bytes:
    """Return the payload that tells a client that a subscription has ended."""
    return b'{"type":"end","subscription_id":%b}' % _encode(subscription_id)


def frame_for(payload: bytes, framing: Framing) -> bytes:
    """Return a message as it goes on the wire, framed like the message it belongs to."""
    return encode_frame(payload) if framing is Framing.FRAME else payload + b"\n"


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
    result: Raw = ABSENT
    error: ErrorBody | None = None


class Event(Struct, gc=False, frozen=True, tag_field="type", tag="event"):
    """A change that a subscription reports.

    An applied event has every member but `ctx` and `kind`. Other kinds of change, sent only to watches that
    asked for them, leave out what they do not have.
    """

    subscription_id: str
    wal_offset: int
    instance_id: str | None = None
    machine: str | None = None
    version: int | None = None
    from_state: str | None = None
    to_state: str | None = None
    event: str | None = None
    payload: Raw = ABSENT
    ctx: Raw = ABSENT
    kind: str | None = None


class End(Struct, gc=False, frozen=True, tag_field="type", tag="end"):
    """The end of a subscription that the client did not end itself."""

    subscription_id: str


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
            raise MessageError(_reason(error)) from None
        if kind in _KNOWN_TYPES:
            raise MessageError(_reason(error)) from None
        return Unknown(kind, payload)
    if type(message) is Response and message.status == "error" and message.error is None:
        raise MessageError("status is error but the error is missing")
    return message


# Texts.

_AT: Final = " - at `$"
_TYPE_NAMES: Final = {
    "int": "an integer",
    "float": "a decimal number",
    "str": "a string",
    "bool": "a boolean",
    "object": "an object",
    "array": "an array",
    "null": "null",
}
_BACKTICKED: Final = re.compile(r"`([^`]*)`")


def _plain(match: re.Match[str]) -> str:
    """Return a type or a name as a decoder's error quotes it, in words."""
    names = [_TYPE_NAMES.get(name) for name in match[1].split(" | ")]
    return " or ".join(name for name in names if name) if all(names) else f"'{match[1]}'"


def _split(error: ValueError | RecursionError) -> tuple[str, str]:
    """Return the place (a path behind the root) and the reason that a decoder's error tells."""
    if isinstance(error, RecursionError):
        return "", "nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "", f"invalid UTF-8 (byte {error.start})"
    text, _, place = str(error).partition(_AT)
    text = _BACKTICKED.sub(_plain, text)
    if text == "Input data was truncated":
        text = "JSON ends too early"
    elif not text.startswith("JSON"):
        text = text[:1].lower() + text[1:]
    return place.rstrip("`"), text


def _reason(error: ValueError | RecursionError) -> str:
    place, text = _split(error)
    return f"{place.lstrip('.')}: {text}" if place else text


def _params_error(error: ValueError | RecursionError) -> ParamsError:
    place, text = _split(error)
    return ParamsError(f"params{place}", text)
