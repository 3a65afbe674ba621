"""A peer that knows one conversation by heart: it checks each request and sends the recorded answer."""

import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rstmdb_protocol import MessageDecoder, encode_frame


class ReplayPeer:
    """Plays steps of `request` (operation, and parameters where given), `answer` and `events`.

    Attributes:
        port: where it listens.
        faults: what a client sent that it should not have.
        played: how many steps were played, on all connections.
    """

    def __init__(self, connections: Sequence[Sequence[dict[str, Any]]]) -> None:
        self.connections = connections
        self.faults: list[str] = []
        self.played = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]

    @property
    def url(self) -> str:
        return f"rstmdb://127.0.0.1:{self.port}"

    def play(self) -> None:
        threads = []
        for steps in self.connections:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                break
            threads.append(threading.Thread(target=self.play_one, args=(connection, steps)))
            threads[-1].start()
        for thread in threads:
            thread.join(10)

    def play_one(self, connection: socket.socket, steps: Sequence[dict[str, Any]]) -> None:
        with connection:
            self.play_steps(connection, steps)

    def play_steps(self, connection: socket.socket, steps: Sequence[dict[str, Any]]) -> None:
        decoder = MessageDecoder()
        requests: list[dict[str, Any]] = []
        for step in steps:
            if "raw" in step:
                connection.sendall(step["raw"])
                continue
            while not requests:
                data = connection.recv(65536)
                if not data:
                    self.faults.append(f"closed before {step['request']['op']}")
                    return
                requests += [json.loads(payload) for payload, _ in decoder.feed(data)]
            request = requests.pop(0)
            wanted = step["request"]
            if request["op"] != wanted["op"] or request["params"] != wanted.get("params", request["params"]):
                self.faults.append(f"expected {wanted}, got {request}")
            self.played += 1
            answer = step["answer"]
            if isinstance(answer, str):
                answer = encode_frame(answer.replace("%d", request["id"]).encode())
            connection.sendall(answer)
            for event in step.get("events", ()):
                connection.sendall(encode_frame(json.dumps(event).encode()))
            if step.get("then") == "close":
                return
        while True:  # the goodbye, whose answer nobody waits for
            try:
                if not connection.recv(65536):
                    return
            except OSError:
                return


@contextmanager
def replaying(*connections: Sequence[dict[str, Any]]) -> Iterator[ReplayPeer]:
    """Play one list of steps for each connection, in order, for the length of a block."""
    peer = ReplayPeer(connections)
    thread = threading.Thread(target=peer.play, name="replay-peer")
    thread.start()
    try:
        yield peer
    finally:
        peer.listener.shutdown(socket.SHUT_RDWR)
        peer.listener.close()
        thread.join(10)
