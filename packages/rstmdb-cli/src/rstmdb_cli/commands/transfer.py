"""`export` and `import`: machines and instances as JSON lines.

    {"kind":"export","format":1,"id":"...","server":"127.0.0.1:7401","time_ms":...}
    {"kind":"machine","machine":"order","version":1,"definition":{...}}
    {"kind":"instance","id":"o-1","machine":"order","version":1,"state":"paid","ctx":{...}}
    {"kind":"mark","cursor":"..."}                         where a broken export goes on; import skips it
    {"kind":"end","machines":1,"instances":1}              the last line of a whole export

With `--history` instances that the log still knows from their beginning come as what happened to them, in
order:

    {"kind":"create","id":...,"machine":...,"version":...,"ctx":{...}}
    {"kind":"apply","id":...,"event":...,"payload":{...}}
    {"kind":"delete","id":...}

Import can be repeated at any time: what is there already and is the same is skipped, what differs is
reported.
"""

import os
import sys
import time
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from rstmdb_cli.commands.instances import PAGE, given, pages
from rstmdb_cli.commands.wal import log_records
from rstmdb_cli.completing import machine_names
from rstmdb_cli.context import Invocation
from rstmdb_cli.documents import parse_json
from rstmdb_cli.exit_codes import ExitCode
from rstmdb_cli.failures import Failure
from rstmdb_cli.output import compact
from rstmdb_cli.progress import Progress

if TYPE_CHECKING:
    from rstmdb_cli.connection import Connection

FORMAT = 1


