"""`lint` and `simulate`: work on a definition without a server, with the engine itself (extra `[author]`)."""

from pathlib import Path
from typing import Annotated, Any

import typer

from rstmdb_cli.context import Invocation
from rstmdb_cli.documents import parse_json, parse_object, read_file
from rstmdb_cli.exit_codes import ExitCode
from rstmdb_cli.failures import Failure
from rstmdb_cli.places import place_of


def lint(
    ctx: typer.Context,
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Definitions; - is standard input")],
    strict: Annotated[bool, typer.Option("--strict", help="Warnings end with exit code 1 too")] = False,
) -> None:
    """Check definition files as the server would, and for what is valid but hardly meant.

    Each finding is one line, FILE:LINE:COLUMN: SEVERITY: ..., which editors jump to. Exit code 1 if there
    is an error.
    """
    cli: Invocation = ctx.obj
    require_core()
    findings = [finding for file in files for finding in findings_of(file)]
    if not cli.output.rows(
        findings, ["file", "line", "column", "severity", "rule", "message"], own_lines=True
    ):
        colours = {"error": "red", "warning": "yellow"}
        for row in findings:
            severity = cli.output.styled(row["severity"], colours.get(row["severity"], "cyan"))
            where = f"{row['path']}: " if row["path"] else ""
            place = f"{row['file']}:{row['line']}:{row['column']}"
            cli.output.line(f"{place}: {severity}: {where}{row['message']} [{row['rule']}]")
            if row["excerpt"]:
                cli.output.line(row["excerpt"])
    counts = {
        name: sum(row["severity"] == name for row in findings) for name in ("error", "warning", "information")
    }
    cli.output.note(
        f"{counts['error']} errors, {counts['warning']} warnings, {counts['information']} informations"
    )
    if counts["error"] or (strict and counts["warning"]):
        cli.output.stdout.flush()
        raise typer.Exit(int(ExitCode.FAILED))


def findings_of(file: str) -> list[dict[str, Any]]:
    """Return what there is to say about one file.

    Raises:
        Failure: It cannot be read or is not JSON.
    """
    from rstmdb_core import DefinitionError, lint_definition, parse_definition

    text = read_file(file)
    document = parse_json(text, name="standard input" if file == "-" else file)
    raw = text.encode("utf-8", "surrogatepass")
    positions: dict[tuple[str, str], int | None] = {}
    try:
        parse_definition(raw)
    except DefinitionError as error:
        positions = {(fault.path, fault.message): fault.position for fault in error.faults}
    rows = []
    for finding in lint_definition(raw):
        inside = positions.get((finding.path, finding.message))
        line, column = place_of(text, finding.path, inside=inside)
        excerpt = ""
        if inside is not None:
            from rstmdb_cli.commands.machines import value_at

            guard = value_at(document, finding.path)
            excerpt = f"    {guard}\n    {' ' * inside}^" if isinstance(guard, str) else ""
        rows.append(
            {
                "file": "<stdin>" if file == "-" else file,
                "line": line,
                "column": column,
                "severity": finding.severity,
                "rule": finding.rule,
                "path": finding.path,
                "message": finding.message,
                "excerpt": excerpt,
            }
        )
    return rows


def simulate(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="Definition")],
    context: Annotated[
        str | None, typer.Option("--ctx", "-c", metavar="JSON", help="Initial context: JSON, @FILE or @-")
    ] = None,
) -> None:
    r"""Walk through a definition: type an event, optionally with a payload, and see what happens.

    Reads events line by line, so a script can do it too: printf 'PAY {"amount": 5}\nSHIP\n' | rstmdb-cli
    simulate FILE
    """
    cli: Invocation = ctx.obj
    require_core()
    from rstmdb_cli.simulation import Simulation, walk

    raw = read_file(file).encode("utf-8", "surrogatepass")
    document = {} if context is None else parse_object(context, name="--ctx")
    try:
        simulation = Simulation(raw, title=Path(file).stem, context=document)
    except ValueError as error:
        raise Failure(str(error), hint=f"`rstmdb-cli lint {file}` shows every place") from None
    if not walk(simulation, cli):
        cli.output.stdout.flush()
        raise typer.Exit(ExitCode.REFUSED.reported(detailed=cli.detailed_exit_codes))


def require_core() -> None:
    """Say how to install the engine, if it is not there.

    Raises:
        Failure: It is not.
    """
    from importlib.util import find_spec

    if find_spec("rstmdb_core") is None:
        raise Failure(
            "this command needs the engine, which is not installed",
            hint="pip install 'rstmdb-cli[author]'",
            code=ExitCode.USAGE,
        )
