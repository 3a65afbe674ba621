"""`watch-instance`, `watch-all`, `unwatch`.

standard output   one compact JSON object an event: type, subscription_id, instance_id, machine, version,
                  wal_offset, from_state, to_state, event, payload (unless null), ctx (unless absent);
                  handed on at once
standard error    what is watched, how to stop, lost and regained connections
"""

import os
import signal
import subprocess
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rstmdb_cli.completing import instance_ids, machine_names, state_names
from rstmdb_cli.context import Invocation
from rstmdb_cli.exit_codes import ExitCode
from rstmdb_cli.failures import Failure
from rstmdb_cli.output import Format, compact
from rstmdb_cli.parsing import silence_stdout
from rstmdb_cli.resume import ResumeFile
from rstmdb_cli.stopping import Stopped, Stopping

if TYPE_CHECKING:
    from rstmdb_client.results import WatchEvent

OFFSET_MAX = 2**53 - 1

_NoCtx = Annotated[bool, typer.Option("--no-ctx", help="Leave the context out of the events")]
_FromOffset = Annotated[
    int | None,
    typer.Option(
        "--from-offset",
        metavar="N",
        min=0,
        max=OFFSET_MAX,
        help="Replay from this offset on; 0 is the oldest kept",
    ),
]
_ResumeFile = Annotated[
    str | None,
    typer.Option("--resume-file", metavar="PATH", help="Go on where the last watch with this file ended"),
]
_Until = Annotated[
    str | None,
    typer.Option(
        "--until",
        metavar="STATE|offset:N",
        help="End after an event into STATE, or after one at offset N or later",
    ),
]
_Include = Annotated[
    str | None,
    typer.Option("--include", metavar="KINDS", help="Also create, delete, put_machine, flush (comma list)"),
]


def watch_instance(
    ctx: typer.Context,
    instance_id: Annotated[str, typer.Argument(metavar="ID", help="Instance", autocompletion=instance_ids)],
    no_ctx: _NoCtx = False,
    from_offset: _FromOffset = None,
    resume_file: _ResumeFile = None,
    until: _Until = None,
    include: _Include = None,
) -> None:
    """Follow the events of one instance.

    With `-- COMMAND` the command is run for each event, which it reads as JSON on its standard input; if it
    fails, the watch ends.
    """
    cli: Invocation = ctx.obj
    stream = Stream(cli, until=until, resume_file=resume_file, command=ctx.meta.get("rstmdb_cli.tail"))
    arguments = stream.start(from_offset) | {"include_ctx": not no_ctx, "include": comma_list(include)}
    with cli.client() as client, client.watch_instance(instance_id, **arguments) as watch:
        header = watch.header
        cli.output.note(
            f"Watching instance {instance_id} (sub_id: {header.subscription_id}, "
            f"state: {header.current_state}, wal_offset: {header.current_wal_offset})"
        )
        if until is not None and header.current_state == until and from_offset is None:
            cli.output.note(f"Already in state {until}")
            return
        stream.follow(watch, subscribed_at=header.current_wal_offset or 0)


