"""``rstmdb dev-certs DIR``: certificates to develop with."""

from __future__ import annotations

import argparse
from typing import Any

from rstmdb_server import exit_codes
from rstmdb_server.offline.terminal import say


def add(commands: Any, name: str) -> None:
    """Add the parser of the command."""
    parser = commands.add_parser(name, help="make a development CA, server and client certificates")
    parser.add_argument("directory", metavar="DIR")


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from rstmdb_server.dev_certs import write_dev_certs

    for path in write_dev_certs(options.directory):
        say(path)
    return exit_codes.OK
