"""Snapshots of single instances: one file each, whole or not at all, and nothing is left of failures."""

import json
from typing import Any

import pytest

from rstmdb_storage import LogConfig
from tests.in_process import InProcessServer
from tests.simulation.filesystem import Fault, FaultKind, Operation, SimulatedFileSystem
from tests.wire import ORDER, frame, request

FOLDER = "/data/snapshots/instances"
SMALL = LogConfig(segment_bytes=256 << 10, reserve_bytes=0, fill=False)


class Disk:
    """A file system on which one kind of operation on instances' snapshots fails, when it is set."""

    def __init__(self) -> None:
        self.failing = ""
        self.fs = SimulatedFileSystem(fault_for=self._fault)

    def _fault(self, operation: Operation) -> Fault | None:
        if operation.name == self.failing and operation.path.startswith(FOLDER):
            return Fault(FaultKind.SYNC_KEEP if operation.name == "sync" else FaultKind.FULL)
        return None


def ask(server: InProcessServer, op: str, **params: Any) -> dict[str, Any]:
    session, wire = server.connect()
    server.reactor.receive(session, frame(request(op, params)))
    server.host.settle()
    (payload,) = wire.take()
    answer: dict[str, Any] = json.loads(payload)
    return answer


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def server(disk: Disk) -> InProcessServer:
    server = InProcessServer(disk.fs, "/data", log_config=SMALL)
    ask(server, "PUT_MACHINE", machine="order", version=1, definition=ORDER)
    ask(server, "CREATE_INSTANCE", machine="order", version=1, instance_id="i")
    return server


def test_the_newest_takes_the_place_of_the_one_before(disk: Disk, server: InProcessServer) -> None:
    for _ in range(3):
        ask(server, "APPLY_EVENT", instance_id="i", event="NOTE")
        result = ask(server, "SNAPSHOT_INSTANCE", instance_id="i")["result"]
    (name,) = disk.fs.list(FOLDER)
    file = disk.fs.open(f"{FOLDER}/{name}")
    text = file.pread(file.size(), 0)
    assert json.loads(text)["wal_offset"] == result["wal_offset"] == server.database.appended_sequence
    assert len(text) == result["size_bytes"]


@pytest.mark.parametrize("failing", ["pwrite", "sync", "rename"])
def test_one_that_fails_leaves_nothing(disk: Disk, server: InProcessServer, failing: str) -> None:
    """On a full disk, each that was asked for left another file behind."""
    ask(server, "SNAPSHOT_INSTANCE", instance_id="i")
    before = disk.fs.list(FOLDER)
    disk.failing = failing
    for _ in range(3):
        answer = ask(server, "SNAPSHOT_INSTANCE", instance_id="i")
        assert answer["error"]["details"]["reason"] == "SNAPSHOT_FAILED"
    assert disk.fs.list(FOLDER) == before
    disk.failing = ""
    assert ask(server, "SNAPSHOT_INSTANCE", instance_id="i")["status"] == "ok"


def test_what_a_killed_process_left_goes_at_the_next_start(disk: Disk, server: InProcessServer) -> None:
    ask(server, "SNAPSHOT_INSTANCE", instance_id="i")
    (name,) = disk.fs.list(FOLDER)
    disk.fs.open(f"{FOLDER}/{name}.snap-1.tmp", write=True, create=True).close()
    server.database.close()
    InProcessServer(disk.fs, "/data", log_config=SMALL)
    assert disk.fs.list(FOLDER) == [name]
