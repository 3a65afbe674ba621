"""A database without a server, which keeps a shadow of itself: its state after every effect."""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from rstmdb_core import (
    ApplyEvent,
    Batch,
    CreateInstance,
    DeleteInstance,
    EngineSettings,
    PutMachine,
    State,
    dump,
)
from rstmdb_server.app import main
from rstmdb_server.database import Database, open_database
from rstmdb_storage import LogConfig, OsFileSystem, Retention
from rstmdb_storage.compaction import compact

sys.path.insert(0, str(Path(__file__).parent))

from original_writer import Original

CONFIG = LogConfig(segment_bytes=16 * 1024, reserve_bytes=0, fill=False)
MACHINE = {
    "states": ["open", "paid", "shipped"],
    "initial": "open",
    "transitions": [
        {"from": "open", "event": "PAY", "to": "paid", "guard": "ctx.total > 0"},
        {"from": "paid", "event": "SHIP", "to": "shipped"},
        {"from": ["open", "paid", "shipped"], "event": "NOTE", "to": "open"},
    ],
}


def picture(state: State) -> dict[str, Any]:
    """Everything that a client could find out, in plain values."""
    return {
        "machines": {
            name: {version: machine.definition.checksum for version, machine in versions.items()}
            for name, versions in state.machines.items()
        },
        "instances": {
            each.id: (
                each.machine,
                each.version,
                each.state,
                each.ctx,
                each.last_event_id,
                each.last_offset,
                each.created_ms,
                each.updated_ms,
            )
            for each in state.table.values()
        },
        "tombstones": {each.key: each.offset for each in state.tombstones.values()},
        "keys": {each.key: (each.fingerprint, each.replay()) for each in state.idempotency.values()},
    }


class Clock:
    """A host whose time moves when it is told to."""

    def __init__(self) -> None:
        self.now_ms = 1_767_225_600_000
        self._ids = itertools.count(1)

    def monotonic(self) -> float:
        return self.now_ms / 1000

    def wall_ms(self) -> int:
        return self.now_ms

    def new_id(self) -> str:
        return f"auto-{next(self._ids)}"


class Shadowed:
    """A data directory in use, and what it should hold after each effect."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = Clock()
        self.shadow: dict[int, dict[str, Any]] = {0: picture(State())}
        self.times: dict[int, int] = {}
        self.database: Database = self._open()

    def _open(self) -> Database:
        return open_database(
            self.clock,  # type: ignore[arg-type]
            OsFileSystem(),
            str(self.path),
            log_config=CONFIG,
            engine_settings=EngineSettings(),
        )

    def execute(self, command: Any) -> dict[str, Any]:
        """Execute a command and commit it; its answer must not be a refusal."""
        self.clock.now_ms += 10
        self.database.now_ms = self.clock.now_ms
        before = self.database.appended_sequence
        answer = self.database.execute(command)
        assert type(answer) is bytes, answer
        self.commit()
        if self.database.appended_sequence > before:
            self.shadow[self.database.appended_sequence] = picture(self.database.state)
            self.times[self.database.appended_sequence] = self.clock.now_ms
        answered: dict[str, Any] = json.loads(answer)
        return answered

    def commit(self) -> None:
        commit = self.database.log.begin_commit()
        if commit is not None:
            commit.run()
            self.database.log.finish_commit(commit)

    def work(self, rounds: int, *, start: int = 0) -> None:
        """Do a bit of everything, with keys."""
        if not self.database.state.machines:
            self.execute(PutMachine("order", 1, json.dumps(MACHINE).encode()))
        for number in range(start, start + rounds):
            name = f"order-{number}"
            ctx = json.dumps({"total": number + 1, "text": "x" * (number % 7 * 20)}).encode()
            self.execute(CreateInstance(name, "order", 1, ctx, idempotency_key=f"create-{number}"))
            self.execute(
                ApplyEvent(name, "PAY", b'{"by":"card"}', event_id=f"e{number}", idempotency_key=f"k{number}")
            )
            if number % 3 == 0:
                self.execute(
                    Batch(
                        True,
                        [
                            ApplyEvent(name, "SHIP"),
                            CreateInstance(None, "order", 1, ctx),
                            ApplyEvent(name, "NOTE"),
                        ],
                        idempotency_key=f"batch-{number}",
                    )
                )
            if number % 4 == 3:
                self.execute(DeleteInstance(name, idempotency_key=f"delete-{number}"))

    def snapshot(self) -> int:
        """Write a snapshot; returns its sequence."""
        sequence = self.database.appended_sequence
        with dump(self.database.state) as view:
            writer = self.database.snapshots.begin(sequence)
            for chunk in view.chunks():
                writer.write(chunk)
            writer.finish()
        return sequence

    def trim(self) -> int:
        """Drop the log that the kept snapshots do not need; returns how many segments went."""
        result = compact(
            self.database.log,
            self.database.snapshots,
            Retention(bytes=0, seconds=0),
            now_ms=self.clock.now_ms,
        )
        return result.segments_deleted

    def reopen(self) -> None:
        self.database.close()
        self.database = self._open()

    def close(self) -> None:
        self.database.close()


class Command:
    """Runs ``rstmdb`` in this process and keeps what it said."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd
        self.out = ""
        self.err = ""

    def __call__(self, *arguments: object) -> int:
        self._capfd.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
        self.out, self.err = self._capfd.readouterr()
        return code


def files_of(path: Path) -> dict[str, tuple[str, int]]:
    """Every file under a directory with its contents' digest and its time of change."""
    return {
        str(file.relative_to(path)): (hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_mtime_ns)
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


@pytest.fixture
def database(tmp_path):
    """A database with a shadow, empty."""
    shadowed = Shadowed(tmp_path / "data")
    yield shadowed
    shadowed.close()


@pytest.fixture
def rstmdb(capfd):
    """The command ``rstmdb``."""
    return Command(capfd)


@pytest.fixture
def held():
    """Picture of a state; the state of a directory opened as a server would; the files of a directory."""

    class Held:
        picture = staticmethod(picture)
        files = staticmethod(files_of)

        @staticmethod
        def opened(path: Path) -> tuple[dict[str, Any], int]:
            found = open_database(
                Clock(),  # type: ignore[arg-type]
                OsFileSystem(),
                str(path),
                log_config=CONFIG,
                engine_settings=EngineSettings(),
            )
            try:
                return picture(found.state), found.state.next_sequence
            finally:
                found.close()

    return Held


@pytest.fixture
def original(tmp_path):
    """Makes data directories of the original server."""

    def make(name: str = "original", **options: Any) -> Original:
        return Original(tmp_path / name, **options)

    return make
