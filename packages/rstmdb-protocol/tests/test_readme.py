"""The README's examples run: the client against a real socket, the rest as they stand."""

import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rstmdb_protocol import Request, ServerConnection

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
ANSWERS: dict[str, dict[str, Any]] = {
    "HELLO": {"protocol_version": 1},
    "PUT_MACHINE": {"created": True},
    "CREATE_INSTANCE": {"instance_id": "cup-1", "state": "ordered", "wal_offset": 2},
    "APPLY_EVENT": {"from_state": "ordered", "to_state": "served", "wal_offset": 3, "applied": True},
}


@pytest.fixture
def canned_server() -> Iterator[tuple[str, int]]:
    """Serve one client on a free port, with canned answers."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        peer, _ = listener.accept()
        connection = ServerConnection()
        with peer:
            while chunk := peer.recv(65536):
                for incoming in connection.receive_data(chunk):
                    assert isinstance(incoming.message, Request)
                    peer.sendall(connection.ok(incoming, ANSWERS[incoming.message.op]))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()
    finally:
        listener.close()
        thread.join(timeout=10)
        assert not thread.is_alive()


def test_the_client_example(canned_server: tuple[str, int]) -> None:
    (example,) = [block for block in BLOCKS if "order_a_coffee" in block]
    names: dict[str, Any] = {}
    exec(compile(example, "README.md", "exec"), names)
    assert names["order_a_coffee"](*canned_server) == "served"


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_each_example_runs(number: int) -> None:
    assert len(BLOCKS) == 4
    exec(compile(BLOCKS[number], "README.md", "exec"), {})
