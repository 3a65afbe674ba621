"""Every conformance vector, run against this codec the way vectors/README.md tells others to run it."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from msgspec import Raw, Struct

from rstmdb_protocol import (
    OPERATIONS,
    RETRYABLE,
    VECTOR_SETS,
    ErrorCode,
    Framing,
    MalformedRequest,
    MessageDecoder,
    MessageError,
    ParamsError,
    Request,
    Response,
    crc32c,
    decode_message,
    decode_params,
    decode_request,
    decode_result,
    encode_error,
    encode_frame,
    expand_bytes,
    load_vectors,
)

SPLIT_BYTES_MAX = 4096


def vectors(name: str, group: str) -> pytest.MarkDecorator:
    """Return a parametrisation over one group of one set."""
    items = load_vectors(name)[group]
    assert items, f"{name}.{group} is empty"
    return pytest.mark.parametrize(
        "vector", items, ids=[v.get("name", v.get("op", "")) or str(n) for n, v in enumerate(items)]
    )


def chunkings(stream: bytes) -> Iterator[list[bytes]]:
    """Yield the ways in which a stream must be fed: whole, split at each byte, byte by byte."""
    yield [stream]
    if len(stream) > SPLIT_BYTES_MAX:
        yield [stream[n : n + 1000] for n in range(0, len(stream), 1000)]
        return
    for position in range(1, len(stream)):
        yield [stream[:position], stream[position:]]
    yield [stream[n : n + 1] for n in range(len(stream))]


def check_stream(vector: dict[str, Any]) -> None:
    stream = expand_bytes(vector["stream"])
    expected = [(expand_bytes(m["payload"]), Framing(m["framing"])) for m in vector["messages"]]
    for chunks in chunkings(stream):
        options = {"payload_bytes_max": vector["payload_bytes_max"]} if "payload_bytes_max" in vector else {}
        decoder = MessageDecoder(**options)
        messages = [message for chunk in chunks for message in decoder.feed(chunk)]
        messages += decoder.feed(b"")
        assert messages == expected
        assert (decoder.error.fault.name if decoder.error else None) == vector["error"]
        assert (decoder.buffered_bytes > 0) == vector["incomplete"]
        if vector["error"]:
            assert decoder.feed(encode_frame(b"{}")) == []


@vectors("frames", "decode")
def test_frame_streams(vector: dict[str, Any]) -> None:
    check_stream(vector)


@vectors("lines", "decode")
def test_line_streams(vector: dict[str, Any]) -> None:
    check_stream(vector)


@vectors("frames", "encode")
def test_frames_are_encoded(vector: dict[str, Any]) -> None:
    assert encode_frame(expand_bytes(vector["payload"])) == expand_bytes(vector["frame"])


@vectors("frames", "checksums")
def test_checksums(vector: dict[str, Any]) -> None:
    assert f"{crc32c(expand_bytes(vector['data'])):08x}" == vector["crc32c"]


@vectors("requests", "valid")
def test_valid_requests(vector: dict[str, Any]) -> None:
    request = decode_request(expand_bytes(vector["payload"]))
    assert type(request) is Request
    assert (request.id, request.op) == (vector["id"], vector["op"])
    if "params" in vector:
        text = bytes(request.params)
        assert (msgspec.json.decode(text) if text else None) == vector["params"]


@vectors("requests", "malformed")
def test_malformed_requests(vector: dict[str, Any]) -> None:
    request = decode_request(expand_bytes(vector["payload"]))
    assert type(request) is MalformedRequest
    assert (request.id, request.op) == (vector["id"], vector["op"])
    assert request.message.startswith("malformed request: ")


@vectors("params", "accepted")
def test_accepted_params(vector: dict[str, Any]) -> None:
    params = decode_params(OPERATIONS[vector["op"]].params_type, expand_bytes(vector["params"]))
    for name, expected in vector["members"].items():
        assert plain(member(params, name)) == expected, name


@vectors("params", "refused")
def test_refused_params(vector: dict[str, Any]) -> None:
    with pytest.raises(ParamsError) as caught:
        decode_params(OPERATIONS[vector["op"]].params_type, expand_bytes(vector["params"]))
    # An ignored member has no name of its own: its place is told as `params[...]`.
    assert caught.value.place.split("[...]")[0] == vector["place"]
    assert "connection" not in str(caught.value)


@vectors("messages", "read")
def test_messages(vector: dict[str, Any]) -> None:
    message = decode_message(expand_bytes(vector["payload"]))
    assert type(message).__name__.lower() == vector["type"]
    for name, expected in vector["members"].items():
        value = getattr(message, name)
        if isinstance(value, Struct):
            value = msgspec.to_builtins(value)
        assert plain(value) == expected, name


@vectors("messages", "malformed")
def test_malformed_messages(vector: dict[str, Any]) -> None:
    with pytest.raises(MessageError):
        decode_message(expand_bytes(vector["payload"]))


@vectors("messages", "results")
def test_results(vector: dict[str, Any]) -> None:
    text = msgspec.json.encode(vector["result"])
    result_type = OPERATIONS[vector["op"]].result_type
    result = decode_result(result_type, text)
    # Written again, nothing is lost. Members at their default may be left out or added.
    again = msgspec.json.decode(msgspec.json.encode(result))
    assert {name: again.get(name) for name in vector["result"]} == vector["result"]
    for name in vector["result"]:
        without = {key: value for key, value in vector["result"].items() if key != name}
        if field_of(result_type, name).required:
            with pytest.raises(MessageError):
                decode_result(result_type, msgspec.json.encode(without))
        else:
            decode_result(result_type, msgspec.json.encode(without))


def test_every_operation_has_a_result_vector() -> None:
    assert {vector["op"] for vector in load_vectors("messages")["results"]} == OPERATIONS.keys()


def test_every_operation_has_accepted_and_refused_params() -> None:
    params = load_vectors("params")
    assert {v["op"] for v in params["accepted"]} == OPERATIONS.keys()
    assert {v["op"] for v in params["refused"]} == OPERATIONS.keys()


@vectors("errors", "codes")
def test_error_codes(vector: dict[str, Any]) -> None:
    payload = expand_bytes(vector["payload"])
    code = ErrorCode(vector["code"])
    assert (code in RETRYABLE) == vector["retryable"]
    assert msgspec.json.decode(encode_error("1", code, "why")) == msgspec.json.decode(payload)
    message = decode_message(payload)
    assert isinstance(message, Response)
    assert message.error is not None
    assert (message.error.code, message.error.retryable) == (code, vector["retryable"])


def test_error_codes_are_all_of_them() -> None:
    assert [vector["code"] for vector in load_vectors("errors")["codes"]] == list(ErrorCode)


@pytest.mark.parametrize("name", VECTOR_SETS)
def test_sets_are_documented_and_named(name: str) -> None:
    content = load_vectors(name)
    assert content["format"] == 1
    for group in content.values():
        if isinstance(group, list):
            names = [vector["name"] for vector in group if "name" in vector]
            assert len(names) == len(set(names))


def test_expand_bytes() -> None:
    assert expand_bytes(["ä", {"hex": "00ff"}, {"repeat": ["a", "b"], "times": 2}]) == b"\xc3\xa4\x00\xffabab"
    for wrong in (5, None, {}, {"hex": "00", "times": 1}, {"repeat": "a"}):
        with pytest.raises(ValueError, match="no bytes"):
            expand_bytes(wrong)
    with pytest.raises(FileNotFoundError):
        load_vectors("nothing")


def member(params: Struct, wire_name: str) -> Any:
    """Return the member of a struct by its name on the wire."""
    fields = dict(zip(params.__struct_encode_fields__, params.__struct_fields__, strict=True))
    return getattr(params, fields[wire_name])


def field_of(struct_type: type[Struct], name: str) -> msgspec.structs.FieldInfo:
    return next(f for f in msgspec.structs.fields(struct_type) if f.encode_name == name)


def plain(value: Any) -> Any:
    """Return raw documents and structs as plain JSON values."""
    if isinstance(value, Raw):
        return msgspec.json.decode(value)
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, Struct):
        return msgspec.json.decode(msgspec.json.encode(value))
    return value
