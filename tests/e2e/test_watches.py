"""Watches over a real socket: replay and live without gap or repeat, under load, through restarts."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server_process import ServerProcess
from tests.wire import ORDER, StreamClosedError, Wire, frame, request

STALL_SECONDS = float(os.environ.get("RSTMDB_STALL_SECONDS", "3"))
"""How long the watcher stops; `hatch run soak` uses 60."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path / "data", environ={"RSTMDB_ALLOW_FLUSH_ALL": "1"}) as server:
        with Wire(server.port) as wire:
            wire.call("PUT_MACHINE", machine="order", version=1, definition=ORDER)
            for number in range(4):
                wire.call("CREATE_INSTANCE", machine="order", version=1, instance_id=f"i{number}")
        yield server


class Load:
    """Writers that apply events until they are told to stop; survives a server that goes away.

    Attributes:
        offsets: Of every acknowledged event.
        seconds: How long each took.
    """

    def __init__(self, port: int, writers: int = 2, *, payload: str = "") -> None:
        self.offsets: list[int] = []
        self.seconds: list[float] = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._write, args=(port, number, payload)) for number in range(writers)
        ]

    def _write(self, port: int, number: int, payload: str) -> None:
        with contextlib.suppress(ConnectionError, StreamClosedError, TimeoutError), Wire(port) as wire:
            while not self._stop.is_set():
                began = time.monotonic()
                result = wire.call(
                    "APPLY_EVENT", instance_id=f"i{number}", event="NOTE", payload={"text": payload}
                )
                self.seconds.append(time.monotonic() - began)
                self.offsets.append(result["wal_offset"])

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def apply_some(wire: Wire, count: int, instance: str = "i0") -> list[int]:
    """Pipeline events; return their offsets."""
    ids = [wire.ask("APPLY_EVENT", {"instance_id": instance, "event": "NOTE"}) for _ in range(count)]
    return [wire.answer(request_id)["result"]["wal_offset"] for request_id in ids]


def offsets_until(wire: Wire, last: int) -> list[int]:
    """Read events up to the one at ``last``."""
    seen: list[int] = []
    while not seen or seen[-1] < last:
        event = wire.event()
        assert event["type"] == "event", event
        seen.append(event["wal_offset"])
    return seen


def test_replay_then_live_without_gap_or_repeat_under_load(server: ServerProcess) -> None:
    with Wire(server.port) as writer:
        history = apply_some(writer, 3000)
        with Load(server.port) as load:
            watchers = []
            for start in (history[0], history[1500], history[-1] + 1):
                wire = Wire(server.port)
                wire.call("WATCH_ALL", from_offset=start, include_ctx=False)
                watchers.append((wire, start))
            begun = len(load.offsets)
            while len(load.offsets) < begun + 400:
                time.sleep(0.01)
        last = apply_some(writer, 1)[0]
    expected = sorted(history + load.offsets + [last])
    for wire, start in watchers:
        assert offsets_until(wire, last) == [offset for offset in expected if offset >= start]
        wire.call("PING")
        assert wire.events == []
        wire.close()


def test_every_way_to_begin(server: ServerProcess) -> None:
    with Wire(server.port) as writer:
        offsets = apply_some(writer, 20)
        extra = ["create", "delete", "put_machine", "flush"]
        cases: list[tuple[dict[str, Any], int]] = [
            ({"after_offset": offsets[-1]}, 20),  # first, while that is the newest
            ({}, 20),
            ({"from_offset": 0}, 20),
            ({"from_offset": None}, 20),
            ({"from_offset": offsets[7]}, 7),
            ({"after_offset": offsets[7]}, 8),
            ({"from": "oldest"}, 0),
            ({"after_offset": 0}, 0),
            ({"from_offset": 1}, 0),
        ]
        for params, first in cases:
            with Wire(server.port) as wire:
                answer = wire.call("WATCH_ALL", params)
                assert answer["wal_offset"] == offsets[-1] + 1
                offsets += apply_some(writer, 1)
                assert offsets_until(wire, offsets[-1]) == offsets[first if first < 20 else -1 :], params
                if first == 20:
                    assert wire.events == []
        with Wire(server.port) as wire:
            wire.call("WATCH_ALL", {"from": "oldest", "include": extra})
            kinds = [wire.event().get("kind") for _ in range(6)]
            assert kinds == ["put_machine", "create", "create", "create", "create", None]
        with Wire(server.port) as wire:
            answer = wire.call("WATCH_INSTANCE", instance_id="i1", from_offset=1)
            assert answer["current_state"] == "created"
            apply_some(writer, 3)
            [mine] = apply_some(writer, 1, "i1")
            assert wire.event()["wal_offset"] == mine, "nothing of the other instances"


