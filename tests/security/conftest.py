"""A guarded server, and how to look at what it holds."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rstmdb_server.memory_upkeep import QUIET_SECONDS
from tests.server_process import ServerProcess

TOKENS = {
    "boss": "",
    "reader": "roles=read",
    "writer": "roles=write",
    "admin": "roles=admin",
    "team": "roles=admin machines=order*,cart?",
    "bygone": "expires=2020-01-01",
}
"""Tokens (each is its own secret) and what the secrets file says of them."""


def secrets_text(tokens: dict[str, str]) -> str:
    """The secrets file for these tokens."""
    return "".join(
        f"{hashlib.sha256(token.encode()).hexdigest()} name={token} {rest}\n"
        for token, rest in tokens.items()
    )


SETTLED_SECONDS = 3 * QUIET_SECONDS
SETTLED_BYTES = 64 * 1024


class Watched:
    """A server whose process and metrics are looked at."""

    def __init__(self, server: ServerProcess, metrics_port: int | None) -> None:
        self.server = server
        self.port = server.port
        self._metrics_port = metrics_port

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.server.pid}/fd"))

    def resident_bytes(self) -> int:
        pages = int(Path(f"/proc/{self.server.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def loop_seconds(self) -> float:
        """CPU time of the loop's thread, which serves everybody."""
        return int(Path(f"/proc/{self.server.pid}/schedstat").read_text().split()[0]) / 1e9

    def settled_bytes(self) -> int:
        """Resident memory once it has been the same for as long as the server needs to give some back."""
        least, since = self.resident_bytes(), time.monotonic()
        deadline = since + 60
        while (now := time.monotonic()) - since < SETTLED_SECONDS:
            assert now < deadline, "memory does not settle"
            if abs(self.resident_bytes() - least) > SETTLED_BYTES:
                least, since = self.resident_bytes(), now
            time.sleep(0.05)
        return least

    def metric(self, name: str) -> float:
        """A series by its name with labels; 0 where it does not exist."""
        url = f"http://127.0.0.1:{self._metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            text = answer.read().decode()
        found = re.search(rf"(?m)^{re.escape(name)} (\S+)$", text)
        return float(found[1]) if found else 0.0


def until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Look again and again until it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not in {seconds} s: {what}"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that knows the tokens and allows FLUSH_ALL."""
    folder = tmp_path_factory.mktemp("guarded")
    secrets = folder / "secrets"
    secrets.write_text(secrets_text(TOKENS))
    settings = {
        "RSTMDB_AUTH_REQUIRED": "true",
        "RSTMDB_AUTH_SECRETS_FILE": str(secrets),
        "RSTMDB_ALLOW_FLUSH_ALL": "1",
    }
    with ServerProcess(folder / "data", environ=settings) as server:
        yield server


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Callable[..., Watched]]:
    """Start a server with metrics: ``watched(SETTING="value", ...)``."""
    running: list[ServerProcess] = []

    def start(**settings: str) -> Watched:
        port = free_port()
        environ = {"RSTMDB_METRICS_ENABLED": "true", "RSTMDB_METRICS_BIND": f"127.0.0.1:{port}", **settings}
        server = ServerProcess(tmp_path / "data", environ=environ).start()
        running.append(server)
        return Watched(server, port)

    yield start
    for server in running:
        assert server.stop() == 0, server.output
        assert "Traceback" not in server.output, server.output
