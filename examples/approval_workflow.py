"""An approval workflow: a typed context, and two reviewers of whom only one can win."""

import os
from dataclasses import dataclass, field

from rstmdb_client import Client, Conflict, InvalidTransition

EXPENSE = {
    "states": ["draft", "review", "approved", "rejected"],
    "initial": "draft",
    "transitions": [
        {"from": "draft", "event": "SUBMIT", "to": "review"},
        {
            "from": "review",
            "event": "APPROVE",
            "to": "approved",
            "guard": "ctx.amount <= 500 || ctx.director",
        },
        {"from": "review", "event": "REJECT", "to": "rejected"},
        {"from": "rejected", "event": "SUBMIT", "to": "review"},
    ],
}


@dataclass
class Expense:
    """The context of an expense, decoded by the client."""

    amount: float
    purpose: str
    reviewer: str = ""
    comments: list[str] = field(default_factory=list)


def main(url: str | None = None) -> tuple[str, Expense]:
    """Submit an expense and let two people review it at once; return its end."""
    with Client(url) as client:
        client.put_machine("expense", 1, EXPENSE)
        expense = client.create_instance("expense", 1, ctx=Expense(120.5, "train to Lyon")).instance_id
        client.apply_event(expense, "SUBMIT")
        seen = client.get_instance(expense, ctx_type=Expense)  # what both reviewers have on their screens
        for event, reviewer in (("APPROVE", "ann"), ("REJECT", "bob")):
            try:
                client.apply_event(
                    expense,
                    event,
                    payload={"reviewer": reviewer},
                    expected_wal_offset=seen.last_wal_offset,
                )
            except (Conflict, InvalidTransition) as late:
                print(f"{reviewer} was too late: {late}")
        end = client.get_instance(expense, ctx_type=Expense)
        print(end.state, end.ctx)
        return end.state, end.ctx


if __name__ == "__main__":
    main(os.environ.get("RSTMDB_URL"))
