"""``rstmdb backup --data DIR --to TARGET``: a copy of a data directory while a server runs on it.

The directory is frozen at one moment (`frozen.py`); everything that was acknowledged before is in it. Then

============================  =====================================================================
sealed segments, snapshots    never change: a hard link each, or a copy where there can be no link
the active segment            a copy, up to the last whole frame
``FORMAT``                    says that this is a backup, so that no server takes it for its data
``manifest.json``             last, after everything was synced, read back and surveyed as a whole
============================  =====================================================================

The server is not asked, and does not notice: it may write, rotate and compact meanwhile. The target has the
layout of a data directory, so ``verify`` and ``dump`` read it too. Only ``restore`` makes one to serve from:
served as it is, it would use again the offsets that the source goes on to show for other effects.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from typing import Any

from rstmdb_server import exit_codes
from rstmdb_server.offline.contents import Contents
from rstmdb_server.offline.errors import OfflineError
from rstmdb_server.offline.fresh import empty_directory, wall_ms
from rstmdb_server.offline.manifest import (
    FORMAT_TEXT,
    MANIFEST,
    MANIFEST_FORMAT,
    Manifest,
    describe_file,
    timestamp,
    write_file,
    write_manifest,
)
from rstmdb_server.offline.terminal import Progress, say, warn
from rstmdb_storage import CorruptionError, File, FileSystem, OsFileSystem
from rstmdb_storage.segment import write_fully

COPY_BYTES = 1 << 20
"""Copied and synced at a time: little enough that the server's own syncs do not wait behind it."""


def add(commands: Any, name: str) -> None:
    """Add the parser of the command."""
    parser = commands.add_parser(
        name,
        help="back up a data directory, also while a server runs on it",
        description="Backs up a data directory, also while a server runs on it: sealed segments and "
        "snapshots by hard links or copies, the active segment by a copy. Everything acknowledged "
        "before is in it.",
    )
    parser.add_argument("--data", required=True, metavar="DIR", help="the data directory")
    parser.add_argument("--to", required=True, metavar="TARGET", help="an empty or new directory")
    parser.add_argument("--copy", action="store_true", help="copy files that could be hard links")


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    progress = Progress()
    manifest = back_up(options.data, options.to, copy=options.copy, progress=progress)
    progress.clear()
    say(
        f"backed up {options.data} to {options.to}: {len(manifest.files)} files, "
        f"{sum(file.bytes for file in manifest.files)} bytes, "
        f"restorable from offset {manifest.restorable_from} to {manifest.restorable_to}"
    )
    return exit_codes.OK


def back_up(
    source: str,
    target: str,
    *,
    copy: bool = False,
    progress: Progress | None = None,
    fs: FileSystem | None = None,
) -> Manifest:
    """Back up a data directory.

    Args:
        source: The data directory.
        target: An empty or new directory.
        copy: Copy also what could be a hard link.
        progress: Told how far it is.
        fs: The file system of both.

    Returns:
        The manifest, as it was written.

    Raises:
        OfflineError: There is no such directory, or the target is not empty.
        FormatError: The source is not of this format.
        CorruptionError: The source is damaged; it cannot be backed up as if it were good.
        OSError: The disk fails or is full.
    """
    fs = fs or OsFileSystem()
    progress = progress or Progress()
    source = os.path.abspath(source)
    if os.path.commonpath([source, os.path.abspath(target)]) == source:
        raise OfflineError(f"{target}: the backup cannot stand inside of the data directory")
    created_ms = wall_ms()
    with empty_directory(target, "target of a backup") as root:
        with Contents.open(source, fs=fs) as contents:
            left_out = _damaged_snapshots(contents)
            for error in left_out:
                progress.clear()
                warn(f"left out: {error}")
            paths = _fill(fs, contents, root, copy, {error.path for error in left_out}, progress)
        _sync_directories(fs, root)
        with Contents.open(root, fs=fs) as copied:
            manifest = _describe(fs, copied, root, paths, created_ms, source, progress)
        write_manifest(fs, root, manifest)
    return manifest


