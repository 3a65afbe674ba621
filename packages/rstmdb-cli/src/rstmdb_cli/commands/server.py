"""`ping`, `info`, `hash-token`, `flush-all`, and the answers to `backup` and `replication-status`."""

from typing import Annotated, Any

import typer

from rstmdb_cli import __version__
from rstmdb_cli.context import Invocation
from rstmdb_cli.exit_codes import ExitCode
from rstmdb_cli.failures import Failure

VERSION_TIMEOUT_S = 2.0
"""How long `--version` waits for a server: it must not hang where there is none."""


def ping(ctx: typer.Context) -> None:
    """Check that the server answers. Prints PONG."""
    cli: Invocation = ctx.obj
    with cli.client() as client:
        seconds = client.ping()
    if cli.verbose:
        cli.output.note(f"{seconds * 1000:.3f} ms")
    if not cli.output.document({"pong": True}):
        cli.output.success("PONG")


def info(ctx: typer.Context) -> None:
    """Show what the server is and can do, as JSON."""
    from rstmdb_cli.output import pretty

    cli: Invocation = ctx.obj
    with cli.client() as client:
        result = client.call("INFO", {})
    if not cli.output.document(result):
        cli.output.line(pretty(result))


def hash_token(
    ctx: typer.Context,
    token: Annotated[str, typer.Argument(help="The token; - reads it from standard input")],
) -> None:
    """Print the SHA-256 of a token, for the server's auth.token_hashes. Needs no server."""
    import hashlib

    cli: Invocation = ctx.obj
    if token == "-":
        from rstmdb_cli.documents import read_file

        token = read_file("-").strip("\r\n")
    digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
    if not cli.output.document({"sha256": digest}):
        cli.output.line(digest)


def flush_all(
    ctx: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask")] = False,
) -> None:
    """Remove all machines and instances of a server that allows it (storage.allow_flush_all).

    On a terminal it asks first; a script is not asked.
    """
    cli: Invocation = ctx.obj
    cli.confirm(f"Remove ALL machines and instances of {cli.settings.place}?", assume_yes=yes)
    try:
        with cli.client() as client:
            result = client.call("FLUSH_ALL", {})
    except Failure as failure:
        if "BAD_REQUEST" in failure.message and failure.hint is None:
            failure.hint = "the server must allow it: storage.allow_flush_all, or RSTMDB_ALLOW_FLUSH_ALL=true"
        raise
    if not cli.output.document(result):
        cli.output.success(
            "Flushed all data",
            f"  Instances removed: {result['instances_removed']}",
            f"  Machines removed: {result['machines_removed']}",
        )


def backup(
    ctx: typer.Context,
    output: Annotated[str, typer.Option("--output", "-o", metavar="PATH", help="Accepted, not used")] = "-",
    compression: Annotated[
        str, typer.Option("--compression", metavar="gzip|none", help="Accepted, not used")
    ] = "gzip",
) -> None:
    """Say how a server is backed up: with the server's own command, on its machine."""
    raise Failure(
        "a backup is not taken over the network by this server",
        hint="on the server's machine run `rstmdb backup`, which reads the data directory",
        code=ExitCode.REFUSED,
    )


def replication_status(ctx: typer.Context) -> None:
    """Say that this server does not replicate."""
    raise Failure(
        "this server does not replicate: it keeps one log on one machine",
        hint="`rstmdb-cli wal-stats` shows the log, `rstmdb-cli info` what the server can do",
        code=ExitCode.REFUSED,
    )


def show_version(cli: Invocation) -> None:
    """Print this tool's version, and the server's if one answers."""
    cli.output.line(f"rstmdb-cli {__version__}")
    cli.output.stdout.flush()
    cli.override({"timeout": min(cli.settings.timeout_s, VERSION_TIMEOUT_S)})
    try:
        with cli.client() as client:
            result: dict[str, Any] = client.call("INFO", {})
    except Failure as failure:
        cli.output.note(f"server {cli.settings.place}: {failure.message}")
        return
    cli.output.line(
        f"{result.get('server_name', 'server')} {result.get('server_version', '?')} at {cli.settings.place}"
    )
