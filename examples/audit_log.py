"""An audit log: every change as a line of JSON, and the history of one instance."""

import json
import os
import sys
from collections.abc import Iterator
from typing import Any

from rstmdb_client import Client

DOOR = {
    "states": ["closed", "open"],
    "initial": "closed",
    "transitions": [
        {"from": "closed", "event": "OPEN", "to": "open"},
        {"from": "open", "event": "CLOSE", "to": "closed"},
    ],
}


def changes(client: Client, from_offset: int = 0, instance_id: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield every change that is kept, oldest first, from an offset on."""
    while True:
        page = client.wal_read(from_offset, limit=500, instance_id=instance_id)
        for record in page.records:
            yield {"offset": record.offset, **record.entry}
        if not page.records or page.next_offset is None:
            return
        from_offset = page.next_offset


def main(url: str | None = None) -> list[dict[str, Any]]:
    """Open and close a door; print the whole log, and return what the door did."""
    with Client(url) as client:
        client.put_machine("door", 1, DOOR)
        door = client.create_instance("door", 1).instance_id
        for who, event in (("ann", "OPEN"), ("bob", "CLOSE"), ("ann", "OPEN")):
            client.apply_event(door, event, payload={"who": who})
        for change in changes(client):
            sys.stdout.write(json.dumps(change) + "\n")
        return list(changes(client, instance_id=door))


if __name__ == "__main__":
    main(os.environ.get("RSTMDB_URL"))
