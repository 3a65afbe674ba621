"""The command ``rstmdb``: reads arguments and environment, then serves or runs a tool.

::

    rstmdb [serve] [--config FILE]      serve until SIGTERM or SIGINT
    rstmdb --check-config | --print-config
    rstmdb verify | dump | import | backup | restore | dev-certs ...   see --help

Exit codes: 0 a clean stop; 1 the server could not start; 2 wrong usage or configuration; 3 data is damaged
or is not ours; 74 a write or sync failed while serving.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from rstmdb_server import exit_codes
from rstmdb_server.config import load_settings, print_settings
from rstmdb_server.settings import ConfigError, Settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # A server that just serves does not load the tools; whoever names a word or asks for help gets them.
    tools = any(word in ("-h", "--help") or not word.startswith(("-", "serve")) for word in given)
    options = build_parser(tools=tools).parse_args(given)
    if options.command in (None, "serve"):
        return _serve(options)
    from rstmdb_server.offline import run_command

    return run_command(options)


def build_parser(*, tools: bool = True) -> argparse.ArgumentParser:
    """Return the parser of the command line, with the commands that do not serve or without them."""
    parser = argparse.ArgumentParser(
        prog="rstmdb",
        description="A durable state machine database. Without a command it serves.",
        epilog="Configuration: --config or RSTMDB_CONFIG names a YAML file; RSTMDB_* variables win over it.",
    )
    parser.add_argument("--version", "-V", action="version", version=f"rstmdb {version('rstmdb-server')}")
    _add_serve_options(parser)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    serve = commands.add_parser("serve", help="serve until SIGTERM or SIGINT (the default)")
    _add_serve_options(serve, default=argparse.SUPPRESS)
    if tools:
        from rstmdb_server.offline import add_commands

        add_commands(commands)
    return parser


def _add_serve_options(parser: argparse.ArgumentParser, *, default: object = None) -> None:
    parser.add_argument("--config", "-c", metavar="FILE", default=default, help="YAML file (RSTMDB_CONFIG)")
    flag_default = False if default is None else default
    parser.add_argument(
        "--check-config",
        action="store_true",
        default=flag_default,
        help="check the configuration and the files it names, and stop",
    )
    parser.add_argument(
        "--print-config",
        action="store_true",
        default=flag_default,
        help="print the effective configuration, secrets hidden, and stop",
    )


def _serve(options: argparse.Namespace) -> int:
    path = options.config or os.environ.get("RSTMDB_CONFIG") or None
    try:
        loaded = load_settings(path=path, environ=os.environ)
    except ConfigError as error:
        for problem in error.problems:
            print(f"rstmdb: configuration: {problem}", file=sys.stderr)  # noqa: T201
        return exit_codes.USAGE
    for warning in loaded.warnings:
        print(f"rstmdb: warning: {warning}", file=sys.stderr)  # noqa: T201
    if options.print_config:
        sys.stdout.write(print_settings(loaded.settings))
        return exit_codes.OK
    if options.check_config:
        return _check_files(loaded.settings)
    from rstmdb_server.serve import serve

    return serve(loaded.settings, config_path=path)


def _check_files(settings: Settings) -> int:
    """Read what the configuration names, too: a good path to a wrong certificate is no good configuration."""
    from rstmdb_server.auth import load_authenticator
    from rstmdb_server.tls import server_context

    code = exit_codes.OK
    for read in (lambda: load_authenticator(settings.auth), lambda: server_context(settings.tls)):
        try:
            read()
        except ConfigError as error:
            print(f"rstmdb: configuration: {error}", file=sys.stderr)  # noqa: T201
            code = exit_codes.USAGE
    if code == exit_codes.OK:
        print("the configuration is good")  # noqa: T201
    return code
