"""Telling the service manager what the server is doing: sd_notify datagrams, without a library.

```
datagram = 1*( NAME "=" value LF )     to the Unix socket $NOTIFY_SOCKET; "@name" is the abstract name

READY=1                                serving (also: a reload is done)
RELOADING=1, MONOTONIC_USEC=<µs>       reading the configuration again; READY=1 ends it
STOPPING=1                             draining
WATCHDOG=1                             alive; wanted every $WATCHDOG_USEC, sent twice as often
STATUS=<one line>                      what `systemctl status` shows
EXTEND_TIMEOUT_USEC=<µs>               recovery takes longer than the unit's time-out, and is going on
```

Without a socket everything does nothing. A manager that does not listen never holds the server up: the socket
does not block, and a datagram that cannot be sent is lost.
"""

import contextlib
import os
import socket
import time
from collections.abc import Mapping


class Notifier:
    """Speaks to the service manager that the environment names, or to nobody.

    Args:
        environ: `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` are read.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        if address.startswith("@"):
            address = "\0" + address[1:]
        # Other forms (vsock:...) belong to virtual machines.
        self._address = address if address.startswith(("/", "\0")) else None
        self.watchdog_interval_seconds = _watchdog_interval(environ)
        self._watchdog_due = 0.0

    @property
    def listened(self) -> bool:
        """Whether somebody wants to know."""
        return self._address is not None

    def ready(self, status: str = "") -> None:
        """Say that the server serves; `status` is what it says of itself."""
        self._send("READY=1", f"STATUS={_line(status)}" if status else "")

    def reloading(self) -> None:
        """Say that a reload has begun; `ready` ends it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, status: str = "draining") -> None:
        """Say that the server stops."""
        self._send("STOPPING=1", f"STATUS={_line(status)}")

    def status(self, text: str) -> None:
        """Say what is going on."""
        self._send(f"STATUS={_line(text)}")

    def extend_timeout(self, seconds: float) -> None:
        """Ask for so much more time from now on."""
        self._send(f"EXTEND_TIMEOUT_USEC={round(seconds * 1_000_000)}")

    def watchdog(self, now: float) -> None:
        """Say that the server is alive, if it is time to.

        Args:
            now: Seconds of a clock that does not go back.
        """
        if self.watchdog_interval_seconds is not None and now >= self._watchdog_due:
            self._watchdog_due = now + self.watchdog_interval_seconds
            self._send("WATCHDOG=1")

    def _send(self, *assignments: str) -> None:
        if self._address is None:
            return
        datagram = "".join(f"{assignment}\n" for assignment in assignments if assignment)
        # A socket for each: it is seldom, and nobody has to close anything.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.sendto(datagram.encode(), self._address)


def _watchdog_interval(environ: Mapping[str, str]) -> float | None:
    """Return half of what the manager waits for, or None if it does not watch this process."""
    usec = environ.get("WATCHDOG_USEC", "")
    pid = environ.get("WATCHDOG_PID", "")
    if not (usec.isascii() and usec.isdigit()) or int(usec) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 2_000_000


def _line(text: str) -> str:
    return " ".join(text.split())
