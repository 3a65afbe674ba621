"""From an operation's name to its handler, with the index under which it is counted."""

from __future__ import annotations

import difflib

import msgspec

from rstmdb_protocol import OPERATIONS
from rstmdb_server.dispatch_types import Handler
from rstmdb_server.handlers import admin, batch, events, instances, machines, negotiation, wal, watches
from rstmdb_server.metrics import OPERATION_INDEX
from rstmdb_server.services import Services


class Operation(msgspec.Struct, frozen=True):
    """An operation as the reactor sees it."""

    name: str
    index: int  # in the metrics
    exempt: bool  # allowed without authentication
    handler: Handler


class Dispatcher:
    """All operations, bound to the services that their handlers use."""

    def __init__(self, services: Services) -> None:
        handlers: dict[str, Handler] = {}
        for module in (negotiation, machines, instances, events, batch, wal, watches, admin):
            handlers.update(module.bind(services))
        assert handlers.keys() == OPERATIONS.keys(), handlers.keys() ^ OPERATIONS.keys()
        self._operations = {
            name: Operation(
                name=name,
                index=OPERATION_INDEX[name],
                exempt=not OPERATIONS[name].requires_auth,
                handler=handler,
            )
            for name, handler in handlers.items()
        }
        self.get = self._operations.get

    def suggestion(self, name: str) -> str:
        """Return ``, did you mean X?`` when an operation is spelled almost so, else nothing."""
        near = difflib.get_close_matches(name[:64].upper(), self._operations, n=1, cutoff=0.75)
        return f", did you mean {near[0]}?" if near else ""
