"""What the writer of a log lets its readers see: one tuple, replaced as a whole.

::

    finish_commit ──▶ state: durable sequence, segments, end of the last one's frames ──▶ readers, figures
    begin_trim    ──▶

Below that end nothing ever changes, so readers in other threads need no lock, and see no frame half written.
A trim publishes the segments that stay before it removes the files of the others.
"""

from __future__ import annotations

from rstmdb_storage.segment import Segment

__all__ = ["Published"]


class Published:
    """What can be read of a log at this moment.

    Attributes:
        state: The durable sequence, the segments, and where the frames of the last one end.
        closed: Set when the log is closed.
    """

    __slots__ = ("closed", "state")

    def __init__(self, state: tuple[int, tuple[Segment, ...], int]) -> None:
        self.state = state
        self.closed = False

    @property
    def oldest_sequence(self) -> int:
        """The oldest sequence that can be read."""
        return self.state[1][0].header.first_sequence
