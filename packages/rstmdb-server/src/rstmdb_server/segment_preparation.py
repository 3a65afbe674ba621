"""Having the log's next segment made ready off the loop, so that a rotation costs no pause.

::

    IDLE --the log wants one--> PREPARING --made--> IDLE
             ^                      | failed
             +---- a pause ---------+
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rstmdb_server.world import Host
    from rstmdb_storage import EmbeddedLog

PREPARATION_PAUSE_SECONDS = 1.0
"""After a segment could not be prepared; a disk that fails is not asked again at once."""


class SegmentPreparation:
    """At most one preparation at a time; see the module docstring.

    Args:
        segments: The log whose next segment it is.
        host: Time and blocking jobs.
        log: Where failures are told.
    """

    __slots__ = ("_host", "_log", "_preparing", "_segments")

    def __init__(self, segments: EmbeddedLog, host: Host, *, log: Any) -> None:
        self._segments = segments
        self._host = host
        self._log = log
        self._preparing = False

    def tick(self) -> None:
        """Begin, if the log wants a segment and none is being made."""
        if self._preparing:
            return
        job = self._segments.segment_to_prepare()
        if job is None:
            return
        self._preparing = True

        def done(_result: object, _error: BaseException | None) -> None:
            try:
                self._segments.finish_preparation(job)
            except OSError as error:
                # Nothing was promised of this file: the rotation makes its own, or fails as a commit does.
                self._log.error("the next segment could not be prepared", error=str(error))
                self._host.call_later(PREPARATION_PAUSE_SECONDS, self._again)
            else:
                self._preparing = False

        self._host.run_blocking(job.run, done)

    def _again(self) -> None:
        self._preparing = False
