"""A writer of the original's format, built from the facts about it alone."""

from __future__ import annotations

import json
import os
from pathlib import Path
from struct import pack
from typing import Any

from google_crc32c import extend

TYPES = {"put_machine": 1, "create_instance": 2, "apply_event": 3, "delete_instance": 4}

ORDER = {
    "states": ["open", "paid", "shipped"],
    "initial": "open",
    "transitions": [
        {"from": "open", "event": "PAY", "to": "paid"},
        {"from": "paid", "event": "SHIP", "to": "shipped"},
        {"from": ["open", "paid", "shipped"], "event": "NOTE", "to": "open"},
    ],
    "extra": {"kept": "by the original"},
}


def record(sequence: int, entry: dict[str, Any], *, kind: int | None = None) -> bytes:
    """One record: header and compact JSON."""
    payload = json.dumps(entry, separators=(",", ":")).encode()
    head = b"WLOG" + bytes((TYPES[entry["type"]] if kind is None else kind, 0, 0, 0))
    return head + pack(">IIQ", len(payload), extend(0, payload), sequence) + payload


class Original:
    """Writes a data directory as the original does, and keeps what it would show.

    Args:
        root: Where to.
        segment_bytes: When it rotates.
    """

    def __init__(self, root: Path, *, segment_bytes: int = 1 << 20) -> None:
        self.root = root
        self.segment_bytes = segment_bytes
        self.sequence = 0
        self.segment = 1
        self.places: list[tuple[Path, int, int]] = []
        # id -> machine, version, state, ctx, last_event_id
        self.instances: dict[str, tuple[str, int, str, Any, str | None]] = {}
        (root / "wal").mkdir(parents=True)
        (root / "snapshots").mkdir()
        self.path.touch()

    @property
    def path(self) -> Path:
        return self.root / "wal" / f"{self.segment:016x}.wal"

    def write(self, entry: dict[str, Any]) -> int:
        """Append an entry; returns its offset."""
        self.sequence += 1
        data = record(self.sequence, entry)
        if self.path.exists() and self.path.stat().st_size + len(data) > self.segment_bytes:
            self.segment += 1
        position = self.path.stat().st_size if self.path.exists() else 0
        with open(self.path, "ab") as file:
            file.write(data)
        self.places.append((self.path, position, len(data)))
        return self.segment << 40 | position

    def append_raw(self, data: bytes) -> None:
        with open(self.path, "ab") as file:
            file.write(data)

    def put(self, machine: str, version: int, definition: Any = ORDER) -> int:
        return self.write(
            {
                "type": "put_machine",
                "machine": machine,
                "version": version,
                "definition_hash": "0badcafe",
                "definition": definition,
            }
        )

    def create(self, name: str, ctx: Any, *, machine: str = "order", version: int = 1, **more: Any) -> int:
        entry = {
            "type": "create_instance",
            "instance_id": name,
            "machine": machine,
            "version": version,
            "initial_state": "open",
            "initial_ctx": ctx,
        }
        self.instances[name] = (machine, version, "open", ctx or {}, None)
        return self.write(entry | more)

    def apply(self, name: str, event: str, to_state: str, payload: Any = None, **more: Any) -> int:
        machine, version, state, ctx, event_id = self.instances[name]
        ctx = {**ctx, **(payload or {})}
        self.instances[name] = (machine, version, to_state, ctx, more.get("event_id", event_id))
        entry = {
            "type": "apply_event",
            "instance_id": name,
            "event": event,
            "from_state": state,
            "to_state": to_state,
            "payload": payload,
            "ctx": ctx,
        }
        return self.write(entry | more)

    def delete(self, name: str, **more: Any) -> int:
        del self.instances[name]
        return self.write({"type": "delete_instance", "instance_id": name} | more)

    def snapshot(self, name: str, offset: int) -> None:
        """Write the snapshot of an instance, and the index."""
        machine, version, state, ctx, _ = self.instances[name]
        document = {
            "snapshot_id": f"snap-{name}",
            "instance_id": name,
            "machine": machine,
            "version": version,
            "state": state,
            "ctx": ctx,
            "wal_offset": offset,
            "created_at": 1_700_000_000_000,
        }
        text = json.dumps(document, indent=2).encode()
        (self.root / "snapshots" / f"snap-{name}.snap").write_bytes(text)
        path = self.root / "snapshots" / "index.json"
        index = json.loads(path.read_text()) if path.exists() else {}
        index[name] = {
            "snapshot_id": f"snap-{name}",
            "instance_id": name,
            "wal_offset": offset,
            "created_at": 1_700_000_000_000,
            "size_bytes": len(text),
            "checksum": f"{extend(0, text):08x}",
        }
        path.write_text(json.dumps(index, indent=2))

    def work(self, rounds: int) -> None:
        """A bit of everything, with keys."""
        self.put("order", 1)
        self.put("order", 2, {**ORDER, "meta": {"team": "sales"}})
        for number in range(rounds):
            name = f"order-{number}"
            self.create(name, {"total": number}, version=1 + number % 2, idempotency_key=f"c{number}")
            self.apply(
                name, "PAY", "paid", {"by": "card"}, event_id=f"e{number}", idempotency_key=f"k{number}"
            )
            if number % 2:
                self.apply(name, "SHIP", "shipped")
            if number % 5 == 4:
                self.delete(name, idempotency_key=f"d{number}")

    def compact(self) -> None:
        """Remove the first segment, as the original does without looking back."""
        os.unlink(min((self.root / "wal").glob("*.wal")))