def _damaged_snapshots(contents: Contents) -> list[CorruptionError]:
    """Return what is wrong with snapshots that are not worth keeping.

    Raises:
        CorruptionError: Without them the log leads nowhere.
    """
    damage = list(contents.snapshots.damage)
    for info in contents.snapshots.infos():
        try:
            contents.snapshots.open(info).close()
        except CorruptionError as error:
            damage.append(error)
    bad = {error.path for error in damage}
    good = [info for info in contents.usable_snapshots() if contents.snapshots.path(info.name) not in bad]
    if damage and not good and not contents.from_the_beginning:
        raise damage[0]
    return damage


def _fill(
    fs: FileSystem, contents: Contents, root: str, copy: bool, left_out: set[str], progress: Progress
) -> list[str]:
    """Link or copy everything; return the paths relative to the backup."""
    for folder in ("wal", "snapshots"):
        fs.make_directory(f"{root}/{folder}")
    paths = []
    ends = {segment.path: contents.end_of(segment) for segment in contents.segments}
    active = contents.segments[-1].path if contents.segments else None
    for path in contents.files.paths:
        relative = path[len(contents.root) + 1 :]
        if path in left_out or relative in (MANIFEST, "snapshots/index.json"):
            continue
        progress(f"backing up {path}")
        target = f"{root}/{relative}"
        if relative == "FORMAT":
            write_file(fs, target, FORMAT_TEXT)
        elif copy or path == active or not _link(fs, path, target):
            _copy(fs, contents.files.open(path), target, ends.get(path))
        paths.append(relative)
    return paths


def _link(fs: FileSystem, path: str, target: str) -> bool:
    """Make a hard link if that is possible: same file system, links allowed, not removed meanwhile."""
    try:
        fs.link(path, target)
    except OSError:
        # Whatever the reason, a copy does as well; if that fails too, its error is the one to tell.
        return False
    return True


def _copy(fs: FileSystem, source: File, path: str, end: int | None) -> None:
    """Copy a file, of a segment only its frames: what is behind them stays a hole of zeros."""
    size = source.size()
    end = size if end is None else end
    target = fs.open(path, create=True)
    try:
        position = 0
        while position < end:
            data = source.pread(min(COPY_BYTES, end - position), position)
            if not data:
                raise OfflineError(f"{path}: the file it is copied from has become shorter")
            write_fully(target, data, position)
            target.sync()
            position += len(data)
        if position < size:
            target.truncate(size)
        target.sync()
    finally:
        target.close()


def _sync_directories(fs: FileSystem, root: str) -> None:
    for directory in (f"{root}/wal", f"{root}/snapshots", root, os.path.dirname(root)):
        with contextlib.suppress(PermissionError):
            fs.sync_directory(directory)


def _describe(
    fs: FileSystem,
    copied: Contents,
    root: str,
    paths: list[str],
    created_ms: int,
    source: str,
    progress: Progress,
) -> Manifest:
    files = []
    for path in paths:
        progress(f"reading back {root}/{path}")
        files.append(describe_file(fs, root, path))
    for _ in copied.frames(progress=progress):
        # Read for its checks: a backup that cannot be restored is none.
        pass
    found = copied.survey
    usable = [info.sequence for info in copied.usable_snapshots()]
    if copied.from_the_beginning or not copied.segments:
        usable = [0]
    return Manifest(
        format=MANIFEST_FORMAT,
        created=timestamp(created_ms),
        created_ms=created_ms,
        source=source,
        first_sequence=copied.oldest_sequence,
        last_sequence=found.last_sequence,
        next_sequence=found.next_sequence,
        epoch=found.epoch,
        restorable_from=usable[0],
        restorable_to=max(found.last_sequence, usable[-1]),
        files=files,
    )
