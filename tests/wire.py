"""The wire, spoken by hand: bytes as the specification draws them, without the code under test.

A `Wire` is one blocking socket. It frames what it sends (or sends lines), takes answers and events apart, and
keeps every event that came before the answer that was waited for.
"""

from __future__ import annotations

import json
import socket
import ssl
import struct
import time
from typing import Any

import google_crc32c

_HEADER = struct.Struct(">4sHHHLL")
CRC_PRESENT = 1
OMITTED: Any = object()
"""Instead of parameters: the member is not there at all."""


def frame(payload: bytes, *, flags: int = CRC_PRESENT, extension: bytes = b"", version: int = 1) -> bytes:
    """One RCPX frame."""
    checksum = google_crc32c.value(payload) if flags & CRC_PRESENT else 0
    header = _HEADER.pack(b"RCPX", version, flags, len(extension), len(payload), checksum)
    return header + extension + payload


def request(op: str, params: Any = OMITTED, request_id: str = "1") -> bytes:
    """The JSON text of one request."""
    message = {"type": "request", "id": request_id, "op": op}
    if params is not OMITTED:
        message["params"] = params
    return json.dumps(message, separators=(",", ":")).encode()


class StreamClosedError(Exception):
    """The server closed the stream."""


class RefusedError(AssertionError):
    """An answer was an error; `error` is its member."""

    def __init__(self, op: str, error: dict[str, Any]) -> None:
        super().__init__(f"{op}: {error}")
        self.error = error
        self.code = error["code"]
        self.reason = error.get("details", {}).get("reason")


class Wire:
    """One socket; see the module docstring.

    Args:
        port: Where the server listens on the loopback address.
        lines: JSON lines instead of frames.
        context: TLS.
        receive_buffer: Bytes of the kernel's receive buffer, small for a client that does not read.
    """

    def __init__(
        self,
        port: int,
        *,
        lines: bool = False,
        context: ssl.SSLContext | None = None,
        timeout: float = 20.0,
        receive_buffer: int | None = None,
    ) -> None:
        self.lines = lines
        self.events: list[dict[str, Any]] = []
        self._buffer = bytearray()
        self._next = 0
        raw = socket.socket()
        if receive_buffer is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        raw.settimeout(timeout)
        self.socket: socket.socket = raw
        try:
            raw.connect(("127.0.0.1", port))
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context is not None:
                self.socket = context.wrap_socket(raw, server_hostname="localhost")
        except BaseException:
            raw.close()
            raise

    def send_raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data)

    def send(self, payload: bytes) -> None:
        """Send one message."""
        self.socket.sendall(payload + b"\n" if self.lines else frame(payload))

    def ask(self, op: str, params: Any = OMITTED) -> str:
        """Send one request and return its id, without waiting."""
        self._next += 1
        self.send(request(op, params, str(self._next)))
        return str(self._next)

    def receive(self) -> dict[str, Any]:
        """Return the next message of any kind.

        Raises:
            StreamClosedError: The stream has ended.
        """
        while True:
            payload = self._cut()
            if payload is not None:
                message: dict[str, Any] = json.loads(payload)
                return message
            data = self.socket.recv(262_144)
            if not data:
                raise StreamClosedError
            self._buffer += data

    def answer(self, request_id: str | None = None) -> dict[str, Any]:
        """Return the next answer; events that come before it are kept."""
        while True:
            message = self.receive()
            if message["type"] == "response":
                assert request_id is None or message["id"] == request_id, message
                return message
            self.events.append(message)

    def call(self, op: str, params: Any = OMITTED, **named: Any) -> dict[str, Any]:
        """Ask, and return the result.

        Raises:
            RefusedError: The answer was an error.
        """
        if named:
            params = named
        message = self.answer(self.ask(op, params))
        if message["status"] != "ok":
            raise RefusedError(op, message["error"])
        result: dict[str, Any] = message["result"]
        return result

    def refusal(self, op: str, params: Any = OMITTED, **named: Any) -> RefusedError:
        """Ask for what must be refused, and return how it was."""
        try:
            result = self.call(op, params, **named)
        except RefusedError as refused:
            return refused
        raise AssertionError(f"{op} was not refused: {result}")

    def event(self) -> dict[str, Any]:
        """Return the next event or end of a subscription."""
        if self.events:
            return self.events.pop(0)
        message = self.receive()
        assert message["type"] != "response", message
        return message

    def ended(self, seconds: float = 10.0) -> bool:
        """Read until the server closes, or return False when it does not in time."""
        deadline = time.monotonic() + seconds
        try:
            while (left := deadline - time.monotonic()) > 0:
                self.socket.settimeout(left)
                if not self.socket.recv(262_144):
                    return True
        except TimeoutError:
            return False
        except (ConnectionError, ssl.SSLError):
            return True
        return False

    def authenticate(self, token: str) -> None:
        """AUTH."""
        self.call("AUTH", method="bearer", token=token)

    def _cut(self) -> bytes | None:
        if self.lines:
            line, separator, rest = self._buffer.partition(b"\n")
            if not separator:
                return None
            self._buffer = rest
            return bytes(line)
        if len(self._buffer) < _HEADER.size:
            return None
        magic, version, flags, extension, size, checksum = _HEADER.unpack_from(self._buffer)
        assert (magic, version, flags, extension) == (b"RCPX", 1, CRC_PRESENT, 0)
        end = _HEADER.size + size
        if len(self._buffer) < end:
            return None
        payload = bytes(self._buffer[_HEADER.size : end])
        assert google_crc32c.value(payload) == checksum
        del self._buffer[:end]
        return payload

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


ORDER: dict[str, Any] = {
    "states": ["created", "paid", "shipped"],
    "initial": "created",
    "transitions": [
        {"from": "created", "event": "PAY", "to": "paid"},
        {"from": "paid", "event": "SHIP", "to": "shipped"},
        {"from": ["created", "paid", "shipped"], "event": "NOTE", "to": "created"},
    ],
}
"""A machine for tests: NOTE may be applied for ever."""
