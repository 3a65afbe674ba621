"""`batch`: many operations from a file, in as few requests as the server allows.

The file is a JSON array of operations, an object with `ops` (as on the wire), or JSON lines:

    {"op": "CREATE_INSTANCE", "params": {"instance_id": "o-1", "machine": "order", "version": 1}}
    {"op": "APPLY_EVENT", "params": {"instance_id": "o-1", "event": "PAY"}}
"""

from typing import Annotated, Any

import typer

from rstmdb_cli.commands.instances import given
from rstmdb_cli.context import Invocation
from rstmdb_cli.documents import parse_json, read_file
from rstmdb_cli.exit_codes import ExitCode
from rstmdb_cli.failures import Failure

OPERATIONS_MAX = 100
"""What one BATCH may hold; the same limit as the server's."""

BATCHABLE = ("CREATE_INSTANCE", "APPLY_EVENT", "DELETE_INSTANCE")


def batch(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="JSON or JSON lines; - is standard input")],
    atomic: Annotated[bool, typer.Option("--atomic", help="All or nothing (at most 100 operations)")] = False,
    idempotency_key: Annotated[
        str | None,
        typer.Option(
            "--idempotency-key", metavar="KEY", help="Makes repeating the batch harmless; needs --atomic"
        ),
    ] = None,
) -> None:
    """Run operations from a file: CREATE_INSTANCE, APPLY_EVENT, DELETE_INSTANCE.

    Without --atomic each operation stands alone: those that fail are reported, the others are done, and the
    exit code is 1 if one failed.
    """
    cli: Invocation = ctx.obj
    operations = read_operations(file)
    if atomic and len(operations) > OPERATIONS_MAX:
        raise Failure(
            f"an atomic batch has at most {OPERATIONS_MAX} operations, this file has {len(operations)}",
            code=ExitCode.USAGE,
        )
    if idempotency_key is not None and not atomic and len(operations) > OPERATIONS_MAX:
        raise Failure(
            "a key covers one request; without --atomic this file needs several", code=ExitCode.USAGE
        )
    mode = "atomic" if atomic else "best_effort"
    results: list[dict[str, Any]] = []
    with cli.client() as client:
        for start in range(0, len(operations), OPERATIONS_MAX):
            part = operations[start : start + OPERATIONS_MAX]
            params = given(mode=mode, ops=part, idempotency_key=idempotency_key)
            results.extend(client.call("BATCH", params)["results"])
    failed = sum(result["status"] != "ok" for result in results)
    rows = [_row(index, *pair) for index, pair in enumerate(zip(operations, results, strict=True))]
    if not cli.output.rows(
        rows, ["index", "op", "target", "status", "outcome"], raw={"results": results}, own_lines=True
    ):
        for row in rows:
            good = row["status"] == "ok"
            status = cli.output.styled("ok   ", "green") if good else cli.output.styled("error", "red")
            cli.output.line(f"[{row['index']:>6}] {status} {row['op']} {row['target']}: {row['outcome']}")
        cli.output.line(f"{len(results)} operations: {len(results) - failed} ok, {failed} failed")
    if failed:
        cli.output.stdout.flush()
        raise typer.Exit(ExitCode.REFUSED.reported(detailed=cli.detailed_exit_codes))


def read_operations(path: str) -> list[dict[str, Any]]:
    """Read a batch file in any of its three forms.

    Raises:
        Failure: It is none of them; the message names the place.
    """
    text = read_file(path)
    where = "standard input" if path == "-" else path
    stripped = text.lstrip()
    if stripped.startswith("["):
        operations = parse_json(text, name=where)
    elif _is_one_object(stripped):
        document = parse_json(text, name=where)
        operations = document.get("ops", [document] if "op" in document else None)
    else:
        operations = [
            parse_json(line, name=where, line_offset=number)
            for number, line in enumerate(text.splitlines())
            if line.strip()
        ]
    if not isinstance(operations, list):
        raise Failure(f"{where} has no operations: an array, an object with ops, or JSON lines is expected")
    for index, operation in enumerate(operations):
        name = operation.get("op") if isinstance(operation, dict) else None
        if name not in BATCHABLE:
            raise Failure(
                f"{where}: operation {index} must have an op, one of {', '.join(BATCHABLE)}, not {name!r}",
                code=ExitCode.USAGE,
            )
    return operations


def _is_one_object(text: str) -> bool:
    """Say whether the text is one JSON value, and not a line for each operation."""
    import json

    try:
        json.loads(text)
    except ValueError:
        return "\n" not in text.strip()
    return True


def _row(index: int, operation: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    params = operation.get("params") or {}
    done = result.get("result") or {}
    target = done.get("instance_id") or params.get("instance_id") or ""
    if result["status"] != "ok":
        error = result.get("error") or {}
        outcome = f"{error.get('code')} - {error.get('message')}"
    elif "to_state" in done:
        outcome = f"{done['from_state']} → {done['to_state']} (offset: {done['wal_offset']})"
    elif "state" in done:
        outcome = f"{done['state']} (offset: {done['wal_offset']})"
    else:
        outcome = f"deleted (offset: {done.get('wal_offset')})"
    return {
        "index": index,
        "op": operation["op"],
        "target": target,
        "status": result["status"],
        "outcome": outcome,
        "result": result.get("result"),
        "error": result.get("error"),
    }