def export(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="[FILE]", help="Where to; - is standard output")] = "-",
    machine: Annotated[
        str | None,
        typer.Option("--machine", "-m", metavar="NAME", help="Only this one", autocompletion=machine_names),
    ] = None,
    history: Annotated[bool, typer.Option("--history", help="What happened, not only what is")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a FILE that was not finished")] = False,
) -> None:
    """Write machines and instances as JSON lines, with a progress bar.

    Instances that change meanwhile are written as they are when they are read.
    """
    cli: Invocation = ctx.obj
    cursor: str | None = None
    counts = {"machines": 0, "instances": 0}
    begun = False
    if resume:
        if file == "-" or history:
            raise Failure("--resume needs a FILE, and does not go with --history", code=ExitCode.USAGE)
        cursor, counts, begun = _unfinished(file)
    try:
        target = sys.stdout if file == "-" else open(file, "a" if begun else "w", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise Failure(f"cannot write {file}: {error.strerror}") from None
    try:
        with cli.client() as client, Progress(cli.output, "exported") as progress:
            if not begun:
                head = {
                    "kind": "export",
                    "format": FORMAT,
                    "id": uuid.uuid4().hex,
                    "server": cli.settings.place,
                }
                _write(target, head | {"time_ms": time.time_ns() // 1_000_000})
            if cursor is None:
                counts["machines"] = _export_machines(client, target, machine)
            told: set[str] = set()
            if history:
                for line in _histories(client, machine, told):
                    _write(target, line)
                    progress.advance()
            params = given(machine=machine, limit=PAGE, cursor=cursor)
            for page in pages(client, params):
                progress.total = page["total"]
                for row in page["instances"]:
                    counts["instances"] += _export_instance(client, target, row, told)
                    progress.at(counts["instances"])
                if page.get("next_cursor"):
                    _write(target, {"kind": "mark", "cursor": page["next_cursor"], **counts})
                    target.flush()
            _write(target, {"kind": "end", **counts})
            target.flush()
    finally:
        if target is not sys.stdout:
            target.close()
    cli.output.note(f"{counts['machines']} machine versions, {counts['instances']} instances")


def _write(target: TextIO, line: dict[str, Any]) -> None:
    target.write(compact(line) + "\n")


def _export_machines(client: "Connection", target: TextIO, machine: str | None) -> int:
    count = 0
    for item in client.call("LIST_MACHINES", {})["items"]:
        if machine not in (None, item["machine"]):
            continue
        for version in item["versions"]:
            definition = client.call("GET_MACHINE", {"machine": item["machine"], "version": version})[
                "definition"
            ]
            line = {
                "kind": "machine",
                "machine": item["machine"],
                "version": version,
                "definition": definition,
            }
            _write(target, line)
            count += 1
    if machine is not None and not count:
        raise Failure(f"no machine {machine!r} on this server", code=ExitCode.NOT_FOUND)
    return count


def _export_instance(client: "Connection", target: TextIO, row: dict[str, Any], told: set[str]) -> int:
    from rstmdb_client.errors import InstanceNotFound

    if row["id"] in told:
        return 1
    try:
        found = client.call("GET_INSTANCE", {"instance_id": row["id"]})
    except InstanceNotFound:
        return 0  # deleted since it was listed
    _write(
        target,
        {
            "kind": "instance",
            "id": row["id"],
            "machine": found["machine"],
            "version": found["version"],
            "state": found["state"],
            "ctx": found["ctx"],
        },
    )
    return 1


def _histories(client: "Connection", machine: str | None, told: set[str]) -> Iterator[dict[str, Any]]:
    """Yield what the log says since everything was last flushed, of instances whose creation it still has."""
    start = 0
    for record in log_records(client):
        if record["entry"].get("type") == "flush_all":
            start = record["offset"]
    for record in log_records(client, start=start):
        entry = record["entry"]
        name = entry.get("instance_id")
        match entry.get("type"):
            case "create_instance" if machine in (None, entry.get("machine")):
                told.add(name)
                yield {
                    "kind": "create",
                    "id": name,
                    "machine": entry["machine"],
                    "version": entry["version"],
                    "ctx": entry.get("initial_ctx") or {},
                }
            case "apply_event" if name in told:
                yield given(kind="apply", id=name, event=entry["event"], payload=entry.get("payload"))
            case "delete_instance" if name in told:
                told.discard(name)
                yield {"kind": "delete", "id": name}


def _unfinished(path: str) -> tuple[str | None, dict[str, int], bool]:
    """Cut a broken export off behind its last mark; return where to go on, and what is there.

    Raises:
        Failure: It cannot be read, or it is whole.
    """
    cursor: str | None = None
    counts = {"machines": 0, "instances": 0}
    keep = position = 0
    try:
        with open(path, "rb+") as file:
            for line in file:
                position += len(line)
                if not line.endswith(b"\n"):
                    break
                document = parse_json(line.decode(), name=path)
                if document.get("kind") == "end":
                    raise Failure(
                        f"{path} is a whole export; there is nothing to resume", code=ExitCode.USAGE
                    )
                if document.get("kind") == "mark":
                    keep, cursor = position, document["cursor"]
                    counts = {"machines": document["machines"], "instances": document["instances"]}
            file.truncate(keep)
    except FileNotFoundError:
        return None, counts, False
    except OSError as error:
        raise Failure(f"cannot use {path}: {error.strerror}") from None
    return cursor, counts, cursor is not None


def import_(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="What export wrote; - is standard input")],
    resume_file: Annotated[
        str | None,
        typer.Option(
            "--resume-file", metavar="PATH", help="Remember the last line that is done, and go on after it"
        ),
    ] = None,
) -> None:
    """Read what export wrote into a server.

    It can be repeated: what is there already and is the same is skipped.

    An instance that is not in its machine's initial state is created and led there by events that its
    guards let through, all in one atomic batch; where no such way exists, it is reported and not created.
    An export with --history is replayed event by event.
    """
    from rstmdb_cli.importing import Importer

    cli: Invocation = ctx.obj
    done = _lines_done(resume_file)
    try:
        source = sys.stdin if file == "-" else open(file, encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise Failure(f"cannot read {file}: {error.strerror}") from None
    size = None if file == "-" else os.path.getsize(file)
    whole = False
    with source, cli.client() as client, Progress(cli.output, "lines", total=None) as progress:
        importer = Importer(client)
        position = 0
        for number, text in enumerate(source, start=1):
            position += len(text.encode())
            if not text.strip():
                continue
            line = parse_json(text, name=file, line_offset=number - 1)
            kind = line.get("kind") if isinstance(line, dict) else None
            whole = kind == "end"
            if kind == "export" and line.get("format") != FORMAT:
                raise Failure(f"{file} has format {line.get('format')}, this program reads {FORMAT}")
            if number > done or kind in ("export", "machine"):
                importer.take(line, number=number)
                if resume_file is not None and importer.done_line > done:
                    done = importer.done_line
                    _remember(resume_file, done)
            progress.at(number, share=position / size if size else None)
        importer.flush()
        if resume_file is not None:
            _remember(resume_file, importer.done_line)
    for problem in importer.problems:
        cli.output.note(f"line {problem.line}: {problem.text}")
    summary = importer.counts
    if not cli.output.document(dict(summary) | {"failed": len(importer.problems), "whole": whole}):
        cli.output.line(
            f"Imported {summary['machines']} machine versions, {summary['instances']} instances, "
            f"{summary['events']} events; {summary['skipped']} were there already, "
            f"{len(importer.problems)} failed"
        )
    if not whole:
        cli.output.note("Warning: the file has no last line; the export was not finished")
    if importer.problems:
        cli.output.stdout.flush()
        raise typer.Exit(ExitCode.REFUSED.reported(detailed=cli.detailed_exit_codes))


def _lines_done(path: str | None) -> int:
    if path is None:
        return 0
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except FileNotFoundError:
        return 0
    except (OSError, ValueError):
        raise Failure(f"{path} is not the resume file of an import", code=ExitCode.USAGE) from None


def _remember(path: str, done: int) -> None:
    temporary = f"{path}.new"
    with open(temporary, "w", encoding="ascii") as file:
        file.write(f"{done}\n")
    os.replace(temporary, path)
