"""Write-ahead log, snapshots and compaction of rstmdb."""

from rstmdb_storage.commit import CommitPolicy, FsyncMode, FsyncPolicy
from rstmdb_storage.config import LogConfig
from rstmdb_storage.datadir import DataDirectory
from rstmdb_storage.errors import (
    CorruptionError,
    DiskFull,
    FormatError,
    LockedError,
    LogClosed,
    LogPoisoned,
    SequenceTrimmed,
    StaleEpoch,
    StorageError,
)
from rstmdb_storage.filesystem import File, FileSystem, Lock, OsFileSystem
from rstmdb_storage.interface import (
    Commit,
    Log,
    LogReader,
    LogRecord,
    LogStatistics,
    SegmentInfo,
    TrimResult,
)
from rstmdb_storage.jobs import Preparation, Trimming
from rstmdb_storage.log import EmbeddedLog
from rstmdb_storage.recovery import Progress, RecoveryReport

__all__ = [
    "Commit",
    "CommitPolicy",
    "CorruptionError",
    "DataDirectory",
    "DiskFull",
    "EmbeddedLog",
    "File",
    "FileSystem",
    "FormatError",
    "FsyncMode",
    "FsyncPolicy",
    "Lock",
    "LockedError",
    "Log",
    "LogClosed",
    "LogConfig",
    "LogPoisoned",
    "LogReader",
    "LogRecord",
    "LogStatistics",
    "OsFileSystem",
    "Preparation",
    "Progress",
    "RecoveryReport",
    "SegmentInfo",
    "SequenceTrimmed",
    "StaleEpoch",
    "StorageError",
    "TrimResult",
    "Trimming",
]
