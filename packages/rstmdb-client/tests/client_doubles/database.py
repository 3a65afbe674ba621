"""A model of the database: small, slow, in memory, and written from the specification alone.

It keeps what the tests ask about: every effect in order, durable idempotency keys, and how often each
operation was executed. `original=True` makes it as careless as the original: no durable keys, no resume.
"""

import itertools
import json
from collections import Counter
from typing import Any

FEATURES = [
    "idempotency",
    "batch",
    "wal_read",
    "idempotency.durable",
    "batch.atomic",
    "watch.resume",
    "list.cursor",
    "explain",
    "history",
    "stats",
]


class Refused(Exception):  # noqa: N818 - what the wire calls it
    """A refusal on its way to the wire."""

    def __init__(self, code: str, message: str, retryable: bool = False, /, **details: Any) -> None:
        super().__init__(code, message)
        self.body = {"code": code, "message": message, "retryable": retryable}
        if details:
            self.body["details"] = details


class ModelDatabase:
    def __init__(self, *, original: bool = False) -> None:
        self.original = original
        self.features = ["idempotency", "batch"] if original else list(FEATURES)
        self.machines: dict[tuple[str, int], dict[str, Any]] = {}
        self.instances: dict[str, dict[str, Any]] = {}
        self.keys: dict[tuple[str, ...], tuple[str, dict[str, Any]]] = {}
        self.log: list[dict[str, Any]] = []
        self.oldest = 1
        self.executed: Counter[str] = Counter()
        self.seen_keys: list[str | None] = []
        self.ids = itertools.count(1)
        self.pending_refusals: list[Refused] = []

    @property
    def next_offset(self) -> int:
        return len(self.log) + 1

    def append(self, **effect: Any) -> int:
        self.log.append({**effect, "wal_offset": self.next_offset})
        return len(self.log)

    def run(self, op: str, params: dict[str, Any]) -> dict[str, Any]:
        """Execute one operation."""
        if self.pending_refusals:
            raise self.pending_refusals.pop(0)
        method = getattr(self, f"op_{op.lower()}", None)
        if method is None:
            raise Refused("BAD_REQUEST", f"unknown operation {op}")
        key = params.get("idempotency_key")
        if op in ("CREATE_INSTANCE", "APPLY_EVENT", "DELETE_INSTANCE", "BATCH"):
            self.seen_keys.append(key)
        if key is None or self.original:
            self.executed[op] += 1
            return method(params)
        subject = params.get("instance_id") or params.get("machine") or "batch"
        ignored = (
            "idempotency_key",
            "idempotency_ttl_secs",
            "event_id",
            "expected_state",
            "expected_wal_offset",
        )
        fingerprint = json.dumps({k: v for k, v in params.items() if k not in ignored}, sort_keys=True)
        slot = (op, subject, key)
        if slot in self.keys:
            known, answer = self.keys[slot]
            if known != fingerprint:
                raise Refused("CONFLICT", "key reused", reason="IDEMPOTENCY_KEY_REUSED")
            return {**answer, "applied": False} if op == "APPLY_EVENT" else answer
        self.executed[op] += 1
        answer = method(params)
        self.keys[slot] = (fingerprint, answer)
        return answer

    def find(self, instance_id: str) -> dict[str, Any]:
        instance = self.instances.get(instance_id)
        if instance is None or instance["deleted"]:
            raise Refused("INSTANCE_NOT_FOUND", f"instance {instance_id!r} not found")
        return instance

    def op_ping(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"pong": True}

    def op_info(self, _: dict[str, Any]) -> dict[str, Any]:
        return {
            "server_name": "rstmdb",
            "server_version": "model",
            "protocol_version": 1,
            "features": self.features,
            "max_frame_bytes": 16777216,
            "max_batch_ops": 100,
            "extra": 1,
        }

    def op_stats(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"instances": len(self.instances)}

    def op_put_machine(self, params: dict[str, Any]) -> dict[str, Any]:
        slot = (params["machine"], params["version"])
        definition = params["definition"]
        if "states" not in definition:
            raise Refused("BAD_REQUEST", "definition: states are missing")
        known = self.machines.get(slot)
        if known is not None and known != definition:
            raise Refused("MACHINE_VERSION_EXISTS", "another definition is stored")
        self.machines[slot] = definition
        if known is None:
            self.append(kind="put_machine", machine=slot[0], version=slot[1])
        return {"machine": slot[0], "version": slot[1], "stored_checksum": "00", "created": known is None}

    def op_get_machine(self, params: dict[str, Any]) -> dict[str, Any]:
        definition = self.machines.get((params["machine"], params["version"]))
        if definition is None:
            raise Refused("MACHINE_NOT_FOUND", "machine not found")
        return {"definition": definition, "checksum": "00"}

    def op_list_machines(self, _: dict[str, Any]) -> dict[str, Any]:
        names = sorted({name for name, _ in self.machines})
        return {
            "items": [
                {"machine": name, "versions": sorted(v for n, v in self.machines if n == name)}
                for name in names
            ]
        }

    def op_create_instance(self, params: dict[str, Any]) -> dict[str, Any]:
        instance_id = params.get("instance_id") or f"auto-{next(self.ids)}"
        existing = self.instances.get(instance_id)
        if existing is not None and not existing["deleted"]:
            raise Refused("INSTANCE_EXISTS", f"instance {instance_id!r} exists")
        definition = self.machines.get((params["machine"], params["version"]))
        if definition is None:
            raise Refused("MACHINE_NOT_FOUND", "machine not found")
        ctx = params.get("initial_ctx")
        if ctx is None and not self.original:
            ctx = {}
        head = {"machine": params["machine"], "version": params["version"]}
        offset = self.append(
            kind="create",
            instance_id=instance_id,
            **head,
            from_state="",
            to_state=definition["initial"],
            event="",
        )
        self.instances[instance_id] = {
            **head,
            "state": definition["initial"],
            "ctx": ctx,
            "offset": offset,
            "event_id": None,
            "deleted": False,
            "events": 0,
        }
        return {"instance_id": instance_id, "state": definition["initial"], "wal_offset": offset}

    def op_get_instance(self, params: dict[str, Any]) -> dict[str, Any]:
        found = self.find(params["instance_id"])
        answer = {name: found[name] for name in ("machine", "version", "state", "ctx")}
        answer["last_wal_offset"] = found["offset"]
        if found["event_id"] is not None:
            answer["last_event_id"] = found["event_id"]
        return answer

    def transition(self, found: dict[str, Any], event: str) -> str:
        guarded = False
        for transition in self.machines[(found["machine"], found["version"])]["transitions"]:
            sources = transition["from"] if isinstance(transition["from"], list) else [transition["from"]]
            if transition["event"] == event and found["state"] in sources:
                guard = transition.get("guard")
                if guard is None or (found["ctx"] or {}).get(guard.removeprefix("ctx.")):
                    return str(transition["to"])
                guarded = True
        if guarded:
            raise Refused("GUARD_FAILED", "guard is false", guard="it")
        raise Refused("INVALID_TRANSITION", "no such transition", current_state=found["state"])

    def op_apply_event(self, params: dict[str, Any]) -> dict[str, Any]:
        found = self.find(params["instance_id"])
        if params.get("expected_state") not in (None, found["state"]):
            raise Refused("CONFLICT", "state differs", expected=params["expected_state"])
        if params.get("expected_wal_offset") not in (None, found["offset"]):
            raise Refused("CONFLICT", "offset differs", actual=found["offset"])
        target = self.transition(found, params["event"])
        payload = params.get("payload")
        ctx = {**(found["ctx"] or {}), **(payload or {})}
        offset = self.append(
            kind="apply",
            instance_id=params["instance_id"],
            machine=found["machine"],
            version=found["version"],
            from_state=found["state"],
            to_state=target,
            event=params["event"],
            payload=payload,
            ctx=ctx,
        )
        answer = {
            "from_state": found["state"],
            "to_state": target,
            "ctx": ctx,
            "wal_offset": offset,
            "applied": True,
        }
        if params.get("event_id") is not None:
            answer["event_id"] = params["event_id"]
        found.update(state=target, ctx=ctx, offset=offset, event_id=params.get("event_id"))
        found["events"] += 1
        return answer

    def op_delete_instance(self, params: dict[str, Any]) -> dict[str, Any]:
        found = self.instances.get(params["instance_id"])
        if found is None:
            raise Refused("INSTANCE_NOT_FOUND", "instance not found")
        if not found["deleted"]:
            found["deleted"] = True
            found["offset"] = self.append(
                kind="delete",
                instance_id=params["instance_id"],
                machine=found["machine"],
                version=found["version"],
            )
        return {"instance_id": params["instance_id"], "deleted": True, "wal_offset": found["offset"]}

    def op_list_instances(self, params: dict[str, Any]) -> dict[str, Any]:
        found = [
            {
                "id": name,
                "machine": one["machine"],
                "version": one["version"],
                "state": one["state"],
                "created_at": 1,
                "updated_at": 2,
                "last_wal_offset": one["offset"],
            }
            for name, one in self.instances.items()
            if not one["deleted"]
            and params.get("machine") in (None, one["machine"])
            and params.get("state") in (None, one["state"])
        ]
        start = int(params["cursor"]) if params.get("cursor") else params.get("offset") or 0
        limit = params.get("limit") or 100
        page = found[start : start + limit]
        more = start + limit < len(found)
        answer: dict[str, Any] = {"instances": page, "total": len(found), "has_more": more}
        if more and "list.cursor" in self.features:
            answer["next_cursor"] = str(start + limit)
        return answer

    def op_batch(self, params: dict[str, Any]) -> dict[str, Any]:
        before = (dict(self.machines), {k: dict(v) for k, v in self.instances.items()}, list(self.log))
        items = []
        for index, operation in enumerate(params["ops"]):
            try:
                result = self.run(operation["op"], operation.get("params") or {})
                items.append({"status": "ok", "result": result, "error": None})
            except Refused as refused:
                if params.get("mode") == "atomic":
                    self.machines, self.instances, self.log = before
                    raise Refused(
                        "BAD_REQUEST",
                        "atomic batch failed",
                        failed_index=index,
                        code=refused.body["code"],
                        rolled_back=True,
                    ) from None
                items.append({"status": "error", "result": None, "error": refused.body})
        return {"results": items}

    def op_snapshot_instance(self, params: dict[str, Any]) -> dict[str, Any]:
        found = self.find(params["instance_id"])
        return {
            "instance_id": params["instance_id"],
            "snapshot_id": "snap-1",
            "wal_offset": found["offset"],
            "size_bytes": 10,
            "checksum": "00",
        }

    def op_wal_read(self, params: dict[str, Any]) -> dict[str, Any]:
        first = max(params["from_offset"], self.oldest)
        records = [
            {
                "sequence": effect["wal_offset"],
                "offset": effect["wal_offset"],
                "entry": {"type": effect["kind"], **effect},
            }
            for effect in self.log[first - 1 :]
            if params.get("instance_id") in (None, effect.get("instance_id"))
        ][: params.get("limit") or 1000]
        answer: dict[str, Any] = {"records": records}
        answer["next_offset"] = records[-1]["offset"] + 1 if records else None
        return answer

    def op_wal_stats(self, _: dict[str, Any]) -> dict[str, Any]:
        return {
            "entry_count": len(self.log),
            "segment_count": 1,
            "total_size_bytes": 1,
            "latest_offset": self.next_offset,
            "io_stats": {"bytes_written": 1, "bytes_read": 1, "writes": 1, "reads": 1, "fsyncs": 1},
        }

    def op_compact(self, _: dict[str, Any]) -> dict[str, Any]:
        self.oldest = self.next_offset
        return {
            "snapshots_created": 1,
            "segments_deleted": 0,
            "bytes_reclaimed": 0,
            "total_snapshots": 1,
            "wal_segments": 1,
        }

    def op_flush_all(self, _: dict[str, Any]) -> dict[str, Any]:
        removed = len(self.instances), len(self.machines)
        self.instances.clear()
        self.machines.clear()
        self.append(kind="flush")
        return {"flushed": True, "instances_removed": removed[0], "machines_removed": removed[1]}

    def op_explain_event(self, params: dict[str, Any]) -> dict[str, Any]:
        found = self.find(params["instance_id"])
        return {"current_state": found["state"], "event": params.get("event")}
