"""Both ends of a connection, mostly against each other."""

import msgspec
import pytest

from rstmdb_protocol import (
    FRAME_PAYLOAD_BYTES_MAX,
    HANDSHAKE_PAYLOAD_BYTES_MAX,
    ApplyEventParams,
    ClientConnection,
    ClientState,
    ErrorCode,
    Framing,
    FramingError,
    Incoming,
    LocalError,
    MalformedRequest,
    MessageError,
    PingResult,
    Request,
    Response,
    ServerConnection,
    ServerState,
    encode_frame,
    encode_ok,
    encode_request,
    event_body,
    event_prefix,
    frame_for,
)


def request_of(incoming: Incoming) -> Request:
    assert isinstance(incoming.message, Request)
    return incoming.message


@pytest.mark.parametrize("framing", Framing)
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_conversation(framing: Framing, size: int) -> None:
    client, server = ClientConnection(framing=framing), ServerConnection()
    ping = client.send_request("PING")
    apply = client.send_request("APPLY_EVENT", ApplyEventParams(instance_id="i", event="E"))
    assert client.pending == {ping.request_id: "PING", apply.request_id: "APPLY_EVENT"}
    stream = ping.data + apply.data
    requests = [r for n in range(0, len(stream), size) for r in server.receive_data(stream[n : n + size])]
    assert [request_of(r).op for r in requests] == ["PING", "APPLY_EVENT"]
    answer = server.ok(requests[0], PingResult(pong=True)) + server.refuse(
        requests[1], ErrorCode.INSTANCE_NOT_FOUND, "instance 'i' not found", details={"instance_id": "i"}
    )
    assert (answer[:4] == b"RCPX") == (framing is Framing.FRAME)
    messages = [m for n in range(0, len(answer), size) for m in client.receive_data(answer[n : n + size])]
    ok, refusal = messages
    assert isinstance(ok, Response)
    assert (ok.id, ok.status, bytes(ok.result)) == (ping.request_id, "ok", b'{"pong":true}')
    assert isinstance(refusal, Response)
    assert refusal.error is not None
    assert (refusal.error.code, refusal.error.details) == ("INSTANCE_NOT_FOUND", {"instance_id": "i"})
    assert not client.pending


def test_results_may_be_structs_mappings_or_text() -> None:
    client, server = ClientConnection(), ServerConnection()
    for result in (PingResult(pong=True), {"pong": True}, b'{"pong":true}'):
        (incoming,) = server.receive_data(client.send_request("PING", {}).data)
        (response,) = client.receive_data(server.ok(incoming, result))
        assert isinstance(response, Response)
        assert msgspec.json.decode(response.result) == {"pong": True}


def test_answers_are_matched_by_id_and_forgotten_ones_dropped() -> None:
    client, server = ClientConnection(), ServerConnection()
    sent = [client.send_request("PING") for _ in range(3)]
    requests = server.receive_data(b"".join(outgoing.data for outgoing in sent))
    assert client.forget(sent[1].request_id)
    assert not client.forget(sent[1].request_id)
    answers = b"".join(server.ok(request, b"{}") for request in reversed(requests))
    ids = [message.id for message in client.receive_data(answers) if isinstance(message, Response)]
    assert ids == [sent[2].request_id, sent[0].request_id]
    assert client.receive_data(frame_for(encode_ok("999", b"{}"), Framing.FRAME)) == []
    assert client.state is ClientState.OPEN


def test_events_come_through() -> None:
    client = ClientConnection()
    body = event_body(
        instance_id="i", machine="m", version=1, wal_offset=1, from_state="a", to_state="b", event="E"
    )
    (event,) = client.receive_data(encode_frame(event_prefix("s") + body))
    assert getattr(event, "wal_offset", None) == 1


