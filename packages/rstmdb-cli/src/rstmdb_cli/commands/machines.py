"""`put-machine`, `get-machine`, `list-machines`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from rstmdb_cli.completing import machine_names
from rstmdb_cli.context import Invocation
from rstmdb_cli.documents import parse_object
from rstmdb_cli.failures import Failure
from rstmdb_cli.output import Format, pretty

if TYPE_CHECKING:
    from rstmdb_cli.connection import Connection

U32_MAX = 4_294_967_295


def put_machine(
    ctx: typer.Context,
    name: Annotated[
        str, typer.Option("--name", "-n", metavar="NAME", help="Machine", autocompletion=machine_names)
    ],
    version: Annotated[
        int,
        typer.Option("--version", "-v", metavar="N", min=0, max=U32_MAX, help="Version of the definition"),
    ],
    definition: Annotated[
        str, typer.Argument(metavar="DEFINITION", help="JSON, @FILE, or @- for standard input")
    ],
) -> None:
    """Register a machine definition.

    The same definition again is no error; another one under the same version is.
    """
    cli: Invocation = ctx.obj
    document = parse_object(definition, name="the definition")
    try:
        with cli.client() as client:
            result: dict[str, Any] = client.call(
                "PUT_MACHINE", {"machine": name, "version": version, "definition": document}
            )
    except Failure as failure:
        if failure.details.get("faults"):
            failure.hint = "\n".join(fault_lines(document, failure.details["faults"]))
        raise
    if not cli.output.document(result):
        did = "Created" if result["created"] else "Already exists"
        cli.output.success(
            f"{did} machine {result['machine']} v{result['version']} (checksum: {result['stored_checksum']})"
        )


def get_machine(
    ctx: typer.Context,
    name: Annotated[
        str, typer.Option("--name", "-n", metavar="NAME", help="Machine", autocompletion=machine_names)
    ],
    version: Annotated[int, typer.Option("--version", "-v", metavar="N", min=0, max=U32_MAX, help="Version")],
) -> None:
    """Show a machine definition."""
    cli: Invocation = ctx.obj
    with cli.client() as client:
        result: dict[str, Any] = client.call("GET_MACHINE", {"machine": name, "version": version})
    if cli.output.chosen is Format.RAW:
        cli.output.document(result)
    elif not cli.output.document({"machine": name, "version": version, **result}):
        cli.output.line(cli.output.styled(f"Machine {name} v{version}", "bold"))
        cli.output.line(pretty(result["definition"]))


def list_machines(ctx: typer.Context) -> None:
    """List the machines: latest version, and how many states and transitions it has."""
    cli: Invocation = ctx.obj
    with cli.client() as client:
        raw: dict[str, Any] = client.call("LIST_MACHINES", {})
        rows = [machine_row(client, item) for item in raw["items"]]
    if cli.output.rows(
        rows,
        ["machine", "latest", "states", "transitions", "versions"],
        raw=raw,
        own_lines=True,
        empty="No machines registered",
    ):
        return
    for row in rows:
        cli.output.line(machine_line(row))
    cli.output.line("" if rows else "No machines registered")


def machine_row(client: "Connection", item: dict[str, Any]) -> dict[str, Any]:
    """Return a machine with the figures of its latest version, which costs one GET_MACHINE."""
    from rstmdb_client.errors import ServerError

    row: dict[str, Any] = {"machine": item["machine"], "versions": item["versions"]}
    if not item["versions"]:
        return row
    latest = max(item["versions"])
    try:
        definition = client.call("GET_MACHINE", {"machine": item["machine"], "version": latest})["definition"]
    except ServerError:
        return row  # removed since it was listed; the list is still worth showing
    row.update(latest=latest, states=len(definition["states"]), transitions=len(definition["transitions"]))
    return row


def machine_line(row: dict[str, Any]) -> str:
    """Return a machine's line, as the original prints it."""
    if not row["versions"]:
        return f"  {row['machine']} [no versions]"
    if "latest" not in row:
        return f"  {row['machine']} [versions: {row['versions']}]"
    return f"  {row['machine']} v{row['latest']} ({row['states']} states, {row['transitions']} transitions)"


def fault_lines(definition: dict[str, Any], faults: list[dict[str, Any]]) -> list[str]:
    """Return what is wrong with a definition, a caret under the place in a guard.

    Args:
        definition: The definition that was sent.
        faults: `{"path", "message", "position"?}`, as the server describes them.
    """
    lines = ["this is wrong in the definition (`rstmdb-cli lint FILE` checks one without a server):"]
    for fault in faults:
        lines.append(f"  {fault['path'] or 'definition'}: {fault['message']}")
        position = fault.get("position")
        guard = value_at(definition, fault["path"])
        if isinstance(position, int) and isinstance(guard, str):
            lines += [f"    {guard}", f"    {' ' * position}^"]
    return lines


def value_at(document: Any, path: str) -> Any:
    """Return what a path such as `transitions[2].guard` leads to, or None."""
    for step in path.replace("[", ".[").split("."):
        try:
            if step.startswith("["):
                document = document[int(step[1:-1])]
            elif step:
                document = document[step]
        except (LookupError, TypeError, ValueError):
            return None
    return document
