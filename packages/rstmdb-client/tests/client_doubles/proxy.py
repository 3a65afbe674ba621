"""A proxy that breaks a connection at one chosen byte: close, reset, or stall; or passes single bytes on.

Each accepted connection takes the next fault of the plan; when the plan is used up, connections are whole.
"""

import asyncio
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from client_doubles.server import ModelServer


class Fault(NamedTuple):
    """What happens to a connection.

    Attributes:
        direction: `up` counts bytes to the server, `down` bytes to the client.
        after_bytes: how many still pass.
        action: `close`, `reset`, or `stall` (nothing passes any more, either way).
    """

    direction: str
    after_bytes: int
    action: str = "close"


class _Side(asyncio.Protocol):
    def __init__(self, pair: "_Pair", direction: str) -> None:
        self.pair = pair
        self.direction = direction
        self.transport: Any = None
        self.waiting = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.pair.passed(self.direction, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.pair.end("close")


class _Pair:
    def __init__(self, proxy: "FaultProxy") -> None:
        self.proxy = proxy
        self.fault = proxy.plan.pop(0) if proxy.plan else None
        self.count = {"up": 0, "down": 0}
        self.client = _Side(self, "up")
        self.server = _Side(self, "down")
        self.early = bytearray()
        self.stalled = False

    def passed(self, direction: str, data: bytes) -> None:
        if self.stalled:
            return
        fault = self.fault
        cut = False
        if fault is not None and fault.direction == direction:
            left = fault.after_bytes - self.count[direction]
            cut = len(data) >= left
            data = data[: max(left, 0)]
        self.count[direction] += len(data)
        self.proxy.passed[direction] = self.count[direction]
        target = self.server if direction == "up" else self.client
        if target.transport is None:
            self.early += data
        elif self.proxy.byte_by_byte:
            for index in range(len(data)):
                target.transport.write(data[index : index + 1])
        elif data:
            target.transport.write(data)
        if cut:
            assert fault is not None
            self.end(fault.action)

    def end(self, action: str) -> None:
        if action == "stall":
            self.stalled = True
            return
        for side in (self.client, self.server):
            if side.transport is None or side.transport.is_closing():
                continue
            if action == "reset":
                linger = struct.pack("ii", 1, 0)
                side.transport.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, linger
                )
                side.transport.abort()
            else:
                side.transport.close()


class FaultProxy:
    """A proxy in the model server's thread.

    Attributes:
        plan: the faults of the next connections, in order.
        passed: bytes that passed on the newest connection, `up` and `down`.
        byte_by_byte: pass every byte on by itself.
    """

    def __init__(self, server: ModelServer) -> None:
        self.server = server
        self.plan: list[Fault] = []
        self.passed = {"up": 0, "down": 0}
        self.byte_by_byte = False
        self.port = 0
        self.pairs: list[_Pair] = []
        self.listener: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"rstmdb://127.0.0.1:{self.port}"

    def accept(self) -> _Side:
        pair = _Pair(self)
        self.pairs.append(pair)
        task = asyncio.get_running_loop().create_task(self.connect(pair))
        task.add_done_callback(lambda done: done.exception())
        return pair.client

    async def connect(self, pair: _Pair) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: pair.server, "127.0.0.1", self.server.port)
        if pair.early:
            pair.server.transport.write(bytes(pair.early))
        if pair.client.transport.is_closing():
            pair.server.transport.close()

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self.listener = await loop.create_server(self.accept, "127.0.0.1", 0)
        self.port = self.listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self.listener is not None
        self.listener.close()
        for pair in self.pairs:
            pair.end("close")


@contextmanager
def proxied(server: ModelServer) -> Iterator[FaultProxy]:
    """Put a proxy before a server for the length of a block."""
    proxy = FaultProxy(server)
    asyncio.run_coroutine_threadsafe(proxy.start(), server.loop).result(10)
    try:
        yield proxy
    finally:
        asyncio.run_coroutine_threadsafe(proxy.stop(), server.loop).result(10)
