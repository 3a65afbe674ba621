"""Where a watch keeps its position, so that another process can go on from it.

A store loads one offset and saves one. The watch saves the offset of an event when the *next* one is asked
for, and when it is closed in good order: an event whose handling failed is seen again (at least once). Who
needs exactly once keeps `event.wal_offset` in the same transaction as what the event caused, and starts the
watch with `after_offset=`; no store is needed for that.
"""

import os
from pathlib import Path
from typing import Protocol

__all__ = ["FilePositionStore", "MemoryPositionStore", "PositionStore"]


class PositionStore(Protocol):
    """A place for one offset. Both methods may block; an async watch calls them in a worker thread."""

    def load(self) -> int | None:
        """Return the saved offset, or None when there is none."""

    def save(self, offset: int) -> None:
        """Keep the offset."""


class MemoryPositionStore:
    """Keeps an offset as long as the process lives.

    Attributes:
        offset: the offset kept, or None.
    """

    def __init__(self, offset: int | None = None) -> None:
        self.offset = offset

    def load(self) -> int | None:
        """Return the offset."""
        return self.offset

    def save(self, offset: int) -> None:
        """Keep the offset."""
        self.offset = offset


class FilePositionStore:
    """Keeps an offset in a small file, replaced as a whole.

    A crash of the process leaves the old or the new offset, never half of one. After a power cut the file
    may hold an older offset, and events are seen again.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)

    def load(self) -> int | None:
        """Return the offset in the file, or None when there is no file.

        Raises:
            ValueError: the file holds something else.
        """
        try:
            text = self._path.read_text("ascii")
        except FileNotFoundError:
            return None
        return int(text)

    def save(self, offset: int) -> None:
        """Replace the file."""
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}.new")
        temporary.write_text(f"{offset}\n", "ascii")
        temporary.replace(self._path)
