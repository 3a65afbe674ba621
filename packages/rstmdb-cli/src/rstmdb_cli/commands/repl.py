"""`repl`: the interactive prompt."""

import gc

import typer

from rstmdb_cli.context import Invocation


def repl(ctx: typer.Context) -> None:
    """Start the interactive prompt, as without any command.

    It has completion, history, multi-line JSON and live events; `help` lists what can be typed there.
    """
    start(ctx.obj)


def start(cli: Invocation) -> None:
    """Run the prompt until the person leaves.

    Raises:
        Failure: There is no server.
    """
    gc.enable()
    from rstmdb_cli.app import build
    from rstmdb_cli.repl.session import Session

    Session(cli, build()).run()
