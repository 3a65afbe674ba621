"""A pytest plugin: a real server for your tests, and clients of it.

```
rstmdb_server_process   one server a test session: a subprocess, a free port, a temporary directory
        └─ rstmdb_server        the same server, emptied before each test
                 ├─ rstmdb_client          a connected Client
                 └─ rstmdb_async_client    an AsyncClient; connects when it is entered or first used
```

Installed with `pip install rstmdb-client[testing]`; pytest finds it by itself. Nothing of the server or the
client is imported until a fixture is used. `rstmdb_async_client` is an ordinary fixture, so it works with
anyio, pytest-asyncio and pytest-trio alike: `async with rstmdb_async_client as client: ...`.
"""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from rstmdb_client import AsyncClient, Client

__all__ = [
    "RstmdbServer",
    "rstmdb_async_client",
    "rstmdb_client",
    "rstmdb_server",
    "rstmdb_server_process",
    "server_command",
]

START_SECS_MAX = 30.0
STOP_SECS_MAX = 10.0


def server_command() -> list[str]:
    """Return the command that starts a server.

    Raises:
        RuntimeError: no server is installed.
    """
    if importlib.util.find_spec("rstmdb_server") is not None:
        return [sys.executable, "-m", "rstmdb_server"]
    command = shutil.which("rstmdb")
    if command is None:
        raise RuntimeError("no server is installed: pip install rstmdb-client[testing]")
    return [command]


def free_port() -> int:
    """Return a port of this machine that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RstmdbServer:
    """A server in a subprocess.

    Attributes:
        directory: where its data, its log file and its configuration are.
        port: the port it listens on, also after a restart.
        environment: what it is configured with.
    """

    def __init__(self, directory: Path, *, environment: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self.port: int = free_port()
        self.environment: dict[str, str] = {
            "RSTMDB_BIND": f"127.0.0.1:{self.port}",
            "RSTMDB_DATA": str(directory / "data"),
            "RSTMDB_METRICS_ENABLED": "false",
            "RSTMDB_ALLOW_FLUSH_ALL": "true",
            **(environment or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL to connect to."""
        return f"rstmdb://127.0.0.1:{self.port}"

    @property
    def is_running(self) -> bool:
        """True while the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """What the server wrote to its standard output and error."""
        path = self.directory / "server.log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def start(self) -> None:
        """Start the server and wait until it accepts connections.

        Raises:
            RuntimeError: no server is installed, or it ended or did not listen in time.
        """
        # The variables of the caller's own database must not reach this one.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RSTMDB_")}
        with (self.directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                server_command(),
                cwd=self.directory,
                env={**inherited, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_SECS_MAX
        while not self._listens():
            if not self.is_running:
                raise RuntimeError(f"the server ended at once:\n{self.log}")
            if time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"the server did not listen within {START_SECS_MAX:g} s:\n{self.log}")
            time.sleep(0.01)

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def stop(self) -> int | None:
        """End the server in good order and return its exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int | None:
        """End the server at once, as a crash of the process would."""
        return self._end(signal.SIGKILL)

    def _end(self, number: int) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        if process.poll() is None:
            process.send_signal(number)
            try:
                process.wait(STOP_SECS_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        return process.returncode


@pytest.fixture(scope="session")
def rstmdb_server_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RstmdbServer]:
    """A server for the whole test session."""
    server = RstmdbServer(tmp_path_factory.mktemp("rstmdb"))
    try:
        server.start()
    except RuntimeError as error:
        pytest.fail(str(error), pytrace=False)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def rstmdb_server(rstmdb_server_process: RstmdbServer) -> RstmdbServer:
    """The server of this session, with nothing in it."""
    from rstmdb_client import Client

    if not rstmdb_server_process.is_running:
        rstmdb_server_process.start()
    with Client(rstmdb_server_process.url) as client:
        client.flush_all()
    return rstmdb_server_process


@pytest.fixture
def rstmdb_client(rstmdb_server: RstmdbServer) -> Iterator["Client"]:
    """A connected client of an empty database."""
    from rstmdb_client import Client

    with Client(rstmdb_server.url) as client:
        yield client


@pytest.fixture
def rstmdb_async_client(rstmdb_server: RstmdbServer) -> "AsyncClient":
    """A client of an empty database; the test enters it: `async with rstmdb_async_client as client`."""
    from rstmdb_client import AsyncClient

    return AsyncClient(rstmdb_server.url)
