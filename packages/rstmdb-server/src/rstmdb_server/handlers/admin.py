"""COMPACT, FLUSH_ALL, STATS."""

from __future__ import annotations

import msgspec

from rstmdb_core import FlushAll, Refusal
from rstmdb_protocol import CompactParams, EmptyParams, decode_params
from rstmdb_server.answers import Deferred, bad_request
from rstmdb_server.dispatch_types import Handler
from rstmdb_server.handlers.scope import principal_of
from rstmdb_server.services import Services
from rstmdb_server.session import Session
from rstmdb_server.statistics import statistics_of


class AdminOperations:
    """Handlers for operators."""

    __slots__ = ("_services",)

    def __init__(self, services: Services) -> None:
        self._services = services

    def compact(self, _session: Session, params: msgspec.Raw) -> bytes | Refusal | Deferred:
        """COMPACT: snapshot if asked or useful, then let old log go."""
        p = decode_params(CompactParams, params)
        return self._services.compaction.request(force_snapshot=p.force_snapshot is True)

    def flush_all(self, session: Session, params: msgspec.Raw) -> bytes | Refusal:
        """FLUSH_ALL: remove everything, durably, where the configuration allows it."""
        decode_params(EmptyParams, params)
        if not self._services.settings.storage.allow_flush_all:
            return bad_request(
                "FLUSH_ALL is off; storage.allow_flush_all or RSTMDB_ALLOW_FLUSH_ALL allows it"
            )
        answer = self._services.database.execute(FlushAll())
        if self._services.audit is not None and type(answer) is bytes:
            self._services.audit(session, "FLUSH_ALL", "")
        return answer

    def stats(self, session: Session, params: msgspec.Raw) -> bytes:
        """STATS: rates, latencies, machines by state, watch lag; a scoped principal sees its machines."""
        decode_params(EmptyParams, params)
        principal = principal_of(session)
        visible = principal.sees if principal.scoped else None
        return msgspec.json.encode(statistics_of(self._services, visible=visible))


def bind(services: Services) -> dict[str, Handler]:
    """Return the handlers of this module by operation name."""
    operations = AdminOperations(services)
    return {"COMPACT": operations.compact, "FLUSH_ALL": operations.flush_all, "STATS": operations.stats}
