"""The commands of ``rstmdb`` that do not serve."""

from __future__ import annotations

import argparse
from typing import Any


def add_commands(commands: Any) -> None:
    """Add the parsers of these commands."""
    certs = commands.add_parser("dev-certs", help="make a development CA, server and client certificates")
    certs.add_argument("directory", metavar="DIR")


def run_command(options: argparse.Namespace) -> int:
    """Run one; returns the exit code."""
    from rstmdb_server.dev_certs import write_dev_certs

    for path in write_dev_certs(options.directory):
        print(path)  # noqa: T201
    return 0
