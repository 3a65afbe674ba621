"""How a stream is asked to stop: Ctrl-C, SIGTERM, SIGHUP, or a reader that closed the pipe.

    signal arrives          while waiting           while an event is on its way (`critical`)
                            raises `Stopped`        is kept until the event has left, then raises `Stopped`

A closed pipe is noticed at once, also when no event comes: a thread waits for the hang-up of standard output.
"""

import os
import select
import signal
import stat
import threading
from types import FrameType, TracebackType


class Stopped(Exception):  # noqa: N818 - it is no error
    """The stream should end.

    Attributes:
        signal_number: What asked for it; SIGPIPE when the reader has gone.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number


class Stopping:
    """Turns signals into `Stopped`, never in the middle of an event. Use as a context manager.

    Args:
        output_fd: The descriptor whose reader may go away.
    """

    def __init__(self, *, output_fd: int) -> None:
        self._output_fd = output_fd
        self._critical = False
        self._kept: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "Stopping":
        for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGPIPE"):
            number = getattr(signal, name, None)
            if number is not None:
                self._previous[number] = signal.signal(number, self._received)
        if hasattr(select, "poll") and hasattr(signal, "SIGPIPE"):
            mode = os.fstat(self._output_fd).st_mode
            if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
                threading.Thread(target=self._wait_for_hangup, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _received(self, number: int, frame: FrameType | None) -> None:
        if self._critical:
            self._kept = number
            return
        raise Stopped(number)

    def _wait_for_hangup(self) -> None:
        poller = select.poll()
        poller.register(self._output_fd, 0)
        poller.poll()
        os.kill(os.getpid(), signal.SIGPIPE)

    def begin_critical(self) -> None:
        """Keep signals back: an event is on its way."""
        self._critical = True

    def end_critical(self) -> None:
        """Let signals through again, first the one that was kept back.

        Raises:
            Stopped: A signal arrived meanwhile.
        """
        self._critical = False
        if self._kept is not None:
            number, self._kept = self._kept, None
            raise Stopped(number)