def test_kinds_that_were_asked_for(server: ServerProcess) -> None:
    with Wire(server.port) as writer, Wire(server.port) as wire, Wire(server.port) as plain:
        wire.call("WATCH_ALL", include=["create", "delete", "put_machine", "flush"])
        plain.call("WATCH_ALL")
        writer.call("PUT_MACHINE", machine="other", version=1, definition=ORDER)
        writer.call("CREATE_INSTANCE", machine="other", version=1, instance_id="o", initial_ctx={"a": 1})
        writer.call("BATCH", ops=[
            {"op": "APPLY_EVENT", "params": {"instance_id": "o", "event": "PAY"}},
            {"op": "DELETE_INSTANCE", "params": {"instance_id": "o"}},
        ])  # fmt: skip
        writer.call("FLUSH_ALL")
        heard = [wire.event() for _ in range(5)]
        assert [e.get("kind") for e in heard] == ["put_machine", "create", None, "delete", "flush"]
        assert heard[1]["ctx"] == {"a": 1}
        assert [e["wal_offset"] for e in heard] == list(
            range(heard[0]["wal_offset"], heard[0]["wal_offset"] + 5)
        )
        assert plain.event()["event"] == "PAY"
        plain.call("PING")
        assert plain.events == []
        assert wire.refusal("WATCH_ALL", include=["nonsense"]).code == "BAD_REQUEST"


def test_filters_hold_in_replay_and_live(server: ServerProcess) -> None:
    with Wire(server.port) as writer:
        writer.call("PUT_MACHINE", machine="other", version=1, definition=ORDER)
        writer.call("CREATE_INSTANCE", machine="other", version=1, instance_id="x")
        wires = []
        filters: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
            ({"machines": ["other"]}, [("x", "PAY"), ("x", "SHIP"), ("x", "NOTE")]),
            ({"events": ["PAY"]}, [("i0", "PAY"), ("x", "PAY")]),
            ({"from_states": ["paid"]}, [("i0", "SHIP"), ("x", "SHIP")]),
            ({"to_states": ["created"], "machines": ["order"]}, [("i0", "NOTE")]),
            ({"events": ["PAY", "NOTE"], "machines": ["order", "none"]}, [("i0", "PAY"), ("i0", "NOTE")]),
            (
                {"machines": [], "events": None},
                [(i, e) for e in ("PAY", "SHIP", "NOTE") for i in ("i0", "x")],
            ),
        ]
        for params, _ in filters:
            wires.append(Wire(server.port))
            wires[-1].call("WATCH_ALL", params)
        for event in ("PAY", "SHIP", "NOTE"):
            for instance in ("i0", "x"):
                writer.call("APPLY_EVENT", instance_id=instance, event=event)
        for wire, (params, expected) in zip(wires, filters, strict=True):
            assert [_named(wire.event()) for _ in expected] == expected, params
            wire.call("PING")
            assert wire.events == []
            wire.call("WATCH_ALL", {**params, "from": "oldest"})
            assert [_named(wire.event()) for _ in expected] == expected, f"replay {params}"
            wire.close()


def _named(event: dict[str, Any]) -> tuple[str, str]:
    return event["instance_id"], event["event"]


