# ruff: noqa: E501 - what is sent stands in one line
"""What each published client sends and what it needs back, as data.

Requests are the exact JSON of the client's serialiser; `None` means that the member `params` is not there.
Needs are written in the words of `shape_fault`: `int`, `str`, `bool`, `object`, a list or map of them; `?`
behind a key: may be absent; `|null` behind a type: the client accepts null there.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Step(NamedTuple):
    """One request and its answer.

    Attributes:
        op: The operation.
        params: JSON text, or None when there are none. `%(name)s` stands for what was kept.
        needs: The shape of the result, or the code of the error that must come.
        keep: Names under which members of the result are kept for later steps.
        events: Shapes of the events that follow the answer.
        equal: Members that must have exactly this value.
    """

    op: str
    params: str | None
    needs: Any
    keep: dict[str, str] = {}  # noqa: RUF012 - a NamedTuple's default, never changed
    events: tuple[Any, ...] = ()
    equal: dict[str, Any] = {}  # noqa: RUF012


DEFINITION = '{"states":["created","paid"],"initial":"created","transitions":[{"from":%s,"event":"PAY","to":"paid"}%s]%s}'
WAL_STATS = {
    "entry_count": "int", "segment_count": "int", "total_size_bytes": "int", "latest_offset": "int",
    "io_stats": {"bytes_written": "int", "bytes_read": "int", "writes": "int", "reads": "int", "fsyncs": "int"},
}  # fmt: skip
COMPACTED = {
    "snapshots_created": "int", "segments_deleted": "int", "bytes_reclaimed": "int", "total_snapshots": "int",
    "wal_segments": "int",
}  # fmt: skip
LISTED = {
    "instances": [
        {
            "id": "str", "machine": "str", "version": "int", "state": "str", "created_at": "int",
            "updated_at": "int", "last_wal_offset": "int",
        }
    ],
    "total": "int",
    "has_more": "bool",
}  # fmt: skip
GOT = {
    "machine": "str", "version": "int", "state": "str", "ctx": "object", "last_event_id?": "str",
    "last_wal_offset": "int",
}  # fmt: skip
APPLIED = {
    "from_state": "str", "to_state": "str", "ctx": "object", "wal_offset": "int", "applied": "bool",
    "event_id?": "str",
}  # fmt: skip
EVENT = {
    "type": "str", "subscription_id": "str", "instance_id": "str", "machine": "str", "version": "int",
    "wal_offset": "int", "from_state": "str", "to_state": "str", "event": "str", "payload": "object|null",
}  # fmt: skip
INFO = {
    "server_name": "str", "server_version": "str", "protocol_version": "int", "features": ["str"],
    "max_frame_bytes": "int", "max_batch_ops": "int",
}  # fmt: skip
HELLO = {
    "protocol_version": "int", "wire_mode": "str", "server_name": "str", "server_version": "str",
    "features": ["str"],
}  # fmt: skip
PUT = {"machine": "str", "version": "int", "stored_checksum": "str", "created": "bool"}
CREATED = {"instance_id": "str", "state": "str", "wal_offset": "int"}
DELETED = {"instance_id": "str", "deleted": "bool", "wal_offset": "int"}
SNAPSHOT = {
    "instance_id": "str", "snapshot_id": "str", "wal_offset": "int", "size_bytes": "int", "checksum": "str",
}  # fmt: skip
WATCHED = {
    "subscription_id": "str",
    "instance_id": "str",
    "current_state": "str",
    "current_wal_offset": "int",
}
WATCHED_ALL = {"subscription_id": "str", "wal_offset": "int"}
UNWATCHED = {"subscription_id": "str", "removed": "bool"}
BATCHED = {"results": [{"status": "str", "result": "object|null", "error": "object|null"}]}
FLUSHED = {"flushed": "bool", "instances_removed": "int", "machines_removed": "int"}
LOG = {"records": [{"sequence": "int", "offset": "int", "entry": "object"}], "next_offset?": "int"}
MACHINES = {"items": [{"machine": "str", "versions": ["int"]}]}
MACHINE = {"definition": "object", "checksum": "str"}

BINARY = {"protocol_version": 1, "wire_mode": "binary_json"}

JAVA = (
    Step("HELLO", '{"protocol_version":1,"wire_mode":"binary_json"}', HELLO, equal={**BINARY, "features": []}),
    # No `method`: the only published client that cannot authenticate where it is required.
    Step("AUTH", '{"token":"my-secret-token"}', "object"),
    Step("PING", None, "object"),
    Step("INFO", None, INFO),
    Step("LIST_MACHINES", None, MACHINES, equal={"items": []}),
    Step("LIST_INSTANCES", None, LISTED, equal={"instances": [], "total": 0, "has_more": False}),
    Step("LIST_INSTANCES", "{}", LISTED),
    Step("PUT_MACHINE", '{"machine":"order","version":1,"definition":' + DEFINITION % ('["created"]', "", "") + "}",
         PUT, equal={"created": True}),
    Step("GET_MACHINE", '{"machine":"order","version":1}', MACHINE),
    Step("CREATE_INSTANCE", '{"instance_id":"j1","machine":"order","version":1}', CREATED),
    Step("CREATE_INSTANCE", '{"machine":"order","version":1,"initial_ctx":{"k":"v"}}', CREATED),
    # Always both: context off unless asked for, and an offset that must not replay anything.
    Step("WATCH_INSTANCE", '{"instance_id":"j1","include_ctx":false,"from_offset":0}', WATCHED,
         keep={"watch": "subscription_id"}, equal={"current_state": "created"}),
    Step("WATCH_ALL", "{}", WATCHED_ALL, keep={"all": "subscription_id"}),
    Step("APPLY_EVENT", '{"instance_id":"j1","event":"PAY"}', APPLIED, equal={"applied": True, "ctx": {}},
         events=(EVENT, {**EVENT, "ctx": "object"})),
    Step("UNWATCH", '{"subscription_id":"%(watch)s"}', UNWATCHED, equal={"removed": True}),
    Step("UNWATCH", '{"subscription_id":"%(watch)s"}', UNWATCHED, equal={"removed": False}),
    Step("GET_INSTANCE", '{"instance_id":"j1"}', GOT, equal={"state": "paid"}),
    Step("BATCH", '{"ops":[{"op":"CREATE_INSTANCE","params":{"instance_id":"j2","machine":"order","version":1}},'
         '{"op":"GET_INSTANCE","params":{"instance_id":"j2"}}],"mode":"best_effort"}', BATCHED),
    Step("BATCH", '{"ops":[{"op":"DELETE_INSTANCE","params":{"instance_id":"nobody"}}],"mode":"atomic"}', "BAD_REQUEST"),
    Step("SNAPSHOT_INSTANCE", '{"instance_id":"j1"}', SNAPSHOT),
    Step("WAL_READ", '{"from_offset":0}', LOG),
    Step("WAL_STATS", None, WAL_STATS),
    Step("COMPACT", None, COMPACTED),
    Step("DELETE_INSTANCE", '{"instance_id":"j1"}', DELETED, equal={"deleted": True}),
    Step("GET_INSTANCE", '{"instance_id":"j1"}', "INSTANCE_NOT_FOUND"),
    Step("FLUSH_ALL", None, FLUSHED, equal={"flushed": True}),
    Step("GET_MACHINE", '{"machine":"order","version":1}', "MACHINE_NOT_FOUND"),
    Step("BYE", None, "object"),
)  # fmt: skip

# Everything outside ASCII and everything that HTML minds goes out as an escape.
DOTNET = (
    Step("HELLO", '{"protocol_version":1,"wire_mode":"binary_json","client_name":"caf\\u00E9 \\u003C\\uD83D\\uDE00\\u003E"}',
         HELLO, equal=BINARY),
    Step("AUTH", '{"method":"bearer","token":"my-secret-token"}', "object"),
    Step("LIST_INSTANCES", None, LISTED),
    Step("LIST_MACHINES", None, MACHINES),
    Step("PUT_MACHINE", '{"machine":"order","version":1,"definition":'
         + DEFINITION % ('"created"', ',{"from":[],"event":"NEVER","to":"paid"}', ',"meta":{"a":[1,null]}') + "}", PUT),
    Step("GET_MACHINE", '{"machine":"order","version":1}',
         {"definition": {"states": ["str"], "initial": "str", "meta": "object",
                         "transitions": [{"from": ["str"], "event": "str", "to": "str", "guard?": "str"}]},
          "checksum": "str"}),
    Step("CREATE_INSTANCE", '{"instance_id":"n1","machine":"order","version":1,"initial_ctx":{"name":"\\u00E9\\u0027\\u002B"}}',
         CREATED),
    Step("WATCH_ALL", None, WATCHED_ALL, keep={"all": "subscription_id"}),
    Step("WATCH_INSTANCE", '{"instance_id":"n1","include_ctx":false}', WATCHED),
    Step("APPLY_EVENT", '{"instance_id":"n1","event":"PAY","payload":{"n":1},"expected_state":"created"}', APPLIED,
         equal={"ctx": {"name": "é'+", "n": 1}}, events=({**EVENT, "ctx": "object"}, EVENT)),
    Step("GET_INSTANCE", '{"instance_id":"n1"}', GOT),
    Step("BATCH", '{"mode":"atomic","ops":[{"op":"CREATE_INSTANCE","params":{"instance_id":"n2","machine":"order","version":1}}]}',
         BATCHED),
    Step("WAL_READ", '{"from_offset":0,"limit":2}', {**LOG, "next_offset": "int"}),
    # The end of the log: null here is an exception in the client.
    Step("WAL_READ", '{"from_offset":9999}', {**LOG, "next_offset": "int"}, equal={"records": []}),
    Step("WAL_STATS", None, WAL_STATS),
    Step("COMPACT", '{"force_snapshot":false}', COMPACTED),
    Step("SNAPSHOT_INSTANCE", '{"instance_id":"n1"}', SNAPSHOT),
    Step("DELETE_INSTANCE", '{"instance_id":"n1"}', DELETED),
    Step("FLUSH_ALL", "{}", FLUSHED),
    Step("BYE", None, "object"),
)  # fmt: skip

TYPESCRIPT = (
    Step("HELLO", '{"protocol_version":1,"wire_modes":["binary_json"],"features":["idempotency","batch"]}', HELLO,
         equal={**BINARY, "features": ["idempotency", "batch"]}),
    Step("AUTH", '{"method":"bearer","token":"my-secret-token"}', "object"),
    Step("PING", None, "object"),
    Step("INFO", None, INFO),
    Step("LIST_MACHINES", '{"cursor":"x","limit":5}', MACHINES),
    Step("PUT_MACHINE", '{"machine":"order","version":1,"definition":' + DEFINITION % ('"created"', "", "") + "}", PUT),
    Step("CREATE_INSTANCE", '{"machine":"order","version":1,"instance_id":"t1"}', CREATED),
    Step("GET_INSTANCE", '{"instance_id":"t1"}', GOT, equal={"ctx": {}}),
    Step("LIST_INSTANCES", '{"machine":"order","limit":10,"offset":0}', LISTED, equal={"total": 1}),
    Step("WATCH_INSTANCE", '{"instance_id":"t1"}', WATCHED, keep={"watch": "subscription_id"}),
    Step("APPLY_EVENT", '{"instance_id":"t1","event":"PAY","expected_wal_offset":2,"event_id":"e-1","idempotency_key":"k"}',
         APPLIED, equal={"event_id": "e-1"}, events=({**EVENT, "ctx": "object"},)),
    Step("APPLY_EVENT", '{"instance_id":"t1","event":"PAY","expected_wal_offset":2,"event_id":"e-2","idempotency_key":"k"}',
         APPLIED, equal={"applied": False}),
    Step("BATCH", '{"ops":[{"op":"CREATE_INSTANCE","params":{"machine":"order","version":1,"instance_id":"t2"}}]}', BATCHED),
    Step("WAL_READ", '{"fromOffset":"1","limit":2}',
         {"records": "list", "entries": [{"offset": "int", "type": "str", "data": "object", "timestamp": "int"}],
          "hasMore": "bool", "nextOffset": "int"}, equal={"hasMore": True}),
    Step("WAL_READ", '{"fromOffset":0}', {"entries": [{"offset": "int", "type": "str"}], "hasMore": "bool"},
         equal={"hasMore": False}),
    Step("WAL_READ", '{"fromOffset":"-1"}', "BAD_REQUEST"),
    Step("WAL_STATS", None, WAL_STATS),
    Step("COMPACT", '{"force_snapshot":true}', COMPACTED),
    Step("UNWATCH", '{"subscription_id":"%(watch)s"}', UNWATCHED),
    Step("DELETE_INSTANCE", '{"instance_id":"t1"}', DELETED),
    Step("FLUSH_ALL", "{}", FLUSHED),
)  # fmt: skip

RUST = (
    Step("HELLO", '{"protocol_version":1,"client_name":null,"wire_modes":["binary_json"],"features":["idempotency","batch"]}',
         HELLO, equal=BINARY),
    Step("AUTH", '{"method":"bearer","token":"my-secret-token"}', "object"),
    Step("PING", "{}", "object"),
    Step("INFO", "{}", INFO),
    Step("PUT_MACHINE", '{"machine":"order","version":1,"definition":' + DEFINITION % ('["created"]', "", "") + "}", PUT),
    Step("PUT_MACHINE", '{"machine":"order","version":2,"definition":{"states":[]}}', "BAD_REQUEST"),
    Step("GET_MACHINE", '{"machine":"order","version":1}', MACHINE),
    Step("LIST_MACHINES", "{}", MACHINES),
    Step("CREATE_INSTANCE", '{"instance_id":null,"machine":"order","version":1,"idempotency_key":null}', CREATED),
    Step("CREATE_INSTANCE", '{"instance_id":"r1","machine":"order","version":1,"initial_ctx":{"a":1}}', CREATED),
    Step("LIST_INSTANCES", '{"machine":null,"state":null,"limit":null,"offset":null}', LISTED, equal={"total": 2}),
    Step("WATCH_INSTANCE", '{"instance_id":"r1","include_ctx":true}', WATCHED, keep={"watch": "subscription_id"}),
    Step("WATCH_ALL", '{"include_ctx":false,"machines":["order"]}', WATCHED_ALL),
    Step("APPLY_EVENT", '{"instance_id":"r1","event":"PAY","payload":{"b":2},"expected_state":null}', APPLIED,
         events=({**EVENT, "ctx": "object"}, EVENT)),
    Step("APPLY_EVENT", '{"instance_id":"r1","event":"PAY"}', "INVALID_TRANSITION"),
    Step("APPLY_EVENT", '{"instance_id":"r1","event":"PAY","expected_state":"created"}', "CONFLICT"),
    Step("GET_INSTANCE", '{"instance_id":"r1"}', {**GOT, "ctx": "object"}),
    Step("WAL_READ", '{"from_offset":0,"limit":100}', LOG),
    Step("WAL_STATS", "{}", WAL_STATS),
    Step("COMPACT", '{"force_snapshot":true}', COMPACTED),
    Step("UNWATCH", '{"subscription_id":"sub-unknown"}', UNWATCHED, equal={"removed": False}),
    Step("DELETE_INSTANCE", '{"instance_id":"r1"}', DELETED),
    Step("DELETE_INSTANCE", '{"instance_id":"r1"}', DELETED),
    # Replication of later servers of the original: an answer, not a dropped stream.
    Step("REPLICATION_STATUS", "{}", "BAD_REQUEST"),
    Step("FLUSH_ALL", "{}", FLUSHED),
)  # fmt: skip

STUDIO_META = '{"_builderPositions":{"created":{"x":10.5,"y":-3},"paid":{"x":0,"y":1e2}},"note":null}'
STUDIO = (
    Step("HELLO", '{"protocol_version":1,"client_name":"rstmdb-studio","wire_modes":["binary_json"],'
         '"features":["idempotency","batch"]}', HELLO, equal=BINARY),
    Step("AUTH", '{"method":"bearer","token":"my-secret-token"}', "object"),
    # Two guarded transitions with one source and event: the original refused what its own editor makes.
    Step("PUT_MACHINE", '{"machine":"order","version":1,"definition":{"states":["created","paid"],"initial":"created",'
         '"transitions":[{"from":"created","event":"PAY","to":"paid","guard":"ctx.n > 5 && !(ctx.late)"},'
         '{"from":"created","event":"PAY","to":"created"}],"meta":' + STUDIO_META + "}}", PUT),
    Step("GET_MACHINE", '{"machine":"order","version":1}',
         {"definition": {"states": ["str"], "initial": "str", "transitions": "list",
                         "meta": {"_builderPositions": "object", "note": "null"}}, "checksum": "str"}),
    Step("LIST_MACHINES", "{}", MACHINES, equal={"items": [{"machine": "order", "versions": [1]}]}),
    Step("CREATE_INSTANCE", '{"instance_id":"s1","machine":"order","version":1}', CREATED),
    Step("LIST_INSTANCES", '{"machine":"order","limit":50,"offset":0}', LISTED),
    Step("GET_INSTANCE", '{"instance_id":"nobody"}', "INSTANCE_NOT_FOUND"),
    Step("WAL_READ", '{"from_offset":0,"limit":10000}',
         {**LOG, "records": [{"sequence": "int", "offset": "int", "entry": {"type": "str", "timestamp": "int"}}]}),
    Step("WAL_STATS", "{}", WAL_STATS),
)  # fmt: skip

CONVERSATIONS = {"java": JAVA, "dotnet": DOTNET, "typescript": TYPESCRIPT, "rust": RUST, "studio": STUDIO}
