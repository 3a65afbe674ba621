"""Kill a real server under load, again and again, and check that nothing acknowledged is ever lost.

Eight clients write, one request in flight each; every write has an idempotency key. At a random moment the
server gets SIGKILL. After each restart

* what was in flight is sent again with its key: it is applied then, or it says that it was applied before;
* every instance stands exactly where its client's history says;
* the server's count of effects equals the number of writes that ever happened: nothing twice, nothing lost;
* keys of old writes still answer as they did, and every machine is there.

A kill leaves the kernel's page cache alone, so this must hold under every fsync policy; what a power loss may
take is the simulation's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from rstmdb_protocol import MessageDecoder, encode_frame
from tests.server_process import ServerProcess

CLIENTS = 8
INSTANCES_A_CLIENT = 12
KEYS_REMEMBERED = 200

MACHINE = {
    "states": ["idle", "busy"],
    "initial": "idle",
    "transitions": [
        {"from": "idle", "event": "GO", "to": "busy"},
        {"from": "busy", "event": "GO", "to": "idle"},
    ],
}


class RefusedError(Exception):
    """The server answered with an error."""


class Link:
    """One request at a time over one socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder = MessageDecoder(payload_bytes_max=16 * 1024 * 1024)
        self._id = 0

    @classmethod
    async def open(cls, port: int) -> Link:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def call(self, op: str, **params: Any) -> dict[str, Any]:
        self._id += 1
        request = {"type": "request", "id": str(self._id), "op": op, "params": params}
        self._writer.write(encode_frame(msgspec.json.encode(request)))
        while True:
            data = await self._reader.read(65536)
            if not data:
                raise ConnectionError("the server is gone")
            for payload, _ in self._decoder.feed(data):
                answer = msgspec.json.decode(payload)
                assert answer["id"] == str(self._id)
                if answer["status"] != "ok":
                    raise RefusedError(answer["error"])
                result: dict[str, Any] = answer["result"]
                return result

    def close(self) -> None:
        self._writer.close()


@dataclass
class Write:
    """One write: what was sent, and what came back."""

    op: str
    params: dict[str, Any]
    answer: dict[str, Any] | None = None


@dataclass
class History:
    """What one client has done."""

    name: str
    random: random.Random
    created: dict[str, int] = field(default_factory=dict)  # instance -> number of events applied
    states: dict[str, str] = field(default_factory=dict)
    outstanding: Write | None = None
    acknowledged: list[Write] = field(default_factory=list)
    writes: int = 0

    def next_write(self) -> Write:
        self.writes += 1
        key = f"{self.name}-{self.writes}"
        if len(self.created) < INSTANCES_A_CLIENT:
            return Write(
                "CREATE_INSTANCE",
                {
                    "machine": "kill",
                    "version": 1,
                    "instance_id": f"{self.name}-i{len(self.created)}",
                    "initial_ctx": {"n": 0, "text": "x" * self.random.randrange(200)},
                    "idempotency_key": key,
                },
            )
        instance = self.random.choice(list(self.created))
        return Write(
            "APPLY_EVENT",
            {
                "instance_id": instance,
                "event": "GO",
                "payload": {"n": self.created[instance] + 1},
                "expected_state": self.states[instance],
                "idempotency_key": key,
            },
        )

    def acknowledge(self, write: Write, answer: dict[str, Any]) -> None:
        write.answer = answer
        instance = write.params["instance_id"]
        if write.op == "CREATE_INSTANCE":
            self.created[instance], self.states[instance] = 0, "idle"
        else:
            self.created[instance] += 1
            self.states[instance] = answer["to_state"]
            assert answer["ctx"]["n"] == self.created[instance]
        self.acknowledged.append(write)
        del self.acknowledged[:-KEYS_REMEMBERED]
        self.outstanding = None


@dataclass
class Report:
    """Figures of a run."""

    kills: int = 0
    writes: int = 0
    resolved_applied: int = 0  # in flight at a kill, and found applied
    resolved_lost: int = 0  # in flight at a kill, and applied only by the retry
    snapshots: int = 0
    segments_deleted: int = 0
    start_seconds: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        slowest = max(self.start_seconds, default=0.0)
        return (
            f"{self.kills} kills, {self.writes} acknowledged writes, in flight at a kill: "
            f"{self.resolved_applied} had happened and {self.resolved_lost} had not; "
            f"{self.snapshots} snapshots found, slowest start {slowest:.2f} s"
        )