def watch_all(
    ctx: typer.Context,
    machines: Annotated[
        str | None,
        typer.Option(
            "--machines", metavar="NAMES", help="Only these (comma list)", autocompletion=machine_names
        ),
    ] = None,
    from_states: Annotated[
        str | None,
        typer.Option("--from-states", metavar="STATES", help="Only out of these", autocompletion=state_names),
    ] = None,
    to_states: Annotated[
        str | None,
        typer.Option("--to-states", metavar="STATES", help="Only into these", autocompletion=state_names),
    ] = None,
    events: Annotated[str | None, typer.Option("--events", metavar="EVENTS", help="Only these")] = None,
    no_ctx: _NoCtx = False,
    from_offset: _FromOffset = None,
    resume_file: _ResumeFile = None,
    until: _Until = None,
    include: _Include = None,
) -> None:
    """Follow all events, or those that every given filter lets through.

    With `-- COMMAND` the command is run for each event, which it reads as JSON on its standard input; if it
    fails, the watch ends.
    """
    cli: Invocation = ctx.obj
    stream = Stream(cli, until=until, resume_file=resume_file, command=ctx.meta.get("rstmdb_cli.tail"))
    arguments = stream.start(from_offset) | {
        "include_ctx": not no_ctx,
        "include": comma_list(include),
        "machines": comma_list(machines),
        "from_states": comma_list(from_states),
        "to_states": comma_list(to_states),
        "events": comma_list(events),
    }
    with cli.client() as client, client.watch_all(**arguments) as watch:
        header = watch.header
        cli.output.note(
            f"Watching all events (sub_id: {header.subscription_id}, wal_offset: {header.wal_offset})"
        )
        stream.follow(watch, subscribed_at=(header.wal_offset or 1) - 1)


def unwatch(
    ctx: typer.Context,
    subscription_id: Annotated[str, typer.Argument(metavar="SUBSCRIPTION", help="As the watch said: sub-…")],
) -> None:
    """End a subscription, also one of another shell. An unknown one is a warning, no error."""
    cli: Invocation = ctx.obj
    with cli.client() as client:
        result: dict[str, Any] = client.call("UNWATCH", {"subscription_id": subscription_id})
    if not cli.output.document(result):
        if result["removed"]:
            cli.output.success(f"Removed subscription {subscription_id}")
        else:
            cli.output.line(cli.output.styled(f"Warning: subscription {subscription_id} not found", "yellow"))


def comma_list(text: str | None) -> list[str] | None:
    """Split a comma list; blanks around names and empty names do not count."""
    if text is None:
        return None
    return [name for name in (part.strip() for part in text.split(",")) if name]


