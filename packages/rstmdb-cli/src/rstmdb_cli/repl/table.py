"""The prompt's own commands: the original's, with its aliases and its output.

Whatever is not here and is a command of `rstmdb-cli` runs as that command, on the prompt's connection.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from rstmdb_cli.commands.instances import given
from rstmdb_cli.commands.machines import machine_line, machine_row
from rstmdb_cli.commands.wal import show_wal_stats
from rstmdb_cli.documents import parse_object
from rstmdb_cli.failures import Failure
from rstmdb_cli.output import compact, pretty

if TYPE_CHECKING:
    from rstmdb_cli.connection import Connection
    from rstmdb_cli.output import Output

LISTED_MAX = 50
"""Instances that `list-instances` shows, as in the original."""

Run = Callable[["Connection", "Output", list[str]], None]


class Own(NamedTuple):
    """A command of the prompt."""

    run: Run
    usage: str
    help: str
    aliases: tuple[str, ...] = ()
    completes: tuple[str, ...] = ()
    """What each argument is: machine, version, instance, event or state."""
    changes: bool = False
    """Whether it changes the database, so that it is not repeated when its answer is lost."""


class Usage(Exception):  # noqa: N818 - it leads to a hint
    """Arguments are missing or wrong."""


def _ping(client: "Connection", out: "Output", words: list[str]) -> None:
    client.ping()
    out.success("PONG")


def _info(client: "Connection", out: "Output", words: list[str]) -> None:
    out.line(pretty(client.call("INFO", {})))


def _put_machine(client: "Connection", out: "Output", words: list[str]) -> None:
    if len(words) < 3:
        raise Usage
    definition = parse_object(" ".join(words[2:]), name="the definition")
    params = {"machine": words[0], "version": _number(words[1], "VERSION"), "definition": definition}
    result: dict[str, Any] = client.call("PUT_MACHINE", params)
    did = "Created" if result["created"] else "Exists"
    out.success(f"{did} {result['machine']} v{result['version']} (checksum: {result['stored_checksum']})")


def _get_machine(client: "Connection", out: "Output", words: list[str]) -> None:
    if len(words) != 2:
        raise Usage
    params = {"machine": words[0], "version": _number(words[1], "VERSION")}
    out.line(pretty(client.call("GET_MACHINE", params)["definition"]))


def _list_machines(client: "Connection", out: "Output", words: list[str]) -> None:
    rows = [machine_row(client, item) for item in client.call("LIST_MACHINES", {})["items"]]
    for row in rows:
        out.line(machine_line(row))
    if not rows:
        out.line("No machines")


def _create(client: "Connection", out: "Output", words: list[str]) -> None:
    if not 2 <= len(words) <= 4:
        raise Usage
    rest = words[2:]
    context = rest.pop() if rest and rest[-1][:1] in "{@" else None
    if len(rest) > 1:
        raise Failure(f"{rest[1]!r} is no context: a JSON object is expected")
    params = given(
        machine=words[0],
        version=_number(words[1], "VERSION"),
        instance_id=rest[0] if rest else None,
        initial_ctx=None if context is None else parse_object(context, name="the context"),
    )
    result: dict[str, Any] = client.call("CREATE_INSTANCE", params)
    out.success(f"Created {result['instance_id']} (state: {result['state']}, offset: {result['wal_offset']})")


def _get(client: "Connection", out: "Output", words: list[str]) -> None:
    if len(words) != 1:
        raise Usage
    result: dict[str, Any] = client.call("GET_INSTANCE", {"instance_id": words[0]})
    out.line(f"{result['machine']} {result['version']} v")  # as the original prints it
    out.line(f"  State: {result['state']}")
    out.line(f"  Context: {compact(result['ctx'])}")


def _list_instances(client: "Connection", out: "Output", words: list[str]) -> None:
    if len(words) > 2:
        raise Usage
    params = dict(zip(("machine", "state"), words, strict=False))
    page: dict[str, Any] = client.call("LIST_INSTANCES", {**params, "limit": LISTED_MAX})
    if not page["instances"]:
        out.line("No instances")
        return
    showing = f", showing first {LISTED_MAX}" if page["has_more"] else ""
    out.line(f"Instances ({page['total']} total{showing})")
    for row in page["instances"]:
        out.line(f"  {row['id']} ({row['machine']} v{row['version']}) state={row['state']}")


def _delete(client: "Connection", out: "Output", words: list[str]) -> None:
    if len(words) != 1:
        raise Usage
    result: dict[str, Any] = client.call("DELETE_INSTANCE", {"instance_id": words[0]})
    out.success(f"Deleted {result['instance_id']}")


def _apply(client: "Connection", out: "Output", words: list[str]) -> None:
    if not 2 <= len(words) <= 3:
        raise Usage
    params = given(
        instance_id=words[0],
        event=words[1],
        payload=parse_object(words[2], name="the payload") if len(words) == 3 else None,
    )
    result: dict[str, Any] = client.call("APPLY_EVENT", params)
    out.success(f"{words[1]} {result['from_state']} → {result['to_state']} (offset: {result['wal_offset']})")


def _wal(client: "Connection", out: "Output", words: list[str]) -> None:
    if len(words) > 2:
        raise Usage
    numbers = [_number(word, name) for word, name in zip(words, ("FROM", "LIMIT"), strict=False)]
    params = {"from_offset": 0, **dict(zip(("from_offset", "limit"), numbers, strict=False))}
    records = client.call("WAL_READ", params)["records"]
    for record in records:
        out.line(f"[{record['sequence']}] {record['entry'].get('type')}")
    if not records:
        out.line("No entries")


def _wal_stats(client: "Connection", out: "Output", words: list[str]) -> None:
    show_wal_stats(out, client.call("WAL_STATS", {}))


def _number(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise Failure(f"{name} must be a number, not {text!r}")
    return int(text)


OWN: dict[str, Own] = {
    "ping": Own(_ping, "ping", "Check that the server answers"),
    "info": Own(_info, "info", "What the server is"),
    "put-machine": Own(
        _put_machine,
        "put-machine NAME VERSION JSON",
        "Register a machine",
        ("pm",),
        ("machine", "version"),
        True,
    ),
    "get-machine": Own(
        _get_machine, "get-machine NAME VERSION", "Show a machine", ("gm",), ("machine", "version")
    ),
    "list-machines": Own(_list_machines, "list-machines", "List the machines", ("lm",)),
    "create": Own(
        _create,
        "create MACHINE VERSION [ID] [CTX]",
        "Create an instance",
        ("c",),
        ("machine", "version"),
        True,
    ),
    "get": Own(_get, "get ID", "Show an instance", ("g",), ("instance",)),
    "list-instances": Own(
        _list_instances, "list-instances [MACHINE] [STATE]", "List instances", ("li",), ("machine", "state")
    ),
    "delete": Own(_delete, "delete ID", "Delete an instance (asks)", ("d",), ("instance",), True),
    "apply": Own(_apply, "apply ID EVENT [PAYLOAD]", "Apply an event", ("a",), ("instance", "event"), True),
    "wal": Own(_wal, "wal [FROM] [LIMIT]", "Read the log"),
    "wal-stats": Own(_wal_stats, "wal-stats", "The log's figures", ("ws",)),
}

ALIASES = {alias: name for name, own in OWN.items() for alias in own.aliases}
