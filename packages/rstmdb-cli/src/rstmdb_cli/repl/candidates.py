"""What Tab offers at the prompt: commands, then what each argument of the command is.

Names come from the server, over a connection of their own (completion runs beside the typing), and are kept
for some seconds. No answer in time is no candidates.
"""

import time
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import typer

from rstmdb_cli.completing import COMPLETION_TIMEOUT_S, INSTANCES_MAX, allowed_events
from rstmdb_cli.connection import Connection
from rstmdb_cli.context import Settings
from rstmdb_cli.repl.table import ALIASES, OWN

if TYPE_CHECKING:
    from typer.core import TyperGroup

KEPT_S = 3.0

_SPECIAL = (
    "help",
    "reconnect",
    "watch",
    "watch-all",
    "unwatch",
    "quit",
    "exit",
    "\\timing",
    "\\watch",
    "\\q",
)
_OPTIONS = {
    "-i": "instance",
    "--instance": "instance",
    "-m": "machine",
    "--machine": "machine",
    "--machines": "machine",
    "-n": "machine",
    "--name": "machine",
    "-e": "event",
    "--event": "event",
    "--state": "state",
    "--from-states": "state",
    "--to-states": "state",
    "--expected-state": "state",
}
_FIRST_ARGUMENT = {
    "get-instance": "instance",
    "delete-instance": "instance",
    "snapshot-instance": "instance",
    "describe": "instance",
    "history": "instance",
    "watch": "instance",
    "watch-instance": "instance",
    "graph": "machine",
    "help": "command",
    "?": "command",
}


class Candidates:
    """Finds candidates for the last word of a text.

    Args:
        settings: Where the names are.
        group: All commands of `rstmdb-cli`, for their options.
    """

    def __init__(self, settings: Settings, group: "TyperGroup") -> None:
        self._connection = Connection(settings._replace(timeout_s=COMPLETION_TIMEOUT_S))
        self._group = group
        self._kept: dict[tuple[str, ...], tuple[float, list[str]]] = {}

    def forget(self) -> None:
        """Ask the server anew: something has changed."""
        self._kept.clear()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def complete(self, text: str) -> list[str]:
        """Return candidates for the last word, which may be empty."""
        words = text.split()
        if not words or (len(words) == 1 and not text[-1].isspace()):
            return self._commands()
        done = words if text[-1].isspace() else words[:-1]
        last = "" if text[-1].isspace() else words[-1]
        name = ALIASES.get(done[0].lower(), done[0].lower())
        if last.startswith("-"):
            return self._options(name)
        kind = _OPTIONS.get(done[-1])
        own = OWN.get(name)
        if kind is None and own is not None and len(done) - 1 < len(own.completes):
            kind = own.completes[len(done) - 1]
        if kind is None and len(done) == 1:
            kind = _FIRST_ARGUMENT.get(name)
        return self._names(kind, done) if kind is not None else []

    def _commands(self) -> list[str]:
        return list(dict.fromkeys([*OWN, *_SPECIAL, *self._group.list_commands(typer.Context(self._group))]))

    def _options(self, name: str) -> list[str]:
        command: Any = self._group.get_command(typer.Context(self._group), name)
        if command is None:
            return []
        return [spelling for param in command.params for spelling in param.opts if spelling.startswith("--")]

    def _names(self, kind: str, done: list[str]) -> list[str]:
        asked = self._connection.call
        match kind:
            case "command":
                return self._commands()
            case "machine":
                return self._ask(
                    (kind,), lambda: [item["machine"] for item in asked("LIST_MACHINES", {})["items"]]
                )
            case "instance":
                params = {"limit": INSTANCES_MAX}
                return self._ask(
                    (kind,), lambda: [row["id"] for row in asked("LIST_INSTANCES", params)["instances"]]
                )
            case "version":
                return self._ask((kind, done[1]), lambda: self._versions(done[1]))
            case "event":
                instance = _after(done, ("-i", "--instance")) or done[1]
                return self._ask((kind, instance), lambda: allowed_events(self._connection, instance))
            case "state":
                machine = _after(done, ("-m", "--machine", "--machines"))
                if machine is None and len(done) > 1 and not done[1].startswith("-"):
                    machine = done[1]
                return self._ask((kind, machine or ""), lambda: self._states(machine))
        return []

    def _versions(self, machine: str) -> list[str]:
        items = self._connection.call("LIST_MACHINES", {})["items"]
        return [
            str(version)
            for item in items
            if item["machine"] == machine
            for version in reversed(item["versions"])
        ]

    def _states(self, machine: str | None) -> list[str]:
        states: dict[str, None] = {}
        for item in self._connection.call("LIST_MACHINES", {})["items"]:
            if machine in (None, item["machine"]) and item["versions"]:
                params = {"machine": item["machine"], "version": max(item["versions"])}
                states.update(
                    dict.fromkeys(self._connection.call("GET_MACHINE", params)["definition"]["states"])
                )
        return list(states)

    def _ask(self, key: tuple[str, ...], find: Callable[[], list[str]]) -> list[str]:
        kept = self._kept.get(key)
        now = time.monotonic()
        if kept is not None and now - kept[0] < KEPT_S:
            return kept[1]
        try:
            names = find()
        except Exception:  # whatever is wrong, the next command says it; Tab must not
            return []
        self._kept[key] = (now, names)
        return names


def _after(words: list[str], options: tuple[str, ...]) -> str | None:
    for word, following in pairwise(words):
        if word in options:
            return following
    return None
