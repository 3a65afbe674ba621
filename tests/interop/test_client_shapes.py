"""Every published client's conversation, byte for byte as it sends it, answered as strictly as it reads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.interop.client_shapes import CONVERSATIONS, Step
from tests.server_process import ServerProcess, running_server
from tests.wire import CRC_PRESENT, Wire, frame, request

CODES = {
    "UNSUPPORTED_PROTOCOL", "BAD_REQUEST", "UNAUTHORIZED", "AUTH_FAILED", "NOT_FOUND", "MACHINE_NOT_FOUND",
    "MACHINE_VERSION_EXISTS", "MACHINE_VERSION_LIMIT_EXCEEDED", "INSTANCE_NOT_FOUND", "INSTANCE_EXISTS",
    "INVALID_TRANSITION", "GUARD_FAILED", "CONFLICT", "WAL_IO_ERROR", "INTERNAL_ERROR", "RATE_LIMITED",
}  # fmt: skip
RETRYABLE = {"WAL_IO_ERROR", "INTERNAL_ERROR", "RATE_LIMITED"}


@pytest.fixture(scope="module")
def secured() -> Iterator[ServerProcess]:
    """A server that requires a token and allows FLUSH_ALL."""
    settings = {
        "RSTMDB_AUTH_REQUIRED": "true",
        "RSTMDB_AUTH_TOKEN_HASH": hashlib.sha256(b"my-secret-token").hexdigest(),
        "RSTMDB_ALLOW_FLUSH_ALL": "1",
    }
    with running_server(settings) as server:
        yield server


@pytest.fixture
def fresh() -> Iterator[ServerProcess]:
    settings = {
        "RSTMDB_AUTH_REQUIRED": "true",
        "RSTMDB_AUTH_TOKEN_HASH": hashlib.sha256(b"my-secret-token").hexdigest(),
        "RSTMDB_ALLOW_FLUSH_ALL": "1",
    }
    with running_server(settings) as server:
        yield server


def shape_fault(value: Any, shape: Any, place: str = "result") -> str | None:
    """Return where a value does not have the shape that a client needs, or None."""
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return f"{place} is {value!r}, not an object"
        for key, inner in shape.items():
            name = key.removesuffix("?")
            if name not in value:
                if key.endswith("?"):
                    continue
                return f"{place}.{name} is missing"
            fault = shape_fault(value[name], inner, f"{place}.{name}")
            if fault is not None:
                return fault
        return None
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{place} is {value!r}, not an array"
        faults = (shape_fault(item, shape[0], f"{place}[{i}]") for i, item in enumerate(value))
        return next((fault for fault in faults if fault is not None), None)
    word, _, nullable = shape.partition("|")
    if value is None:
        return None if nullable or word == "null" else f"{place} is null"
    kinds: dict[str, type] = {"str": str, "bool": bool, "int": int, "object": dict, "list": list}
    if word == "null" or type(value) is not kinds[word]:
        return f"{place} is {value!r}, not {word}"
    if type(value) is int and not 0 <= value < 2**53:
        return f"{place} is {value}, which some client cannot hold"
    return None


def check_envelope(message: dict[str, Any]) -> None:
    """Check what at least one client checks of every answer."""
    assert message["type"] == "response"
    assert type(message["id"]) is str
    assert "meta" not in message
    if message["status"] == "ok":
        assert message.keys() == {"type", "id", "status", "result"}
        assert type(message["result"]) is dict
    else:
        assert message["status"] == "error"
        assert message.keys() == {"type", "id", "status", "error"}
        error = message["error"]
        assert error["code"] in CODES
        assert type(error["message"]) is str
        assert error["message"]
        assert "connection" not in error["message"].lower()
        assert error["retryable"] is (error["code"] in RETRYABLE)
        assert type(error.get("details", {})) is dict
        if error["code"].endswith("NOT_FOUND"):
            assert "not found" in error["message"]


def depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    return 0


@pytest.mark.parametrize("client", CONVERSATIONS)
def test_conversation(fresh: ServerProcess, client: str) -> None:
    kept: dict[str, str] = {}
    steps: tuple[Step, ...] = CONVERSATIONS[client]
    with Wire(fresh.port) as wire:
        for number, step in enumerate(steps, 1):
            text = f'{{"type":"request","id":"{number}","op":"{step.op}"'
            if step.params is not None:
                text += f',"params":{step.params % kept if kept else step.params}'
            wire.send(text.encode() + b"}")
            message = wire.receive()
            where = f"{client}, step {number}, {step.op}"
            assert message["type"] == "response", f"{where}: {message} before the answer"
            assert message["id"] == str(number), where
            check_envelope(message)
            assert depth(message) < 64
            if isinstance(step.needs, str) and step.needs.isupper():
                assert message["status"] == "error", where
                assert message["error"]["code"] == step.needs, where
                continue
            assert message["status"] == "ok", f"{where}: {message}"
            fault = shape_fault(message["result"], step.needs)
            assert fault is None, f"{where}: {fault}"
            for key, value in step.equal.items():
                assert message["result"][key] == value, f"{where}: {key}"
            for name, key in step.keep.items():
                kept[name] = message["result"][key]
            events = [wire.event() for _ in step.events]
            for shape in step.events:
                matching = [
                    e for e in events if ("ctx" in e) == ("ctx" in shape) and not shape_fault(e, shape)
                ]
                assert matching, f"{where}: no event of shape {shape} in {events}"
        if steps[-1].op == "BYE":
            assert wire.ended()


def test_every_code_keeps_the_envelope(fresh: ServerProcess) -> None:
    """Refusals of every kind, each as the strictest client reads it."""
    with Wire(fresh.port) as wire:
        wire.send(request("INFO"))
        check_envelope(wire.receive())
        wire.send(request("HELLO", {"protocol_version": 2}))
        message = wire.receive()
        check_envelope(message)
        assert message["error"]["code"] == "UNSUPPORTED_PROTOCOL"
        wire.send(request("AUTH", {"method": "magic", "token": "x"}))
        check_envelope(wire.receive())
        wire.send(request("AUTH", {"method": "bearer", "token": "my-secret-token"}))
        check_envelope(wire.receive())
        for op in ("BACKUP_BEGIN", "REPLICATE", "get_instance", ""):
            wire.send(request(op, {}))
            message = wire.receive()
            check_envelope(message)
            assert message["error"]["code"] == "BAD_REQUEST"
        wrong: tuple[Any, ...] = ([], "x", 3, True)
        for params in wrong:
            for op in (
                "PING",
                "INFO",
                "FLUSH_ALL",
                "STATS",
                "WAL_STATS",
                "LIST_MACHINES",
                "COMPACT",
                "WATCH_ALL",
            ):
                wire.send(request(op, params))
                message = wire.receive()
                check_envelope(message)
                assert message["error"]["code"] == "BAD_REQUEST", (op, params)
        for op in (
            "PING",
            "INFO",
            "STATS",
            "WAL_STATS",
            "LIST_MACHINES",
            "LIST_INSTANCES",
            "COMPACT",
            "WATCH_ALL",
        ):
            wire.send(request(op, None))
            message = wire.receive()
            assert message["status"] == "ok", (op, message)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('{"instance_id":"x","machine":"m","version":1.0}', "BAD_REQUEST"),
        ('{"instance_id":"x","machine":"m","version":"1"}', "BAD_REQUEST"),
        ('{"instance_id":"x","machine":"m","version":-1}', "BAD_REQUEST"),
        ('{"instance_id":"x","machine":"m","version":4294967296}', "BAD_REQUEST"),
        ('{"instance_id":"x","machine":"m","version":1,"initial_ctx":[1]}', "BAD_REQUEST"),
        ('{"instance_id":"x","machine":"m","version":1,"initial_ctx":"text"}', "BAD_REQUEST"),
        ('{"instance_id":"x","machine":"m","version":1,"initial_ctx":3}', "BAD_REQUEST"),
        ('{"instance_id":"x","machine":"m","version":1}', "MACHINE_NOT_FOUND"),
    ],
)
def test_create_is_as_strict_as_the_original(secured: ServerProcess, text: str, code: str) -> None:
    with Wire(secured.port) as wire:
        wire.authenticate("my-secret-token")
        wire.send(b'{"type":"request","id":"7","op":"CREATE_INSTANCE","params":' + text.encode() + b"}")
        message = wire.receive()
        check_envelope(message)
        assert message["error"]["code"] == code


def test_ids_whitespace_and_equal_members(secured: ServerProcess) -> None:
    with Wire(secured.port) as wire:
        for request_id in ("", "1", "é", "x" * 256, '"\\\n'):
            wire.send(b" \t\n" + request("PING", {}, request_id) + b"\r\n ")
            assert wire.receive()["id"] == request_id
        wire.send(b'{"type":"anything","id":"1","op":"PING","extra":[1],"params":{"a":1,"a":2}}')
        assert wire.receive()["result"] == {"pong": True}


def test_frames_of_every_flag(secured: ServerProcess) -> None:
    ping = request("PING", {})
    with Wire(secured.port) as wire:
        wire.send_raw(frame(ping, flags=0x000F))
        assert wire.receive()["status"] == "ok"
        wire.send_raw(frame(ping, flags=0x000E, extension=b"abc"))
        assert wire.receive()["status"] == "ok"
        wire.send_raw(frame(ping) * 3)
        assert [wire.receive()["id"] for _ in range(3)] == ["1"] * 3
        for byte in frame(request("PING", {}, "slow")):
            wire.send_raw(bytes([byte]))
        assert wire.receive()["id"] == "slow"


@pytest.mark.parametrize(
    "data",
    [
        frame(request("PING"), flags=0x0011),
        frame(request("PING"), version=2),
        frame(request("PING"))[:-1] + b"x",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        frame(b""),
        frame(b"[1]"),
        frame(b'{"type":"request","id":7,"op":"PING"}'),
    ],
    ids=["reserved flag", "version", "checksum", "http", "tls", "empty", "array", "no id"],
)
def test_framing_that_is_lost_closes(secured: ServerProcess, data: bytes) -> None:
    with Wire(secured.port) as wire, Wire(secured.port) as other:
        other.call("PING")
        wire.send_raw(frame(request("PING", {}, "before")) + data)
        assert wire.receive()["id"] == "before", "what came before is answered"
        assert wire.ended()
        other.call("PING")


def test_golden_frames(secured: ServerProcess) -> None:
    """The frames of the running original, to the byte."""
    ask = (
        bytes.fromhex("5243505800010001000000000027" + "15f193b1")
        + b'{"type":"request","id":"1","op":"PING"}'
    )
    answer = (
        bytes.fromhex("5243505800010001000000000041" + "4b7b432f")
        + b'{"type":"response","id":"1","status":"ok","result":{"pong":true}}'
    )
    assert frame(ask[18:]) == ask
    with Wire(secured.port) as wire:
        wire.send_raw(ask)
        received = b""
        while len(received) < len(answer):
            received += wire.socket.recv(100)
        assert received == answer


def test_a_deep_context_is_refused_before_a_client_breaks_on_it(fresh: ServerProcess) -> None:
    with Wire(fresh.port) as wire:
        wire.authenticate("my-secret-token")
        wire.call(
            "PUT_MACHINE",
            machine="m",
            version=1,
            definition={"states": ["a"], "initial": "a", "transitions": []},
        )

        def nested(levels: int) -> Any:
            return json.loads('{"k":' * levels + "1" + "}" * levels)

        wire.call("CREATE_INSTANCE", machine="m", version=1, instance_id="deep", initial_ctx=nested(56))
        wire.ask("GET_INSTANCE", {"instance_id": "deep"})
        assert depth(wire.answer()) < 64
        assert (
            wire.refusal("CREATE_INSTANCE", machine="m", version=1, initial_ctx=nested(57)).code
            == "BAD_REQUEST"
        )


def test_crc_is_always_sent(secured: ServerProcess) -> None:
    with Wire(secured.port) as wire:
        wire.send_raw(frame(request("PING"), flags=0))
        header = wire.socket.recv(18, 0)
        assert int.from_bytes(header[6:8], "big") == CRC_PRESENT
