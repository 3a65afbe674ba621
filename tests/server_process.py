"""A real server as a child process, for every test that needs one."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

START_SECONDS = 30.0


class ServerProcess:
    """Starts ``rstmdb`` on a free port and waits for its ready line.

    Args:
        data: The data directory.
        environ: Settings beyond the defaults, as environment variables.
        arguments: Of the command.
        port: 0 lets the system choose.
    """

    def __init__(
        self,
        data: Path,
        *,
        environ: Mapping[str, str] | None = None,
        arguments: tuple[str, ...] = (),
        port: int = 0,
    ) -> None:
        self.data = data
        self.environ = dict(environ or {})
        self.arguments = arguments
        self.port = port
        self.process: subprocess.Popen[str] | None = None
        self.lines: list[str] = []
        self._reader: threading.Thread | None = None

    def start(self) -> ServerProcess:
        """Start and wait until the server says that it is ready."""
        environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("RSTMDB_", "RUST_LOG", "NOTIFY_"))},
            "RSTMDB_BIND": f"127.0.0.1:{self.port}",
            "RSTMDB_DATA": str(self.data),
            "RSTMDB_METRICS_ENABLED": "false",
            **self.environ,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rstmdb_server", *self.arguments],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        ready = threading.Event()
        self.lines = []
        self._reader = threading.Thread(target=self._read, args=(self.process, ready), daemon=True)
        self._reader.start()
        deadline = time.monotonic() + START_SECONDS
        while not ready.wait(0.01):
            if self.process.poll() is not None:
                self._finish()
                raise AssertionError(f"the server ended with {self.process.returncode}: {self.output}")
            if time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"the server was not ready in time: {self.output}")
        return self

    def _read(self, process: subprocess.Popen[str], ready: threading.Event) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            self.lines.append(line)
            if " is ready on " in line:
                self.port = int(line.split(" is ready on ")[1].split()[0].rpartition(":")[2])
                ready.set()

    @property
    def output(self) -> str:
        """What the server has written to stderr."""
        return "".join(self.lines)

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process id."""
        assert self.process is not None
        return self.process.pid

    def connect(self, timeout: float = 10.0) -> socket.socket:
        """Open a plain socket to it."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout)

    def kill(self) -> None:
        """SIGKILL: nothing is flushed, nothing is said."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self._finish()

    def stop(self, number: int = signal.SIGTERM, timeout: float = 20.0) -> int:
        """Ask it to stop; returns the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the server did not stop: {self.output}") from None
        self._finish()
        return code

    def _finish(self) -> None:
        assert self.process is not None
        if self._reader is not None:
            self._reader.join(5)
        if self.process.stderr is not None:
            self.process.stderr.close()

    def __enter__(self) -> ServerProcess:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop()


@contextlib.contextmanager
def running_server(environ: Mapping[str, str] | None = None) -> Iterator[ServerProcess]:
    """A server on an empty directory that is gone afterwards."""
    with (
        tempfile.TemporaryDirectory(prefix="rstmdb-test-") as folder,
        ServerProcess(Path(folder) / "data", environ=environ) as server,
    ):
        yield server
