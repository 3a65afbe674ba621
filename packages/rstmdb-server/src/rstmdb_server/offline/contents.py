"""What a data directory holds, read and checked without changing anything; beside a running server too.

``Contents.open`` freezes the directory (`frozen.py`) and finds the end of its log as recovery would. Under a
server the active segment grows while it is looked at, and what recovery would call damage may be a frame that
was half written when its first byte was read. So a finding at the end is looked at again::

    finding at byte p ──▶ a valid frame begins at p by now: the log has grown; it counts up to p
                      ──▶ still none after some moments: it is damage
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from typing import Final, NamedTuple

from rstmdb_core import EngineSettings, Record, RecordError, decode_record
from rstmdb_server.offline.errors import OfflineError
from rstmdb_server.offline.frozen import FrozenFiles
from rstmdb_server.offline.terminal import Progress
from rstmdb_storage import (
    CorruptionError,
    FileSystem,
    FormatError,
    LogRecord,
    OsFileSystem,
    SnapshotInfo,
    SnapshotStore,
)
from rstmdb_storage.datadir import DATA_FORMAT
from rstmdb_storage.frame import KIND_GROUP
from rstmdb_storage.frame_decoder import WINDOW_BYTES, Frame, decode_records, follows, take_frames
from rstmdb_storage.segment import SEGMENT_HEADER_BYTES, Segment
from rstmdb_storage.survey import Survey, survey

UNBOUNDED: Final = EngineSettings(idempotency_bytes_max=1 << 62, tombstone_bytes_max=1 << 62)
"""For replays outside a server: keys go by their time alone, since nobody knows here how many bytes the
server's configuration gives them. A server that opens the result applies its own bounds."""

_MOMENTS = 8
_MOMENT_SECONDS = 0.02
_FREEZES = 10
_FORMAT_LINE = re.compile(rb"rstmdb (?:data directory|backup), format (\d{1,9})\n")


class LogFrame(NamedTuple):
    """One verified frame.

    Attributes:
        path: The segment it stands in.
        position: Where it begins there.
        frame: Its header; `frame.offset` means nothing here.
        records: The records of a group, none for a mark or an epoch.
    """

    path: str
    position: int
    frame: Frame
    records: list[LogRecord]


class Contents:
    """A data directory, frozen, surveyed and open for reading.

    Attributes:
        root: Where it is.
        files: Its files.
        snapshots: Its snapshots; `snapshots.damage` says which are not good.
        survey: Its segments and the end of its log.
    """

    def __init__(self, files: FrozenFiles, snapshots: SnapshotStore, found: Survey) -> None:
        self.root = files.root
        self.files = files
        self.snapshots = snapshots
        self.survey = found

    @classmethod
    def open(cls, root: str, *, fs: FileSystem | None = None) -> Contents:
        """Freeze a directory and find the end of its log.

        Raises:
            OfflineError: There is no such directory.
            FormatError: It is not of this format.
            CorruptionError: The log is damaged.
            OSError: It cannot be read.
        """
        inner = fs or OsFileSystem()
        if not inner.exists(root):
            raise OfflineError(f"{root}: no such directory")
        for freeze in range(_FREEZES):
            files = FrozenFiles(inner, root)
            try:
                check_format(files)
                snapshots = SnapshotStore(files, f"{files.root}/snapshots", read_only=True)
                infos = snapshots.infos()
                found = _settled_survey(files, infos[-1].sequence if infos else 0)
                oldest = min((info.sequence for info in infos), default=0)
                reaches = not found.segments or found.segments[0].header.after_sequence <= oldest
                if reaches or not files.changed() or freeze == _FREEZES - 1:
                    return cls(files, snapshots, found)
            except CorruptionError:
                # Compaction may have passed by between the two lists.
                if not files.changed() or freeze == _FREEZES - 1:
                    files.close()
                    raise
            except BaseException:
                files.close()
                raise
            files.close()
        raise AssertionError("unreachable")

    @property
    def segments(self) -> list[Segment]:
        """The segments, oldest first."""
        return self.survey.segments

    @property
    def oldest_sequence(self) -> int:
        """The first sequence that the log still holds."""
        return self.segments[0].header.first_sequence if self.segments else self.survey.next_sequence

    @property
    def from_the_beginning(self) -> bool:
        """Whether the log holds everything since the database was made."""
        return bool(self.segments) and self.segments[0].header.after_sequence == 0

    def usable_snapshots(self) -> list[SnapshotInfo]:
        """Return the snapshots from which the log leads on without a gap, oldest first."""
        if not self.segments:
            return []
        after = self.segments[0].header.after_sequence
        return [info for info in self.snapshots.infos() if info.sequence >= after]

    def end_of(self, segment: Segment) -> int:
        """Return where the frames of a segment end."""
        return self.survey.end if segment.end is None else segment.end

    def frames(self, *, from_sequence: int = 0, progress: Progress | None = None) -> Iterator[LogFrame]:
        """Yield the frames of the log in order, each verified, and each following on the one before.

        Args:
            from_sequence: Begin with the segment that holds this.
            progress: Told how far the reading is.

        Raises:
            CorruptionError: A frame is damaged or missing.
        """
        segments = self.segments
        at = 0
        while at + 1 < len(segments) and segments[at + 1].header.first_sequence <= from_sequence:
            at += 1
        last_effect = expected = -1
        for segment in segments[at:]:
            header = segment.header
            if expected >= 0 and (
                header.first_sequence < expected
                or (last_effect >= 0 and header.after_sequence != last_effect)
            ):
                raise CorruptionError(
                    segment.path,
                    24,
                    f"the segment begins at {header.first_sequence} behind effect {header.after_sequence}, "
                    f"but the one before ends with effect {last_effect}",
                )
            expected = header.first_sequence
            if progress is not None:
                progress(f"reading {segment.path}, from sequence {expected}")
            for item in self._frames_of(segment):
                yield item
                if item.records:
                    last_effect = item.frame.first_sequence + item.frame.effects - 1
                    expected = last_effect + 1
                else:
                    expected = item.frame.first_sequence

    def records(
        self, *, from_sequence: int = 0, progress: Progress | None = None
    ) -> Iterator[tuple[LogFrame, LogRecord, Record]]:
        """Yield the records whose last effect is at or after a sequence, decoded, with their frames.

        Raises:
            CorruptionError: A frame is damaged, or holds what is no record.
        """
        for item in self.frames(from_sequence=from_sequence, progress=progress):
            for entry in item.records:
                if entry.first_sequence + entry.count > from_sequence:
                    yield item, entry, decoded(item, entry)

    def close(self) -> None:
        """Close the files."""
        self.files.close()

    def __enter__(self) -> Contents:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _frames_of(self, segment: Segment) -> Iterator[LogFrame]:
        path, end = segment.path, self.end_of(segment)
        file = self.files.open(path)
        expected, epoch = segment.header.first_sequence, segment.header.epoch
        position = SEGMENT_HEADER_BYTES
        while position < end:
            window = file.pread(min(end - position, WINDOW_BYTES), position)
            frames, stop, needed = take_frames(window, 0, sys.maxsize)
            if not frames and len(window) < needed <= end - position:
                window = file.pread(needed, position)
                frames, stop, _ = take_frames(window, 0, sys.maxsize)
            if not frames:
                raise CorruptionError(
                    path, position, f"no valid frame, where sequence {expected} should follow"
                )
            for frame in frames:
                at = position + frame.offset
                if not follows(frame, expected, epoch):
                    raise CorruptionError(
                        path,
                        at,
                        f"a frame of sequence {frame.first_sequence}, epoch {frame.epoch} stands where "
                        f"sequence {expected}, epoch {epoch} should follow",
                    )
                records: list[LogRecord] = []
                if frame.kind == KIND_GROUP:
                    found = decode_records(window, frame)
                    if found is None:
                        raise CorruptionError(path, at, "the tables of a group contradict its header")
                    records = found
                    expected = frame.first_sequence + frame.effects
                else:
                    expected, epoch = frame.first_sequence, frame.epoch
                yield LogFrame(path, at, frame, records)
            position += stop


