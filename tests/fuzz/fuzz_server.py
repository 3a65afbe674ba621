# ruff: noqa: E501 - a seed stands in one line
"""Coverage-guided fuzzing of the whole server, sans I/O: reactor, handlers, engine and log in one thread.

    python -m tests.fuzz.fuzz_server --seconds 60 [--corpus DIRECTORY]

An input is what one client sends::

    byte 0    bits 0-1: nobody has to authenticate | must, has not | must, as admin | must, scoped
              bits 2-7: how the stream is cut into pieces
    the rest  the stream, frames and lines as they come

The property: the server answers or closes; it never raises, never says INTERNAL_ERROR, never sends what is not
an answer, an event or an end in its framing, and keeps nothing of a session that has gone. After every
`LIFE` inputs it is killed, and must come back with the same state.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import structlog

from rstmdb_core import ApplyEvent, CreateInstance, PutMachine, digest
from rstmdb_protocol import MessageDecoder
from rstmdb_server.auth import Authenticator
from rstmdb_server.session import Session
from rstmdb_server.settings import Settings, StorageSettings, TokenEntry
from rstmdb_storage import LogConfig
from tests.in_process import InProcessServer, TestWire
from tests.simulation.filesystem import SimulatedFileSystem
from tests.wire import ORDER, frame, request

LIFE = 300
LIMIT = 8192
_HASH = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"  # of "secret"
_ENTRIES = {
    1: TokenEntry(hash=_HASH, name="boss"),
    2: TokenEntry(hash=_HASH, name="boss", roles=("admin",), expires_ms=2**52),
    3: TokenEntry(hash=_HASH, name="team", roles=("write",), machines=("ord*",)),
}

structlog.configure(logger_factory=structlog.ReturnLoggerFactory())


class Target:
    """The servers under fuzz, one for each manner of authentication; each dies and comes back in time."""

    def __init__(self) -> None:
        self._servers: dict[int, InProcessServer] = {}
        self._files: dict[int, SimulatedFileSystem] = {}
        self._inputs: dict[int, int] = {}

    def server(self, manner: int) -> InProcessServer:
        """Return the server of this manner, reborn if it is time."""
        found = self._servers.get(manner)
        if found is None:
            files = SimulatedFileSystem()
            found = self._open(manner, files)
        elif self._inputs[manner] >= LIFE:
            before = digest(found.database.state)
            files = SimulatedFileSystem(self._files[manner].disk.after_kill())
            reborn = self._open(manner, files)
            assert digest(reborn.database.state) == before, "a kill has changed the state"
            if reborn.database.state.next_sequence > 5_000:  # what grows is begun anew, too
                del self._servers[manner]
                return self.server(manner)
            found = reborn
        self._inputs[manner] += 1
        self._furnish(found)
        return found

    def _open(self, manner: int, files: SimulatedFileSystem) -> InProcessServer:
        entries = (_ENTRIES[manner],) if manner else ()
        server = InProcessServer(
            files,
            "/data",
            settings=Settings(storage=StorageSettings(allow_flush_all=True)),
            log_config=LogConfig(segment_bytes=1024 * 1024),
            authenticator=Authenticator(entries, bool(manner)),
        )
        self._servers[manner], self._files[manner], self._inputs[manner] = server, files, 0
        gc.collect()  # the one before is a knot of closures with a disk in it
        return server

    def _furnish(self, server: InProcessServer) -> None:
        """Put in place what the seeds speak of, unless it is there."""
        database = server.database
        if "order" not in database.state.machines:
            database.execute(PutMachine("order", 1, json.dumps(ORDER).encode(), None))
        if "i" not in database.state.instances:
            database.execute(CreateInstance("i", "order", 1, b'{"n":1}'))
            database.execute(ApplyEvent("i", "NOTE"))
        server.reactor.commits.end_turn()
        server.host.settle()


_target = Target()


def check(data: bytes) -> None:
    """Feed one input; raise what the property forbids."""
    if not data:
        return
    manner, piece = data[0] & 3, (data[0] >> 2) or LIMIT
    server = _target.server(manner)
    session, wire = server.connect()
    try:
        _converse(server, session, wire, data[1:], piece, authenticate=manner in (2, 3))
    finally:
        server.reactor.disconnect(session)
        server.host.settle()
    assert not server.hub
    assert not server.reactor.sessions
    assert server.counters.connections_active == 0


def _converse(
    server: InProcessServer,
    session: Session,
    wire: TestWire,
    stream: bytes,
    piece: int,
    *,
    authenticate: bool,
) -> None:
    if authenticate:
        server.reactor.receive(session, frame(request("AUTH", {"token": "secret"}, "auth")))
    for start in range(0, len(stream), piece):
        if not wire.reading:
            server.host.settle()
        if wire.closed:
            break
        if wire.reading:
            server.reactor.receive(session, stream[start : start + piece])
    server.host.settle()
    # Wrong tokens are answered up to two seconds late, twenty of them, four at a time; compactions one after
    # the other, each once its sequence is synced.
    for _ in range(100):
        server.host.advance(0.2)
        server.tick()
        if not session.out and not session.inbox:
            break
    judge(bytes(wire.data))
    wire.data.clear()
    assert server.host.failure is None, server.host.failure
    if not wire.closed and not session.decoder.buffered_bytes:
        server.reactor.receive(session, frame(request("PING", {}, "alive")))
        server.host.settle()
        assert b'"id":"alive"' in wire.data, "the session is neither alive nor closed"


def judge(data: bytes) -> None:
    """Check everything that a server has sent."""
    decoder = MessageDecoder()
    for payload, _ in decoder.feed(data):
        message: dict[str, Any] = json.loads(payload)
        assert message["type"] in ("response", "event", "end"), message
        if message["type"] == "response":
            if message["status"] == "ok":
                assert type(message["result"]) is dict, message
            else:
                assert message["error"]["code"] != "INTERNAL_ERROR", message
                assert message["error"]["message"], message
                assert type(message["error"].get("details", {})) is dict, message
    assert decoder.error is None
    assert decoder.buffered_bytes == 0


def seeds() -> list[bytes]:
    """Return one input for each operation, as frames and as lines, alone and together."""
    i = {"instance_id": "i"}
    conversation: list[tuple[str, dict[str, Any]]] = [
        ("HELLO", {"protocol_version": 1, "wire_modes": ["jsonl"], "features": ["batch"], "client_name": "x"}),
        ("AUTH", {"method": "bearer", "token": "secret"}),
        ("AUTH", {"token": "wrong"}),
        ("PING", {}),
        ("INFO", {}),
        ("PUT_MACHINE", {"machine": "other", "version": 1, "checksum": "x", "definition": {
            "states": ["a", "b"], "initial": "a", "meta": {"k": [1.5]},
            "transitions": [{"from": ["a", "b"], "event": "E", "to": "b", "guard": "ctx.n >= 1 && !(ctx.s == \"x\")"}]}}),
        ("GET_MACHINE", {"machine": "order", "version": 1}),
        ("LIST_MACHINES", {}),
        ("CREATE_INSTANCE", {"machine": "order", "version": 1, "initial_ctx": {"é": None}, "idempotency_key": "k",
                             "idempotency_ttl_secs": 5}),
        ("GET_INSTANCE", i),
        ("LIST_INSTANCES", {"machine": "order", "state": "created", "limit": 2, "offset": 1}),
        ("LIST_INSTANCES", {"limit": 1, "cursor": "AAAA"}),
        ("APPLY_EVENT", {**i, "event": "NOTE", "payload": {"a": {"b": [True, 1e3]}}, "expected_state": "created",
                         "expected_wal_offset": 3, "event_id": "e", "idempotency_key": "k2"}),
        ("EXPLAIN_EVENT", {**i, "event": "PAY", "payload": {}}),
        ("BATCH", {"mode": "atomic", "idempotency_key": "b", "ops": [
            {"op": "APPLY_EVENT", "params": {**i, "event": "NOTE"}},
            {"op": "CREATE_INSTANCE", "params": {"machine": "order", "version": 1, "instance_id": "j"}},
            {"op": "DELETE_INSTANCE", "params": {"instance_id": "j"}}, {"op": "PING"}]}),
        ("SNAPSHOT_INSTANCE", i),
        ("WAL_READ", {"from_offset": 1, "limit": 3, "instance_id": "i"}),
        ("WAL_READ", {"fromOffset": "2"}),
        ("WAL_STATS", {}),
        ("STATS", {}),
        ("COMPACT", {"force_snapshot": True}),
        ("WATCH_INSTANCE", {**i, "include_ctx": False, "from_offset": 1, "include": ["create", "delete"]}),
        ("WATCH_ALL", {"from": "oldest", "machines": ["order"], "from_states": ["created"], "to_states": ["paid"],
                       "events": ["PAY"], "include": ["put_machine", "flush"]}),
        ("WATCH_ALL", {"after_offset": 2}),
        ("UNWATCH", {"subscription_id": "sub-00000000-0000-4000-8000-000000000001"}),
        ("DELETE_INSTANCE", {"instance_id": "gone", "idempotency_key": "d"}),
        ("FLUSH_ALL", {}),
        ("NONSENSE", {}),
        ("BYE", {}),
    ]  # fmt: skip
    found = []
    for number, (op, params) in enumerate(conversation):
        text = request(op, params, str(number))
        found.append(bytes([number % 4]) + text + b"\n")
        found.append(bytes([number % 4 | 0xFC]) + frame(text, flags=0))
        found.append(bytes([number % 4]) + frame(text))
    everything = [request(op, params, str(number)) for number, (op, params) in enumerate(conversation)]
    for manner in range(4):
        found.append(bytes([manner]) + b"\n".join(everything) + b"\n")
        found.append(bytes([manner | 28]) + b"".join(frame(text, flags=0) for text in everything[:-2]))
    found += [
        b"\x00\x00",
        b"\x01" + frame(b"x")[:9],
        b"\x02{",
        b'\x03{"id":"1"}\n',
        b"\x00" + b'{"a":' * 200 + b"\n",
    ]
    return [seed for seed in found if len(seed) <= LIMIT]


def main(arguments: list[str]) -> None:
    """Fuzz for some seconds; atheris ends the process."""
    parser = argparse.ArgumentParser(description="Fuzz the server in one thread.")
    parser.add_argument("--seconds", type=int, default=60, help="how long to fuzz (default: 60)")
    parser.add_argument("--corpus", help="a directory that keeps interesting inputs between runs")
    options = parser.parse_args(arguments)

    import atheris  # type: ignore[import-untyped]

    directory = options.corpus or tempfile.mkdtemp(prefix="fuzz-server-")
    for number, seed in enumerate(seeds()):
        Path(directory, f"seed-{number:04}").write_bytes(seed)
    atheris.instrument_all()
    flags = [f"-max_total_time={options.seconds}", f"-max_len={LIMIT}", "-rss_limit_mb=2048", "-timeout=60"]
    atheris.Setup([sys.argv[0], *flags, directory], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
