"""The steps of a start that can fail, each turned into one line for a person and an exit code.

::

    bind_or_refuse        a taken port, an address that is not ours
    open_or_refuse        a directory in use, not writable, damaged, of another format
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable

from rstmdb_core import EngineSettings
from rstmdb_server import exit_codes
from rstmdb_server.database import Database, open_database
from rstmdb_server.listener import bind
from rstmdb_server.settings import Settings, parse_address
from rstmdb_server.world import Host
from rstmdb_storage import (
    CorruptionError,
    FileSystem,
    FormatError,
    FsyncPolicy,
    LockedError,
    LogConfig,
    StorageError,
)

PROGRESS_SECONDS = 1.0
"""How often a long recovery says where it is."""


class StartError(Exception):
    """The server cannot start; the text is one line, fit for a person.

    Attributes:
        code: The exit code.
    """

    def __init__(self, message: str, code: int = exit_codes.START_FAILED) -> None:
        super().__init__(message)
        self.code = code


class Seldom:
    """Says when it is time to tell of what happens often: once in ``PROGRESS_SECONDS``.

    Args:
        clock: Seconds that never go back.
        at_once: Whether the first time counts; else what is over soon is never told.
    """

    def __init__(self, clock: Callable[[], float], *, at_once: bool) -> None:
        self._clock = clock
        self._due_at = clock() + (0.0 if at_once else PROGRESS_SECONDS)

    def due(self) -> bool:
        """Return whether it is time now."""
        now = self._clock()
        if now < self._due_at:
            return False
        self._due_at = now + PROGRESS_SECONDS
        return True


def bind_or_refuse(address: str, key: str) -> socket.socket:
    """Bind a listening socket.

    Args:
        address: ``host:port`` as configured.
        key: The configuration key it comes from.

    Raises:
        StartError: Naming the address, the key and the reason.
    """
    where = parse_address(address)
    try:
        return bind(where.host, where.port)
    except OSError as error:
        # uvloop and the resolver have their own words in strerror; those of the system are the usual ones.
        known = error.errno is not None and error.errno > 0
        reason = os.strerror(error.errno or 0) if known else error.strerror or str(error)
        raise StartError(f"cannot listen on {address} ({key}): {reason}") from None


def open_or_refuse(
    host: Host, fs: FileSystem, settings: Settings, *, on_progress: Callable[[str], None]
) -> Database:
    """Open and recover the configured data directory; blocks.

    Args:
        host: Time and ids.
        fs: Where the directory is.
        settings: The effective configuration.
        on_progress: Told, in words, how the recovery is getting on; what it raises ends it.

    Raises:
        StartError: Naming the directory or the file, and the reason.
    """
    storage, idempotency = settings.storage, settings.idempotency
    path = os.path.abspath(storage.data_dir)
    try:
        return open_database(
            host,
            fs,
            path,
            log_config=LogConfig(
                segment_bytes=storage.wal_segment_size_mb * 1024 * 1024,
                fsync=FsyncPolicy.parse(str(storage.fsync_policy)),
            ),
            engine_settings=EngineSettings(
                idempotency_retention_ms=idempotency.retention_secs * 1000,
                idempotency_bytes_max=idempotency.max_bytes,
                machine_versions_max=storage.max_machine_versions,
                allow_instance_recreate=storage.allow_instance_recreate,
            ),
            on_progress=on_progress,
        )
    except LockedError as error:
        raise StartError(f"data directory {path} is in use: {error}") from None
    except (CorruptionError, FormatError) as error:
        raise StartError(str(error), exit_codes.DATA_DAMAGED) from None
    except StorageError as error:
        raise StartError(f"cannot open data directory {path}: {error}") from None
    except OSError as error:
        raise StartError(f"cannot open data directory {path}: {_reason(error)}") from None


def _reason(error: OSError) -> str:
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        return "there is a file of that name, or on the way to it"
    return error.strerror or str(error)
