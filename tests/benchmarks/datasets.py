"""Data directories of a million instances, written through the engine and the log, without a server."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

from rstmdb_core import (
    ApplyEvent,
    CreateInstance,
    EngineSettings,
    Outcome,
    PutMachine,
    State,
    apply,
    decide,
    dump,
    encode_record,
)
from rstmdb_storage import DataDirectory, EmbeddedLog, FsyncPolicy, LogConfig, OsFileSystem, SnapshotStore

DEFINITION = {
    "states": ["created", "paid", "shipped"],
    "initial": "created",
    "transitions": [
        {"from": "created", "event": "PAY", "to": "paid"},
        {"from": "paid", "event": "SHIP", "to": "shipped"},
        {"from": "shipped", "event": "REOPEN", "to": "created"},
    ],
}


class Writer:
    """Writes records of the engine into a fresh data directory."""

    def __init__(self, path: Path) -> None:
        self._fs = OsFileSystem()
        self._directory = DataDirectory.open(self._fs, str(path))
        # What is written here is thrown away after the measurement: syncs would only slow the preparation.
        config = LogConfig(fsync=FsyncPolicy.never(), reserve_bytes=0)
        self._log, _ = EmbeddedLog.open(self._fs, self._directory.wal, config)
        self.state = State(EngineSettings())
        self._now = time.time_ns() // 1_000_000
        self._ids = 0

    def _new_id(self) -> str:
        self._ids += 1
        return f"auto-{self._ids}"

    def execute(self, command: object) -> None:
        """Decide, append, apply."""
        outcome = decide(self.state, command, now_ms=self._now, new_id=self._new_id)  # type: ignore[arg-type]
        assert isinstance(outcome, Outcome), outcome
        assert outcome.record is not None
        self._log.append(encode_record(outcome.record), len(outcome.record.effects))
        apply(self.state, outcome.record)
        if self._log.pending_records >= 64:
            self.commit()

    def commit(self) -> None:
        """Write what was appended."""
        commit = self._log.begin_commit()
        if commit is not None:
            commit.run()
            self._log.finish_commit(commit)

    def snapshot(self) -> int:
        """Write a snapshot; returns its size."""
        self.commit()
        while self._log.synced_sequence < self._log.durable_sequence:
            sync = self._log.begin_sync(time.monotonic(), force=True)
            assert sync is not None
            sync.run()
            self._log.finish_commit(sync)
        store = SnapshotStore(self._fs, self._directory.snapshots)
        writer = store.begin(self._log.durable_sequence)
        with dump(self.state) as view:
            for chunk in view.chunks():
                writer.write(chunk)
        return writer.finish().size_bytes

    def close(self) -> None:
        """Leave a cleanly closed directory."""
        self.commit()
        self._log.close()
        self._directory.close()


def write_instances(
    path: Path, count: int, *, ctx_bytes: int = 100, random_text: bool = False, snapshot: bool = True
) -> int:
    """Write so many instances; returns the snapshot's size (0 without one)."""
    writer = Writer(path)
    writer.execute(PutMachine(machine="order", version=1, definition=json.dumps(DEFINITION).encode()))
    source = random.Random(1)
    for number in range(count):
        length = ctx_bytes - 12
        text = f"{source.getrandbits(4 * length):0{length}x}" if random_text else "x" * length
        writer.execute(
            CreateInstance(
                instance_id=f"order-{number:09}",
                machine="order",
                version=1,
                initial_ctx=b'{"text":"%b"}' % text.encode(),
            )
        )
    size = writer.snapshot() if snapshot else 0
    writer.close()
    return size


def write_keyed_applies(path: Path, instances: int, applies: int) -> None:
    """Write a log of applied events with keys, and no snapshot."""
    writer = Writer(path)
    writer.execute(PutMachine(machine="order", version=1, definition=json.dumps(DEFINITION).encode()))
    for number in range(instances):
        writer.execute(CreateInstance(instance_id=f"order-{number:09}", machine="order", version=1))
    events = ("PAY", "SHIP", "REOPEN")
    for number in range(applies):
        instance = number % instances
        writer.execute(
            ApplyEvent(
                instance_id=f"order-{instance:09}",
                event=events[number // instances % 3],
                payload=b'{"amount":99.5,"n":%d}' % number,
                idempotency_key=f"key-{number}",
            )
        )
    writer.close()
