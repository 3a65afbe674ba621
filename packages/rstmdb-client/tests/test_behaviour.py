"""Runs the cases of `behaviour` on asyncio, uvloop, trio and the sync client, against the model database."""

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from behaviour import async_cases, sync_cases
from client_doubles.server import ModelServer

CASES = [name for name in vars(async_cases) if name.startswith("case_")]
LOOPS: dict[str, dict[str, Any]] = {
    "asyncio": {"backend": "asyncio"},
    "uvloop": {"backend": "asyncio", "backend_options": {"use_uvloop": True}},
    "trio": {"backend": "trio"},
}


class Peer:
    def __init__(self, server: ModelServer, directory: Path) -> None:
        self.url = server.url
        self.directory = directory
        self.execute = server.execute
        self.server = server

    def forget_history(self) -> None:
        self.execute("PUT_MACHINE", machine="forgotten", version=1, definition=async_cases.ORDER)
        self.server.call(lambda: self.server.database.op_compact({}))


@pytest.fixture
def peer(server: ModelServer, tmp_path: Path) -> Peer:
    return Peer(server, tmp_path)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("loop", LOOPS)
def test_async(name: str, loop: str, peer: Peer) -> None:
    anyio.run(getattr(async_cases, name), peer, **LOOPS[loop])


@pytest.mark.parametrize("name", CASES)
def test_sync(name: str, peer: Peer) -> None:
    case = getattr(sync_cases, name)
    assert not inspect.iscoroutinefunction(case)
    case(peer)


def test_the_generated_face_is_not_stale() -> None:
    script = Path(__file__).parents[1] / "tools" / "generate_sync.py"
    result = subprocess.run(
        [sys.executable, str(script), "--check"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_both_faces_have_the_same_public_names() -> None:
    import rstmdb_client

    for name in ("Client", "Pool", "Watch", "Batch"):
        sync, other = getattr(rstmdb_client, name), getattr(rstmdb_client, f"Async{name}")
        assert {n for n in vars(sync) if n[0] != "_"} == {n for n in vars(other) if n[0] != "_"}
