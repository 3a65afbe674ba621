"""`wal-read`, `wal-stats`, `compact`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rstmdb_cli.commands.instances import given
from rstmdb_cli.completing import instance_ids
from rstmdb_cli.context import Invocation
from rstmdb_cli.output import Output, human_bytes

if TYPE_CHECKING:
    from rstmdb_cli.connection import Connection

U64_MAX = 2**64 - 1
_INDENT = " " * 9


def wal_read(
    ctx: typer.Context,
    start: Annotated[
        int, typer.Option("--from", "-f", metavar="OFFSET", min=0, max=U64_MAX, help="Where to begin")
    ] = 0,
    limit: Annotated[
        int | None, typer.Option("--limit", "-l", metavar="N", min=0, help="At most N records")
    ] = None,
    instance: Annotated[
        str | None,
        typer.Option(
            "--instance", metavar="ID", help="Only this instance's records", autocompletion=instance_ids
        ),
    ] = None,
) -> None:
    """Read the log: what happened, in order."""
    cli: Invocation = ctx.obj
    with cli.client() as client:
        page: dict[str, Any] = client.call(
            "WAL_READ", given(from_offset=start, limit=limit, instance_id=instance)
        )
    records = page["records"]
    columns = [
        "sequence",
        "offset",
        "type",
        "instance_id",
        "machine",
        "version",
        "event",
        "from_state",
        "to_state",
    ]
    if cli.output.rows(map(_flat, records), columns, raw=page, own_lines=True, empty="No WAL entries"):
        return
    if not records:
        cli.output.line("No WAL entries")
        return
    for record in records:
        for line in record_lines(record):
            cli.output.line(line)
    if isinstance(page.get("next_offset"), int):
        cli.output.line(f"\nNext offset: {page['next_offset']}")


def record_lines(record: dict[str, Any]) -> Iterator[str]:
    """Yield a record's lines, as the original prints them."""
    entry = record["entry"]
    yield f"[{record['sequence']:>6}] {record['offset']:>12} | {entry.get('type')}"
    match entry.get("type"):
        case "create_instance" | "import_instance":
            yield (
                f"{_INDENT}Instance: {entry.get('instance_id')}, "
                f"Machine: {entry.get('machine')} v{entry.get('version')}"
            )
        case "apply_event":
            yield (
                f"{_INDENT}Instance: {entry.get('instance_id')}, Event: {entry.get('event')}, "
                f"{entry.get('from_state')} → {entry.get('to_state')}"
            )


def wal_stats(ctx: typer.Context) -> None:
    """Show the log's figures: entries, segments, size, and what was read and written since the start."""
    cli: Invocation = ctx.obj
    with cli.client() as client:
        result: dict[str, Any] = client.call("WAL_STATS", {})
    if not cli.output.document(result):
        show_wal_stats(cli.output, result)


def show_wal_stats(output: Output, result: dict[str, Any]) -> None:
    """Print the two blocks of the log's figures."""
    io = result["io_stats"]
    output.line(output.styled("WAL Statistics", "bold"))
    output.line(f"  Entries: {result['entry_count']}")
    output.line(f"  Segments: {result['segment_count']}")
    output.line(f"  Size: {human_bytes(result['total_size_bytes'])}")
    output.line(f"  Latest offset: {result['latest_offset']}")
    output.line(output.styled("I/O Statistics", "bold"))
    output.line(f"  Bytes written: {human_bytes(io['bytes_written'])}")
    output.line(f"  Bytes read: {human_bytes(io['bytes_read'])}")
    output.line(f"  Writes: {io['writes']}")
    output.line(f"  Reads: {io['reads']}")
    output.line(f"  Fsyncs: {io['fsyncs']}")


def compact(
    ctx: typer.Context,
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Write a snapshot even if little has changed since the last")
    ] = False,
) -> None:
    """Write a snapshot and drop log that neither recovery nor the promised history needs."""
    cli: Invocation = ctx.obj
    with cli.client() as client:
        result: dict[str, Any] = client.call("COMPACT", {"force_snapshot": force})
    if not cli.output.document(result):
        cli.output.success(
            "Compaction complete",
            f"  Snapshots created: {result['snapshots_created']}",
            f"  WAL segments deleted: {result['segments_deleted']}",
            f"  Bytes reclaimed: {human_bytes(result['bytes_reclaimed'])}",
            "  ---",
            f"  Total snapshots: {result['total_snapshots']}",
            f"  WAL segments remaining: {result['wal_segments']}",
        )


def log_records(
    client: "Connection", *, start: int = 0, instance_id: str | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the log's records from an offset to its end, page by page."""
    while True:
        params = given(from_offset=start, limit=1000, instance_id=instance_id)
        page: dict[str, Any] = client.call("WAL_READ", params)
        yield from page["records"]
        following = page.get("next_offset")
        if not page["records"] or not isinstance(following, int) or following <= start:
            return
        start = following


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    return {"sequence": record["sequence"], "offset": record["offset"], **record["entry"]}
