"""Answers and events: what a server writes is what a client reads."""

import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rstmdb_protocol import (
    LINE_BYTES_MAX,
    RETRYABLE,
    End,
    ErrorCode,
    Event,
    Framing,
    FramingError,
    FramingFault,
    MessageDecoder,
    MessageError,
    PingResult,
    Response,
    Unknown,
    decode_message,
    decode_result,
    encode_end,
    encode_error,
    encode_ok,
    event_body,
    event_prefix,
    frame_for,
)

json_objects = st.dictionaries(
    st.text(max_size=5),
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=9),
    max_size=3,
)


@settings(deadline=None)
@given(st.text(max_size=20), json_objects)
def test_successful_answers(request_id: str, result: dict[str, Any]) -> None:
    response = decode_message(encode_ok(request_id, msgspec.json.encode(result)))
    assert isinstance(response, Response)
    assert (response.id, response.status, response.error) == (request_id, "ok", None)
    assert msgspec.json.decode(response.result) == result


@settings(deadline=None)
@given(
    st.text(max_size=20),
    st.sampled_from(list(ErrorCode)),
    st.text(max_size=40),
    st.none() | st.booleans(),
    st.none() | json_objects,
)
def test_refusals(
    request_id: str, code: ErrorCode, message: str, retryable: bool | None, details: dict[str, Any] | None
) -> None:
    payload = encode_error(request_id, code, message, retryable=retryable, details=details)
    error = msgspec.json.decode(payload)["error"]
    # Published clients need the first three always, and details as an object or not at all.
    assert error == {
        "code": code.value,
        "message": message,
        "retryable": code in RETRYABLE if retryable is None else retryable,
    } | ({} if details is None else {"details": details})
    response = decode_message(payload)
    assert isinstance(response, Response)
    assert response.error is not None
    assert (response.error.code, response.error.message) == (code, message)
    assert response.error.details == details


@pytest.mark.parametrize("code", ErrorCode)
def test_retryable_is_what_the_code_says_unless_told(code: ErrorCode) -> None:
    def sent(retryable: bool | None) -> bool:
        response = decode_message(encode_error("1", code, "why", retryable=retryable))
        assert isinstance(response, Response)
        assert response.error is not None
        return response.error.retryable

    assert [sent(None), sent(False), sent(True)] == [code in RETRYABLE, False, True]


@pytest.mark.parametrize("ctx", [b"", b'{"a":1}'])
@pytest.mark.parametrize("payload", [b"", b'{"b":2}'])
def test_events(payload: bytes, ctx: bytes) -> None:
    text = event_prefix('sub-"1"') + event_body(
        instance_id="ü",
        machine="m",
        version=3,
        wal_offset=2**53 - 1,
        from_state="a",
        to_state="b",
        event="E",
        payload=payload,
        ctx=ctx,
    )
    expected: dict[str, Any] = {
        "type": "event",
        "subscription_id": 'sub-"1"',
        "instance_id": "ü",
        "machine": "m",
        "version": 3,
        "wal_offset": 2**53 - 1,
        "from_state": "a",
        "to_state": "b",
        "event": "E",
        "payload": {"b": 2} if payload else None,
    }
    if ctx:
        expected["ctx"] = {"a": 1}
    assert msgspec.json.decode(text) == expected
    event = decode_message(text)
    assert isinstance(event, Event)
    assert (event.instance_id, event.wal_offset, event.kind, event.timestamp) == ("ü", 2**53 - 1, None, None)
    assert bytes(event.ctx) == ctx


def test_events_of_other_kinds() -> None:
    body = event_body(
        instance_id="i",
        machine="m",
        version=1,
        wal_offset=4,
        from_state=None,
        to_state="a",
        event=None,
        kind="create",
        timestamp_ms=1_700_000_000_000,
    )
    event = decode_message(event_prefix("s") + body)
    assert isinstance(event, Event)
    assert (event.kind, event.from_state, event.to_state, event.event) == ("create", None, "a", None)
    assert event.timestamp == 1_700_000_000_000


def test_ends() -> None:
    assert decode_message(encode_end("s", "UNWATCHED")) == End("s", "UNWATCHED")
    assert msgspec.json.decode(encode_end("s", "UNWATCHED")) == {
        "type": "end",
        "subscription_id": "s",
        "reason": "UNWATCHED",
    }
    assert decode_message(encode_end("s", "OFFSET_COMPACTED", oldest_offset=5)) == End(
        "s", "OFFSET_COMPACTED", 5
    )


def test_unknown_messages_are_kept_whole() -> None:
    payload = b'{"type":"notice","text":"hello"}'
    assert decode_message(payload) == Unknown("notice", payload)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_nothing_but_a_message_error_leaves(data: bytes) -> None:
    for text in (data, b'{"type":"response","id":"1","status":"ok","result":' + data):
        # Any other exception fails the test.
        with contextlib.suppress(MessageError):
            decode_message(text)


def test_results_that_are_not_what_was_promised() -> None:
    assert decode_result(PingResult, b'{"pong":true,"more":1}') == PingResult(pong=True)
    for text in (b"", b"null", b"{}", b'{"pong":1}', b'{"pong":true', b"[" * 100_000, b'{"pong":"\xff"}'):
        with pytest.raises(MessageError, match="result: "):
            decode_result(PingResult, text)


@pytest.mark.parametrize("framing", Framing)
def test_answers_go_out_in_the_framing_of_the_request(framing: Framing) -> None:
    payload = encode_ok("1", b"{}")
    assert MessageDecoder().feed(frame_for(payload, framing)) == [(payload, framing)]


@pytest.mark.parametrize(
    ("framing", "fault"),
    [(Framing.FRAME, FramingFault.PAYLOAD_TOO_LARGE), (Framing.LINE, FramingFault.LINE_TOO_LONG)],
)
def test_answers_that_do_not_fit_are_refused(framing: Framing, fault: FramingFault) -> None:
    frame_for(b" " * LINE_BYTES_MAX, framing)
    with pytest.raises(FramingError) as caught:
        frame_for(b" " * (LINE_BYTES_MAX + 1), framing)
    assert caught.value.fault is fault
