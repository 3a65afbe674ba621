"""``rstmdb dev-certs DIR``: certificates to develop with."""

from __future__ import annotations

import argparse
from typing import Any

from rstmdb_server import exit_codes
from rstmdb_server.offline.terminal import say


def add(commands: Any, name: str) -> None:
    """Add the parser of the command."""
    parser = commands.add_parser(
        name,
        help="make a development CA, server and client certificates",
        description="Makes a development CA and certificates of a server (localhost, 127.0.0.1, ::1) and a"
        " client. Not for production: the CA's key lies beside them.",
    )
    parser.add_argument("directory", metavar="DIR", help="where to write the six files; made if missing")


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from rstmdb_server.dev_certs import write_dev_certs

    for path in write_dev_certs(options.directory):
        say(path)
    return exit_codes.OK
