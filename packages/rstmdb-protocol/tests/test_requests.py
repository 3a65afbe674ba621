"""Requests beyond the vectors, and against an independent model built on the standard library."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from rstmdb_protocol import (
    ABSENT,
    OPERATIONS,
    ApplyEventParams,
    BatchParams,
    CompactParams,
    EmptyParams,
    GetMachineParams,
    HelloParams,
    MalformedRequest,
    ParamsError,
    Request,
    WalReadParams,
    decode_params,
    decode_request,
    encode_request,
)


@settings(deadline=None)
@given(
    st.text(max_size=60),
    st.text(max_size=20),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=3),
)
def test_round_trip(request_id: str, op: str, params: dict[str, int]) -> None:
    request = decode_request(encode_request(request_id, op, json.dumps(params).encode()))
    assert isinstance(request, Request)
    assert (request.type, request.id, request.op) == ("request", request_id, op)
    assert json.loads(bytes(request.params)) == params


def test_params_may_be_left_out() -> None:
    assert encode_request("1", "PING") == b'{"type":"request","id":"1","op":"PING"}'
    request = decode_request(encode_request("1", "PING"))
    assert isinstance(request, Request)
    assert bytes(request.params) == b""
    assert decode_params(EmptyParams, request.params) == EmptyParams()


def strict_json(data: bytes) -> Any:
    """Return what the standard library reads, refusing what JSON or Unicode does not allow."""

    def refuse(constant: str) -> Any:
        raise ValueError(constant)

    value = json.loads(data.decode(), parse_constant=refuse)
    json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair has no UTF-8
    if "inf" in repr(value):
        raise ValueError("number out of range")
    return value


damage = st.tuples(st.integers(0, 200), st.sampled_from(list(b'{}[],:"\\ 09.eE-tn\x00\n\xff\xc3')))


@settings(max_examples=400, deadline=None)
@given(st.lists(damage, max_size=3))
def test_what_is_accepted_is_json(changes: list[tuple[int, int]]) -> None:
    data = bytearray(
        '{"type":"request","id":"7","op":"PING","params":{"a":[1,2.5,"ä€😀\\u00e4",null,true]},"x":"ö","y":-1e5}'.encode()
    )
    for position, byte in changes:
        data[position % len(data)] = byte
    request = decode_request(bytes(data))
    try:
        value = strict_json(bytes(data))
        assert isinstance(value, dict)
        assert all(isinstance(value[name], str) for name in ("type", "id", "op"))
    except (ValueError, KeyError, AssertionError):
        assert isinstance(request, MalformedRequest)
    else:
        assert isinstance(request, Request)
        assert (request.id, request.op) == (value["id"], value["op"])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80), st.sampled_from(sorted(OPERATIONS)))
def test_nothing_but_a_params_error_leaves(data: bytes, op: str) -> None:
    decode_request(data)
    for text in (data, b'{"instance_id":' + data + b"}"):
        # Any other exception fails the test.
        with contextlib.suppress(ParamsError):
            decode_params(OPERATIONS[op].params_type, text)


def test_numbers_inside_documents_are_left_to_their_reader() -> None:
    params = decode_params(ApplyEventParams, b'{"instance_id":"i","event":"E","payload":{"a":1e400}}')
    assert bytes(params.payload) == b'{"a":1e400}'


def test_absent_and_null_documents_can_be_told_apart() -> None:
    absent = decode_params(ApplyEventParams, b'{"instance_id":"i","event":"E"}')
    null = decode_params(ApplyEventParams, b'{"instance_id":"i","event":"E","payload":null}')
    assert bytes(absent.payload) == bytes(ABSENT) == b""
    assert bytes(null.payload) == b"null"


def test_unknown_members_do_not_change_the_type_of_what_is_read() -> None:
    params = decode_params(HelloParams, b'{"protocol_version":1,"wire_mode":"jsonl","features":["batch"]}')
    assert type(params) is HelloParams
    assert params == HelloParams(protocol_version=1, features=["batch"])
    batch = decode_params(
        BatchParams, b'{"zzz":1,"operations":[{"op":"X","params":{"a":1}}],"mode":"atomic"}'
    )
    assert [(item.op, bytes(item.params)) for item in batch.items] == [("X", b'{"a":1}')]
    assert batch.atomic
    read = decode_params(WalReadParams, b'{"zzz":1,"fromOffset":"7"}')
    assert (read.start, read.wants_entries) == (7, True)


def test_derived_values() -> None:
    assert not decode_params(BatchParams, b'{"ops":[],"mode":["atomic"]}').atomic
    assert not decode_params(BatchParams, b'{"ops":[]}').atomic
    assert decode_params(BatchParams, b'{"ops":[]}').items == []
    assert not decode_params(WalReadParams, b'{"from_offset":7}').wants_entries
    assert decode_params(CompactParams, b'{"force_snapshot":1}').force_snapshot is False


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"machine":"m","version":1.0}', "params.version: expected an integer, got a decimal number"),
        (b'{"machine":"m","version":"1"}', "params.version: expected an integer, got a string"),
        (b'{"machine":"m","version":-1}', "params.version: expected an integer >= 0"),
        (b'{"machine":"m","version":4294967296}', "params.version: expected an integer <= 4294967295"),
        (b'{"machine":"m"}', "params: object missing required field 'version'"),
        (b'{"machine":null,"version":1}', "params.machine: expected a string, got null"),
        (b"[1]", "params: expected an object, got an array"),
        (b"12345", "params: expected an object, got an integer"),
        (b'{"machine":"m","version":1', "params: JSON ends too early, or half a surrogate pair"),
        (b'{"machine":"\xff","version":1}', "params: invalid UTF-8"),
        (b'{"x":' + b"[" * 100_000, "params: nested too deeply"),
    ],
)
def test_messages_name_the_place(text: bytes, message: str) -> None:
    with pytest.raises(ParamsError) as caught:
        decode_params(GetMachineParams, Raw(text))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"", "JSON ends too early, or half a surrogate pair"),
        (b'{"type":"request","op":"PING"}', "object missing required field 'id'"),
        (b'{"type":"request","id":"1","op":5}', "op: expected a string, got an integer"),
        (b'{"type":"request","id":"1","op":"PING"}x', "JSON is malformed: trailing characters (byte 40)"),
        (b"[]", "expected an object, got an array"),
        (b'{"id":"\xff"}', "invalid UTF-8"),
        (b'{"x":' + b"[" * 100_000, "nested too deeply"),
    ],
)
def test_malformed_requests_say_why(payload: bytes, message: str) -> None:
    request = decode_request(payload)
    assert isinstance(request, MalformedRequest)
    assert request.message == f"malformed request: {message}"


def test_reading_works_deep_in_the_stack() -> None:
    def at_depth(depth: int) -> Request | MalformedRequest:
        return decode_request(encode_request("1", "PING")) if depth == 0 else at_depth(depth - 1)

    assert isinstance(at_depth(700), Request)
