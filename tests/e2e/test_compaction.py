"""Compact, restart, compact, restart: everything is there, equal to a log that the test keeps for itself."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_disk_full import Caller
from tests.server_process import ServerProcess

CONFIG = """
storage:
  wal_segment_size_mb: 1
compaction:
  enabled: false
retention:
  history_mb: {history_mb}
"""

MACHINE = {
    "states": ["idle", "busy"],
    "initial": "idle",
    "transitions": [
        {"from": "idle", "event": "GO", "to": "busy"},
        {"from": "busy", "event": "GO", "to": "idle"},
    ],
}


class Shadow:
    """What happened, by the answers alone."""

    def __init__(self) -> None:
        self.random = random.Random(5)
        self.instances: dict[str, dict[str, Any]] = {}
        self.deleted: dict[str, int] = {}
        self.log: list[tuple[int, str, str]] = []  # offset, type, instance or machine
        self.keyed: list[tuple[str, dict[str, Any], dict[str, Any]]] = []
        self.machines: dict[str, list[int]] = {}
        self.writes = 0

    def write(self, caller: Caller) -> None:
        """Do one thing and note it."""
        self.writes += 1
        key = f"key-{self.writes}"
        what = self.random.random()
        if what < 0.02:
            version = len(self.machines.get("m", [])) + 1
            self._done(caller, "PUT_MACHINE", machine="m", version=version, definition=MACHINE)
            self.machines.setdefault("m", []).append(version)
        elif what < 0.2 or not self.instances:
            name = f"i{self.writes}"
            ctx = {"n": 0, "text": "t" * self.random.randrange(2000)}
            result = self._done(
                caller,
                "CREATE_INSTANCE",
                machine="m",
                version=1,
                instance_id=name,
                initial_ctx=ctx,
                idempotency_key=key,
            )
            self.instances[name] = {"state": "idle", "ctx": ctx, "last_wal_offset": result["wal_offset"]}
            self.log.append((result["wal_offset"], "create_instance", name))
        elif what < 0.25:
            name = self.random.choice(list(self.instances))
            result = self._done(caller, "DELETE_INSTANCE", instance_id=name, idempotency_key=key)
            del self.instances[name]
            self.deleted[name] = result["wal_offset"]
            self.log.append((result["wal_offset"], "delete_instance", name))
        else:
            name = self.random.choice(list(self.instances))
            payload = {"n": self.writes}
            result = self._done(
                caller, "APPLY_EVENT", instance_id=name, event="GO", payload=payload, idempotency_key=key
            )
            instance = self.instances[name]
            instance["ctx"] = {**instance["ctx"], **payload}
            instance["state"] = "busy" if instance["state"] == "idle" else "idle"
            instance["last_wal_offset"] = result["wal_offset"]
            self.log.append((result["wal_offset"], "apply_event", name))

    def _done(self, caller: Caller, op: str, **params: Any) -> dict[str, Any]:
        answer = caller.call(op, **params)
        assert answer["status"] == "ok", answer
        result: dict[str, Any] = answer["result"]
        if "idempotency_key" in params:
            self.keyed.append((op, params, result))
        return result

    def check(self, caller: Caller, *, history_from: int) -> None:
        """Hold the server against it."""
        for name, expected in self.instances.items():
            found = caller.call("GET_INSTANCE", instance_id=name)["result"]
            assert {key: found[key] for key in expected} == expected, name
        for name, offset in self.deleted.items():
            assert caller.call("GET_INSTANCE", instance_id=name)["error"]["code"] == "INSTANCE_NOT_FOUND"
            again = caller.call("DELETE_INSTANCE", instance_id=name)["result"]
            assert again["wal_offset"] == offset
        assert caller.call("LIST_MACHINES")["result"]["items"] == [
            {"machine": "m", "versions": self.machines["m"]}
        ]
        assert caller.call("LIST_INSTANCES", limit=1)["result"]["total"] == len(self.instances)
        for op, params, result in self.random.sample(self.keyed, 200):
            assert caller.call(op, **params)["result"] == {**result, "applied": False}
        read = [
            (record["offset"], record["entry"]["type"], record["entry"]["instance_id"])
            for record in self._read_log(caller)
            if record["entry"]["type"] != "put_machine"
        ]
        assert read == [entry for entry in self.log if entry[0] >= history_from]

    @staticmethod
    def _read_log(caller: Caller) -> Iterator[dict[str, Any]]:
        position = 0
        while True:
            page = caller.call("WAL_READ", from_offset=position, limit=700)["result"]
            if not page["records"]:
                return
            yield from page["records"]
            position = page["next_offset"]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("history_mb", [0, 256])
def test_compact_and_restart_again_and_again(tmp_path: Path, history_mb: int) -> None:
    config = tmp_path / "rstmdb.yaml"
    config.write_text(CONFIG.format(history_mb=history_mb))
    shadow = Shadow()
    deleted = 0
    with ServerProcess(tmp_path / "data", environ={"RSTMDB_CONFIG": str(config)}) as server:
        caller = Caller(server)
        answer = caller.call("PUT_MACHINE", machine="m", version=1, definition=MACHINE)
        assert answer["status"] == "ok"
        shadow.machines["m"] = [1]
        for round_number in range(4):
            for _ in range(1500):
                shadow.write(caller)
            compacted = caller.call("COMPACT", force_snapshot=True)["result"]
            assert compacted["snapshots_created"] == 1
            assert compacted["total_snapshots"] == min(2, round_number + 1)
            deleted += compacted["segments_deleted"]
            assert (compacted["bytes_reclaimed"] > 0) == (compacted["segments_deleted"] > 0)
            files = list((tmp_path / "data" / "wal").glob("0*.wal"))
            assert compacted["wal_segments"] == len(files)
            caller.close()
            if round_number % 2:
                server.kill()
            else:
                assert server.stop() == 0
            server.start()
            caller = Caller(server)
            oldest = caller.call("WAL_STATS")["result"]["oldest_offset"]
            shadow.check(caller, history_from=oldest)
        caller.close()
    assert (deleted > 0) == (history_mb == 0)
