"""JSON documents of clients: checked and made compact once, at intake.

A context or payload is decoded, checked and encoded again before anything else sees it, because the raw
text may hold what later cannot be read back (1e400, bad UTF-8, depth beyond a reader's limit) and because
it would pin the frame it came in. What `intake` returns is plain compact JSON that every client can read:

    object at the top · depth at most 56 · finite doubles · integers of 64 bits (larger ones become doubles)

A frame carries sixteen times what a context may take, and millions of values in it take seconds to decode.
So a text whose commas and opening brackets alone are too many is refused before anything is decoded: each of
them is still there in the compact form, unless its object names a key twice.
"""

import re
from sys import maxsize
from typing import Any

import msgspec

from rstmdb_core.errors import DocumentError
from rstmdb_core.limits import CONTEXT_BYTES_MAX, DOCUMENT_DEPTH_MAX

EMPTY = b"{}"

_decode = msgspec.json.Decoder().decode
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode
_HARMLESS_BYTES = 18
"""A text this short has neither the depth nor the digits that have to be looked for."""

_long_number = re.compile(rb"\d{19}").search


def intake(
    raw: bytes, *, place: str = "document", bytes_max: int = CONTEXT_BYTES_MAX
) -> tuple[dict[str, Any], bytes]:
    """Decode and check a client's JSON object.

    Args:
        raw: JSON text; empty or `null` stands for an empty object.
        place: What the document is, for error messages.
        bytes_max: Largest compact form accepted, in bytes.

    Returns:
        The decoded object and its compact text.

    Raises:
        DocumentError: The text is not acceptable.
    """
    if not raw:
        return {}, EMPTY
    if type(raw) is not bytes:
        raw = bytes(raw)
    value = _decode_shallow(raw, place, bytes_max)
    if type(value) is not dict:
        if value is None:
            return {}, EMPTY
        raise DocumentError(place, "must be a JSON object")
    text = _encode(value)
    if len(text) > bytes_max:
        raise DocumentError(place, f"takes {len(text)} bytes, the limit is {bytes_max}")
    if len(text) > _HARMLESS_BYTES and _long_number(text) is not None:
        value = _with_bounded_integers(value, place)
        text = _encode(value)
    return value, text


def decode_checked(raw: bytes, *, place: str, bytes_max: int = maxsize) -> Any:
    """Decode any JSON value with the rules of `intake` on depth and numbers.

    Args:
        raw: JSON text.
        place: What it is, for error messages.
        bytes_max: Refuse a text that holds more commas and opening brackets; what is longer otherwise is
            for the caller to refuse.

    Raises:
        DocumentError: The text is not acceptable.
    """
    value = _decode_shallow(raw, place, bytes_max)
    if len(raw) > _HARMLESS_BYTES and _long_number(raw) is not None:
        value = _with_bounded_integers(value, place)
    return value


def _decode_shallow(raw: bytes, place: str, bytes_max: int) -> Any:
    """Decode with the rules on size and depth."""
    if len(raw) > bytes_max and raw.count(b",") + raw.count(b"[") + raw.count(b"{") > bytes_max:
        raise DocumentError(place, f"holds more values than fit into the limit of {bytes_max} bytes")
    try:
        value = _decode(raw)
    except RecursionError:
        raise DocumentError(place, f"is nested deeper than {DOCUMENT_DEPTH_MAX}") from None
    except UnicodeDecodeError:
        raise DocumentError(place, "is not valid UTF-8") from None
    except msgspec.DecodeError as error:
        raise DocumentError(place, f"is not valid JSON ({error})") from None
    if len(raw) <= _HARMLESS_BYTES:
        return value
    # Brackets inside strings count too: a false alarm costs one walk.
    if raw.count(b"[") + raw.count(b"{") > DOCUMENT_DEPTH_MAX and not _shallow_enough(value):
        raise DocumentError(place, f"is nested deeper than {DOCUMENT_DEPTH_MAX}")
    return value


def decode_object(text: bytes) -> dict[str, Any]:
    """Decode a document that `intake` made."""
    return _decode_object(text)


def canonical(value: Any) -> bytes:
    """Encode a value with sorted keys: equal documents have equal bytes."""
    return _encode_sorted(value)


def encode(value: Any) -> bytes:
    """Encode a value as compact JSON, keys in their order."""
    return _encode(value)


def merge(context: bytes, decoded: dict[str, Any] | None, payload: dict[str, Any]) -> bytes:
    """Put the members of a payload over those of a context (top level only).

    Args:
        context: The context's compact text.
        decoded: The same, decoded, where the caller has it already.
        payload: The payload, decoded by `intake`.

    Returns:
        The merged context's compact text.
    """
    if decoded is not None:
        return _encode({**decoded, **payload})
    members: dict[str, Any] = _decode_members(context)
    members.update(payload)
    return _encode(members)


def _shallow_enough(value: Any) -> bool:
    level = [value]
    for _ in range(DOCUMENT_DEPTH_MAX):
        inner: list[Any] = []
        for item in level:
            if type(item) is dict:
                inner.extend(item.values())
            elif type(item) is list:
                inner.extend(item)
        if not inner:
            return True
        level = inner
    return not any(type(item) is dict or type(item) is list for item in level)


def _with_bounded_integers(value: Any, place: str) -> Any:
    """Turn integers outside 64 bits into doubles, as the original did. The depth is already bounded."""
    if type(value) is int:
        if -(2**63) <= value < 2**64:
            return value
        try:
            return float(value)
        except OverflowError:
            raise DocumentError(place, "holds a number out of range") from None
    if type(value) is dict:
        return {key: _with_bounded_integers(item, place) for key, item in value.items()}
    if type(value) is list:
        return [_with_bounded_integers(item, place) for item in value]
    return value
