"""With a server of the original: its answers are understood, and it gets nothing it would misunderstand."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from client_doubles.replay import replaying
from client_doubles.server import ModelServer

import rstmdb_client
from rstmdb_client import AsyncClient, Client, OutcomeUnknownError, RetryPolicy, UnsupportedByServer

RECORDED = json.loads((Path(__file__).parent / "conversations" / "original.json").read_text())
ONCE = RetryPolicy(attempts_max=1)


def perform(face: str, url: str, step: Callable[[Any], Any], **options: Any) -> Any:
    """Run one step with a client of the given face; the step may return an awaitable."""
    if face == "sync":
        with Client(url, **options) as client:
            return step(client)

    async def main() -> Any:
        async with AsyncClient(url, **options) as client:
            return await step(client)

    return anyio.run(main, backend=face)


@pytest.mark.parametrize("face", ["asyncio", "trio", "sync"])
@pytest.mark.parametrize("recorded", RECORDED["conversations"], ids=lambda one: one["name"])
def test_recorded_conversation(face: str, recorded: dict[str, Any]) -> None:
    call = recorded["call"]
    steps = [RECORDED["hello"], RECORDED["auth"], recorded]
    with replaying(steps) as peer:

        def step(client: Any) -> Any:
            return getattr(client, call["method"])(*call["args"], **call["kwargs"])

        options = {"token": "my-secret-token", "retry": ONCE, "timeout": 5.0}
        if "raises" in recorded:
            with pytest.raises(getattr(rstmdb_client, recorded["raises"])):
                perform(face, peer.url, step, **options)
        else:
            result = msgspec.to_builtins(perform(face, peer.url, step, **options))
            expected = recorded["returns"]
            if isinstance(expected, dict) and expected.pop("...", False):
                result = {name: result[name] for name in expected}
                expected["..."] = True
                assert result == {name: value for name, value in expected.items() if name != "..."}
            elif expected != "*":
                assert result == expected
    assert peer.faults == []
    assert peer.played == 3


@pytest.mark.parametrize("face", ["asyncio", "sync"])
def test_recorded_watch(face: str) -> None:
    recorded = RECORDED["watch"]
    offsets = [event["wal_offset"] for event in recorded["events"]]
    with replaying([RECORDED["hello"]], [RECORDED["hello"], recorded]) as peer:
        if face == "sync":
            with Client(peer.url) as client, client.watch_all(machines=["order"]) as watch:
                events = [watch.next(5), watch.next(5)]
        else:

            async def main() -> list[Any]:
                async with AsyncClient(peer.url) as client, client.watch_all(machines=["order"]) as watch:
                    return [await watch.next(5), await watch.next(5)]

            events = anyio.run(main)
        # The original may send two events the wrong way round; neither is taken for a repeat.
        assert [event.wal_offset for event in events if event] == offsets
    assert peer.faults == []


def test_nothing_goes_out_that_it_would_misunderstand(original: ModelServer) -> None:
    with Client(original.url) as client:
        batch = client.batch(atomic=True)
        batch.delete_instance("o-1")
        for call in (
            batch.send,
            lambda: client.list_instances(cursor="x"),
            lambda: client.explain_event("o-1"),
            lambda: client.stats(),
            lambda: client.wal_read(instance_id="o-1"),
            lambda: client.watch_all(after_offset=3).start(),
            lambda: client.watch_all(from_oldest=True).start(),
            lambda: client.watch_all(include=["create"]).start(),
        ):
            before = len(original.requests)
            with pytest.raises(UnsupportedByServer):
                call()
            sent = [request["op"] for request in original.requests[before:]]
            assert set(sent) <= {"HELLO", "BYE"}


def test_a_write_without_an_answer_is_never_sent_again(original: ModelServer) -> None:
    machine = {"states": ["a"], "initial": "a", "transitions": [{"from": ["a"], "event": "E", "to": "a"}]}
    with Client(original.url, timeout=0.1) as client:
        client.put_machine("m", 1, machine)
        client.create_instance("m", 1, instance_id="x")
        original.silent = True
        for key in (rstmdb_client.AUTO, "mine", None):
            before = len(original.requests)
            with pytest.raises(OutcomeUnknownError) as unknown:
                client.apply_event("x", "E", idempotency_key=key)
            assert unknown.value.idempotency_key == ("mine" if key == "mine" else None)
            original.silent = False
            client.ping()
            original.silent = True
            writes = [one for one in original.requests[before:] if one["op"] == "APPLY_EVENT"]
            assert len(writes) == 1
            assert writes[0]["params"].get("idempotency_key") == ("mine" if key == "mine" else None)


def test_a_watch_that_missed_something_says_so(original: ModelServer) -> None:
    machine = {"states": ["a"], "initial": "a", "transitions": [{"from": ["a"], "event": "E", "to": "a"}]}
    original.execute("PUT_MACHINE", machine="m", version=1, definition=machine)
    original.execute("CREATE_INSTANCE", machine="m", version=1, instance_id="x")
    with Client(original.url) as client:
        with client.watch_instance("x") as watch:
            original.drop_connections()
            with pytest.raises(rstmdb_client.RequestTimeout):
                watch.next(0.2)  # resumed: the instance has not changed
            original.execute("APPLY_EVENT", instance_id="x", event="E")
            assert watch.next(5) is not None
        with client.watch_all() as watch:
            original.drop_connections()
            with pytest.raises(rstmdb_client.WatchInterrupted):
                watch.next(5)
