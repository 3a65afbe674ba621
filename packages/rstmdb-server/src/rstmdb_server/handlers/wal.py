"""WAL_READ and WAL_STATS: the log as clients see it, numbered by effect.

Pages are read, decoded and encoded off the loop. A page ends at its limit of entries or of bytes, whichever
comes first, and says where the next one begins; marks and epochs of the log are not effects and do not show.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from rstmdb_core import Refusal, decode_record
from rstmdb_protocol import EmptyParams, WalReadParams, decode_params
from rstmdb_server.answers import Deferred, bad_request
from rstmdb_server.dispatch_types import Handler
from rstmdb_server.handlers.scope import principal_of
from rstmdb_server.services import Services
from rstmdb_server.session import Session
from rstmdb_server.wire_effects import entry_of, subject_of
from rstmdb_storage import LogReader, SequenceTrimmed

PAGE_ENTRIES_MAX = 10_000
PAGE_BYTES_MAX = 8 * 1024 * 1024

SCAN_BYTES_MAX = 64 * 1024 * 1024
"""How much log one request with a filter may read before it answers with what it found so far."""

_READ_BYTES = 1024 * 1024
_READ_RECORDS = 2_000
"""At a time, when most of them will not be wanted."""

_encode = msgspec.json.encode


class Page:
    """One page in the making.

    Args:
        start: First sequence wanted.
        limit: Entries at most.
        wanted: Says whether an effect belongs on the page; None takes all.
        mention: Bytes without which a record holds no such effect, so that it need not be decoded; or None.
        client_entries: Also make ``entries`` in the shape of clients that send ``fromOffset``.
    """

    def __init__(
        self,
        start: int,
        limit: int,
        wanted: Callable[[Any], bool] | None,
        *,
        mention: bytes | None,
        client_entries: bool,
    ) -> None:
        self._next = start
        self._limit = limit
        self._wanted = wanted
        self._mention = mention
        self._client_entries = client_entries
        self._records: list[bytes] = []
        self._entries: list[bytes] = []
        self._bytes = 0
        self._full = False

    def read(self, reader: LogReader, durable: int, abandoned: Callable[[], bool]) -> bytes:
        """Fill the page from the log and return the result's JSON text. Blocking.

        Args:
            reader: Reads the log.
            durable: The last sequence that may be shown.
            abandoned: Says whether nobody waits for the page any more; then it is returned as it is.
        """
        mention = self._mention
        scanned = 0
        while (
            not self._full
            and self._limit > 0
            and self._next <= durable
            and scanned < SCAN_BYTES_MAX
            and not abandoned()
        ):
            left = self._limit - len(self._records)
            batch = reader.read(
                self._next,
                bytes_max=_READ_BYTES,
                records_max=left if self._wanted is None else max(left, _READ_RECORDS),
            )
            if not batch:
                break
            for entry in batch:
                scanned += len(entry.body)
                if mention is not None and mention not in entry.body:
                    self._next = entry.first_sequence + entry.count
                    continue
                self._take(entry.body, entry.first_sequence)
                if self._full:
                    break
        return self._result(durable)

    def _take(self, body: bytes, first_sequence: int) -> None:
        record = decode_record(body, first_sequence)
        for index, effect in enumerate(record.effects):
            sequence = first_sequence + index
            if sequence < self._next:
                continue
            if self._wanted is None or self._wanted(effect):
                fields = entry_of(effect, record.time_ms)
                entry = _encode(fields)
                size = len(entry) * (2 if self._client_entries else 1) + 64
                if len(self._records) >= self._limit or (
                    self._records and self._bytes + size > PAGE_BYTES_MAX
                ):
                    self._full = True
                    return
                self._bytes += size
                self._records.append(b'{"sequence":%d,"offset":%d,"entry":%b}' % (sequence, sequence, entry))
                if self._client_entries:
                    self._entries.append(
                        b'{"offset":%d,"type":%b,"data":%b,"timestamp":%d}'
                        % (sequence, _encode(fields["type"]), entry, record.time_ms)
                    )
            self._next = sequence + 1
        self._full = len(self._records) >= self._limit

    def _result(self, durable: int) -> bytes:
        more = self._next <= durable
        if not self._records and not more:
            self._next = durable + 1
        result = b'{"records":[%b],"next_offset":%d' % (b",".join(self._records), self._next)
        if self._client_entries:
            result += b',"entries":[%b],"hasMore":%b,"nextOffset":%d' % (
                b",".join(self._entries),
                b"true" if more else b"false",
                self._next,
            )
        return result + b"}"


class WalOperations:
    """Handlers that read the log."""

    __slots__ = ("_database", "_host", "_services")

    def __init__(self, services: Services) -> None:
        self._services = services
        self._database = services.database
        self._host = services.host

    def read(self, session: Session, params: msgspec.Raw) -> Refusal | Deferred:
        """WAL_READ."""
        p = decode_params(WalReadParams, params)
        log = self._database.log
        limit = PAGE_ENTRIES_MAX if p.limit is None else min(p.limit, PAGE_ENTRIES_MAX)
        page = Page(
            max(p.start, log.oldest_sequence),
            limit,
            self._filter(session, p.instance_id),
            mention=None if p.instance_id is None else p.instance_id.encode(),
            client_entries=p.wants_entries,
        )
        reader = log.reader()
        deferred = Deferred()

        def done(result: Any, error: BaseException | None) -> None:
            reader.close()
            if isinstance(error, SequenceTrimmed):
                # Compaction passed by while the page was read; the next try begins at the oldest effect,
                # which the log names before it removes anything.
                deferred.complete(
                    bad_request(
                        "the log was compacted while it was read, try again",
                        reason="OFFSET_COMPACTED",
                        oldest_offset=log.oldest_sequence,
                    )
                )
            elif error is not None:
                deferred.complete(
                    Refusal(code="INTERNAL_ERROR", message=f"the log cannot be read: {error}", details=None)
                )
            else:
                deferred.complete(result)

        def begin() -> None:
            durable = log.durable_sequence
            # Whoever asks and leaves would otherwise keep the threads from those who have stayed.
            self._host.run_blocking(lambda: page.read(reader, durable, lambda: session.closed), done)

        # What this client wrote just before, in the same turn, belongs on the page.
        self._services.after_durable(self._database.appended_sequence, begin)
        return deferred

    def stats(self, _session: Session, params: msgspec.Raw) -> bytes:
        """WAL_STATS."""
        decode_params(EmptyParams, params)
        database = self._database
        statistics = database.log.statistics
        return _encode(
            {
                "entry_count": database.state.entry_count,
                "segment_count": len(statistics.segments),
                "total_size_bytes": statistics.total_bytes,
                "latest_offset": database.log.next_sequence,
                "oldest_offset": database.log.oldest_sequence,
                "io_stats": {
                    "bytes_written": statistics.bytes_written,
                    "bytes_read": statistics.bytes_read,
                    "writes": statistics.writes,
                    "reads": statistics.reads,
                    "fsyncs": statistics.syncs,
                },
            }
        )

    def _filter(self, session: Session, instance_id: str | None) -> Callable[[Any], bool] | None:
        principal = principal_of(session)
        scoped = principal.scoped
        if instance_id is None and not scoped:
            return None

        def wanted(effect: Any) -> bool:
            subject = subject_of(effect)
            if instance_id is not None and subject.instance_id != instance_id:
                return False
            return not scoped or (subject.machine is not None and principal.sees(subject.machine))

        return wanted


def bind(services: Services) -> dict[str, Handler]:
    """Return the handlers of this module by operation name."""
    operations = WalOperations(services)
    return {"WAL_READ": operations.read, "WAL_STATS": operations.stats}
