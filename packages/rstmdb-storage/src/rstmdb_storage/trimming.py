"""Trimming: old segments leave the log, and then their files the disk.

::

    │ 1 │ 2 │ 3 │ 4 │ 5, active │
    ◀ leftovers ▶                    begin: they are no longer published, so nobody reads them any more,
                ▲                           and the oldest sequence is the one here
    ─────▶                           run:   their files go, oldest first, each durably before the next

In this order, what is left on the disk after a crash or a failure at any point has no gap. A file that could
not be removed stays a leftover, and the next trim tries again; a restart before that takes it for part of the
log.
"""

from __future__ import annotations

import errno

from rstmdb_storage.filesystem import FileSystem
from rstmdb_storage.interface import TrimResult
from rstmdb_storage.published import Published
from rstmdb_storage.segment import Segment

__all__ = ["Trimmer", "Trimming"]


class Trimming:
    """The job that removes the files.

    A file that is gone already is one whose removal an earlier trim could not sync: that is made up for.

    Attributes:
        removed: How many are gone, durably.
        bytes_reclaimed: What they took up.
        error: What made it stop early, or None.
    """

    __slots__ = ("_directory", "_fs", "_segments", "bytes_reclaimed", "error", "removed")

    def __init__(self, fs: FileSystem, directory: str, segments: tuple[Segment, ...]) -> None:
        """Make the job.

        Args:
            fs: The file system.
            directory: Where the segments are.
            segments: Whose files to remove, oldest first.
        """
        self._fs = fs
        self._directory = directory
        self._segments = segments
        self.removed = 0
        self.bytes_reclaimed = 0
        self.error: OSError | None = None

    def run(self) -> None:
        """Remove the files; blocks, may run in any thread, does not raise."""
        try:
            for segment in self._segments:
                self._remove(segment.path)
                self.removed += 1
                self.bytes_reclaimed += segment.header.file_bytes
        except OSError as error:
            self.error = error

    def _remove(self, path: str) -> None:
        try:
            self._fs.unlink(path)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
        self._fs.sync_directory(self._directory)


class Trimmer:
    """Takes segments out of a log, one trim at a time, and remembers whose files still have to go."""

    __slots__ = ("_directory", "_fs", "_job", "_leftovers", "_published")

    def __init__(self, fs: FileSystem, directory: str, published: Published) -> None:
        self._fs = fs
        self._directory = directory
        self._published = published
        self._leftovers: tuple[Segment, ...] = ()
        self._job: Trimming | None = None

    def begin(self, before_sequence: int) -> Trimming | None:
        """Publish the log without the segments that lie below a sequence; see `EmbeddedLog.begin_trim`."""
        assert self._job is None, "a trim is under way"
        durable, segments, end = self._published.state
        count = 0
        while count + 1 < len(segments) and segments[count + 1].header.first_sequence <= before_sequence:
            count += 1
        if count:
            self._leftovers += segments[:count]
            self._published.state = (durable, segments[count:], end)
        if self._leftovers:
            self._job = Trimming(self._fs, self._directory, self._leftovers)
        return self._job

    def finish(self, job: Trimming) -> TrimResult:
        """Take note of what a job has removed; see `EmbeddedLog.finish_trim`."""
        assert job is self._job, "a trim is finished that was not begun"
        self._job = None
        self._leftovers = self._leftovers[job.removed :]
        return TrimResult(
            segments_removed=job.removed,
            bytes_reclaimed=job.bytes_reclaimed,
            oldest_sequence=self._published.oldest_sequence,
        )

    def trim(self, before_sequence: int) -> TrimResult:
        """Do all of a trim at once; see `EmbeddedLog.trim`."""
        job = self.begin(before_sequence)
        if job is None:
            oldest = self._published.oldest_sequence
            return TrimResult(segments_removed=0, bytes_reclaimed=0, oldest_sequence=oldest)
        job.run()
        result = self.finish(job)
        if job.error is not None:
            raise job.error
        return result
