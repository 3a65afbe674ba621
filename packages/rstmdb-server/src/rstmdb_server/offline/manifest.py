"""``manifest.json`` of a backup: what belongs to it, and what it can be restored to.

Written last and atomically, so a directory without one is no backup, however much of one it looks like::

    {
        "format": 1,
        "created": "2026-01-01T00:00:00.000Z",
        "created_ms": ...,
        "source": "/var/lib/rstmdb",
        "first_sequence": 1,
        "last_sequence": 120,
        "next_sequence": 121,
        "epoch": 3,
        "restorable_from": 0,
        "restorable_to": 120,
        "files": [{"path": "wal/0000000000000001.wal", "bytes": 67108864, "sha256": "..."}, ...],
    }
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from rstmdb_server.offline.errors import OfflineError
from rstmdb_storage import CorruptionError, FileSystem, FormatError
from rstmdb_storage.datadir import DATA_FORMAT
from rstmdb_storage.segment import write_fully

MANIFEST = "manifest.json"
MANIFEST_FORMAT = 1
FORMAT_TEXT = b"rstmdb backup, format %d\n" % DATA_FORMAT
"""What `FORMAT` says in a backup, so that no server takes it for its data."""

_READ_BYTES = 1 << 20


class BackupFile(msgspec.Struct, frozen=True):
    """One file of a backup.

    Attributes:
        path: Relative to the backup.
        bytes: Its length.
        sha256: Of its contents, hexadecimal.
    """

    path: str
    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A finished backup.

    Attributes:
        format: Of this document.
        created: When the backup was begun, RFC 3339.
        created_ms: The same in ms since 1970.
        source: The data directory.
        first_sequence: Of the oldest effect in it.
        last_sequence: Of the newest effect in it.
        next_sequence: The next sequence of the source; everything below may have been shown.
        epoch: The source's epoch.
        restorable_from: The oldest offset that it can be restored to.
        restorable_to: The newest.
        files: Everything else that belongs to the backup.
    """

    format: int
    created: str
    created_ms: int
    source: str
    first_sequence: int
    last_sequence: int
    next_sequence: int
    epoch: int
    restorable_from: int
    restorable_to: int
    files: list[BackupFile]


def write_manifest(fs: FileSystem, root: str, manifest: Manifest) -> None:
    """Put the manifest in place: from now on the directory is a backup."""
    path = f"{root}/{MANIFEST}"
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"
    write_file(fs, f"{path}.tmp", text)
    fs.rename(f"{path}.tmp", path)
    fs.sync_directory(root)


def write_file(fs: FileSystem, path: str, text: bytes) -> None:
    """Create a small file and sync it."""
    file = fs.open(path, create=True)
    try:
        write_fully(file, text, 0)
        file.sync()
    finally:
        file.close()


def read_manifest(fs: FileSystem, root: str) -> Manifest:
    """Read the manifest of a backup.

    Raises:
        OfflineError: There is no backup.
        CorruptionError: It is damaged.
        FormatError: It is of a later version.
    """
    path = f"{root}/{MANIFEST}"
    if not fs.exists(root):
        raise OfflineError(f"{root}: no such directory")
    if not fs.exists(path):
        raise OfflineError(f"{root}: not a finished backup, {MANIFEST} is missing")
    file = fs.open(path)
    try:
        text = file.pread(file.size(), 0)
    finally:
        file.close()
    try:
        manifest = msgspec.json.decode(text, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptionError(path, 0, f"not a manifest: {error}") from None
    if manifest.format != MANIFEST_FORMAT:
        raise FormatError(path, f"manifest format {manifest.format}; this version reads {MANIFEST_FORMAT}")
    return manifest


def describe_file(fs: FileSystem, root: str, path: str) -> BackupFile:
    """Read a file and say what it holds."""
    size, digest = _digest(fs, f"{root}/{path}")
    return BackupFile(path, size, digest)


def check_files(fs: FileSystem, root: str, manifest: Manifest, progress: Callable[[str], None]) -> None:
    """Check every file of a backup against its manifest.

    Raises:
        CorruptionError: One is missing, of another length, or of other contents.
    """
    for file in manifest.files:
        path = f"{root}/{file.path}"
        progress(f"checking {path}")
        if os.path.isabs(file.path) or ".." in file.path.split("/"):
            raise CorruptionError(f"{root}/{MANIFEST}", 0, f"it names {file.path!r}, outside of the backup")
        if not fs.exists(path):
            raise CorruptionError(path, 0, f"missing, although it stands in {MANIFEST}")
        size, digest = _digest(fs, path)
        if size != file.bytes:
            raise CorruptionError(path, min(size, file.bytes), f"{size} bytes instead of {file.bytes}")
        if digest != file.sha256:
            raise CorruptionError(path, 0, f"SHA-256 is {digest}, not {file.sha256}")


def timestamp(time_ms: int) -> str:
    """Return a time as RFC 3339 text in UTC, to the millisecond."""
    moment = datetime.fromtimestamp(time_ms // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time_ms % 1000:03d}Z"


def _digest(fs: FileSystem, path: str) -> tuple[int, str]:
    total = hashlib.sha256()
    file = fs.open(path)
    try:
        position = 0
        while data := file.pread(_READ_BYTES, position):
            total.update(data)
            position += len(data)
    finally:
        file.close()
    return position, total.hexdigest()
