"""The command `rstmdb-cli`: its global options, the table of its commands, and `main`.

Nothing heavy is imported here: typer, and nothing else that costs. See `parsing` for how commands are found
and failures end, `context` for settings, `commands/` for the commands.
"""

import gc
import os
import sys
from contextlib import suppress
from typing import Annotated, NoReturn

import typer

from rstmdb_cli.context import Invocation
from rstmdb_cli.output import Format
from rstmdb_cli.parsing import LazyGroup, Listed, convert_quickly, ended_well, take_global_options

# A one-shot command is over before there is garbage worth a collection; what runs longer turns it on again.
gc.disable()

_MACHINES = "Machines"
_INSTANCES = "Instances"
_WATCH = "Events"
_LOG = "Log and server"
_AUTHOR = "See and author"
_MOVE = "Measure and move"
_SHELL = "This tool"

COMMANDS: dict[str, Listed] = {
    "put-machine": Listed(_MACHINES, "Register a machine definition", "machines:put_machine"),
    "get-machine": Listed(_MACHINES, "Show a machine definition", "machines:get_machine"),
    "list-machines": Listed(_MACHINES, "List the machines", "machines:list_machines"),
    "create-instance": Listed(_INSTANCES, "Create an instance of a machine", "instances:create_instance"),
    "get-instance": Listed(_INSTANCES, "Show an instance", "instances:get_instance"),
    "list-instances": Listed(
        _INSTANCES, "List instances, by machine and state", "instances:list_instances", lasting=True
    ),
    "apply-event": Listed(_INSTANCES, "Apply an event to an instance", "instances:apply_event"),
    "delete-instance": Listed(_INSTANCES, "Delete an instance", "instances:delete_instance"),
    "snapshot-instance": Listed(_INSTANCES, "Write a snapshot of an instance", "instances:snapshot_instance"),
    "batch": Listed(_INSTANCES, "Run operations from a JSON or JSON-lines file", "batch:batch", lasting=True),
    "describe": Listed(
        _INSTANCES, "State, context, allowed events, and why others are refused", "describe:describe"
    ),
    "history": Listed(_INSTANCES, "An instance's timeline, from the log", "describe:history", lasting=True),
    "watch-instance": Listed(
        _WATCH, "Follow the events of one instance", "watch:watch_instance", True, lasting=True
    ),
    "watch-all": Listed(_WATCH, "Follow all events, or some", "watch:watch_all", True, lasting=True),
    "unwatch": Listed(_WATCH, "End a subscription, also one of another shell", "watch:unwatch"),
    "ping": Listed(_LOG, "Check that the server answers", "server:ping"),
    "info": Listed(_LOG, "Show what the server is and can do", "server:info"),
    "wal-read": Listed(_LOG, "Read the log", "wal:wal_read"),
    "wal-stats": Listed(_LOG, "Show the log's figures", "wal:wal_stats"),
    "compact": Listed(_LOG, "Write a snapshot and drop log that nobody needs", "wal:compact"),
    "flush-all": Listed(_LOG, "Remove all machines and instances", "server:flush_all"),
    "backup": Listed(_LOG, "How to back a server up", "server:backup"),
    "replication-status": Listed(
        _LOG, "Show the replication (this server has none)", "server:replication_status"
    ),
    "hash-token": Listed(_LOG, "Hash a token for the server's configuration", "server:hash_token"),
    "graph": Listed(_AUTHOR, "Draw a machine: text, Mermaid, DOT or SVG", "graph:graph"),
    "lint": Listed(_AUTHOR, "Check a definition file, offline", "author:lint"),
    "simulate": Listed(_AUTHOR, "Walk through a definition, offline", "author:simulate", lasting=True),
    "top": Listed(_MOVE, "Live screen: rates, latencies, states, watch lag", "top:top", lasting=True),
    "bench": Listed(_MOVE, "Measure a server: throughput and latencies", "bench:bench", lasting=True),
    "export": Listed(_MOVE, "Write machines and instances as JSON lines", "transfer:export", lasting=True),
    "import": Listed(_MOVE, "Read what export wrote into a server", "transfer:import_", lasting=True),
    "repl": Listed(_SHELL, "The interactive prompt (also without any command)", "repl:repl", lasting=True),
    "profile": Listed(_SHELL, "List, show and change profiles", "profile:profile"),
    "completion": Listed(_SHELL, "Print the completion script of a shell", "completion:completion"),
}

_EPILOG = (
    "Environment: RSTMDB_SERVER, RSTMDB_URL, RSTMDB_TOKEN, RSTMDB_TOKEN_FILE, RSTMDB_TLS (true or false), "
    "RSTMDB_CA_CERT, RSTMDB_CLIENT_CERT, RSTMDB_CLIENT_KEY, RSTMDB_INSECURE, RSTMDB_SERVER_NAME, "
    "RSTMDB_TIMEOUT, RSTMDB_PROFILE, RSTMDB_CLI_CONFIG, RSTMDB_EXIT_CODES, NO_COLOR. Options may stand "
    "before or after the command."
)


