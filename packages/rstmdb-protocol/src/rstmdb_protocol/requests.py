"""Requests: the JSON that a client sends, written by clients and read by servers.

    {"type": "request", "id": "1", "op": "PING", "params": {}}

Reading a request never raises. It is judged in two steps, and neither lets another exception out:

    decode_request   grammar of the whole text, valid UTF-8 everywhere, complete surrogate pairs, bounded
                     nesting, the types of the envelope's members
    decode_params    the types and ranges of the parameters

Free-form documents inside parameters (`ctx`, `payload`, `definition`) stay raw bytes: their grammar and UTF-8
have been checked, but numbers that fit no double (`1e400`) are found by whoever decodes the document. Members
that nobody reads are ignored, and must be sound all the same: their numbers are checked, too.
"""

from typing import Any, Final, TypeVar

import msgspec
from msgspec import Raw, Struct

from rstmdb_protocol.errors import ParamsError
from rstmdb_protocol.limits import REQUEST_ID_BYTES_MAX
from rstmdb_protocol.reasons import reason_of, split_reason
from rstmdb_protocol.recovery import recover_envelope

ABSENT: Final = Raw()
"""A document that was not given. An explicit JSON null arrives as `Raw(b"null")`."""


class Request(Struct, gc=False, forbid_unknown_fields=True):
    """A request as it arrived. `decode_request` ignores unknown members; the struct by itself refuses them.

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
    except (ValueError, RecursionError) as first_error:
        try:
            if not _has_unknown_member(first_error):
                raise
            request = _decode_request(_without_unknown_members(payload, Request))
        except (ValueError, RecursionError) as error:
            recovered = recover_envelope(payload)
            return MalformedRequest(recovered.id, recovered.op, f"malformed request: {reason_of(error)}")
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
    except (ValueError, RecursionError) as first_error:
        try:
            if not _has_unknown_member(first_error):
                raise
            result = decode(_without_unknown_members(raw, params_type))
        except (ValueError, RecursionError) as error:
            raise _params_error(error) from None
    return result


_decode_any: Final = msgspec.json.Decoder().decode
_decode_members: Final = msgspec.json.Decoder(dict[str, Raw]).decode


def _has_unknown_member(error: ValueError | RecursionError) -> bool:
    return isinstance(error, msgspec.ValidationError) and "unknown field" in str(error)


def _without_unknown_members(raw: Raw | bytes, struct_type: type[Struct]) -> bytes:
    """Return an object's text without the members that `struct_type` does not know, having checked them all.

    Structs refuse unknown members so that this slower check runs only for those who send some: a decoder
    that skips a member does not look at the range of its numbers.
    """
    _decode_any(raw)
    known = struct_type.__struct_encode_fields__
    return _encode({name: text for name, text in _decode_members(raw).items() if name in known})


def _params_error(error: ValueError | RecursionError) -> ParamsError:
    place, text = split_reason(error)
    return ParamsError(f"params{place}", text)