class Stream:
    """Events on their way from a watch to standard output, or to a command.

    Args:
        cli: The invocation.
        until: Where to end, as `--until` says it.
        resume_file: Where to remember how far the output has come.
        command: What to run for each event instead of printing it.

    Raises:
        Failure: An argument is wrong.
    """

    def __init__(
        self, cli: Invocation, *, until: str | None, resume_file: str | None, command: list[str] | None
    ) -> None:
        self.cli = cli
        self.output_fd = cli.output.stdout.fileno()
        if command == []:
            raise Failure("a command is expected after --", code=ExitCode.USAGE)
        self.command = command
        self.until_state: str | None = None
        self.until_offset: int | None = None
        if until is not None and until.startswith("offset:"):
            number = until.removeprefix("offset:")
            if not (number.isascii() and number.isdigit()):
                raise Failure(
                    f"invalid value {until!r} for --until: offset:N wants a number", code=ExitCode.USAGE
                )
            self.until_offset = int(number)
        else:
            self.until_state = until
        self.resume = ResumeFile(resume_file, output_fd=self.output_fd) if resume_file is not None else None
        if self.resume is not None and command is not None:
            self.resume.position_unknown()

    def start(self, from_offset: int | None) -> dict[str, Any]:
        """Return where the subscription begins: the resume file knows better than `--from-offset`."""
        if self.resume is not None and self.resume.done is not None:
            return {"after_offset": self.resume.done}
        if from_offset is None:
            return {}
        return {"from_oldest": True} if from_offset == 0 else {"from_offset": from_offset}

    def follow(self, watch: Any, *, subscribed_at: int) -> None:
        """Hand on every event until the end that was asked for, a signal, or the end of the subscription.

        Args:
            watch: The client's watch: iterating it gives events, and waits for them.
            subscribed_at: The last offset there was when the watch began.
        """
        cli = self.cli
        cli.output.note("Press Ctrl+C to stop...")
        resume = self.resume
        if resume is not None and resume.done is None:
            resume.begin_at(subscribed_at)
        try:
            with Stopping(output_fd=self.output_fd) as stopping:
                for event in watch:
                    stopping.begin_critical()
                    self._hand_on(event)
                    stopping.end_critical()
                    if self._ends_after(event):
                        return
                cli.output.note(f"Subscription {watch.header.subscription_id} was ended by the server")
        except Stopped as stopped:
            if stopped.signal_number == getattr(signal, "SIGPIPE", None):
                silence_stdout()
            else:
                cli.output.note(f"\nStopped watching (sub_id: {watch.header.subscription_id})")
        finally:
            if resume is not None:
                resume.close()

    def _ends_after(self, event: "WatchEvent[Any]") -> bool:
        if self.until_offset is not None and event.wal_offset >= self.until_offset:
            return True
        return self.until_state is not None and event.to_state == self.until_state

    def _hand_on(self, event: "WatchEvent[Any]") -> None:
        fields = event_fields(event)
        resume = self.resume
        if self.command is not None:
            self._run_command(fields)
        else:
            text = self._text(fields)
            data = (text + "\n").encode("utf-8", "surrogatepass")
            if resume is not None:
                resume.before(event.wal_offset, len(data))
            self._write(data)
        if resume is not None:
            resume.after(event.wal_offset)

    def _text(self, fields: dict[str, Any]) -> str:
        chosen = self.cli.output.chosen
        if chosen is Format.TABLE:
            return event_line(fields)
        if chosen is Format.YAML:
            from rstmdb_cli.output import yaml_text

            return f"---\n{yaml_text(fields)}"
        return compact(fields)

    def _write(self, data: bytes) -> None:
        """Write a whole line at once, past Python's buffer: what the resume file says must be true."""
        view = memoryview(data)
        while view:
            view = view[os.write(self.output_fd, view) :]

    def _run_command(self, fields: dict[str, Any]) -> None:
        assert self.command is not None
        environment = {
            **os.environ,
            "RSTMDB_EVENT": str(fields.get("event", "")),
            "RSTMDB_INSTANCE": str(fields.get("instance_id", "")),
            "RSTMDB_OFFSET": str(fields["wal_offset"]),
        }
        try:
            ended = subprocess.run(
                self.command, input=compact(fields).encode() + b"\n", env=environment, check=False
            )
        except OSError as error:
            raise Failure(f"cannot run {self.command[0]}: {error.strerror}", code=ExitCode.USAGE) from None
        if ended.returncode != 0:
            raise Failure(
                f"{self.command[0]} ended with {ended.returncode} "
                f"on the event at offset {fields['wal_offset']}",
                hint="with --resume-file the next watch begins with this event again",
            )


def event_fields(event: "WatchEvent[Any]") -> dict[str, Any]:
    """Return an event as it is printed: the original's fields in the original's order."""
    fields: dict[str, Any] = {"type": "event", "subscription_id": event.subscription_id}
    if event.kind == "apply":
        fields.update(
            instance_id=event.instance_id,
            machine=event.machine,
            version=event.version,
            wal_offset=event.wal_offset,
            from_state=event.from_state,
            to_state=event.to_state,
            event=event.event,
        )
    else:  # what was asked for with --include; such events have only some of the fields
        for name in ("instance_id", "machine", "version", "wal_offset", "from_state", "to_state", "event"):
            value = getattr(event, name)
            if value not in ("", None) and not (name == "version" and value == 0):
                fields[name] = value
        fields["kind"] = event.kind
    if event.payload is not None:
        fields["payload"] = event.payload
    if event.ctx is not None:
        fields["ctx"] = event.ctx
    return fields


def event_line(fields: dict[str, Any]) -> str:
    """Return an event as a line for people."""
    where = fields.get("instance_id", fields.get("machine", ""))
    if "kind" in fields:
        return f"{fields['wal_offset']:>12}  {where}  {fields['kind']}"
    change = f"{fields['from_state']} → {fields['to_state']}"
    return f"{fields['wal_offset']:>12}  {where}  {fields['event']}  {change}"
