"""A real server with its operators' address, and a way to make it work."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

ORDER = {
    "states": ["created", "paid", "shipped", "cancelled"],
    "initial": "created",
    "transitions": [
        {"from": "created", "event": "PAY", "to": "paid", "guard": "ctx.amount > 0"},
        {"from": ["created", "paid"], "event": "CANCEL", "to": "cancelled"},
        {"from": "paid", "event": "SHIP", "to": "shipped"},
        {"from": "shipped", "event": "RETURN", "to": "paid"},
    ],
}


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Lines:
    """A session in JSON lines: the simplest client there is."""

    def __init__(self, port, *, tls=None):
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        if tls is not None:
            self._socket = tls.wrap_socket(self._socket, server_hostname="localhost")
        self._file = self._socket.makefile("rwb")
        self._next = 0
        self.events = []

    def certificate(self):
        """The server's, as it was shown in the handshake."""
        return self._socket.getpeercert(binary_form=True)

    def send(self, op, **params):
        """Send a request; `receive` gets its answer."""
        self._next += 1
        request = {"type": "request", "id": str(self._next), "op": op, "params": params}
        self._file.write(json.dumps(request).encode() + b"\n")
        self._file.flush()

    def receive(self):
        """Return the next answer, which must be the one to the last request; events before it are kept."""
        while True:
            message = json.loads(self._file.readline())
            if message["type"] != "event":
                assert message["id"] == str(self._next)
                return message
            self.events.append(message)

    def answer(self, op, **params):
        """Send a request and return the whole answer."""
        self.send(op, **params)
        return self.receive()

    def __call__(self, op, **params):
        message = self.answer(op, **params)
        assert message["status"] == "ok", message
        return message["result"]

    def close(self):
        self._file.close()
        self._socket.close()


class OperatedServer:
    """A running server: its process, its two ports, and what it has said so far."""

    def __init__(self, directory, environ=None, command=None):
        self.metrics_port = free_port()
        self.directory = Path(directory)
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith(("RSTMDB_", "RUST_"))
        }
        environment |= {
            "RSTMDB_BIND": "127.0.0.1:0",
            "RSTMDB_METRICS_BIND": f"127.0.0.1:{self.metrics_port}",
            "RSTMDB_DATA": str(self.directory / "data"),
            **(environ or {}),
        }
        self.process = subprocess.Popen(
            command or [sys.executable, "-m", "rstmdb_server"],
            env=environment,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said = []
        self.told_to_stop = False
        self._new = threading.Condition()
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()
        try:
            [address] = self.wait_for(r"is ready on 127\.0\.0\.1:(\d+)").groups()
        except BaseException:
            self.stop()
            raise
        self.port = int(address)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.metrics_port}"

    def _listen(self):
        for line in self.process.stderr:
            with self._new:
                self.said.append(line.rstrip("\n"))
                self._new.notify_all()
        with self._new:
            self.said.append(None)
            self._new.notify_all()

    def wait_for(self, pattern, *, after=0):
        """Return the match of the first line, from the `after`th on, that has it."""
        with self._new:
            while True:
                for line in self.said[after:]:
                    if line is None:
                        raise AssertionError("the server ended:\n" + "\n".join(filter(None, self.said)))
                    if found := re.search(pattern, line):
                        return found
                    after += 1
                assert self._new.wait(30), f"the server did not say {pattern!r}: {self.said}"

    def connect(self, **options):
        return Lines(self.port, **options)

    def signal(self, number):
        self.process.send_signal(number)
        self.told_to_stop = self.told_to_stop or number in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)

    def stop(self):
        """Stop it, unless it was told to already, and return the exit code."""
        if self.process.poll() is None and not self.told_to_stop:
            self.signal(signal.SIGTERM)
        code = self.process.wait(30)
        self._listening.join(10)
        self.process.stderr.close()
        return code


@pytest.fixture
def start(tmp_path):
    """Start servers; each is stopped when the test is over, and must end well unless it was killed."""
    with contextlib.ExitStack() as stack:

        def start(**options):
            server = OperatedServer(tmp_path, **options)

            def stop():
                assert server.stop() in (0, -signal.SIGKILL), server.said

            stack.callback(stop)
            return server

        yield start


@pytest.fixture
def session_of():
    """Open sessions in JSON lines; each is closed when the test is over."""
    with contextlib.ExitStack() as stack:

        def connect(server, **options):
            lines = server.connect(**options)
            stack.callback(lines.close)
            return lines

        yield connect


@pytest.fixture
def busy():
    """Make a server do one of everything that is counted."""

    def busy(call, *, orders=30):
        call("HELLO", protocol_version=1, wire_modes=["binary_json"], features=[])
        call("PUT_MACHINE", machine="order", version=1, definition=ORDER)
        call("WATCH_ALL", machines=["order"])
        for number in range(orders):
            call(
                "CREATE_INSTANCE",
                machine="order",
                version=1,
                instance_id=f"o{number}",
                initial_ctx={"amount": 1},
            )
            call("APPLY_EVENT", instance_id=f"o{number}", event="PAY", payload={"number": number})
        call("WATCH_INSTANCE", instance_id="o0")
        call("APPLY_EVENT", instance_id="o0", event="SHIP", idempotency_key="k")
        call.answer("APPLY_EVENT", instance_id="o0", event="PAY")
        call.answer("GET_INSTANCE", instance_id="nobody")
        call("WAL_READ", from_offset=0, limit=10)
        call("LIST_INSTANCES", machine="order")

    return busy
