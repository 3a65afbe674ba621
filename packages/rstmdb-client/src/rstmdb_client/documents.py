"""The caller's values to JSON and back: everything that cannot be sent is refused here, with its path.

Encoding is one pass of msgspec. It would turn NaN and infinity into null in silence, and servers read an
integer outside 64 bits as a double. So an encoded text that holds the word `null` or nineteen digits in a row
is looked at again, value by value, and only then. A value that fails to encode is searched for its place the
same way. Both searches are off the ordinary path.

Decoding goes straight into the type the caller asks for: a dict, dataclass, TypedDict, msgspec struct, or
any class with pydantic's `model_validate`. There is one decoder a type, kept.
"""

import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from rstmdb_client.errors import InvalidDocument, ProtocolViolation, ResultMismatch

__all__ = ["DEPTH_MAX", "decode", "decode_document", "decoder_for", "encode_document", "text"]

R = TypeVar("R")

# The server takes contexts to a depth of 56. This bound only keeps the search for a path finite.
DEPTH_MAX = 500
INTEGER_MIN, INTEGER_MAX = -(2**63), 2**64 - 1

_many_digits = re.compile(rb"\d{19}").search


def _encode_hook(value: Any) -> Any:
    """Turn what msgspec does not know into what it does: pydantic models and mappings of any kind."""
    dump = getattr(type(value), "model_dump", None)
    if dump is not None:
        return dump(value, mode="python")
    if isinstance(value, Mapping):
        return dict(value)
    raise NotImplementedError(f"values of type {type(value).__qualname__} cannot be sent as JSON")


def _decode_hook(kind: type, value: Any) -> Any:
    """Build what msgspec does not know: pydantic models."""
    validate = getattr(kind, "model_validate", None)
    if validate is None:
        raise NotImplementedError(f"documents cannot be decoded into {kind!r}")
    return validate(value)


_encoder = msgspec.json.Encoder(enc_hook=_encode_hook)
_encode = _encoder.encode


def encode_document(value: Any, path: str) -> bytes:
    """Return the JSON text of an object.

    Args:
        value: a mapping, dataclass, TypedDict, msgspec struct or pydantic model.
        path: what to call it in an error, for example `payload`.

    Raises:
        InvalidDocument: it is not an object, or holds something that JSON or the server cannot hold.
    """
    try:
        encoded = _encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError, NotImplementedError) as error:
        raise _locate(value, path, error) from error
    if encoded[:1] != b"{":
        raise InvalidDocument(path, f"it must be a JSON object, not {type(value).__name__}")
    if b"null" in encoded or _many_digits(encoded):
        _refuse_numbers(value, path)
    return encoded


def text(value: str, path: str) -> bytes:
    """Return the JSON text of a string, refusing one that is not Unicode text.

    Raises:
        InvalidDocument: it is not a string, or holds a lone surrogate.
    """
    if not isinstance(value, str):
        raise InvalidDocument(path, f"it must be a string, not {type(value).__name__}")
    try:
        return _encode(value)
    except ValueError as error:
        raise InvalidDocument(path, "it holds a lone surrogate, which is not text") from error


def _children(value: Any, path: str) -> list[tuple[Any, str]] | None:
    """Return the parts of a container with their paths, or None for anything else."""
    if isinstance(value, Mapping):
        return [(part, f"{path}.{key}") for key, part in value.items()]
    if isinstance(value, (list, tuple, set, frozenset)):
        return [(part, f"{path}[{index}]") for index, part in enumerate(value)]
    if isinstance(value, msgspec.Struct):
        names = [(name, getattr(value, name, msgspec.UNSET)) for name in value.__struct_fields__]
        return [(part, f"{path}.{name}") for name, part in names if part is not msgspec.UNSET]
    fields = getattr(type(value), "__dataclass_fields__", None)
    if fields is not None:
        return [(getattr(value, name, None), f"{path}.{name}") for name in fields]
    if getattr(type(value), "model_dump", None) is not None:
        return _children(_encode_hook(value), path)
    return None


def _refuse_numbers(value: Any, path: str) -> None:
    """Refuse what JSON or the server would silently turn into something else."""
    pending = [(value, path)]
    while pending:
        part, place = pending.pop()
        if isinstance(part, float):
            if not math.isfinite(part):
                raise InvalidDocument(place, f"{part!r} is not a JSON number")
        elif isinstance(part, int):
            if not INTEGER_MIN <= part <= INTEGER_MAX:
                raise InvalidDocument(place, "an integer must fit into 64 bits")
        elif part is not None and not isinstance(part, (str, bytes)):
            pending.extend(_children(part, place) or ())


def _locate(value: Any, path: str, error: BaseException) -> InvalidDocument:
    """Find the deepest part that fails to encode by itself."""
    for _ in range(DEPTH_MAX):
        if isinstance(value, Mapping):
            wrong = next((key for key in value if not _encodes({key: None})), msgspec.UNSET)
            if wrong is not msgspec.UNSET:
                return InvalidDocument(path, f"the key {wrong!r} cannot be sent as JSON")
        failing = next((pair for pair in _children(value, path) or () if not _encodes(pair[0])), None)
        if failing is None:
            return InvalidDocument(path, _why(value, error))
        value, path = failing
    return InvalidDocument(
        path.split(".", 1)[0].split("[", 1)[0], "it is nested too deeply, or contains itself"
    )


def _encodes(value: Any) -> bool:
    try:
        _encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError, NotImplementedError):
        return False
    return True


def _why(value: Any, error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply, or contains itself"
    if isinstance(value, str):
        return "it holds a lone surrogate, which is not text"
    return f"a value of type {type(value).__qualname__} cannot be sent as JSON"


@lru_cache(maxsize=512)
def decoder_for(kind: Any) -> msgspec.json.Decoder[Any]:
    """Return the decoder of a type; one is kept for each.

    Raises:
        TypeError: the type cannot be decoded into.
    """
    return msgspec.json.Decoder(kind, dec_hook=_decode_hook)


def decode(decoder: msgspec.json.Decoder[R], data: Any, operation: str) -> R:
    """Decode a result whose shape is the protocol's alone.

    Raises:
        ProtocolViolation: the server sent something of another shape.
    """
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ProtocolViolation(f"the result of {operation} has another shape: {error}") from error


def decode_document(generic: Any, data: Any, ctx_type: Any, operation: str) -> Any:
    """Decode a result that carries a document of the caller's type.

    The original stores null for an absent context; it counts as an empty one.

    Args:
        generic: the generic result struct, for example `Instance`.
        data: the JSON text of the result.
        ctx_type: what its document is to be.
        operation: for the error.

    Raises:
        ProtocolViolation: the server sent something of another shape.
        ResultMismatch: only the document does not fit.
    """
    try:
        return decoder_for(generic[ctx_type]).decode(data)
    except Exception as error:  # a caller's type may raise anything while it validates
        reason = str(error)
        cause = error
    plain = decode(decoder_for(generic[dict[str, Any] | None]), data, operation)
    if plain.ctx is not None:
        raise ResultMismatch(reason, plain) from cause
    try:
        return msgspec.structs.replace(plain, ctx=msgspec.convert({}, ctx_type, dec_hook=_decode_hook))
    except Exception as error:
        raise ResultMismatch(str(error), plain) from error
