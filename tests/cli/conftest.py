"""Runs the real command `rstmdb-cli` against a real server, which is emptied before each test."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from rstmdb_client import Client
from tests.server_process import ServerProcess, running_server

COMMAND = shutil.which("rstmdb-cli", path=str(Path(sys.executable).parent)) or "rstmdb-cli"

ORDER: dict[str, Any] = {
    "states": ["created", "paid", "shipped"],
    "initial": "created",
    "transitions": [
        {"from": "created", "event": "PAY", "to": "paid"},
        {"from": "paid", "event": "SHIP", "to": "shipped", "guard": "ctx.ready"},
    ],
}


class Run(NamedTuple):
    """What a command did."""

    stdout: str
    stderr: str
    code: int


class Cli:
    """Runs `rstmdb-cli` in an environment of its own: an empty home, no settings but the server's address."""

    def __init__(self, home: Path, address: str | None) -> None:
        self.home = home
        self.environ = {
            "PATH": f"{Path(COMMAND).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(home),
            "TZ": "UTC",
            "LANG": "C.UTF-8",
            **{name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ},
        }
        if address is not None:
            self.environ["RSTMDB_SERVER"] = address

    def __call__(
        self, *arguments: str, stdin: str = "", env: dict[str, str] | None = None, timeout: float = 30.0
    ) -> Run:
        done = subprocess.run(
            [COMMAND, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            encoding="utf-8",
            env=self.environ | (env or {}),
            cwd=self.home,
            timeout=timeout,
            check=False,
        )
        return Run(done.stdout, done.stderr, done.returncode)

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start it and do not wait; streams are pipes of text unless the options say otherwise."""
        chosen: dict[str, Any] = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "text": True,
            "encoding": "utf-8",
            "env": self.environ,
            "cwd": self.home,
        }
        return subprocess.Popen([COMMAND, *arguments], **(chosen | options))

    def shell(self, line: str, timeout: float = 30.0) -> Run:
        """Run a line of bash in which `rstmdb-cli` is the command."""
        done = subprocess.run(
            ["bash", "-c", line],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            env=self.environ,
            cwd=self.home,
            timeout=timeout,
            check=False,
        )
        return Run(done.stdout, done.stderr, done.returncode)


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """One server a module, with FLUSH_ALL allowed."""
    with running_server({"RSTMDB_ALLOW_FLUSH_ALL": "true"}) as process:
        yield process


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    """A client of the server, which is emptied first."""
    with Client(host="127.0.0.1", port=server.port) as connected:
        connected.flush_all()
        yield connected


@pytest.fixture
def cli(server: ServerProcess, client: Client, tmp_path: Path) -> Cli:
    """The command, with an empty server."""
    return Cli(tmp_path, server.address)


@pytest.fixture
def lone_cli(tmp_path: Path) -> Cli:
    """The command, without any server named."""
    return Cli(tmp_path, None)


@pytest.fixture
def order(client: Client) -> str:
    """Machine `order` v1 is registered; its checksum."""
    return client.put_machine("order", 1, ORDER).stored_checksum


@pytest.fixture
def instance(client: Client, order: str) -> int:
    """Instance `o-1` of it, with a context; its offset."""
    return client.create_instance("order", 1, instance_id="o-1", ctx={"b": 2, "a": [1]}).wal_offset


@pytest.fixture
def stopped() -> Callable[[subprocess.Popen[str]], contextlib.AbstractContextManager[subprocess.Popen[str]]]:
    """Wraps a started command so that it is gone when the block is left."""

    @contextlib.contextmanager
    def wrapped(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()

    return wrapped