def test_local_mistakes() -> None:
    client = ClientConnection()
    client.send_request("PING", request_id="mine")
    with pytest.raises(LocalError, match="in use"):
        client.send_request("PING", request_id="mine")
    with pytest.raises(LocalError, match="longer than 256 bytes"):
        client.send_request("PING", request_id="€" * 86)
    loop: list[object] = []
    loop.append(loop)
    for params in ({"a": object()}, {"a": 10**5000}, {"a": "\ud800"}, {"a": loop}):
        with pytest.raises(LocalError, match="no JSON form"):
            client.send_request("PING", params)
    with pytest.raises(LocalError, match="no JSON form"):
        client.send_request("PING", request_id="\ud800")
    with pytest.raises(FramingError):
        client.send_request("PUT_MACHINE", {"definition": "x" * FRAME_PAYLOAD_BYTES_MAX})
    assert list(client.pending) == ["mine"]
    client.send_request("BYE")
    assert client.state is ClientState.CLOSING
    with pytest.raises(LocalError, match="closing"):
        client.send_request("PING")
    (answer,) = client.receive_data(encode_frame(encode_ok("mine", b"{}")))
    assert isinstance(answer, Response)
    client.receive_eof()
    assert client.state.name == "CLOSED"
    assert list(client.pending.values()) == ["BYE"]
    assert client.error is None
    with pytest.raises(LocalError, match="closed"):
        client.send_request("PING")


@pytest.mark.parametrize(
    ("garbage", "error"), [(encode_frame(b"nonsense"), MessageError), (b"HTTP/1.1 400\r\n", FramingError)]
)
def test_a_client_gives_up_on_garbage_but_keeps_what_came_before(garbage: bytes, error: type) -> None:
    client = ClientConnection()
    client.send_request("PING")
    messages = client.receive_data(encode_frame(encode_ok("1", b"{}")) + garbage)
    assert len(messages) == 1
    assert client.state is ClientState.CLOSED
    assert isinstance(client.error, error)
    assert client.receive_data(encode_frame(encode_ok("2", b"{}"))) == []


def test_a_server_answers_what_has_an_id_and_gives_up_on_the_rest() -> None:
    server = ServerConnection()
    stream = (
        encode_frame(b'{"type":"request","id":"7","op":NaN}')
        + encode_frame(encode_request("8", "PING"))
        + encode_frame(b'{"type":"request","op":NaN,"id":"9"}')
        + encode_frame(encode_request("10", "PING"))
    )
    malformed, ping = server.receive_data(stream)
    assert isinstance(malformed.message, MalformedRequest)
    client = ClientConnection()
    client.send_request("PING", request_id="7")
    (refusal,) = client.receive_data(
        server.refuse(malformed, ErrorCode.BAD_REQUEST, malformed.message.message)
    )
    assert isinstance(refusal, Response)
    assert refusal.error is not None
    assert refusal.error.message.startswith("malformed request: JSON is malformed")
    assert request_of(ping).id == "8"
    assert server.state is ServerState.CLOSED
    assert isinstance(server.error, MessageError)
    assert server.receive_data(encode_frame(encode_request("11", "PING"))) == []


def test_a_request_without_an_id_cannot_be_answered() -> None:
    incoming = Incoming(MalformedRequest(None, None, "malformed request"), Framing.FRAME)
    with pytest.raises(LocalError):
        ServerConnection().refuse(incoming, ErrorCode.BAD_REQUEST, "no")


def test_strangers_may_send_little() -> None:
    large = encode_frame(encode_request("2", "X", b'"' + b"x" * HANDSHAKE_PAYLOAD_BYTES_MAX + b'"'))
    server = ServerConnection()
    assert server.receive_data(large) == []
    assert isinstance(server.error, FramingError)

    server = ServerConnection()
    assert [
        request_of(r).op for r in server.receive_data(encode_frame(encode_request("1", "AUTH")) + large)
    ] == ["AUTH"]
    assert server.buffered_bytes == len(large)
    assert server.withheld
    assert [request_of(r).op for r in server.open()] == ["X"]
    assert server.open() == []
    assert server.state is ServerState.OPEN
    assert [request_of(r).op for r in server.receive_data(large)] == ["X"]
    assert not server.withheld
    server.receive_eof()
    assert server.state.name == "CLOSED"
    assert server.error is None
