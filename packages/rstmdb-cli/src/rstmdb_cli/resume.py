"""The resume file of a watch: how far the output has come, so that a restart goes on without gap or repeat.

One line of JSON, padded to a constant width, so that it is replaced by one small write in place:

    {"done":41,"pending":42,"file":[64768,1311],"position":9000,"length":210}

- `done`: every event up to this offset has left.
- `pending`, when standard output is a regular file: the event about to be written, the file it goes to,
  where, and how long its line is. After a kill the file itself tells whether the line got there: whole (it
  is done), in part (the part is cut off) or not at all. So every event is in the file once, whatever kills
  the process.
- Into a pipe or terminal nobody can see what the reader got: `done` is written after the line. A process
  that is asked to stop (SIGINT, SIGTERM, SIGHUP) finishes the event first, so nothing repeats; after
  SIGKILL or a crash the last event may come twice, and its `wal_offset` says so.

The kernel keeps the file across the death of the process. Against a power cut it is not synced.
"""

import json
import os
import stat
from typing import Any

from rstmdb_cli.exit_codes import ExitCode
from rstmdb_cli.failures import Failure

WIDTH = 160
"""Bytes of the file: five integers below 2**64 and their names fit."""


class ResumeFile:
    """Remembers the last event that left.

    Args:
        path: The file; made when it does not exist.
        output_fd: The descriptor that events are written to.

    Raises:
        Failure: The file cannot be used, or is not a resume file.
    """

    def __init__(self, path: str, *, output_fd: int) -> None:
        self.path = path
        self._output_fd = output_fd
        status = os.fstat(output_fd)
        self._file = [status.st_dev, status.st_ino] if stat.S_ISREG(status.st_mode) else None
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            text = os.pread(self._fd, 4096, 0)
        except OSError as error:
            raise Failure(f"cannot use the resume file {path}: {error.strerror}") from None
        self.done: int | None = self._settle(text)
        self._position = self._end() if self._file is not None else 0
        if self.done is not None:
            self._write({"done": self.done})

    def position_unknown(self) -> None:
        """Treat the output as a pipe: events go to a command, which may or may not write there."""
        self._file = None

    @property
    def exact(self) -> bool:
        """Whether the output is a file, where even a kill repeats nothing."""
        return self._file is not None

    def _end(self) -> int:
        return os.fstat(self._output_fd).st_size

    def _settle(self, text: bytes) -> int | None:
        """Read the file, and find out what became of an event that was pending."""
        if not text.strip():
            return None
        try:
            kept: dict[str, Any] = json.loads(text)
            done, pending = kept.get("done"), kept.get("pending")
            if not isinstance(done, int):
                raise TypeError
            if pending is None or kept["file"] != self._file:
                return done
            size, position, length = self._end(), int(kept["position"]), int(kept["length"])
        except (ValueError, TypeError, KeyError, AttributeError):
            raise Failure(
                f"{self.path} is not a resume file",
                hint="name another file, or remove this one to begin anew",
                code=ExitCode.USAGE,
            ) from None
        if size >= position + length:
            return int(pending)
        if size > position:
            os.ftruncate(self._output_fd, position)
        return done

    def begin_at(self, offset: int) -> None:
        """Remember where a first watch starts: what comes after it must not be missed by the next."""
        self.done = offset
        self._write({"done": offset})

    def before(self, offset: int, length: int) -> None:
        """Note, for a regular file, the line that is about to be written.

        Args:
            offset: The event's offset.
            length: The line's length in bytes.
        """
        if self._file is not None:
            self._write(
                {
                    "done": self.done,
                    "pending": offset,
                    "file": self._file,
                    "position": self._position,
                    "length": length,
                }
            )
            self._position += length

    def after(self, offset: int) -> None:
        """Note that an event has left."""
        self.done = offset
        if self._file is None:
            self._write({"done": offset})

    def close(self) -> None:
        """Write down the last event and let go of the file."""
        if self.done is not None:
            self._write({"done": self.done})
        os.close(self._fd)

    def _write(self, kept: dict[str, Any]) -> None:
        line = json.dumps(kept, separators=(",", ":")).encode()
        assert len(line) < WIDTH
        os.pwrite(self._fd, line.ljust(WIDTH - 1) + b"\n", 0)
