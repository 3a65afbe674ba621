"""`graph`: a machine of the server, or a definition file, as a picture."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rstmdb_cli.completing import instance_ids, machine_names
from rstmdb_cli.context import Invocation
from rstmdb_cli.documents import parse_object
from rstmdb_cli.drawing.model import Graph, graph_of
from rstmdb_cli.exit_codes import ExitCode
from rstmdb_cli.failures import Failure
from rstmdb_cli.output import Output

if TYPE_CHECKING:
    from rstmdb_cli.connection import Connection

U32_MAX = 4_294_967_295


class Drawing(StrEnum):
    """How a machine is drawn."""

    TEXT = "text"
    MERMAID = "mermaid"
    DOT = "dot"
    SVG = "svg"


def graph(
    ctx: typer.Context,
    machine: Annotated[
        str | None,
        typer.Argument(
            metavar="[MACHINE]", help="Machine, or @FILE with a definition", autocompletion=machine_names
        ),
    ] = None,
    version: Annotated[
        int | None,
        typer.Option("--version", "-v", metavar="N", min=0, max=U32_MAX, help="Version [default: latest]"),
    ] = None,
    instance: Annotated[
        str | None,
        typer.Option(
            "--instance", "-i", metavar="ID", help="Mark where this instance is", autocompletion=instance_ids
        ),
    ] = None,
    drawing: Annotated[Drawing, typer.Option("--format", "-f", help="How to draw")] = Drawing.TEXT,
    file: Annotated[
        str | None, typer.Option("--file", metavar="PATH", help="Write the drawing there")
    ] = None,
) -> None:
    """Draw a machine. With --instance alone: the instance's machine, its state marked.

    A definition file (@order.json) is drawn without a server.
    """
    cli: Invocation = ctx.obj
    drawn = render(
        find(cli, machine, version=version, instance=instance), drawing, cli.output, marked=instance
    )
    if file is None:
        cli.output.line(drawn)
        return
    try:
        Path(file).write_text(drawn + "\n", encoding="utf-8")
    except OSError as error:
        raise Failure(f"cannot write {file}: {error.strerror}") from None


def render(graph: Graph, drawing: Drawing, output: Output, *, marked: str | None = None) -> str:
    """Return a graph in one of the forms."""
    match drawing:
        case Drawing.TEXT:
            from rstmdb_cli.drawing.text import draw

            return "\n".join(draw(graph, output, marked=marked))
        case Drawing.MERMAID:
            from rstmdb_cli.drawing.markup import mermaid

            return mermaid(graph)
        case Drawing.DOT:
            from rstmdb_cli.drawing.markup import dot

            return dot(graph)
        case Drawing.SVG:
            from rstmdb_cli.drawing.svg import svg

            return svg(graph)


def find(cli: Invocation, machine: str | None, *, version: int | None, instance: str | None) -> Graph:
    """Return the graph that the arguments name, asking the server where they name something of it.

    Raises:
        Failure: They name nothing, or something that is no machine.
    """
    if machine is not None and machine.startswith("@"):
        return graph_of_file(machine)
    if machine is None and instance is None:
        raise Failure("name a machine, a file (@order.json) or --instance ID", code=ExitCode.USAGE)
    with cli.client() as client:
        current = None
        if instance is not None:
            found: dict[str, Any] = client.call("GET_INSTANCE", {"instance_id": instance})
            if machine not in (None, found["machine"]):
                raise Failure(
                    f"{instance} is an instance of {found['machine']}, not of {machine}", code=ExitCode.USAGE
                )
            machine = found["machine"]
            version = found["version"] if version is None else version
            current = found["state"]
        assert machine is not None
        if version is None:
            version = latest_version(client, machine)
        definition = client.call("GET_MACHINE", {"machine": machine, "version": version})["definition"]
    return graph_of(definition, title=f"{machine} v{version}", current=current)


def graph_of_file(argument: str) -> Graph:
    """Return the graph of a definition file.

    Raises:
        Failure: It is no definition.
    """
    definition = parse_object(argument, name=argument)
    try:
        return graph_of(definition, title=Path(argument.removeprefix("@")).stem)
    except (KeyError, TypeError, AttributeError) as error:
        raise Failure(
            f"{argument.removeprefix('@')} is not a machine definition: {error}",
            hint=f"`rstmdb-cli lint {argument.removeprefix('@')}` says what is wrong",
        ) from None


def latest_version(client: "Connection", machine: str) -> int:
    """Return a machine's highest version.

    Raises:
        Failure: There is no such machine.
    """
    for item in client.call("LIST_MACHINES", {})["items"]:
        if item["machine"] == machine and item["versions"]:
            return int(max(item["versions"]))
    raise Failure(
        f"no machine {machine!r} on this server",
        hint="`rstmdb-cli list-machines` shows them; a file is named with @, as in @order.json",
        code=ExitCode.NOT_FOUND,
    )
