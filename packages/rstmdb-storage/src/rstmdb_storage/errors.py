"""Errors of the storage engine.

::

    StorageError
     ├─ LockedError       another process holds the data directory
     ├─ FormatError       a file or directory of a format this version does not read
     ├─ CorruptionError   bytes that were synced once are damaged: file, position, reason
     ├─ DiskFull          refused before anything was appended; may be tried again later
     ├─ LogPoisoned       a write or sync failed: nothing more is promised until a restart
     ├─ StaleEpoch        another writer has opened the log since (fencing)
     ├─ SequenceTrimmed   the asked sequence is older than the log
     └─ LogClosed         the log was closed

`OSError` is not wrapped where the caller has to tell one errno from another; it always leaves through one
of these once the log has decided what it means.
"""

from __future__ import annotations

__all__ = [
    "CorruptionError",
    "DiskFull",
    "FormatError",
    "LockedError",
    "LogClosed",
    "LogPoisoned",
    "SequenceTrimmed",
    "StaleEpoch",
    "StorageError",
]


class StorageError(Exception):
    """The base of everything that the storage engine raises on purpose."""


class LockedError(StorageError):
    """Another process holds the lock of the data directory.

    Attributes:
        path: The lock file.
        holder: What the holder wrote there about itself, or `"an unknown process"`.
    """

    def __init__(self, path: str, holder: str) -> None:
        super().__init__(path, holder)
        self.path = path
        self.holder = holder

    def __str__(self) -> str:
        return f"{self.path} is held by {self.holder}"


class FormatError(StorageError):
    """A file or directory has a format that this version does not read.

    Attributes:
        path: The file.
        reason: What was found, and what was expected.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class CorruptionError(StorageError):
    """Bytes that were safely on disk once are damaged or gone.

    Attributes:
        path: The damaged file.
        position: The byte at which the damaged part begins.
        reason: What is wrong there, and why it cannot be an unfinished write.
    """

    def __init__(self, path: str, position: int, reason: str) -> None:
        super().__init__(path, position, reason)
        self.path = path
        self.position = position
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path} is corrupt at byte {self.position}: {self.reason}"


class DiskFull(StorageError):  # noqa: N818 - a condition that passes, not a mistake
    """There is no room for the record; nothing was appended, and it may be tried again later.

    Attributes:
        directory: The directory of the log.
        bytes_needed: The space that was asked for.
        bytes_free: The space that was found.
    """

    def __init__(self, directory: str, bytes_needed: int, bytes_free: int) -> None:
        super().__init__(directory, bytes_needed, bytes_free)
        self.directory = directory
        self.bytes_needed = bytes_needed
        self.bytes_free = bytes_free

    def __str__(self) -> str:
        return f"no space in {self.directory}: {self.bytes_needed} bytes needed, {self.bytes_free} free"


class LogPoisoned(StorageError):  # noqa: N818 - a state of the log
    """A write or a sync failed; nothing appended since the last commit is promised, for ever.

    Attributes:
        reason: What failed, in one line.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the log is poisoned until a restart: {self.reason}"


class StaleEpoch(StorageError):  # noqa: N818 - a state of the log
    """Another writer has opened the log with a higher epoch.

    Attributes:
        epoch: The epoch of this writer.
        current: The epoch found.
    """

    def __init__(self, epoch: int, current: int) -> None:
        super().__init__(epoch, current)
        self.epoch = epoch
        self.current = current

    def __str__(self) -> str:
        return f"epoch {self.epoch} is fenced: the log was opened with epoch {self.current}"


class SequenceTrimmed(StorageError):  # noqa: N818 - a condition the caller answers, not a mistake
    """The asked sequence is older than anything that the log still holds.

    Attributes:
        sequence: The sequence that was asked for.
        oldest: The oldest sequence that can be read.
    """

    def __init__(self, sequence: int, oldest: int) -> None:
        super().__init__(sequence, oldest)
        self.sequence = sequence
        self.oldest = oldest

    def __str__(self) -> str:
        return f"sequence {self.sequence} is gone: the log begins at {self.oldest}"


class LogClosed(StorageError):  # noqa: N818 - a state of the log
    """The log was closed."""

    def __str__(self) -> str:
        return "the log is closed"
