# ruff: noqa: E501 - what is sent stands in one line
"""What no JSON reader should swallow, in every place where a client may put it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server_process import ServerProcess
from tests.wire import ORDER, Wire, frame, request

BAD = {
    "NaN": b"NaN",
    "Infinity": b"Infinity",
    "minus Infinity": b"-Infinity",
    "1e400": b"1e400",
    "-1e400": b"-1e400",
    "bad UTF-8": b'"\xff"',
    "cut UTF-8": b'"\xe2\x82"',
    "encoded surrogate": b'"\xed\xa0\x80"',
    "lone high surrogate": b'"\\ud800"',
    "lone low surrogate": b'"\\udc00x"',
    "5,000 digits": b"1" * 5000,
    "10,000 arrays": b"[" * 10_000 + b"]" * 10_000,
    "10,000 objects": b'{"k":' * 10_000 + b"1" + b"}" * 10_000,
    "raw line feed": b'"a\nb"',
    "NUL": b'"a\x00b"',
    "leading zero": b"01",
    "comment": b"/**/1",
    "trailing comma": b"[1,]",
    "hexadecimal": b"0x10",
}
PLACES = {
    "a number": b'"op":"GET_MACHINE","params":{"machine":"order","version":%b}',
    "a text": b'"op":"GET_INSTANCE","params":{"instance_id":%b}',
    "an unknown member": b'"op":"PING","params":{"junk":%b}',
    "beside the params": b'"op":"PING","junk":%b',
    "the whole params": b'"op":"LIST_INSTANCES","params":%b',
    "initial_ctx": b'"op":"CREATE_INSTANCE","params":{"machine":"order","version":1,"initial_ctx":{"a":[%b]}}',
    "the whole initial_ctx": b'"op":"CREATE_INSTANCE","params":{"machine":"order","version":1,"initial_ctx":%b}',
    "a key of initial_ctx": b'"op":"CREATE_INSTANCE","params":{"machine":"order","version":1,"initial_ctx":{%b:1}}',
    "payload": b'"op":"APPLY_EVENT","params":{"instance_id":"x","event":"NOTE","payload":{"p":%b}}',
    "payload of EXPLAIN": b'"op":"EXPLAIN_EVENT","params":{"instance_id":"x","event":"NOTE","payload":{"p":%b}}',
    "meta of a definition": (
        b'"op":"PUT_MACHINE","params":{"machine":"m","version":1,"definition":'
        b'{"states":["a"],"initial":"a","transitions":[],"meta":{"m":%b}}}'
    ),
    "a state": (
        b'"op":"PUT_MACHINE","params":{"machine":"m","version":1,"definition":'
        b'{"states":["a",%b],"initial":"a","transitions":[]}}'
    ),
    "a guard": (
        b'"op":"PUT_MACHINE","params":{"machine":"m","version":1,"definition":{"states":["a"],"initial":"a",'
        b'"transitions":[{"from":"a","event":"E","to":"a","guard":%b}]}}'
    ),
    "inside a BATCH": (
        b'"op":"BATCH","params":{"mode":"atomic","ops":[{"op":"CREATE_INSTANCE","params":'
        b'{"machine":"order","version":1,"initial_ctx":{"b":%b}}}]}'
    ),
}
ONLY_JUST_GOOD = (
    b"1e308",
    b"5e-324",
    b"-0.0",
    b"9" * 300,
    b"18446744073709551615",
    b"-9223372036854775808",
    b"123456789012345678901234567890",
    b'"\\ud83d\\ude00"',
    b'"\xf0\x9f\x98\x80"',
    b'"\\u0000"',
    b"[" * 50 + b"]" * 50,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("bad") / "data") as server:
        with Wire(server.port) as wire:
            wire.call("PUT_MACHINE", machine="order", version=1, definition=ORDER)
            wire.call("CREATE_INSTANCE", machine="order", version=1, instance_id="x", initial_ctx={"n": 1})
        yield server


@pytest.mark.parametrize("place", PLACES)
def test_it_is_refused_and_the_session_lives(server: ServerProcess, place: str) -> None:
    with Wire(server.port) as wire:
        for name, bad in BAD.items():
            wire.send(b'{"type":"request","id":"7",' + PLACES[place] % bad + b"}")
            message = wire.receive()
            assert message["id"] == "7", (place, name)
            assert message["status"] == "error", (place, name, message)
            assert message["error"]["code"] == "BAD_REQUEST", (place, name, message)
            assert len(message["error"]["message"]) < 2500
            wire.call("PING")


def test_replay_works_after_all_of_it(server: ServerProcess, tmp_path: Path) -> None:
    with Wire(server.port) as wire:
        for place in PLACES.values():
            for bad in BAD.values():
                wire.send(b'{"type":"request","id":"7",' + place % bad + b"}")
                wire.receive()
        # What is only just acceptable, in the same places.
        for number, good in enumerate(ONLY_JUST_GOOD):
            wire.send(
                request(
                    "APPLY_EVENT", {"instance_id": "x", "event": "NOTE", "payload": {f"good{number}": 0}}
                ).replace(b":0}", b":%b}" % good)
            )
            assert wire.receive()["status"] == "ok", good
        before = wire.call("GET_INSTANCE", instance_id="x")
        total = wire.call("LIST_INSTANCES")["total"]
        log = wire.call("WAL_READ", from_offset=0)["records"]
    server.kill()
    server.start()
    with Wire(server.port) as wire:
        assert wire.call("GET_INSTANCE", instance_id="x") == before
        assert wire.call("LIST_INSTANCES")["total"] == total == 1
        assert wire.call("WAL_READ", from_offset=0)["records"] == log
        assert wire.call("COMPACT", force_snapshot=True)["snapshots_created"] == 1
    server.kill()
    server.start()
    with Wire(server.port) as wire:
        assert wire.call("GET_INSTANCE", instance_id="x") == before


def test_names_of_megabytes_are_not_sent_back(server: ServerProcess) -> None:
    name = "\x01" * (15 * 1024 * 1024 // 6)
    with Wire(server.port) as wire:
        wire.call("PING")
        for op, params in (
            (name, {}),
            ("GET_INSTANCE", {"instance_id": name}),
            ("GET_MACHINE", {"machine": name, "version": 1}),
            ("APPLY_EVENT", {"instance_id": "x", "event": name}),
            ("CREATE_INSTANCE", {"machine": name, "version": 1}),
            ("UNWATCH", {"subscription_id": "x"}),
            ("BATCH", {"ops": [{"op": name[:100_000]}] * 20}),
            ("AUTH", {"method": name, "token": "x"}),
            ("WATCH_ALL", {"include": [name]}),
            ("LIST_INSTANCES", {"cursor": name}),
        ):
            wire.send(request(op, params))
            message = wire.receive()
            assert len(str(message)) < 64 * 1024, op[:20]
        wire.call("PING")
        wire.send(b'{"type":"request","op":"PING","id":"' + b"\\b" * 7_000_000 + b'"}')
        assert wire.ended(), "an id that does not fit an answer cannot be answered"


def test_in_lines_as_in_frames(server: ServerProcess) -> None:
    with Wire(server.port, lines=True) as wire:
        for name, bad in BAD.items():
            if b"\n" in bad:
                continue
            wire.send(b'{"type":"request","id":"7",' + PLACES["payload"] % bad + b"}")
            message = wire.receive()
            assert (message["id"], message["error"]["code"]) == ("7", "BAD_REQUEST"), name
        wire.call("PING")


def test_without_an_id_the_stream_ends(server: ServerProcess) -> None:
    for text in (b"[1]", b"nonsense", b'{"op":"PING"}', b'{"id":NaN}', b'{"type":"request","id":"1'):
        with Wire(server.port) as wire:
            wire.send_raw(frame(text))
            assert wire.ended(), text
