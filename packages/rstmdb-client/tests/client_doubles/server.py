"""Serves the model database in a thread of its own, for clients of any kind."""

import asyncio
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from client_doubles.database import ModelDatabase, Refused
from rstmdb_protocol import MessageDecoder, encode_frame


class _Connection(asyncio.Protocol):
    def __init__(self, server: "ModelServer") -> None:
        self.server = server
        self.decoder = MessageDecoder()
        self.subscriptions: dict[str, dict[str, Any]] = {}
        self.authenticated = server.token is None
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.server.connections.add(self)
        self.server.accepted += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self.server.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        answers = []
        for payload, _ in self.decoder.feed(data):
            request = json.loads(payload)
            self.server.requests.append(request)
            if self.server.mute or (self.server.silent and request["op"] not in ("HELLO", "AUTH")):
                continue
            answers.append(self.answer(request))
        if answers:
            self.transport.write(b"".join(answers))
        self.server.publish()

    def send(self, message: dict[str, Any]) -> None:
        self.transport.write(encode_frame(json.dumps(message).encode()))

    def answer(self, request: dict[str, Any]) -> bytes:
        message: dict[str, Any] = {"type": "response", "id": request["id"]}
        try:
            message.update(status="ok", result=self.run(request["op"], request.get("params") or {}))
        except Refused as refused:
            message.update(status="error", error=refused.body)
        return encode_frame(json.dumps(message).encode())

    def run(self, op: str, params: dict[str, Any]) -> dict[str, Any]:
        database = self.server.database
        if op == "HELLO":
            shared = [name for name in database.features if name in params.get("features", [])]
            return {
                "protocol_version": 1,
                "wire_mode": "binary_json",
                "server_name": "rstmdb",
                "server_version": "model",
                "features": shared,
            }
        if op == "AUTH":
            if params["token"] != self.server.token:
                raise Refused("AUTH_FAILED", "authentication failed")
            self.authenticated = True
            return {"authenticated": True}
        if op == "BYE":
            asyncio.get_running_loop().call_soon(self.transport.close)
            return {"goodbye": True}
        if not self.authenticated:
            raise Refused("UNAUTHORIZED", "authentication required")
        if op == "UNWATCH":
            name = params["subscription_id"]
            for connection in list(self.server.connections):
                if connection.subscriptions.pop(name, None) is not None:
                    if connection is not self:
                        connection.send({"type": "end", "subscription_id": name})
                    return {"subscription_id": name, "removed": True}
            return {"subscription_id": name, "removed": False}
        if op in ("WATCH_INSTANCE", "WATCH_ALL"):
            return self.watch(op, params)
        return database.run(op, params)

    def watch(self, op: str, params: dict[str, Any]) -> dict[str, Any]:
        database = self.server.database
        name = f"sub-{next(database.ids)}"
        answer: dict[str, Any] = {"subscription_id": name}
        if op == "WATCH_INSTANCE":
            found = database.find(params["instance_id"])
            answer.update(
                instance_id=params["instance_id"],
                current_state=found["state"],
                current_wal_offset=found["offset"],
            )
        else:
            answer["wal_offset"] = database.next_offset
        cursor = database.next_offset
        if not database.original:
            if params.get("after_offset") is not None:
                cursor = params["after_offset"] + 1
            elif params.get("from_offset"):
                cursor = params["from_offset"]
            elif params.get("from") == "oldest":
                cursor = database.oldest
            if cursor < database.oldest:
                raise Refused(
                    "BAD_REQUEST", "history is gone", reason="OFFSET_COMPACTED", oldest_offset=database.oldest
                )
            if cursor > database.next_offset:
                raise Refused("BAD_REQUEST", "offset is ahead", reason="OFFSET_AHEAD")
        self.subscriptions[name] = {**params, "cursor": cursor}
        return answer

    def publish(self) -> None:
        database = self.server.database
        for name, wanted in self.subscriptions.items():
            for effect in database.log[wanted["cursor"] - 1 :]:
                if self.passes(wanted, effect):
                    event = {"type": "event", "subscription_id": name, "payload": None, **effect}
                    if not wanted.get("include_ctx", True):
                        event.pop("ctx", None)
                    if event["kind"] == "apply":
                        del event["kind"]
                    self.send(event)
            wanted["cursor"] = database.next_offset

    @staticmethod
    def passes(wanted: dict[str, Any], effect: dict[str, Any]) -> bool:
        if effect["kind"] not in ["apply", *(wanted.get("include") or [])]:
            return False
        if wanted.get("instance_id") not in (None, effect.get("instance_id")):
            return False
        filters = {
            "machines": "machine",
            "from_states": "from_state",
            "to_states": "to_state",
            "events": "event",
        }
        return all(
            not wanted.get(name) or effect.get(member) in wanted[name] for name, member in filters.items()
        )


class ModelServer:
    """The model database on a port.

    Attributes:
        silent: requests are read and counted, but neither executed nor answered; greetings are.
        mute: nothing is answered.
        requests: every request as it arrived.
        accepted: how many connections were made.
    """

    def __init__(self, database: ModelDatabase, token: str | None = None) -> None:
        self.database = database
        self.token = token
        self.silent = False
        self.mute = False
        self.requests: list[dict[str, Any]] = []
        self.accepted = 0
        self.connections: set[_Connection] = set()
        self.port = 0
        self.loop = asyncio.new_event_loop()

    @property
    def url(self) -> str:
        return f"rstmdb://127.0.0.1:{self.port}"

    def publish(self) -> None:
        for connection in list(self.connections):
            connection.publish()

    def call(self, function: Any) -> Any:
        """Run a function in the server's thread and return what it returns."""

        async def run() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(10)

    def drop_connections(self) -> None:
        """Cut every connection."""
        self.call(lambda: [connection.transport.abort() for connection in list(self.connections)])

    def execute(self, op: str, **params: Any) -> dict[str, Any]:
        """Execute an operation as somebody else's client, and let watchers know."""

        def run() -> dict[str, Any]:
            result = self.database.run(op, params)
            self.publish()
            return result

        result: dict[str, Any] = self.call(run)
        return result


@contextmanager
def serving(
    database: ModelDatabase | None = None, *, token: str | None = None, context: ssl.SSLContext | None = None
) -> Iterator[ModelServer]:
    """Serve a database for the length of a block."""
    server = ModelServer(database or ModelDatabase(), token)
    started = threading.Event()
    listeners: list[asyncio.Server] = []

    async def run() -> None:
        listener = await server.loop.create_server(lambda: _Connection(server), "127.0.0.1", 0, ssl=context)
        server.port = listener.sockets[0].getsockname()[1]
        listeners.append(listener)
        started.set()

    def main() -> None:
        asyncio.set_event_loop(server.loop)
        listening = server.loop.create_task(run())
        server.loop.run_forever()
        listening.result()
        listeners[0].close()
        for connection in list(server.connections):
            connection.transport.abort()
        server.loop.run_until_complete(asyncio.sleep(0))
        server.loop.run_until_complete(server.loop.shutdown_asyncgens())
        server.loop.close()

    thread = threading.Thread(target=main, name="model-server")
    thread.start()
    assert started.wait(10)
    try:
        yield server
    finally:
        server.loop.call_soon_threadsafe(server.loop.stop)
        thread.join(10)
