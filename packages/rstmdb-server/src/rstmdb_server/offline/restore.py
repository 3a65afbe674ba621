"""``rstmdb restore --from BACKUP --to DIR``: a data directory out of a backup, as it was at some point.

::

    check every file against the manifest ─▶ the newest snapshot at or before the point
      ─▶ replay the log up to it ─▶ snapshot of that state in DIR, sequences jumped by 2^32, empty log

History does not come along, on purpose. Whoever had seen effects behind the point holds an offset that now
means nothing; with the old log in place a resumed watch would pass over that in silence, without it the
server says ``OFFSET_COMPACTED`` and the client reads the state anew. The backup keeps the history, for
``rstmdb dump``.
"""

from __future__ import annotations

import argparse
import os
from datetime import datetime
from typing import Any

import msgspec

from rstmdb_core import State
from rstmdb_server import exit_codes
from rstmdb_server.offline.contents import UNBOUNDED, Contents
from rstmdb_server.offline.errors import OfflineError
from rstmdb_server.offline.fresh import empty_directory, jumped_sequence, write_state
from rstmdb_server.offline.manifest import Manifest, check_files, read_manifest, timestamp
from rstmdb_server.offline.replay import apply_checked, load_snapshot
from rstmdb_server.offline.terminal import Progress, say
from rstmdb_storage import OsFileSystem, SnapshotInfo


class Restored(msgspec.Struct, frozen=True):
    """What was restored.

    Attributes:
        sequence: The last effect in the state.
        time_ms: Its time.
        next_sequence: The sequence of the next effect.
        instances: Instances in it.
        state: The state.
    """

    sequence: int
    time_ms: int
    next_sequence: int
    instances: int
    state: State


class Point:
    """Up to where to restore: an offset, a time, or the end of the backup.

    Args:
        sequence: The last effect to take, or None.
        time_ms: Take records up to this time, or None.
    """

    def __init__(self, sequence: int | None = None, time_ms: int | None = None) -> None:
        self.sequence = sequence
        self.time_ms = time_ms

    def takes(self, last_sequence: int, time_ms: int) -> bool:
        """Say whether a state or record that ends with this effect, at this time, is not beyond the point."""
        if self.sequence is not None and last_sequence > self.sequence:
            return False
        return self.time_ms is None or time_ms <= self.time_ms


def add(commands: Any, name: str) -> None:
    """Add the parser of the command."""
    parser = commands.add_parser(
        name,
        help="make a data directory out of a backup, as it was at some point",
        description="Makes a data directory out of a backup. Without --to-offset or --to-time it holds "
        "everything that is in the backup. A batch is restored whole or not at all.",
    )
    parser.add_argument(
        "--from", dest="backup", required=True, metavar="BACKUP", help="what `rstmdb backup` made"
    )
    parser.add_argument("--to", required=True, metavar="DIR", help="an empty or new directory")
    point = parser.add_mutually_exclusive_group()
    point.add_argument("--to-offset", type=_offset, metavar="N", help="the state just after this offset")
    point.add_argument(
        "--to-time", type=_time, metavar="T", help="the state at this time: RFC 3339, 2026-01-31T12:00:00Z"
    )


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    progress = Progress()
    point = Point(options.to_offset, options.to_time)
    restored = restore(options.backup, options.to, point, progress=progress)
    progress.clear()
    say(
        f"restored {options.backup} to {options.to}: offset {restored.sequence} of "
        f"{timestamp(restored.time_ms)}, {restored.instances} instances; offsets go on at "
        f"{restored.next_sequence}"
    )
    return exit_codes.OK


def restore(
    backup: str, target: str, point: Point | None = None, *, progress: Progress | None = None
) -> Restored:
    """Make a data directory out of a backup.

    Args:
        backup: What `back_up` made.
        target: An empty or new directory.
        point: Up to where.
        progress: Told how far it is.

    Raises:
        OfflineError: There is no backup, it does not reach the point, or the target is not empty.
        CorruptionError: The backup is damaged.
        FormatError: It is of a format that this version does not read.
        OSError: The disk fails or is full.
    """
    fs = OsFileSystem()
    progress = progress or Progress()
    point = point or Point()
    backup = os.path.abspath(backup)
    manifest = read_manifest(fs, backup)
    _check_point(manifest, point)
    with empty_directory(target, "target of a restore") as root:
        check_files(fs, backup, manifest, progress)
        with Contents.open(backup, fs=fs) as contents:
            state, sequence = state_at(contents, point, progress=progress)
            first = jumped_sequence(max(manifest.next_sequence, contents.survey.next_sequence))
        progress(f"writing {root}")
        write_state(root, state, first)
    return Restored(sequence, state.time_ms, first, state.instance_count, state)


def state_at(contents: Contents, point: Point, *, progress: Progress | None = None) -> tuple[State, int]:
    """Rebuild the state at a point.

    Returns:
        The state, and the last effect in it (0: none).

    Raises:
        OfflineError: What is left does not reach back so far.
        CorruptionError: It is damaged.
    """
    state = _base(contents, point)
    reached = state.next_sequence - 1
    base = state.next_sequence
    for item, entry, record in contents.records(from_sequence=base, progress=progress):
        last = entry.first_sequence + entry.count - 1
        if not point.takes(last, record.time_ms):
            break
        apply_checked(state, item, record)
        reached = last
    return state, reached


def _base(contents: Contents, point: Point) -> State:
    """Return the state to start from: the newest snapshot before the point, or nothing at all."""
    candidates: list[SnapshotInfo] = contents.usable_snapshots()
    oldest: State | None = None
    for info in reversed(candidates):
        if not point.takes(info.sequence, 0):
            continue
        oldest = load_snapshot(contents, info)
        if point.takes(info.sequence, oldest.time_ms):
            return oldest
    if contents.from_the_beginning or not contents.segments:
        return State(UNBOUNDED)
    if oldest is not None:
        raise OfflineError(f"the backup begins at {timestamp(oldest.time_ms)}, behind the time asked for")
    raise OfflineError(f"the backup begins at offset {candidates[0].sequence if candidates else 'none'}")


def _check_point(manifest: Manifest, point: Point) -> None:
    if point.sequence is not None and not (
        manifest.restorable_from <= point.sequence <= manifest.restorable_to
    ):
        raise OfflineError(
            f"offset {point.sequence} is not in the backup, which goes from {manifest.restorable_from} to "
            f"{manifest.restorable_to}"
        )
    if point.time_ms is not None and point.time_ms > manifest.created_ms:
        raise OfflineError(
            f"{timestamp(point.time_ms)} is after the backup, which was made at {manifest.created}"
        )


def _offset(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not an offset")
    return int(text)


def _time(text: str) -> int:
    """Read an RFC 3339 time; the result is in ms since 1970."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time like 2026-01-31T12:00:00Z") from None
    if moment.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r} has no time zone; end it with Z for UTC")
    return round(moment.timestamp() * 1000)
