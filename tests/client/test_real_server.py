"""The cases of the client package, against a real server: asyncio, uvloop, trio and the sync client."""

from pathlib import Path
from typing import Any

import anyio
import pytest
from behaviour import async_cases, sync_cases

from rstmdb_client import Client
from rstmdb_client.testing import RstmdbServer

# A server keeps its history for a day; the model forgets at will.
CASES = [name for name in vars(async_cases) if name.startswith("case_") and name != "case_history_compacted"]
LOOPS: dict[str, dict[str, Any]] = {
    "asyncio": {"backend": "asyncio"},
    "uvloop": {"backend": "asyncio", "backend_options": {"use_uvloop": True}},
    "trio": {"backend": "trio"},
}


class Peer:
    def __init__(self, url: str, directory: Path) -> None:
        self.url = url
        self.directory = directory

    def execute(self, op: str, **params: Any) -> Any:
        with Client(self.url) as client:
            return client.call(op, params)


@pytest.fixture
def peer(rstmdb_server_process: RstmdbServer, tmp_path: Path) -> Peer:
    return Peer(rstmdb_server_process.url, tmp_path)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("loop", LOOPS)
def test_async(name: str, loop: str, peer: Peer) -> None:
    anyio.run(getattr(async_cases, name), peer, **LOOPS[loop])


@pytest.mark.parametrize("name", CASES)
def test_sync(name: str, peer: Peer) -> None:
    getattr(sync_cases, name)(peer)


def test_the_plugin_empties_the_server(rstmdb_client: Client) -> None:
    assert rstmdb_client.list_machines() == []
    rstmdb_client.put_machine("kept", 1, async_cases.ORDER)


def test_the_plugin_empties_the_server_each_time(rstmdb_client: Client) -> None:
    assert rstmdb_client.list_machines() == []
    rstmdb_client.put_machine("kept", 1, async_cases.ORDER)


def test_the_plugin_serves_async_tests(rstmdb_async_client: Any) -> None:
    async def body() -> None:
        async with rstmdb_async_client as client:
            assert await client.list_machines() == []

    anyio.run(body)
    assert not rstmdb_async_client.is_connected


def test_a_server_can_be_stopped_killed_and_started(tmp_path: Path) -> None:
    server = RstmdbServer(tmp_path)
    server.start()
    try:
        with Client(server.url) as client:
            client.put_machine("order", 1, async_cases.ORDER)
            server.kill()
            assert not server.is_running
            server.start()
            assert [one.machine for one in client.list_machines()] == ["order"]
        assert server.stop() == 0
        assert "order" not in repr(server)
    finally:
        server.kill()
