"""A read model: orders by state, kept in SQLite with the offset of the last event in the same transaction.

So the projection is exact: stopped at any point and started again, it neither misses nor counts twice.
"""

import os
import sqlite3

from rstmdb_client import Client, RequestTimeout

ORDER = {
    "states": ["created", "paid", "shipped"],
    "initial": "created",
    "transitions": [
        {"from": "created", "event": "PAY", "to": "paid"},
        {"from": "paid", "event": "SHIP", "to": "shipped"},
    ],
}


def project(
    client: Client, database: sqlite3.Connection, machine: str, *, stop_after: int | None = None
) -> int:
    """Bring the read model up to date; return how many events it took.

    A service would stay in the loop for ever; this one returns when nothing comes for a moment.
    """
    database.execute("CREATE TABLE IF NOT EXISTS orders_in (state TEXT PRIMARY KEY, count INTEGER NOT NULL)")
    database.execute("CREATE TABLE IF NOT EXISTS position (id INTEGER PRIMARY KEY, wal_offset INTEGER)")
    row = database.execute("SELECT wal_offset FROM position WHERE id = 1").fetchone()
    start = {"from_oldest": True} if row is None else {"after_offset": row[0]}
    taken = 0
    with client.watch_all(machines=[machine], include=["create"], **start) as watch:
        while taken != stop_after:
            try:
                event = watch.next(timeout=0.3)
            except RequestTimeout:
                break
            if event is None:
                break
            with database:  # one transaction: the counts and the position they stand for
                if event.kind == "apply":
                    database.execute(
                        "UPDATE orders_in SET count = count - 1 WHERE state = ?", (event.from_state,)
                    )
                state = event.to_state or ORDER["initial"]
                database.execute(
                    "INSERT INTO orders_in VALUES (?, 1) ON CONFLICT DO UPDATE SET count = count + 1",
                    (state,),
                )
                database.execute("INSERT OR REPLACE INTO position VALUES (1, ?)", (event.wal_offset,))
            taken += 1
    return taken


def main(url: str | None = None, path: str = ":memory:") -> dict[str, int]:
    """Make some orders, project them in two goes, and return the counts."""
    database = sqlite3.connect(path)
    with Client(url) as client:
        client.put_machine("shop-order", 1, ORDER)
        for number in range(6):
            order = client.create_instance("shop-order", 1).instance_id
            for event in ("PAY", "SHIP")[: number % 3]:
                client.apply_event(order, event)
        first = project(client, database, "shop-order", stop_after=5)
        rest = project(client, database, "shop-order")
        counts = dict(database.execute("SELECT state, count FROM orders_in ORDER BY state"))
        print(f"{first} and then {rest} events: {counts}")
    database.close()
    return counts


if __name__ == "__main__":
    main(os.environ.get("RSTMDB_URL"), "orders.sqlite")
