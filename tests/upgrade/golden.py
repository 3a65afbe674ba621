"""The golden data directories: one a format, written once, opened by every later version.

    python -m tests.upgrade.golden NAME      writes tests/upgrade/data/NAME (only when the format changes)

A directory is kept as it was when its writer was killed: two snapshots, sealed segments, an active one with
records after the newest snapshot, keys, a tombstone, an atomic batch. ``expected.json`` says what it holds.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import msgspec

from rstmdb_core import digest
from rstmdb_server.settings import CompactionSettings, RetentionSettings, Settings
from rstmdb_storage import LogConfig, OsFileSystem
from tests.benchmarks.load import request
from tests.in_process import InProcessServer

DATA = Path(__file__).parent / "data"

MACHINE = {
    "states": ["created", "paid", "shipped"],
    "initial": "created",
    "transitions": [
        {"from": "created", "event": "PAY", "to": "paid"},
        {
            "from": ["paid"],
            "event": "SHIP",
            "to": "shipped",
            "guard": 'ctx.amount > 10 && ctx.country == "é"',
        },
        {"from": "paid", "event": "SHIP", "to": "created"},
        {"from": "shipped", "event": "PAY", "to": "paid"},
    ],
    "meta": {"owner": "shop"},
}


class Caller:
    """One request at a time to a server in this thread."""

    def __init__(self, server: InProcessServer) -> None:
        self._server = server
        self._session, self._wire = server.connect()

    def call(self, op: str, **params: Any) -> dict[str, Any]:
        """Send and return the result."""
        self._server.reactor.receive(self._session, request(op, **params))
        for _ in range(1000):
            self._server.host.advance(0.01)
            self._server.tick()
            answers = self._wire.take()
            if answers:
                message: dict[str, Any] = msgspec.json.decode(answers[0])
                assert message["status"] == "ok", message
                result: dict[str, Any] = message["result"]
                return result
        raise AssertionError(f"no answer to {op}")


def open_server(path: Path) -> InProcessServer:
    """Open (and recover) a directory with small segments."""
    return InProcessServer(
        OsFileSystem(),
        str(path),
        settings=Settings(
            compaction=CompactionSettings(enabled=False), retention=RetentionSettings(history_mb=0)
        ),
        log_config=LogConfig(segment_bytes=8192, reserve_bytes=0),
    )


def write(path: Path) -> None:
    """Write a directory and what it holds."""
    server = open_server(path / "data")
    caller = Caller(server)
    caller.call("PUT_MACHINE", machine="order", version=1, definition=MACHINE)
    caller.call("PUT_MACHINE", machine="order", version=2, definition={**MACHINE, "initial": "paid"})
    replays = []
    for number in range(40):
        key = {"idempotency_key": f"key-{number}"}
        ctx = {"amount": number, "country": "é", "tags": ["x" * 50, None, True]}
        create = {
            "machine": "order",
            "version": 1,
            "instance_id": f"order-{number}",
            "initial_ctx": ctx,
            **key,
        }
        pay = {"instance_id": f"order-{number}", "event": "PAY", "payload": {"paid": number / 7}, **key}
        replays.append(["CREATE_INSTANCE", create, caller.call("CREATE_INSTANCE", **create)])
        replays.append(["APPLY_EVENT", pay, caller.call("APPLY_EVENT", **pay)])
        if number in (12, 25):
            caller.call("COMPACT", force_snapshot=True)
    caller.call("DELETE_INSTANCE", instance_id="order-3")
    ship = [
        {"op": "APPLY_EVENT", "params": {"instance_id": f"order-{n}", "event": "SHIP"}} for n in (8, 9, 11)
    ]
    caller.call("BATCH", mode="atomic", ops=ship, idempotency_key="ship")
    expected = {
        "digest": digest(server.database.state),
        "next_sequence": server.database.state.next_sequence,
        "instances": server.database.state.instance_count,
        "replays": replays[:4] + replays[-4:],
        "snapshots": len(server.database.snapshots.infos()),
        "segments": len(server.database.log.statistics.segments),
    }
    # Not closed: what is kept is what a kill leaves.
    for name in ("LOCK",):
        (path / "data" / name).unlink()
    (path / "expected.json").write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    target = DATA / sys.argv[1]
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    write(target)