class KillLoop:
    """See the module docstring."""

    def __init__(self, server: ServerProcess, *, seed: int, load_seconds: tuple[float, float]) -> None:
        self.server = server
        self.random = random.Random(seed)
        self.load_seconds = load_seconds
        self.histories = [
            History(f"c{number}", random.Random(self.random.random())) for number in range(CLIENTS)
        ]
        self.report = Report()
        self.machine_versions = 1

    async def run(self, kills: int) -> Report:
        self.server.start()
        link = await Link.open(self.server.port)
        await link.call("PUT_MACHINE", machine="kill", version=1, definition=MACHINE)
        link.close()
        for _ in range(kills):
            await self._load_and_kill()
            started = time.monotonic()
            self.server.start()
            self.report.start_seconds.append(time.monotonic() - started)
            await self._check()
        assert self.server.stop() == 0
        self.server.start()
        await self._check()
        self.report.writes = sum(history.writes for history in self.histories)
        self.report.snapshots = len(list((self.server.data / "snapshots").glob("snap-*.snap")))
        return self.report

    async def _load_and_kill(self) -> None:
        stop = asyncio.Event()
        tasks = [asyncio.create_task(self._write(history, stop)) for history in self.histories]
        await asyncio.sleep(self.random.uniform(*self.load_seconds))
        self.server.kill()
        self.report.kills += 1
        stop.set()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, BaseException) and not isinstance(result, OSError):
                raise result

    async def _write(self, history: History, stop: asyncio.Event) -> None:
        link = await Link.open(self.server.port)
        with contextlib.closing(link):
            while not stop.is_set():
                write = history.outstanding or history.next_write()
                history.outstanding = write
                history.acknowledge(write, await link.call(write.op, **write.params))

    async def _check(self) -> None:
        link = await Link.open(self.server.port)
        with contextlib.closing(link):
            for history in self.histories:
                await self._resolve(link, history)
                await self._check_instances(link, history)
                for write in history.random.sample(history.acknowledged, min(10, len(history.acknowledged))):
                    await self._check_replay(link, write)
            machines = (await link.call("LIST_MACHINES"))["items"]
            assert machines == [{"machine": "kill", "versions": list(range(1, self.machine_versions + 1))}]
            self.machine_versions += 1
            await link.call("PUT_MACHINE", machine="kill", version=self.machine_versions, definition=MACHINE)
            effects = (await link.call("WAL_STATS"))["entry_count"]
            happened = sum(len(history.created) + sum(history.created.values()) for history in self.histories)
            assert effects == happened + self.machine_versions, (
                f"{effects} effects, but {happened} writes and {self.machine_versions} machines happened"
            )

    async def _resolve(self, link: Link, history: History) -> None:
        write = history.outstanding
        if write is None:
            return
        applied = await self._has_happened(link, history, write)
        answer = await link.call(write.op, **write.params)
        if write.op == "APPLY_EVENT":
            assert answer["applied"] is not applied, (write, answer, applied)
        if applied:
            self.report.resolved_applied += 1
        else:
            self.report.resolved_lost += 1
        history.acknowledge(write, answer)

    async def _has_happened(self, link: Link, history: History, write: Write) -> bool:
        try:
            found = await link.call("GET_INSTANCE", instance_id=write.params["instance_id"])
        except RefusedError:
            assert write.op == "CREATE_INSTANCE", "an acknowledged instance is gone"
            return False
        if write.op == "CREATE_INSTANCE":
            return True
        before = history.created[write.params["instance_id"]]
        assert found["ctx"]["n"] in (before, before + 1), (found, before)
        return bool(found["ctx"]["n"] == before + 1)

    async def _check_instances(self, link: Link, history: History) -> None:
        for instance, count in history.created.items():
            found = await link.call("GET_INSTANCE", instance_id=instance)
            assert (found["ctx"]["n"], found["state"]) == (count, history.states[instance]), (instance, found)

    async def _check_replay(self, link: Link, write: Write) -> None:
        assert write.answer is not None
        answer = await link.call(write.op, **write.params)
        assert answer == {**write.answer, "applied": False}, (write, answer)


def run_kill_loop(
    *,
    kills: int,
    seed: int,
    environ: Mapping[str, str] | None = None,
    load_seconds: tuple[float, float] = (0.05, 0.5),
    directory: Path | None = None,
) -> Report:
    """Run the loop on a directory of its own, which must not be on a memory file system."""
    with tempfile.TemporaryDirectory(prefix="rstmdb-kill-", dir=directory) as folder:
        server = ServerProcess(Path(folder) / "data", environ=environ)
        try:
            return asyncio.run(KillLoop(server, seed=seed, load_seconds=load_seconds).run(kills))
        finally:
            if server.process is not None and server.process.poll() is None:
                server.stop()