def test_offsets_that_do_not_exist(tmp_path: Path) -> None:
    settings = {
        "RSTMDB_WAL_SEGMENT_SIZE_MB": "1",
        "RSTMDB_RETENTION_HISTORY_MB": "0",
        "RSTMDB_RETENTION_HISTORY_SECS": "0",
        "RSTMDB_COMPACT_ENABLED": "false",
    }
    with ServerProcess(tmp_path / "data", environ=settings) as server, Wire(server.port) as wire:
        wire.call("PUT_MACHINE", machine="order", version=1, definition=ORDER)
        wire.call(
            "CREATE_INSTANCE", machine="order", version=1, instance_id="i0", initial_ctx={"t": "x" * 100_000}
        )
        last = apply_some(wire, 60)[-1]
        for params in ({"from_offset": last + 2}, {"after_offset": last + 1}, {"from_offset": 2**62}):
            for op in ("WATCH_ALL", "WATCH_INSTANCE"):
                refused = wire.refusal(op, {"instance_id": "i0", **params})
                assert (refused.code, refused.reason) == ("BAD_REQUEST", "OFFSET_AHEAD")
                assert refused.error["details"]["latest_offset"] == last + 1
        wire.call("WATCH_ALL", from_offset=last + 1)
        assert wire.call("WAL_READ", from_offset=last + 5)["records"] == []
        # Somebody who is in the middle of reading history when it is let go is told so.
        with Wire(server.port, receive_buffer=4096) as slow:
            subscription = slow.call("WATCH_ALL", {"from": "oldest"})["subscription_id"]
            oldest = 1
            for _ in range(20):
                last = apply_some(wire, 60)[-1]
                wire.events.clear()
                wire.call("COMPACT", force_snapshot=True)
                oldest = wire.call("WAL_STATS")["oldest_offset"]
                if oldest > 1:
                    break
            assert oldest > 1, "nothing was compacted"
            refused = wire.refusal("WATCH_ALL", from_offset=1)
            assert (refused.code, refused.reason) == ("BAD_REQUEST", "OFFSET_COMPACTED")
            assert refused.error["details"]["oldest_offset"] == oldest
            seen: list[int] = []
            ended = None
            slow.call("PING")
            while ended is None and (not seen or seen[-1] < last):
                event = slow.event()
                if event["type"] == "end":
                    ended = event
                else:
                    seen.append(event["wal_offset"])
            assert seen == list(range(3, 3 + len(seen))), "no silent gap"
            if ended is not None:
                assert ended["subscription_id"] == subscription
                assert ended["reason"] == "OFFSET_COMPACTED"
                assert ended["oldest_offset"] > seen[-1]


def test_unwatch_from_another_session_says_the_end(server: ServerProcess) -> None:
    with Wire(server.port) as one, Wire(server.port) as other:
        kept = one.call("WATCH_ALL")["subscription_id"]
        gone = one.call("WATCH_INSTANCE", instance_id="i0")["subscription_id"]
        assert other.call("UNWATCH", subscription_id=gone) == {"subscription_id": gone, "removed": True}
        assert one.event() == {"type": "end", "subscription_id": gone, "reason": "UNWATCHED"}
        apply_some(other, 1)
        assert one.event()["subscription_id"] == kept
        one.call("PING")
        assert one.events == []


def test_the_answer_precedes_its_events_and_events_wait_for_the_disk(server: ServerProcess) -> None:
    with Wire(server.port) as wire:
        first = apply_some(wire, 50)[0]
        requests = [
            request("APPLY_EVENT", {"instance_id": "i0", "event": "NOTE"}, "a"),
            request("WATCH_ALL", {"from_offset": first}, "w"),
            request("APPLY_EVENT", {"instance_id": "i0", "event": "NOTE"}, "b"),
        ]
        wire.send_raw(b"".join(map(frame, requests)))
        messages = [wire.receive() for _ in range(3 + 52)]
        kinds = [m["id"] if m["type"] == "response" else "e" for m in messages]
        assert kinds.index("a") < kinds.index("w") < kinds.index("b")
        assert kinds.index("w") < kinds.index("e")
        offsets = [m["wal_offset"] for m in messages if m["type"] == "event"]
        assert offsets == list(range(first, first + 52))


