"""Backups of a server under load, restored elsewhere to offsets in the middle, equal the clients' own shadow.

Eight clients write through the wire; each keeps what was acknowledged to it, by offset. Meanwhile the server
rotates small segments, snapshots and compacts, and `rstmdb backup` runs beside it several times. Then each
backup is restored to several offsets, a real server is started on the result, and everything it shows is held
against what the clients knew at that offset.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.server_process import ServerProcess
from tests.wire import RefusedError, Wire

CLIENTS = 8
INSTANCES_A_CLIENT = 6
WRITES_BEFORE_A_BACKUP = 700
BACKUPS = 4
JUMP = 1 << 32

MACHINE = {
    "states": ["idle", "busy"],
    "initial": "idle",
    "transitions": [
        {"from": "idle", "event": "GO", "to": "busy"},
        {"from": "busy", "event": "GO", "to": "idle"},
    ],
}
SMALL = {
    "RSTMDB_WAL_SEGMENT_SIZE_MB": "1",
    "RSTMDB_COMPACT_EVENTS": "400",
    "RSTMDB_COMPACT_INTERVAL": "0",
    "RSTMDB_RETENTION_HISTORY_MB": "0",
    "RSTMDB_RETENTION_HISTORY_SECS": "0",
    "RSTMDB_LOGGING_LEVEL": "warn",
}


@dataclass
class Shadow:
    """What was acknowledged, by offset.

    Attributes:
        changes: offset -> (instance, what GET_INSTANCE shows from then on, or None for deleted).
        keyed: offset -> (operation, its parameters, its answer).
        acknowledged: The highest offset that was acknowledged.
    """

    changes: dict[int, tuple[str, dict[str, Any] | None]] = field(default_factory=dict)
    keyed: dict[int, tuple[str, dict[str, Any], dict[str, Any]]] = field(default_factory=dict)
    acknowledged: int = 0

    def note(
        self,
        offset: int,
        instance: str,
        state: dict[str, Any] | None,
        keyed: tuple[str, dict[str, Any], dict[str, Any]],
    ) -> None:
        """Keep what a write did; from any client's thread."""
        assert offset not in self.changes
        self.changes[offset] = (instance, state)
        self.keyed[offset] = keyed
        self.acknowledged = max(self.acknowledged, offset)

    def at(self, offset: int) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any] | None] = {}
        for changed in sorted(self.changes):
            if changed <= offset:
                instance, state = self.changes[changed]
                found[instance] = state
        return {instance: state for instance, state in found.items() if state is not None}


def client(port: int, number: int, shadow: Shadow, stop: threading.Event) -> None:
    chance = random.Random(number)
    contexts: dict[str, dict[str, Any]] = {}
    states: dict[str, str] = {}
    with Wire(port) as wire:
        for count in itertools.takewhile(lambda _: not stop.is_set(), itertools.count()):
            instance = f"c{number}-i{chance.randrange(INSTANCES_A_CLIENT)}"
            key = f"{number}-{count}"
            params: dict[str, Any] = {"instance_id": instance, "idempotency_key": key}
            if instance not in states:
                op = "CREATE_INSTANCE"
                params |= {"machine": "m", "version": 1, "initial_ctx": {"n": 0, "by": key}}
            elif chance.random() < 0.03:
                op = "DELETE_INSTANCE"
            else:
                op = "APPLY_EVENT"
                params |= {"event": "GO", "payload": {"by": key, "text": "x" * chance.randrange(1500)}}
            answer = wire.call(op, params)
            offset = answer["wal_offset"]
            if op == "CREATE_INSTANCE":
                contexts[instance], states[instance] = params["initial_ctx"], answer["state"]
            elif op == "APPLY_EVENT":
                contexts[instance] = contexts[instance] | params["payload"]
                states[instance] = answer["to_state"]
            else:
                del contexts[instance], states[instance]
            shown = None
            if instance in states:
                shown = {
                    "machine": "m",
                    "version": 1,
                    "state": states[instance],
                    "ctx": contexts[instance],
                    "last_wal_offset": offset,
                }
            shadow.note(offset, instance, shown, (op, params, answer))