def decoded(item: LogFrame, entry: LogRecord) -> Record:
    """Decode a record of a frame.

    Raises:
        CorruptionError: It is none; names the frame.
    """
    try:
        record = decode_record(entry.body, entry.first_sequence)
    except RecordError as error:
        raise CorruptionError(item.path, item.position, f"sequence {entry.first_sequence}: {error}") from None
    if len(record.effects) != entry.count:
        raise CorruptionError(
            item.path,
            item.position,
            f"sequence {entry.first_sequence}: the record holds {len(record.effects)} effects, the log says "
            f"{entry.count}",
        )
    return record


def check_format(files: FrozenFiles) -> None:
    """Check that this version reads the directory.

    Raises:
        FormatError: It does not.
    """
    path = f"{files.root}/FORMAT"
    if not files.exists(path):
        hint = (
            "; a directory of the original server has to be imported"
            if files.exists(f"{files.root}/wal")
            else ""
        )
        raise FormatError(path, f"missing: this is not a data directory{hint}")
    text = files.open(path).pread(256, 0)
    match = _FORMAT_LINE.fullmatch(text)
    if match is None:
        raise FormatError(path, f"says {text[:60]!r}: this is not a data directory of rstmdb")
    if int(match[1]) != DATA_FORMAT:
        raise FormatError(path, f"says format {int(match[1])}; this version reads format {DATA_FORMAT}")


def _settled_survey(files: FrozenFiles, snapshot_sequence: int) -> Survey:
    """Survey the log; see the module docstring for one that grows meanwhile.

    Raises:
        CorruptionError: It is damaged.
    """
    wal = f"{files.root}/wal"
    for moment in range(_MOMENTS + 1):
        try:
            return survey(files, wal, snapshot_sequence=snapshot_sequence)
        except CorruptionError as error:
            path, position = error.path, error.position
            active = [name for name in files.paths if name.endswith(".wal")][-1:]
            if [path] != active or position < SEGMENT_HEADER_BYTES or moment == _MOMENTS:
                raise
            frame = _frame_at(files, path, position)
            if frame is None:
                time.sleep(_MOMENT_SECONDS)
                continue
            files.cap(path, position)
            found = survey(files, wal, snapshot_sequence=snapshot_sequence)
            if found.end != position or not follows(frame, found.next_sequence, found.epoch):
                # Whole and out of place: no server writes that.
                raise
            return found
    raise AssertionError("unreachable")


def _frame_at(files: FrozenFiles, path: str, position: int) -> Frame | None:
    file = files.open(path)
    window = file.pread(WINDOW_BYTES, position)
    frames, _, needed = take_frames(window, 0, 1)
    if not frames and needed > len(window):
        frames, _, _ = take_frames(file.pread(needed, position), 0, 1)
    return frames[0] if frames else None
