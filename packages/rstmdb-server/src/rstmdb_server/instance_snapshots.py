"""SNAPSHOT_INSTANCE: one instance's state as a file of its own, for those who ask for one.

Recovery never reads these; the whole-state snapshots and the log are enough. There is at most one file an
instance (the newest replaces the one before), so asking often does not fill the disk::

    data/snapshots/instances/<32 hex digits of BLAKE2b(instance id)>.json

It stays when its instance is deleted: whoever asked for it may have done so for that. A file that was not
finished goes, at once when writing it failed, at the next start when the process ended.
"""

from __future__ import annotations

import contextlib
import hashlib
from typing import Any

import msgspec

from rstmdb_server.answers import Deferred, snapshot_failed
from rstmdb_server.world import Host
from rstmdb_storage import DataDirectory, FileSystem

_UNFINISHED = ".tmp"


def write_instance_snapshot(
    host: Host,
    fs: FileSystem,
    directory: DataDirectory,
    *,
    instance_id: str,
    document: bytes,
    snapshot_id: str,
) -> Deferred:
    """Write the file off the loop and answer when it is synced.

    Args:
        host: Runs the blocking part.
        fs: The file system of the data directory.
        directory: Where the data is.
        instance_id: Whose snapshot it is.
        document: The result of GET_INSTANCE as JSON text.
        snapshot_id: The id to give it.
    """
    state: dict[str, Any] = msgspec.json.decode(document)
    content = msgspec.json.format(
        msgspec.json.encode(
            {
                "snapshot_id": snapshot_id,
                "instance_id": instance_id,
                **state,
                "wal_offset": state["last_wal_offset"],
                "created_at": host.wall_ms(),
            }
        ),
        indent=2,
    )
    answer = msgspec.json.encode(
        {
            "instance_id": instance_id,
            "snapshot_id": snapshot_id,
            "wal_offset": state["last_wal_offset"],
            "size_bytes": len(content),
            "checksum": hashlib.sha256(content).hexdigest(),
        }
    )
    deferred = Deferred()

    def done(_result: object, error: BaseException | None) -> None:
        if error is None:
            deferred.complete(answer)
        else:
            deferred.complete(snapshot_failed(str(error)))

    name = hashlib.blake2b(instance_id.encode(), digest_size=16).hexdigest()
    folder = _folder(directory)
    host.run_blocking(lambda: _replace(fs, folder, f"{name}.json", snapshot_id, content), done)
    return deferred


def _replace(fs: FileSystem, folder: str, name: str, snapshot_id: str, content: bytes) -> None:
    """Write a file so that a crash leaves the old one or the new one."""
    if not fs.exists(folder):
        fs.make_directory(folder)
        fs.sync_directory(folder.rpartition("/")[0])
    temporary = f"{folder}/{name}.{snapshot_id}{_UNFINISHED}"
    file = fs.open(temporary, write=True, create=True)
    try:
        try:
            written = 0
            while written < len(content):
                written += file.pwrite(content[written:], written)
            file.sync()
        finally:
            file.close()
        fs.rename(temporary, f"{folder}/{name}")
    except OSError:
        with contextlib.suppress(OSError):
            fs.unlink(temporary)
        raise
    fs.sync_directory(folder)


def remove_unfinished(fs: FileSystem, directory: DataDirectory) -> None:
    """Remove what a process that ended left half written."""
    folder = _folder(directory)
    if fs.exists(folder):
        for name in fs.list(folder):
            if name.endswith(_UNFINISHED):
                with contextlib.suppress(OSError):
                    fs.unlink(f"{folder}/{name}")


def _folder(directory: DataDirectory) -> str:
    return f"{directory.snapshots}/instances"
