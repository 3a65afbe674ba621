"""``rstmdb import --from DIR``: take over a data directory of the original server.

Its log is translated effect by effect, so history comes along: WAL_READ and resumed watches of the new server
see what happened before. Instances whose beginning the original compacted away come from its snapshots of
them, which it writes and never reads.

What a server of ours would not have accepted is not taken over in silence. Each such thing is named, and
nothing is imported, unless the caller gives a better definition (``--definition``) or leaves it out
(``--skip-invalid``). Offsets begin 2^32 beyond the original's last, which is far beyond its sequences:
clients compare offsets, and those that they have seen came from the original's numbering.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from typing import Any

import msgspec

from rstmdb_core import State
from rstmdb_server import exit_codes
from rstmdb_server.config import load_settings
from rstmdb_server.offline.contents import UNBOUNDED
from rstmdb_server.offline.errors import OfflineError
from rstmdb_server.offline.fresh import (
    SEQUENCE_JUMP,
    HistoryWriter,
    empty_directory,
    jumped_sequence,
    wall_ms,
)
from rstmdb_server.offline.original_format import OriginalDirectory, PutMachineEntry
from rstmdb_server.offline.terminal import Progress, say, warn
from rstmdb_server.offline.translation import Translation
from rstmdb_storage import FormatError

FAULTS_SHOWN = 50


class Imported(msgspec.Struct, frozen=True):
    """What was imported.

    Attributes:
        machines: Machine versions.
        instances: Live instances.
        effects: Effects of the log.
        idempotency_keys: Keys that are recognised.
        next_sequence: Where offsets go on.
        faults: What was left out, each by name.
        notes: What is worth knowing: torn tails, gaps, effects of instances that the original had lost.
    """

    machines: int
    instances: int
    effects: int
    idempotency_keys: int
    next_sequence: int
    faults: list[str]
    notes: list[str]


def add(commands: Any, name: str) -> None:
    """Add the parser of the command."""
    parser = commands.add_parser(
        name,
        help="take over a data directory of the original server",
        description="Takes over a data directory of the original server, which must be stopped; its files "
        "are only read. Torn tails are passed over, damage is refused with file and position.",
    )
    parser.add_argument(
        "--from", dest="source", required=True, metavar="DIR", help="the original's directory"
    )
    parser.add_argument(
        "--to", metavar="DATA_DIR", help="an empty or new directory; the configured one if not given"
    )
    parser.add_argument(
        "--definition",
        action="append",
        default=[],
        metavar="NAME/VERSION=FILE",
        help="use this definition for a machine whose own is invalid or lost; may be repeated",
    )
    parser.add_argument(
        "--skip-invalid", action="store_true", help="leave out invalid machines with their instances"
    )
    parser.add_argument("--config", "-c", metavar="FILE", help="YAML file that names the data directory")


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    target = options.to
    if target is None:
        loaded = load_settings(path=options.config, environ=os.environ)
        target = loaded.settings.storage.data_dir
    progress = Progress()
    done = import_directory(
        options.source,
        target,
        definitions=dict(_definition(text) for text in options.definition),
        skip_invalid=options.skip_invalid,
        progress=progress,
    )
    progress.clear()
    for text in [*done.notes, *(f"left out: {fault}" for fault in done.faults)]:
        warn(text)
    say(
        f"imported {options.source} to {target}: {done.machines} machine versions, {done.instances} "
        f"instances, {done.effects} effects, {done.idempotency_keys} idempotency keys; offsets go on at "
        f"{done.next_sequence}"
    )
    return exit_codes.OK


def import_directory(
    source: str,
    target: str,
    *,
    definitions: dict[tuple[str, int], bytes] | None = None,
    skip_invalid: bool = False,
    progress: Progress | None = None,
) -> Imported:
    """Take over a data directory of the original server.

    Args:
        source: Its directory.
        target: An empty or new directory.
        definitions: JSON texts to use instead of those in the log.
        skip_invalid: Leave out what is invalid instead of importing nothing.
        progress: Told how far it is.

    Raises:
        OfflineError: There is nothing to import, something is invalid, or the target is not empty.
        CorruptionError: The original's log is damaged.
        FormatError: The directory is not one of the original.
        OSError: The disk fails or is full.
    """
    progress = progress or Progress()
    original = _open(source)
    with empty_directory(target, "target of an import") as root:
        first = _first_sequence(original)
        writer = HistoryWriter(root, State(UNBOUNDED), first)
        translation = Translation(
            writer, definitions or {}, lambda: _all_definitions(source), now_ms=wall_ms()
        )
        try:
            _translate(original, translation, progress)
            faults = translation.faults
            if faults and not skip_invalid:
                progress.clear()
                for fault in faults[:FAULTS_SHOWN]:
                    warn(fault)
                raise OfflineError(
                    f"nothing was imported: {len(faults)} fault{'s' * (len(faults) > 1)}; --definition gives "
                    "a machine another definition, --skip-invalid leaves out what is invalid"
                )
            progress("writing the snapshot")
            writer.finish()
        finally:
            writer.close()
    state = writer.state
    return Imported(
        machines=state.machine_version_count,
        instances=state.instance_count,
        effects=state.entry_count,
        idempotency_keys=state.idempotency.count,
        next_sequence=state.next_sequence,
        faults=faults,
        notes=[*original.torn, *original.snapshot_faults, *_notes(original, translation)],
    )


def _open(source: str) -> OriginalDirectory:
    if not os.path.isdir(source):
        raise OfflineError(f"{source}: no such directory")
    if os.path.exists(os.path.join(source, "FORMAT")):
        raise FormatError(source, "already a data directory of this server, nothing to import")
    if not os.path.isdir(os.path.join(source, "wal")):
        raise OfflineError(f"{source}: not a data directory of the original server, wal/ is missing")
    original = OriginalDirectory(source)
    if not original.segments:
        raise OfflineError(f"{source}: not a data directory of the original server, wal/ holds no segment")
    return original


def _first_sequence(original: OriginalDirectory) -> int:
    try:
        return jumped_sequence(original.end_offset)
    except OfflineError:
        # After some 8,000 segments the original's own numbers are beyond what its clients can tell apart.
        return SEQUENCE_JUMP + 1


def _translate(original: OriginalDirectory, translation: Translation, progress: Progress) -> None:
    for snapshot in original.snapshots():
        translation.offer(snapshot)
    for count, record in enumerate(original.records(), 1):
        translation.take(record)
        if not count & 1023:
            progress(f"imported {count} records")
    translation.finish()


def _all_definitions(source: str) -> dict[tuple[str, int], bytes]:
    """Return the first definition of every machine version, wherever in the log it stands."""
    found: dict[tuple[str, int], bytes] = {}
    for record in OriginalDirectory(source).records():
        entry = record.entry
        if isinstance(entry, PutMachineEntry):
            found.setdefault((entry.machine, entry.version), bytes(entry.definition))
    return found


def _notes(original: OriginalDirectory, translation: Translation) -> Iterator[str]:
    if original.gaps:
        yield f"{original.gaps} sequences are missing in the original's log, which its format allows"
    if translation.from_snapshots:
        yield (
            f"{translation.from_snapshots} instances whose beginning had been compacted away come from "
            "snapshots"
        )
    if translation.lost:
        name = next(iter(translation.lost))
        yield (
            f"{len(translation.lost)} instances had been lost by the original, {name!r} among them: their "
            "beginning is not in its log, nor a snapshot of them"
        )


def _definition(text: str) -> tuple[tuple[str, int], bytes]:
    """Read `NAME/VERSION=FILE`."""
    machine, equals, path = text.partition("=")
    name, slash, version = machine.rpartition("/")
    if not (equals and slash and name and version.isascii() and version.isdigit()):
        raise OfflineError(f"--definition {text!r} is not of the form NAME/VERSION=FILE", exit_codes.USAGE)
    with open(path, "rb") as file:
        return (name, int(version)), file.read()
