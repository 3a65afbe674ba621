"""What is done with instances: create, get, list, apply an event, delete, snapshot."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rstmdb_cli.completing import event_names, instance_ids, machine_names, state_names
from rstmdb_cli.context import Invocation
from rstmdb_cli.documents import parse_object
from rstmdb_cli.output import Format, human_bytes, pretty, time_text

if TYPE_CHECKING:
    from rstmdb_cli.connection import Connection

U32_MAX = 4_294_967_295
OFFSET_MAX = 2**53 - 1
PAGE = 1000
"""The largest page a server gives; `--all` reads by it."""

_KEY_HELP = "Makes repeating the same request harmless: the first answer comes back"


def create_instance(
    ctx: typer.Context,
    machine: Annotated[
        str, typer.Option("--machine", "-m", metavar="NAME", help="Machine", autocompletion=machine_names)
    ],
    version: Annotated[
        int,
        typer.Option(
            "--version", "-V", "--machine-version", metavar="N", min=0, max=U32_MAX, help="Its version"
        ),
    ],
    instance_id: Annotated[
        str | None,
        typer.Option("--id", "-i", metavar="ID", help="Instance id [default: the server makes one]"),
    ] = None,
    context: Annotated[
        str | None, typer.Option("--ctx", "-c", metavar="JSON", help="Initial context: JSON, @FILE or @-")
    ] = None,
    idempotency_key: Annotated[
        str | None, typer.Option("--idempotency-key", metavar="KEY", help=_KEY_HELP)
    ] = None,
) -> None:
    """Create an instance of a machine, in its initial state."""
    cli: Invocation = ctx.obj
    params = given(
        instance_id=instance_id,
        machine=machine,
        version=version,
        initial_ctx=None if context is None else parse_object(context, name="--ctx"),
        idempotency_key=idempotency_key,
    )
    with cli.client() as client:
        result: dict[str, Any] = client.call("CREATE_INSTANCE", params)
    if not cli.output.document(result):
        cli.output.success(
            f"Created instance {result['instance_id']}",
            f"  Machine: {machine} v{version}",
            f"  State: {result['state']}",
            f"  WAL offset: {result['wal_offset']}",
        )


def get_instance(
    ctx: typer.Context,
    instance_id: Annotated[str, typer.Argument(metavar="ID", help="Instance", autocompletion=instance_ids)],
) -> None:
    """Show an instance: machine, state, context."""
    cli: Invocation = ctx.obj
    with cli.client() as client:
        result: dict[str, Any] = client.call("GET_INSTANCE", {"instance_id": instance_id})
    if cli.output.chosen is Format.RAW:
        cli.output.document(result)
    elif not cli.output.document({"instance_id": instance_id, **result}):
        cli.output.line(cli.output.styled(f"Instance {instance_id}", "bold"))
        cli.output.line(f"  Machine: {result['machine']} v{result['version']}")
        cli.output.line(f"  State: {result['state']}")
        cli.output.line(f"  Context: {pretty(result['ctx'])}")
        cli.output.line(f"  Last WAL offset: {result['last_wal_offset']}")


def list_instances(
    ctx: typer.Context,
    machine: Annotated[
        str | None,
        typer.Option(
            "--machine", "-m", metavar="NAME", help="Only this machine", autocompletion=machine_names
        ),
    ] = None,
    state: Annotated[
        str | None,
        typer.Option("--state", metavar="STATE", help="Only in this state", autocompletion=state_names),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-l", metavar="N", min=0, max=U32_MAX, help="At most N")
    ] = 100,
    offset: Annotated[
        int | None, typer.Option("--offset", metavar="N", min=0, max=U32_MAX, help="Skip N (slow far inside)")
    ] = None,
    cursor: Annotated[
        str | None, typer.Option("--cursor", metavar="CURSOR", help="Go on where a page ended, as it said")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every page, not only the first")] = False,
) -> None:
    """List instances in the order of their creation.

    On a terminal a table; in a pipe one JSON object a line.
    """
    cli: Invocation = ctx.obj
    params = given(
        machine=machine, state=state, limit=PAGE if everything else limit, offset=offset, cursor=cursor
    )
    columns = ["id", "machine", "version", "state", "last_wal_offset", "updated"]
    with cli.client() as client:
        if everything:
            rows = (row for page in pages(client, params) for row in page["instances"])
            cli.output.rows(map(_shown, rows) if _table(cli) else rows, columns, empty="No instances")
            return
        page: dict[str, Any] = client.call("LIST_INSTANCES", params)
    listed = [_shown(row) for row in page["instances"]] if _table(cli) else page["instances"]
    cli.output.rows(listed, columns, raw=page, empty="No instances")
    if page["has_more"]:
        following = f"--cursor {page['next_cursor']}" if page.get("next_cursor") else "--offset"
        cli.output.note(
            f"{len(page['instances'])} of {page['total']} instances; go on with {following}, or --all"
        )


def apply_event(
    ctx: typer.Context,
    instance: Annotated[
        str, typer.Option("--instance", "-i", metavar="ID", help="Instance", autocompletion=instance_ids)
    ],
    event: Annotated[
        str, typer.Option("--event", "-e", metavar="EVENT", help="Event", autocompletion=event_names)
    ],
    payload: Annotated[
        str | None,
        typer.Option("--payload", "-p", metavar="JSON", help="Merged into the context: JSON, @FILE or @-"),
    ] = None,
    expected_state: Annotated[
        str | None,
        typer.Option("--expected-state", metavar="STATE", help="Refuse unless the instance is in it"),
    ] = None,
    expected_wal_offset: Annotated[
        int | None,
        typer.Option(
            "--expected-wal-offset", metavar="N", min=0, max=OFFSET_MAX, help="Refuse if it has changed since"
        ),
    ] = None,
    event_id: Annotated[
        str | None, typer.Option("--event-id", metavar="ID", help="An id of your own, kept with the instance")
    ] = None,
    idempotency_key: Annotated[
        str | None, typer.Option("--idempotency-key", metavar="KEY", help=_KEY_HELP)
    ] = None,
) -> None:
    """Apply an event to an instance."""
    cli: Invocation = ctx.obj
    params = given(
        instance_id=instance,
        event=event,
        payload=None if payload is None else parse_object(payload, name="--payload"),
        expected_state=expected_state,
        expected_wal_offset=expected_wal_offset,
        event_id=event_id,
        idempotency_key=idempotency_key,
    )
    with cli.client(subject=instance) as client:
        result: dict[str, Any] = client.call("APPLY_EVENT", params)
    if not cli.output.document(result):
        cli.output.success(
            f"Applied event {event} on {instance}",
            f"  {result['from_state']} → {result['to_state']}",
            f"  WAL offset: {result['wal_offset']}",
        )
    if not result["applied"]:
        cli.output.note("Note: applied before under this idempotency key; nothing changed now")


def delete_instance(
    ctx: typer.Context,
    instance_id: Annotated[str, typer.Argument(metavar="ID", help="Instance", autocompletion=instance_ids)],
    idempotency_key: Annotated[
        str | None, typer.Option("--idempotency-key", metavar="KEY", help=_KEY_HELP)
    ] = None,
) -> None:
    """Delete an instance. Deleting it twice is no error."""
    cli: Invocation = ctx.obj
    with cli.client() as client:
        result: dict[str, Any] = client.call(
            "DELETE_INSTANCE", given(instance_id=instance_id, idempotency_key=idempotency_key)
        )
    if not cli.output.document(result):
        cli.output.success(f"Deleted instance {result['instance_id']}")


def snapshot_instance(
    ctx: typer.Context,
    instance_id: Annotated[str, typer.Argument(metavar="ID", help="Instance", autocompletion=instance_ids)],
) -> None:
    """Write a snapshot of an instance.

    The server snapshots its whole state by itself; recovery does not need this.
    """
    cli: Invocation = ctx.obj
    with cli.client() as client:
        result: dict[str, Any] = client.call("SNAPSHOT_INSTANCE", {"instance_id": instance_id})
    if cli.output.document(result):
        return
    cli.output.success(f"Snapshot {result['snapshot_id']} of instance {result['instance_id']}")
    cli.output.line(f"  WAL offset: {result['wal_offset']}")
    if result.get("size_bytes") is not None:
        cli.output.line(f"  Size: {human_bytes(result['size_bytes'])}")
    if result.get("checksum") is not None:
        cli.output.line(f"  Checksum: {result['checksum']}")


def given(**params: Any) -> dict[str, Any]:
    """Return the parameters that have a value: the original leaves the others out too."""
    return {name: value for name, value in params.items() if value is not None}


def pages(client: "Connection", params: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Read LIST_INSTANCES page by page: by cursor, or by offset from a server without cursors."""
    asked = dict(params)
    while True:
        page: dict[str, Any] = client.call("LIST_INSTANCES", asked)
        yield page
        if not page["has_more"] or not page["instances"]:
            return
        if page.get("next_cursor"):
            asked.pop("offset", None)
            asked["cursor"] = page["next_cursor"]
        else:
            asked["offset"] = asked.get("offset", 0) + len(page["instances"])


def _table(cli: Invocation) -> bool:
    return cli.output.chosen is Format.TABLE or (cli.output.chosen is None and cli.output.terminal)


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "updated": time_text(row.get("updated_at"))}