class _Group(LazyGroup):
    table = COMMANDS


def _options(
    ctx: typer.Context,
    global_server: Annotated[
        str | None,
        typer.Option("--server", "-s", metavar="HOST:PORT", help="Server [default: 127.0.0.1:7401]"),
    ] = None,
    global_url: Annotated[
        str | None,
        typer.Option("--url", metavar="URL", help="Server as rstmdb://HOST:PORT, or rstmdbs:// for TLS"),
    ] = None,
    global_profile: Annotated[
        str | None, typer.Option("--profile", metavar="NAME", help="Profile of the configuration file")
    ] = None,
    global_token: Annotated[
        str | None,
        typer.Option("--token", "-t", metavar="TOKEN", help="Token (visible in ps: prefer a file)"),
    ] = None,
    global_token_file: Annotated[
        str | None,
        typer.Option("--token-file", metavar="PATH", help="File that holds the token; - is standard input"),
    ] = None,
    global_tls: Annotated[bool, typer.Option("--tls", help="Use TLS")] = False,
    global_ca_cert: Annotated[
        str | None,
        typer.Option("--ca-cert", metavar="PATH", help="CA certificates to trust instead of the system's"),
    ] = None,
    global_client_cert: Annotated[
        str | None,
        typer.Option("--client-cert", metavar="PATH", help="Client certificate, with --client-key"),
    ] = None,
    global_client_key: Annotated[
        str | None, typer.Option("--client-key", metavar="PATH", help="Key of the client certificate")
    ] = None,
    global_insecure: Annotated[
        bool, typer.Option("--insecure", "-k", help="Do not verify the server's certificate")
    ] = False,
    global_server_name: Annotated[
        str | None,
        typer.Option("--server-name", metavar="NAME", help="Name to expect in the server's certificate"),
    ] = None,
    global_timeout: Annotated[
        float | None,
        typer.Option("--timeout", metavar="SECONDS", min=0.001, help="Limit of one request [default: 30]"),
    ] = None,
    global_output: Annotated[Format | None, typer.Option("--output", "-o", help="Form of the data")] = None,
    global_json: Annotated[bool, typer.Option("--json", help="The same as --output json")] = False,
    global_exit_codes: Annotated[
        str | None,
        typer.Option("--exit-codes", metavar="simple|detailed", help="detailed tells failures apart"),
    ] = None,
    global_verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Say on standard error what is done")
    ] = False,
    global_version: Annotated[
        bool, typer.Option("--version", "-V", help="Show the version, and the server's if it answers")
    ] = False,
) -> None:
    """Command line of rstmdb, the state machine database. Without a command: an interactive prompt."""
    with ended_well(None):
        given = take_global_options(ctx)
        if given.get("exit_codes") not in (None, "simple", "detailed"):
            raise typer.BadParameter("must be simple or detailed", param_hint="'--exit-codes'")
        ctx.obj = Invocation(flags=given)
    with ended_well(ctx.obj):
        if given.get("version"):
            from rstmdb_cli.commands.server import show_version

            show_version(ctx.obj)
            raise typer.Exit
        if ctx.invoked_subcommand is None:
            from rstmdb_cli.commands.repl import start

            start(ctx.obj)


def build() -> typer.core.TyperGroup:
    """Return the command line as one group, ready to be run."""
    app = typer.Typer(
        name="rstmdb-cli",
        cls=_Group,
        invoke_without_command=True,
        no_args_is_help=False,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
        epilog=_EPILOG,
        subcommand_metavar="COMMAND [ARGUMENTS]",
    )
    app.callback()(_options)
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    convert_quickly(group, _options)
    return group


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run `rstmdb-cli` and end the process with its exit code.

    Args:
        arguments: What follows the program's name; None takes the process's own.
    """
    for stream in (sys.stdout, sys.stderr):
        # Arrows and names are UTF-8 whatever the locale says, as they are from the original.
        if stream.encoding.lower() not in ("utf-8", "utf8"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
    if "_RSTMDB_CLI_COMPLETE" in os.environ:
        from typer.completion import completion_init  # type: ignore[attr-defined]

        completion_init()
    try:
        build().main(args=arguments, prog_name="rstmdb-cli")
    except SystemExit as ending:
        leave(ending.code)
    raise AssertionError("unreachable: main() of a group ends with an exit")


def leave(code: str | int | None) -> NoReturn:
    """End the process at once: all is closed, and taking the interpreter apart costs a tenth of a command."""
    status = code if isinstance(code, int) else 0 if code is None else 1
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            pass  # its reader has gone, which is no failure of ours
        except OSError as error:
            status = status or 1
            with suppress(OSError):
                sys.stderr.write(f"Error: cannot write: {error.strerror}\n")
                sys.stderr.flush()
    os._exit(status)
