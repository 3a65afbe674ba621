"""``rstmdb dump DIR``: the effects of a log as JSON lines, each in the shape of a WAL_READ record.

::

    {"sequence":7,"offset":7,"time":1767225600000,"entry":{"type":"apply_event",...}}
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import msgspec

from rstmdb_server import exit_codes
from rstmdb_server.offline.contents import Contents
from rstmdb_server.offline.errors import OfflineError
from rstmdb_server.wire_effects import entry_of, subject_of

_encode = msgspec.json.encode


def add(commands: Any, name: str) -> None:
    """Add the parser of the command."""
    parser = commands.add_parser(
        name,
        help="print the log of a data directory or a backup as JSON lines",
        description="Prints effects as JSON lines in the shape of WAL_READ. May run beside a server.",
    )
    parser.add_argument("directory", metavar="DIR", help="a data directory or a backup")
    parser.add_argument(
        "--from", dest="from_sequence", type=_count, metavar="N", help="begin with this sequence"
    )
    parser.add_argument("--limit", type=_count, metavar="N", help="stop after so many effects")
    parser.add_argument("--instance", metavar="ID", help="only what happened to this instance")


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    with Contents.open(options.directory) as contents:
        start = options.from_sequence
        if start is not None and start < contents.oldest_sequence and not contents.from_the_beginning:
            raise OfflineError(f"sequence {start} is gone: the log begins at {contents.oldest_sequence}")
        _print(contents, start or 0, options.limit, options.instance)
    return exit_codes.OK


def _print(contents: Contents, start: int, limit: int | None, instance: str | None) -> None:
    left = -1 if limit is None else limit
    if left == 0:
        return
    write = sys.stdout.buffer.write
    for _, entry, record in contents.records(from_sequence=start):
        for sequence, effect in enumerate(record.effects, entry.first_sequence):
            if sequence < start or (instance is not None and subject_of(effect).instance_id != instance):
                continue
            write(
                b'{"sequence":%d,"offset":%d,"time":%d,"entry":%b}\n'
                % (sequence, sequence, record.time_ms, _encode(entry_of(effect, record.time_ms)))
            )
            left -= 1
            if left == 0:
                return


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return int(text)