def rstmdb(*arguments: object) -> tuple[int, str, str]:
    """Run the command as an operator does."""
    done = subprocess.run(
        [sys.executable, "-m", "rstmdb_server", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def back_up_under_load(
    server: ServerProcess, folder: Path, shadow: Shadow
) -> list[tuple[Path, dict[str, Any], int]]:
    """Return backups, their manifests, and what had been acknowledged when each began."""
    wire = Wire(server.port)
    wire.call("PUT_MACHINE", machine="m", version=1, definition=MACHINE)
    stop = threading.Event()
    clients = [
        threading.Thread(target=client, args=(server.port, number, shadow, stop)) for number in range(CLIENTS)
    ]
    for thread in clients:
        thread.start()
    made = []
    try:
        for number in range(BACKUPS):
            begun = shadow.acknowledged
            while shadow.acknowledged < begun + WRITES_BEFORE_A_BACKUP:
                wire.call("PING")
            target = folder / f"backup-{number}"
            acknowledged = shadow.acknowledged
            if number % 2:
                # Not waited for: snapshot, rotation and trimming go on while the files are looked at.
                wire.ask("COMPACT", {"force_snapshot": True})
            code, _, err = rstmdb("backup", "--data", server.data, "--to", target)
            assert (code, err) == (0, "")
            assert all(thread.is_alive() for thread in clients)
            assert shadow.acknowledged > acknowledged, "there was no load during the backup"
            if number % 2:
                assert wire.answer()["status"] == "ok"
            made.append((target, json.loads((target / "manifest.json").read_text()), acknowledged))
    finally:
        stop.set()
        for thread in clients:
            thread.join()
        wire.close()
    return made


def everything(port: int) -> dict[str, dict[str, Any]]:
    """What a server shows of all its instances."""
    found = {}
    with Wire(port) as wire:
        for row in wire.call("LIST_INSTANCES", limit=1000)["instances"]:
            answer = wire.call("GET_INSTANCE", instance_id=row["id"])
            found[row["id"]] = {
                name: answer[name] for name in ("machine", "version", "state", "ctx", "last_wal_offset")
            }
    return found


def check_keys(port: int, shadow: Shadow, offset: int, first: int) -> None:
    """Keys up to the offset answer as they did; a later one is new, and gets an offset never shown before."""
    known = [at for at in sorted(shadow.keyed) if at <= offset]
    later = [at for at in sorted(shadow.keyed) if at > offset and shadow.keyed[at][0] == "APPLY_EVENT"]
    with Wire(port) as wire:
        for at in known[:: max(1, len(known) // 60)]:
            op, params, answer = shadow.keyed[at]
            assert wire.call(op, params) == {**answer, "applied": False}
        created = wire.call("CREATE_INSTANCE", machine="m", version=1, instance_id="after")
        assert created["wal_offset"] == first
        for at in later[:3]:
            op, params, _ = shadow.keyed[at]
            # An instance that was created only after the offset is not there.
            with contextlib.suppress(RefusedError):
                assert wire.call(op, params)["wal_offset"] > first


@pytest.mark.timeout(180)
def test_backup_of_a_server_under_load_restored_to_the_middle(tmp_path, record_property):
    shadow = Shadow()
    with ServerProcess(tmp_path / "data", environ=SMALL) as server:
        backups = back_up_under_load(server, tmp_path, shadow)
    assert len(shadow.changes) == shadow.acknowledged - 1  # all but PUT_MACHINE
    wal = sorted(path.name for path in (tmp_path / "data/wal").glob("*.wal"))
    assert wal[0] > f"{1:016x}.wal", "nothing was compacted away meanwhile: the test shows too little"
    chance = random.Random(1)
    restored = linked = 0
    for backup, manifest, acknowledged in backups:
        begin, end = manifest["restorable_from"], manifest["restorable_to"]
        assert end >= acknowledged
        linked += sum(path.stat().st_nlink > 1 for path in backup.glob("*/*"))
        for offset in (chance.randrange(begin, end), end):
            target = tmp_path / f"restored-{restored}"
            code, out, err = rstmdb("restore", "--from", backup, "--to", target, "--to-offset", offset)
            assert (code, err) == (0, "")
            assert out.endswith(f"offsets go on at {manifest['next_sequence'] + JUMP}\n")
            with ServerProcess(target, environ=SMALL) as server:
                assert everything(server.port) == shadow.at(offset)
                check_keys(server.port, shadow, offset, manifest["next_sequence"] + JUMP)
            code, out, err = rstmdb("verify", target)
            assert (code, err) == (0, "")
            restored += 1
    record_property("restored", restored)
    print(
        f"{len(backups)} backups under {len(shadow.changes)} writes, {linked} hard links, {restored} restores"
    )


@pytest.mark.timeout(120)
def test_restore_to_a_time(tmp_path):
    """The clients' clock says when: what was acknowledged before is there, what was sent after is not."""

    with ServerProcess(tmp_path / "data") as server, Wire(server.port) as wire:
        wire.call("PUT_MACHINE", machine="m", version=1, definition=MACHINE)
        for name in ("a", "b"):
            wire.call("CREATE_INSTANCE", machine="m", version=1, instance_id=name)
        moment = datetime.now(UTC)
        while (datetime.now(UTC) - moment).total_seconds() < 0.005:
            wire.call("PING")  # the log's times are whole milliseconds
        wire.call("CREATE_INSTANCE", machine="m", version=1, instance_id="c")
        code, _, err = rstmdb("backup", "--data", server.data, "--to", tmp_path / "backup")
        assert (code, err) == (0, "")
    code, _, err = rstmdb(
        "restore", "--from", tmp_path / "backup", "--to", tmp_path / "then", "--to-time", moment.isoformat()
    )
    assert (code, err) == (0, "")
    with ServerProcess(tmp_path / "then") as server:
        assert set(everything(server.port)) == {"a", "b"}


def test_a_backup_is_not_served(tmp_path):
    """Its sequences have not jumped: serving it would show offsets twice for different effects."""
    with ServerProcess(tmp_path / "data"):
        assert (rstmdb("backup", "--data", tmp_path / "data", "--to", tmp_path / "backup"))[0] == 0
    with pytest.raises(AssertionError, match="the server ended with 3"):
        ServerProcess(tmp_path / "backup").start()
