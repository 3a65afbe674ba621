"""`describe` and `history`: an instance now, and how it came to be so."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from rstmdb_cli.commands.wal import log_records
from rstmdb_cli.completing import instance_ids
from rstmdb_cli.context import Invocation
from rstmdb_cli.documents import parse_object
from rstmdb_cli.failures import Failure, guard_text
from rstmdb_cli.output import pretty, time_text

if TYPE_CHECKING:
    from rstmdb_cli.connection import Connection


def describe(
    ctx: typer.Context,
    instance_id: Annotated[str, typer.Argument(metavar="ID", help="Instance", autocompletion=instance_ids)],
    event: Annotated[
        str | None,
        typer.Option(
            "--event", "-e", metavar="EVENT", help="Only this event, as apply-event would decide it"
        ),
    ] = None,
    payload: Annotated[
        str | None,
        typer.Option("--payload", "-p", metavar="JSON", help="The payload it would carry; needs --event"),
    ] = None,
) -> None:
    """Show an instance's state and context, which events are allowed now, and why others are refused.

    Nothing is changed.
    """
    cli: Invocation = ctx.obj
    if payload is not None and event is None:
        raise typer.BadParameter("needs --event", param_hint="'--payload'")
    document = None if payload is None else parse_object(payload, name="--payload")
    with cli.client(subject=instance_id) as client:
        instance: dict[str, Any] = client.call("GET_INSTANCE", {"instance_id": instance_id})
        events = explained_events(client, instance_id, instance, event=event, payload=document)
    whole = {"instance_id": instance_id, **instance, "events": events}
    if cli.output.document(whole):
        return
    out = cli.output
    out.line(out.styled(f"Instance {instance_id}", "bold"))
    out.line(f"  Machine: {instance['machine']} v{instance['version']}")
    out.line(f"  State: {out.styled(instance['state'], 'green', 'bold')}")
    out.line(f"  Context: {pretty(instance['ctx'])}")
    out.line(f"  Last WAL offset: {instance['last_wal_offset']}")
    if instance.get("last_event_id"):
        out.line(f"  Last event id: {instance['last_event_id']}")
    if not events:
        out.line("  Events: none, the state is final")
        return
    out.line("  Events:")
    for item in events:
        for line in event_lines(item):
            out.line(f"    {out.styled(line, 'dim') if not item['allowed'] else line}")


def explained_events(
    client: "Connection",
    instance_id: str,
    instance: dict[str, Any],
    *,
    event: str | None = None,
    payload: dict[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Return what each event would do: from EXPLAIN_EVENT, or from the definition where a server lacks it."""
    from rstmdb_client.errors import BadRequest, UnsupportedByServer

    params = {"instance_id": instance_id, "event": event, "payload": payload}
    try:
        found: list[dict[str, Any]] = client.call(
            "EXPLAIN_EVENT", {name: value for name, value in params.items() if value is not None}
        )["events"]
    except UnsupportedByServer:
        pass
    except BadRequest as error:
        if "unknown operation" not in error.message.lower():
            raise
    else:
        return found
    definition = client.call("GET_MACHINE", {"machine": instance["machine"], "version": instance["version"]})[
        "definition"
    ]
    items: dict[str, dict[str, Any]] = {}
    for transition in definition["transitions"]:
        if instance["state"] in transition["from"] and event in (None, transition["event"]):
            item = items.setdefault(
                transition["event"], {"event": transition["event"], "allowed": None, "transitions": []}
            )
            item["transitions"].append({"to": transition["to"], "guard": transition.get("guard")})
            if transition.get("guard") is None and item["allowed"] is None:
                item.update(allowed=True, from_state=instance["state"], to_state=transition["to"])
    return list(items.values())


def event_lines(item: dict[str, Any]) -> list[str]:
    """Return an event of an explanation as lines: what it would do, or why it is refused."""
    name = item["event"]
    if item["allowed"]:
        line = f"✓ {name} → {item['to_state']}"
        passing = next((t for t in item.get("transitions", []) if t.get("passes") and t.get("guard")), None)
        return [line + (f"  ({passing['guard']})" if passing else "")]
    if item["allowed"] is None:
        return [f"? {name}: depends on " + " or ".join(str(t["guard"]) for t in item["transitions"])]
    error = item.get("error", {})
    refused = [t for t in item.get("transitions", []) if not t.get("passes")]
    if error.get("code") == "GUARD_FAILED" and refused:
        return [f"✗ {name} → {t['to']}: {guard_text(t)}" for t in refused]
    return [f"✗ {name}: {error.get('code', 'refused')} - {error.get('message', '')}"]


def history(
    ctx: typer.Context,
    instance_id: Annotated[str, typer.Argument(metavar="ID", help="Instance", autocompletion=instance_ids)],
    limit: Annotated[
        int | None, typer.Option("--limit", "-l", metavar="N", min=1, help="Only the newest N [default: all]")
    ] = None,
    start: Annotated[int, typer.Option("--from", "-f", metavar="OFFSET", min=0, help="Where to begin")] = 0,
) -> None:
    """Show an instance's timeline, as far back as the log is kept. Deleted instances have one too."""
    cli: Invocation = ctx.obj
    with cli.client(subject=instance_id) as client:
        records = (
            record
            for record in log_records(client, start=start, instance_id=instance_id)
            if record["entry"].get("instance_id") == instance_id
        )
        rows = [history_row(record) for record in records]
        if not rows:
            client.call("GET_INSTANCE", {"instance_id": instance_id})  # says that there is no such instance
            raise Failure(
                f"the log holds nothing about {instance_id} from offset {start} on",
                hint="its history is older than what the server keeps (retention.history_mb and _secs)",
            )
    if limit is not None:
        rows = rows[-limit:]
    cli.output.rows(rows, ["offset", "time", "what", "change", "payload"], empty="No history")


def history_row(record: dict[str, Any]) -> dict[str, Any]:
    """Return a log record as a row of a timeline."""
    entry = record["entry"]
    row: dict[str, Any] = {"offset": record["offset"], "time": time_text(entry.get("timestamp"))}
    match entry.get("type"):
        case "create_instance":
            row["what"] = "created"
            row["change"] = f"{entry.get('machine')} v{entry.get('version')} → {entry.get('initial_state')}"
            document = entry.get("initial_ctx")
        case "import_instance":
            row["what"] = "imported"
            row["change"] = f"{entry.get('machine')} v{entry.get('version')} → {entry.get('state')}"
            document = entry.get("ctx")
        case "apply_event":
            row["what"] = entry.get("event")
            row["change"] = f"{entry.get('from_state')} → {entry.get('to_state')}"
            document = entry.get("payload")
        case kind:
            row["what"] = str(kind).removesuffix("_instance")
            row["change"] = ""
            document = None
    row["payload"] = document or None
    return row | {"entry": entry}
