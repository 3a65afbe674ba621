"""What happens to a connection, told to the application.

```
(none) --Connected--> up --Disconnected--> down --Connected(reconnected=True)--> up
                                            down --ConnectFailed--> down          any --Closed--> end
```

A listener is a plain function. It is called at once, from the task or thread that noticed, and must not
block; what it raises is logged and goes no further.
"""

import logging
from collections.abc import Callable

import msgspec

__all__ = ["Closed", "ConnectFailed", "Connected", "ConnectionEvent", "Disconnected", "announce", "log"]

log: logging.Logger = logging.getLogger("rstmdb_client")


class ConnectionEvent(msgspec.Struct, frozen=True):
    """The base of all connection events.

    Attributes:
        endpoint: the address, `host:port`.
        purpose: `calls` for the connection that carries calls, `watch` for that of one watch.
    """

    endpoint: str
    purpose: str


class Connected(ConnectionEvent, frozen=True):
    """A connection is ready: greeted and, with a token, authenticated."""

    server: str = ""
    features: frozenset[str] = frozenset()
    reconnected: bool = False


class ConnectFailed(ConnectionEvent, frozen=True):
    """An attempt to connect failed."""

    reason: str = ""


class Disconnected(ConnectionEvent, frozen=True):
    """A connection was lost."""

    reason: str = ""


class Closed(ConnectionEvent, frozen=True):
    """A connection was closed by this side."""


def announce(listener: Callable[[ConnectionEvent], None] | None, event: ConnectionEvent) -> None:
    """Log an event and tell the listener, whose faults stay here."""
    if isinstance(event, (ConnectFailed, Disconnected)):
        log.warning("%s (%s) %s", type(event).__name__, event.purpose, event.reason)
    else:
        log.debug("%s %s (%s)", type(event).__name__, event.endpoint, event.purpose)
    if listener is None:
        return
    try:
        listener(event)
    except Exception:
        log.exception("the connection listener failed on %s", type(event).__name__)
