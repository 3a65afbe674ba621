"""What Tab offers in a shell: machines, instances, events and states of the server that the line names.

Completion must never disturb typing: it asks with a short limit and stays silent whatever goes wrong.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rstmdb_cli.connection import Connection

COMPLETION_TIMEOUT_S = 0.7
INSTANCES_MAX = 1000
"""One page: who has more types further."""


def machine_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer machine names."""

    def names(client: "Connection") -> list[str]:
        return [item["machine"] for item in client.call("LIST_MACHINES", {})["items"]]

    return _offered(ctx, incomplete, names)


def instance_ids(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer instance ids."""

    def ids(client: "Connection") -> list[str]:
        return [row["id"] for row in client.call("LIST_INSTANCES", {"limit": INSTANCES_MAX})["instances"]]

    return _offered(ctx, incomplete, ids)


def event_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer the events that the instance named on the line allows now."""
    instance = ctx.params.get("instance")

    def names(client: "Connection") -> list[str]:
        return allowed_events(client, instance) if instance else []

    return _offered(ctx, incomplete, names)


def state_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer the states of the machine named on the line, or of all machines."""
    machine = ctx.params.get("machine")

    def names(client: "Connection") -> list[str]:
        states: dict[str, None] = {}
        for item in client.call("LIST_MACHINES", {})["items"]:
            if machine in (None, item["machine"]) and item["versions"]:
                params = {"machine": item["machine"], "version": max(item["versions"])}
                states.update(dict.fromkeys(client.call("GET_MACHINE", params)["definition"]["states"]))
        return list(states)

    return _offered(ctx, incomplete, names)


def allowed_events(client: "Connection", instance_id: str) -> list[str]:
    """Return the events that an instance's definition knows in its current state."""
    instance = client.call("GET_INSTANCE", {"instance_id": instance_id})
    params = {"machine": instance["machine"], "version": instance["version"]}
    transitions = client.call("GET_MACHINE", params)["definition"]["transitions"]
    return list(dict.fromkeys(t["event"] for t in transitions if instance["state"] in t["from"]))


def _offered(ctx: typer.Context, incomplete: str, ask: Callable[["Connection"], list[str]]) -> list[str]:
    from rstmdb_cli.context import Invocation
    from rstmdb_cli.parsing import GLOBAL_PREFIX

    try:
        root = ctx.find_root().params
        flags: dict[str, Any] = {
            name.removeprefix(GLOBAL_PREFIX): value
            for name, value in root.items()
            if name.startswith(GLOBAL_PREFIX) and value
        }
        flags["timeout"] = COMPLETION_TIMEOUT_S
        with Invocation(flags=flags).client() as client:
            return [name for name in ask(client) if name.startswith(incomplete)]
    except Exception:  # a traceback in the middle of someone's command line helps nobody
        return []
