"""Write-ahead log, snapshots and compaction of rstmdb."""

from rstmdb_storage.commit import CommitPolicy, FsyncMode, FsyncPolicy
from rstmdb_storage.compaction import (
    CompactionResult,
    LogProgress,
    Retention,
    SnapshotTriggers,
    should_snapshot,
    trim_point,
)
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
from rstmdb_storage.jobs import Preparation
from rstmdb_storage.log import EmbeddedLog
from rstmdb_storage.offline import open_offline
from rstmdb_storage.opening import RecoveryReport
from rstmdb_storage.snapshot import Snapshot, SnapshotFailed, SnapshotInfo, SnapshotStore, SnapshotWriter
from rstmdb_storage.survey import Survey
from rstmdb_storage.tail import Progress
from rstmdb_storage.trimming import Trimming

__all__ = [
    "Commit",
    "CommitPolicy",
    "CompactionResult",
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
    "LogProgress",
    "LogReader",
    "LogRecord",
    "LogStatistics",
    "OsFileSystem",
    "Preparation",
    "Progress",
    "RecoveryReport",
    "Retention",
    "SegmentInfo",
    "SequenceTrimmed",
    "Snapshot",
    "SnapshotFailed",
    "SnapshotInfo",
    "SnapshotStore",
    "SnapshotTriggers",
    "SnapshotWriter",
    "StaleEpoch",
    "StorageError",
    "Survey",
    "TrimResult",
    "Trimming",
    "open_offline",
    "should_snapshot",
    "trim_point",
]
