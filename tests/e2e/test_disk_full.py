"""A disk that is really full: a small ext4 in a file, mounted over a loop device."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.benchmarks import load
from tests.server_process import ServerProcess

IMAGE_BYTES = 96 * 1024 * 1024

CONFIG = """
storage:
  wal_segment_size_mb: 2
compaction:
  enabled: false
retention:
  history_mb: 0
"""

MACHINE = {
    "states": ["a", "b"],
    "initial": "a",
    "transitions": [{"from": "a", "event": "GO", "to": "b"}, {"from": "b", "event": "GO", "to": "a"}],
}


def _run(*words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(words, capture_output=True, timeout=60)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A mounted file system of 96 MB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    image, folder = tmp_path / "disk.img", tmp_path / "disk"
    image.touch()
    os.truncate(image, IMAGE_BYTES)
    folder.mkdir()
    made = _run("mkfs.ext4", "-q", "-m", "0", str(image))
    if made.returncode != 0 or _run("mount", "-o", "loop", str(image), str(folder)).returncode != 0:
        pytest.skip("this machine cannot mount a loop device")
    try:
        yield folder
    finally:
        assert _run("umount", str(folder)).returncode == 0


class Caller:
    """One request at a time."""

    def __init__(self, server: ServerProcess) -> None:
        self._socket = server.connect(timeout=30)
        self._buffer = bytearray()

    def call(self, op: str, **params: Any) -> dict[str, Any]:
        """Send, and return the whole answer (or the next message)."""
        self._socket.sendall(load.request(op, **params))
        return self.next()

    def next(self) -> dict[str, Any]:
        """Return the next message."""
        while len(self._buffer) < 18 or len(self._buffer) < self._size():
            data = self._socket.recv(1 << 20)
            assert data, "the server closed the socket"
            self._buffer += data
        size = self._size()
        message: dict[str, Any] = msgspec.json.decode(bytes(self._buffer[18:size]))
        del self._buffer[:size]
        return message

    def _size(self) -> int:
        return 18 + int.from_bytes(self._buffer[10:14], "big")

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def fill(folder: Path) -> Path:
    """Fill the disk with a file, to the last block."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            with contextlib.suppress(OSError):  # no space left: what this is for
                while file.write(bytes(size)) == size:
                    pass
    return filler


@pytest.mark.timeout(120)
def test_a_full_disk_refuses_writes_and_nothing_else(small_disk: Path) -> None:
    config = small_disk / "rstmdb.yaml"
    config.write_text(CONFIG)
    with ServerProcess(small_disk / "data", environ={"RSTMDB_CONFIG": str(config)}) as server:
        caller, watcher = Caller(server), Caller(server)
        assert caller.call("PUT_MACHINE", machine="m", version=1, definition=MACHINE)["status"] == "ok"
        assert caller.call("CREATE_INSTANCE", machine="m", version=1, instance_id="i")["status"] == "ok"
        assert watcher.call("WATCH_ALL", include_ctx=False)["status"] == "ok"
        filler = fill(small_disk)

        applied, answer = write_until_refused(caller)
        error = answer["error"]
        assert (error["code"], error["retryable"]) == ("WAL_IO_ERROR", True)
        assert (error["details"]["reason"], error["details"]["outcome"]) == ("DISK_FULL", "not_applied")

        # Reads and watches go on.
        found = caller.call("GET_INSTANCE", instance_id="i")["result"]
        assert found["ctx"]["n"] == applied
        assert caller.call("WAL_READ", from_offset=0, limit=1)["status"] == "ok"
        assert [watcher.next()["wal_offset"] for _ in range(applied)] == list(range(3, 3 + applied))
        assert caller.call("APPLY_EVENT", instance_id="i", event="GO", payload={"n": -1})["status"] == "error"

        # The reserve lets a snapshot and a compaction run; a second one lets old segments go.
        for _ in range(2):
            compacted = caller.call("COMPACT", force_snapshot=True)
            assert compacted["status"] == "ok", compacted

        # Service resumes by itself when space returns.
        filler.unlink()
        resumed = apply_when_possible(caller, applied + 1)
        caller.close()
        watcher.close()

        # A kill and a restart on the full disk: everything is there, and reads are served.
        filler = fill(small_disk)
        server.kill()
        server.start()
        caller = Caller(server)
        assert caller.call("GET_INSTANCE", instance_id="i")["result"]["ctx"]["n"] == resumed
        filler.unlink()
        apply_when_possible(caller, resumed + 1)
        caller.close()
        assert server.stop() == 0


def write_until_refused(caller: Caller) -> tuple[int, dict[str, Any]]:
    """Apply until there is no room; returns how many were applied and the refusal."""
    for number in range(1, 2000):
        payload = {"n": number, "text": "x" * 100_000}
        answer = caller.call("APPLY_EVENT", instance_id="i", event="GO", payload=payload)
        if answer["status"] != "ok":
            return number - 1, answer
    raise AssertionError("the disk was never full")


def apply_when_possible(caller: Caller, number: int) -> int:
    """Apply as soon as writes are accepted again."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        answer = caller.call("APPLY_EVENT", instance_id="i", event="GO", payload={"n": number})
        if answer["status"] == "ok":
            return number
        assert answer["error"]["details"]["reason"] == "DISK_FULL", answer
        time.sleep(0.1)  # as a client would, between two tries
    raise AssertionError("writes were not accepted again")