def test_a_watcher_that_stops_reading_gets_everything_once(server: ServerProcess) -> None:
    """Stopped under load, resumed; the others are not slowed down."""
    with Load(server.port, payload="x" * 2000) as before:
        time.sleep(min(STALL_SECONDS, 10) / 2)
    with Wire(server.port, receive_buffer=8192) as watcher:
        watcher.call("WATCH_ALL")
        with Load(server.port, payload="x" * 2000) as load:
            time.sleep(STALL_SECONDS)  # it reads nothing: that is the test
        with Wire(server.port) as writer:
            last = apply_some(writer, 1)[0]
        assert offsets_until(watcher, last) == sorted([*load.offsets, last])
    alone, beside = _percentile(before.seconds, 0.99), _percentile(load.seconds, 0.99)
    print(f"{len(load.offsets)} events; p99 {alone * 1000:.2f} ms before, {beside * 1000:.2f} ms beside it")
    assert beside < 3 * alone + 0.02, (alone, beside)


def _percentile(seconds: list[float], fraction: float) -> float:
    return sorted(seconds)[int(len(seconds) * fraction)]


@pytest.mark.parametrize("way", ["reconnect", "stop", "kill"])
def test_nothing_is_lost_or_repeated_across(server: ServerProcess, way: str) -> None:
    """A watcher goes on from the last offset it saw: after its own stream broke, after the server's end."""
    with Load(server.port) as load, Wire(server.port) as watcher:
        watcher.call("WATCH_ALL")
        seen = [watcher.event()["wal_offset"] for _ in range(50)]
        if way == "stop":
            assert server.stop() == 0
        elif way == "kill":
            server.kill()
    if way != "reconnect":
        server.start()
    with Wire(server.port) as writer, Wire(server.port) as watcher:
        watcher.call("WATCH_ALL", after_offset=seen[-1])
        last = apply_some(writer, 1)[0]
        seen += offsets_until(watcher, last)
        history = writer.call("WAL_READ", from_offset=seen[0])
        applied = [r["offset"] for r in history["records"] if r["entry"]["type"] == "apply_event"]
        assert history["next_offset"] == last + 1, "one page has it all"
        assert seen == applied
        missing = set(load.offsets) - set(seen)
        assert all(offset < seen[0] for offset in missing), "an acknowledged event was not told"


def test_subscriptions_are_limited_and_given_back(tmp_path: Path) -> None:
    settings = {"RSTMDB_NETWORK_SUBSCRIPTIONS_MAX": "3"}
    with ServerProcess(tmp_path / "data", environ=settings) as server, Wire(server.port) as wire:
        ids = [wire.call("WATCH_ALL")["subscription_id"] for _ in range(3)]
        refused = wire.refusal("WATCH_ALL")
        assert (refused.code, refused.reason) == ("RATE_LIMITED", "SUBSCRIPTIONS_MAX")
        wire.call("UNWATCH", subscription_id=ids[0])
        wire.call("WATCH_ALL")
        with Wire(server.port) as other:
            other.call("WATCH_ALL")


def test_idleness_spares_watchers(tmp_path: Path) -> None:
    with (
        ServerProcess(tmp_path / "data", environ={"RSTMDB_IDLE_TIMEOUT": "1"}) as server,
        Wire(server.port) as watcher,
        Wire(server.port) as idle,
    ):
        subscription = watcher.call("WATCH_ALL")["subscription_id"]
        idle.call("PING")
        assert idle.ended(5)
        watcher.call("PING")
        watcher.call("UNWATCH", subscription_id=subscription)
        assert watcher.ended(5), "without a subscription it is idle like any other"
