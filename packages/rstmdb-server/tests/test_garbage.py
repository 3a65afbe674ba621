"""What a session leaves behind is freed at once: no cycle waits for the collector.

A serving process has it look at young objects only (`tuning.py`), so a cycle that a long session is part of
would stay until a quiet moment, which a busy server never has.
"""

import gc
from collections import Counter
from typing import Any

import pytest

from rstmdb_protocol import OPERATIONS
from rstmdb_storage import LogConfig
from tests.in_process import InProcessServer
from tests.simulation.filesystem import SimulatedFileSystem
from tests.wire import ORDER, frame, request

PARAMS: dict[str, dict[str, Any]] = {
    "HELLO": {"protocol_version": 1, "client_name": "c", "features": ["batch"]},
    "AUTH": {"token": "x"},
    "PUT_MACHINE": {"machine": "bad", "version": 1, "definition": {"states": []}},
    "GET_MACHINE": {"machine": "order", "version": 1},
    "CREATE_INSTANCE": {"machine": "order", "version": 1, "idempotency_key": "k"},
    "GET_INSTANCE": {"instance_id": "i"},
    "DELETE_INSTANCE": {"instance_id": "absent"},
    "APPLY_EVENT": {"instance_id": "i", "event": "NOTE", "payload": {"a": 1}},
    "BATCH": {"ops": [{"op": "APPLY_EVENT", "params": {"instance_id": "i", "event": "NOTE"}}]},
    "SNAPSHOT_INSTANCE": {"instance_id": "i"},
    "WAL_READ": {"from_offset": 0},
    "WATCH_INSTANCE": {"instance_id": "i", "from": "oldest"},
    "WATCH_ALL": {"from": "oldest"},
    "UNWATCH": {"subscription_id": "absent"},
    "EXPLAIN_EVENT": {"instance_id": "i", "event": "NOTE"},
}


def visit(server: InProcessServer, op: str, params: dict[str, Any]) -> None:
    """Ask once rightly and once wrongly, lose the framing, go."""
    session, _ = server.connect()
    for asked in (params, {"instance_id": 7, "machine": []}):
        server.reactor.receive(session, frame(request(op, asked)))
        server.host.settle()
    server.reactor.receive(session, b"junk")
    server.host.settle()
    server.reactor.disconnect(session)
    server.host.advance(3)


# COMPACT writes index.json with the standard library's encoder, whose closures form a cycle.
@pytest.mark.parametrize("op", [*sorted(OPERATIONS.keys() - {"COMPACT"}), "NOTHING"])
def test_a_session_leaves_nothing_to_the_collector(op: str) -> None:
    small = LogConfig(segment_bytes=256 << 10, reserve_bytes=0, fill=False)
    server = InProcessServer(SimulatedFileSystem(), "/data", log_config=small)
    visit(server, "PUT_MACHINE", {"machine": "order", "version": 1, "definition": ORDER})
    visit(server, "CREATE_INSTANCE", {"machine": "order", "version": 1, "instance_id": "i"})
    for _ in range(2):
        visit(server, op, PARAMS.get(op, {}))
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        for _ in range(3):
            visit(server, op, PARAMS.get(op, {}))
        gc.collect()
        left = Counter(type(found).__qualname__ for found in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert not left
    assert len(server.reactor.sessions) == len(server.hub) == 0
