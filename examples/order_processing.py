"""Order processing: a machine with a guard, the life of an order, and a refusal by its meaning."""

import os

from rstmdb_client import Client, GuardFailed

ORDER = {
    "states": ["created", "paid", "shipped", "cancelled"],
    "initial": "created",
    "transitions": [
        {"from": "created", "event": "PAY", "to": "paid", "guard": "ctx.total > 0"},
        {"from": "paid", "event": "SHIP", "to": "shipped", "guard": "ctx.address"},
        {"from": ["created", "paid"], "event": "CANCEL", "to": "cancelled"},
        {"from": "paid", "event": "SET_ADDRESS", "to": "paid"},
    ],
}


def main(url: str | None = None) -> list[str]:
    """Take one order from its creation to the door; return the states it went through."""
    with Client(url) as client:
        client.put_machine("order", 1, ORDER)
        order = client.create_instance("order", 1, ctx={"total": 42, "items": ["book"]})
        states = [order.state]
        # No key is given: the client makes one up, so a lost answer cannot charge the card twice.
        paid = client.apply_event(order.instance_id, "PAY", payload={"card": "…1234"})
        states.append(paid.to_state)
        try:
            client.apply_event(order.instance_id, "SHIP")
        except GuardFailed as refused:
            print("cannot ship yet:", refused)
            client.apply_event(order.instance_id, "SET_ADDRESS", payload={"address": "Main Street 1"})
            states.append(client.apply_event(order.instance_id, "SHIP").to_state)
        print(order.instance_id, " -> ".join(states))
        return states


if __name__ == "__main__":
    main(os.environ.get("RSTMDB_URL"))
