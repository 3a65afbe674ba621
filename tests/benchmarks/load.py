"""A closed-loop load generator on epoll that costs a few microseconds a request, so that it is not measured.

Each connection keeps ``in_flight`` requests outstanding: whenever answers arrive, as many requests are sent.
Requests are bytes that were encoded before the clock starts; answers are only counted, by a function that
the protocol at hand provides (frames of ours, replies of Redis). Latency is taken a connection: from a send
to the answer of its first request.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from rstmdb_protocol import encode_frame

Counter = Callable[[bytearray], tuple[int, int]]
"""Counts whole answers in a buffer: returns (answers, bytes they took). Raises on an error answer."""


@dataclass
class Result:
    """What a run measured."""

    requests: int
    seconds: float
    latencies: list[float] = field(repr=False, default_factory=list)

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds

    def percentile(self, fraction: float) -> float:
        """Latency in seconds below which this share of the samples lies."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(fraction * len(ordered)))] if ordered else 0.0


def count_frames(buffer: bytearray) -> tuple[int, int]:
    """Count answers of our protocol."""
    position = count = 0
    end = len(buffer)
    while end - position >= 18:
        size = 18 + int.from_bytes(buffer[position + 10 : position + 14], "big")
        if end - position < size:
            break
        if b'"status":"ok"' not in buffer[position + 18 : position + 80]:
            raise AssertionError(bytes(buffer[position + 18 : position + size]).decode())
        position += size
        count += 1
    return count, position


def count_simple_replies(buffer: bytearray) -> tuple[int, int]:
    """Count Redis' ``+OK`` and bulk replies, one or two lines each."""
    position = count = 0
    while True:
        line = buffer.find(b"\r\n", position)
        if line < 0:
            return count, position
        kind = buffer[position]
        if kind == 0x2D:
            raise AssertionError(bytes(buffer[position:line]).decode())
        if kind == 0x24:
            end = line + 2 + int(buffer[position + 1 : line]) + 2
            if len(buffer) < end:
                return count, position
            position = end
        else:
            position = line + 2
        count += 1


def request(op: str, **params: object) -> bytes:
    """Encode one request of ours."""
    return encode_frame(msgspec.json.encode({"type": "request", "id": "1", "op": op, "params": params}))


def run(
    address: tuple[str, int],
    requests: list[bytes],
    *,
    seconds: float,
    in_flight: int = 1,
    counter: Counter = count_frames,
    warm_up: float = 0.3,
) -> Result:
    """Load a server for some seconds.

    Args:
        address: Host and port.
        requests: One request a connection, repeated.
        seconds: How long to measure.
        in_flight: Requests outstanding on each connection.
        counter: Recognises answers.
        warm_up: Seconds before the measurement begins.
    """
    poll = select.epoll()
    sockets: dict[int, socket.socket] = {}
    messages: dict[int, bytes] = {}
    bursts: dict[int, list[bytes]] = {}
    buffers: dict[int, bytearray] = {}
    sent_at: dict[int, float] = {}
    clock = time.perf_counter
    for message in requests:
        sock = socket.create_connection(address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        number = sock.fileno()
        sockets[number], messages[number], buffers[number] = sock, message, bytearray()
        bursts[number] = [message * count for count in range(in_flight + 1)]
        poll.register(number, select.EPOLLIN)
        sent_at[number] = clock()
        sock.sendall(bursts[number][in_flight])
    done = 0
    latencies: list[float] = []
    now = clock()
    start = now + warm_up
    end = start + seconds
    measured_from = 0
    measuring = False
    while now < end:
        for number, _ in poll.poll(1.0):
            sock = sockets[number]
            data = sock.recv(262144)
            if not data:
                raise AssertionError("the server closed a socket")
            buffer = buffers[number]
            buffer += data
            answers, used = counter(buffer)
            if not answers:
                continue
            del buffer[:used]
            done += answers
            now = clock()
            if measuring:
                latencies.append(now - sent_at[number])
            sent_at[number] = now
            sock.sendall(bursts[number][answers])
        now = clock()
        if not measuring and now >= start:
            # However late it is: after a stall, what is left of the time says nothing about the rate.
            measuring, measured_from, start, end = True, done, now, now + seconds
    total, elapsed = done - measured_from, now - start
    for sock in sockets.values():
        sock.close()
    poll.close()
    return Result(total, elapsed, latencies)


def run_paced(
    address: tuple[str, int],
    requests: list[bytes],
    *,
    seconds: float,
    rate: float,
    during: Callable[[], None] | None = None,
) -> Result:
    """Load a server at a steady rate; latency counts from when a request was due, not from when it was sent.

    Args:
        address: Host and port.
        requests: One request a connection, repeated.
        seconds: How long to measure.
        rate: Requests a second, over all connections.
        during: Called once at the beginning (it must not block).
    """
    poll = select.epoll()
    clock = time.perf_counter
    interval = len(requests) / rate
    sockets: dict[int, socket.socket] = {}
    messages: dict[int, bytes] = {}
    buffers: dict[int, bytearray] = {}
    due: dict[int, float] = {}
    waiting: dict[int, float] = {}  # idle connections, by when their next request is due
    began = clock()
    for index, message in enumerate(requests):
        sock = socket.create_connection(address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        number = sock.fileno()
        sockets[number], messages[number], buffers[number] = sock, message, bytearray()
        waiting[number] = began + 0.1 + interval * index / len(requests)
        poll.register(number, select.EPOLLIN)
    if during is not None:
        during()
    latencies: list[float] = []
    now, end = began, began + 0.1 + seconds
    while now < end:
        for number in [number for number, at in waiting.items() if at <= now]:
            due[number] = waiting.pop(number)
            sockets[number].sendall(messages[number])
        soonest = min(waiting.values(), default=now + 0.05)
        for number, _ in poll.poll(max(0.0, min(soonest - clock(), 0.05))):
            buffer = buffers[number]
            buffer += sockets[number].recv(65536)
            answers, used = count_frames(buffer)
            if answers:
                del buffer[:used]
                latencies.append(clock() - due[number])
                waiting[number] = due[number] + interval
        now = clock()
    for sock in sockets.values():
        sock.close()
    poll.close()
    return Result(len(latencies), seconds, latencies)
