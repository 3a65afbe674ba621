import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rstmdb_client import calls, results
from rstmdb_client.errors import ProtocolViolation, RequestTooLarge, ServerError, UnsupportedByServer
from rstmdb_client.session import Session
from rstmdb_protocol import MessageDecoder, encode_frame


def answer(number: int | str, **members: Any) -> bytes:
    message = {"type": "response", "id": str(number), "status": "ok", **members}
    return encode_frame(json.dumps(message).encode())


def sent(data: bytes) -> dict[str, Any]:
    (payload, _), *rest = MessageDecoder().feed(data)
    assert not rest
    request: dict[str, Any] = json.loads(payload)
    return request


def ready(*features: str) -> Session[str]:
    session: Session[str] = Session()
    session.greeted(results.Hello(features=list(features), server_name="s", server_version="1"))
    return session


def test_requests_are_numbered_and_answers_find_them() -> None:
    session = ready()
    assert session.server == "s 1"
    first, data = session.request(calls.ping(), "a")
    assert (first, sent(data)) == ("1", {"type": "request", "id": "1", "op": "PING", "params": {}})
    session.request(calls.ping(), "b")
    assert session.pending == 2
    found = session.receive(answer(2, result={"x": 1}) + answer(1, result=None))
    assert [(token, bytes(outcome)) for token, outcome in found] == [("b", b'{"x": 1}'), ("a", b"null")]  # type: ignore[arg-type]
    assert session.pending == 0


def test_refusals_carry_everything() -> None:
    session = ready()
    session.request(calls.ping(), "a")
    error = {"code": "CONFLICT", "message": "m", "retryable": True, "details": {"x": 1}}
    ((_, outcome),) = session.receive(answer(1, status="error", error=error))
    assert isinstance(outcome, ServerError)
    assert (outcome.code, outcome.message, outcome.retryable, outcome.details) == (
        "CONFLICT",
        "m",
        True,
        {"x": 1},
    )


def test_late_answers_are_dropped_and_unasked_ones_are_nonsense() -> None:
    session = ready()
    request_id, _ = session.request(calls.ping(), "a")
    session.abandon(request_id)
    assert session.receive(answer(1)) == []
    assert session.error is None
    assert session.receive(answer(2)) == []
    assert isinstance(session.error, ProtocolViolation)
    assert session.receive(answer(1)) == []


@pytest.mark.parametrize(
    "nonsense",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        encode_frame(b"[]"),
        encode_frame(b"nonsense"),
        encode_frame(b'{"type":"response","id":1,"status":"ok"}'),
        encode_frame(b'{"type":"response","id":"1","status":"error"}'),
        encode_frame(b'{"type":"response","id":"x","status":"ok","result":{}}'),
        encode_frame(b'{"type":"response","id":"-1","status":"ok","result":{}}'),
        encode_frame(b'{"type":"response","id":"99999999999999999999999","status":"ok","result":{}}'),
        encode_frame(b'{"type":"event","subscription_id":"s"}'),
        encode_frame(b"{}")[:-1] + b"x",
    ],
)
def test_nonsense_is_final(nonsense: bytes) -> None:
    session = ready()
    session.request(calls.ping(), "a")
    session.request(calls.ping(), "b")
    found = session.receive(answer(2) + nonsense)
    assert [token for token, _ in found] == ["b"]
    assert session.error is not None
    assert session.lose() == ["a"]


def test_unknown_types_are_ignored() -> None:
    session = ready()
    session.receive(encode_frame(b'{"type":"progress","id":"7"}'))
    assert session.error is None
    assert session.messages == 1


@given(st.binary(max_size=200), st.lists(st.integers(1, 50), max_size=5))
def test_no_bytes_make_it_raise(data: bytes, cuts: list[int]) -> None:
    session = ready()
    session.request(calls.ping(), "a")
    for cut in cuts:
        session.receive(data[:cut])
        data = data[cut:]
    session.receive(data)


def test_answers_byte_by_byte() -> None:
    session = ready()
    session.request(calls.ping(), "a")
    found = [pair for byte in answer(1, result={"ok": 1}) for pair in session.receive(bytes([byte]))]
    assert [token for token, _ in found] == ["a"]


def test_keys_go_where_they_are_kept() -> None:
    automatic = calls.apply_event("i", "E", ctx_type=dict)
    own = calls.apply_event("i", "E", idempotency_key="mine", ctx_type=dict)
    durable, careless = ready("idempotency.durable"), ready("idempotency")
    params = sent(durable.request(automatic, "")[1])["params"]
    assert params["idempotency_ttl_secs"] == 600
    assert params["idempotency_key"] == automatic.key
    assert sent(durable.request(automatic, "")[1])["params"] == params
    assert sent(careless.request(automatic, "")[1])["params"] == {"instance_id": "i", "event": "E"}
    for session in (durable, careless):
        params = sent(session.request(own, "")[1])["params"]
        assert params == {"instance_id": "i", "event": "E", "idempotency_key": "mine"}


def test_what_cannot_be_sent_leaves_nothing_behind() -> None:
    session = ready()
    with pytest.raises(UnsupportedByServer):
        session.request(calls.stats(), "a")
    with pytest.raises(RequestTooLarge) as large:
        session.request(calls.create_instance("m", 1, ctx={"a": "x" * (16 << 20)}), "a")
    assert large.value.path == "initial_ctx"
    assert session.pending == 0
    assert session.request(calls.ping(), "a")[0] == "1"


def test_a_server_that_agrees_to_something_else() -> None:
    for hello in (results.Hello(protocol_version=2), results.Hello(wire_mode="jsonl")):
        session: Session[str] = Session()
        with pytest.raises(ProtocolViolation):
            session.greeted(hello)
        assert session.error is not None
