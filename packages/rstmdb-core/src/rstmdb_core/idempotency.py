"""Idempotency keys: what each answered, bounded in time and bytes, part of the state.

    scope        = operation letter, length of the owner, ":", owner, key
                   A apply, D delete, C create: the owner is the instance id
                   M create with an automatic id: the machine; B batch: the principal
    fingerprint  = BLAKE2b-128 of the canonical parameters without key, event_id and expectations

The table holds entries in the order in which they were stored. An entry goes when its time has passed (by
the time of the records, in buckets of about a second, a hundred or so a record) or when the bytes of all
exceed the budget (the oldest first); both happen inside `apply`, from what the record says, so that a replay
forgets what the live engine forgot. Tombstones of deleted instances are kept the same way.
"""

import hashlib
from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import islice
from typing import Final, Generic, Protocol, TypeVar

import msgspec

from rstmdb_core.document import encode
from rstmdb_core.table import PagedTable

ENTRY_BYTES: Final = 496
"""Charged for each entry besides its strings and answer: what Python's objects and tables take, measured."""

EXPIRED_A_RECORD_MAX: Final = 128
"""Expired entries that one record forgets: more than it can store, and too few for anyone to wait for."""

NEVER_MS: Final = 1 << 62
_EVENT_ID_BYTES: Final = 56
_BUCKET_BITS: Final = 10
_STALE_MAX: Final = 64
FINGERPRINT_BYTES: Final = 16


class Applied(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The answer of an APPLY_EVENT in parts; the context is usually the instance's own object."""

    from_state: str
    to_state: str
    ctx: bytes
    sequence: int
    event_id: str | None


class KeyEntry(msgspec.Struct, frozen=True, gc=False):
    """A remembered key.

    Attributes:
        key: Its scope.
        fingerprint: Fingerprint of the request that stored it.
        answer: What a replay answers: JSON text, or the parts of an applied event.
        expires_ms: When it is forgotten, Unix milliseconds.
        size: Bytes charged for it.
        ordinal: Its place in the order of storing.
    """

    key: str
    fingerprint: bytes
    answer: bytes | Applied
    expires_ms: int
    size: int
    ordinal: int

    def replay(self) -> bytes:
        """Return the answer of a replay, as JSON text."""
        answer = self.answer
        if type(answer) is bytes:
            return answer
        assert isinstance(answer, Applied)
        return applied_answer(
            False, answer.from_state, answer.to_state, answer.sequence, answer.ctx, answer.event_id
        )


class Entry(Protocol):
    """What a bounded table keeps."""

    @property
    def key(self) -> str:
        """What it is found by."""
        ...

    @property
    def expires_ms(self) -> int:
        """When it is forgotten, Unix milliseconds."""
        ...

    @property
    def size(self) -> int:
        """Bytes charged for it."""
        ...

    @property
    def ordinal(self) -> int:
        """Its place in the order of storing."""
        ...


E = TypeVar("E", bound=Entry)


class BoundedTable(Generic[E]):
    """Entries by key in the order of storing, bounded in time and bytes.

    ::

        _entries   key -> entry
        table      ordinal -> entry                         the order of storing, for the budget and for dumps
        _buckets   second of expiry -> {ordinal: entry}     for what has expired
        _order     heap of the seconds in _buckets          and of some that are there no longer

    An entry leaves all of them at once, for whatever reason it goes, so that none outgrows the entries kept.

    Attributes:
        table: The entries by ordinal.
        size_bytes: Bytes charged for all.
        due_ms: Nothing expires before this time, Unix milliseconds.
    """

    __slots__ = ("_buckets", "_entries", "_order", "due_ms", "size_bytes", "table")

    def __init__(self) -> None:
        self.table: PagedTable[E] = PagedTable()
        self.size_bytes = 0
        self.due_ms = NEVER_MS
        self._entries: dict[str, E] = {}
        self._buckets: dict[int, dict[int, E]] = {}
        self._order: list[int] = []

    @property
    def count(self) -> int:
        """Entries kept."""
        return len(self._entries)

    def get(self, key: str) -> E | None:
        """Return the entry of a key; whether it has expired is for the caller to see."""
        return self._entries.get(key)

    def values(self) -> Iterator[E]:
        """Iterate over the entries, oldest first."""
        return self.table.values()

    def put(self, entry: E) -> None:
        """Store an entry in place of any other of its key; its ordinal must not be below the next one."""
        entries = self._entries
        key, ordinal = entry.key, entry.ordinal
        if key in entries:
            self.discard(key)
        self.table.restore(ordinal, entry)
        entries[key] = entry
        self.size_bytes += entry.size
        number = entry.expires_ms >> _BUCKET_BITS
        bucket = self._buckets.get(number)
        if bucket is None:
            bucket = self._new_bucket(number)
        bucket[ordinal] = entry

    def discard(self, key: str) -> None:
        """Remove the entry of a key, if there is one."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            ordinal = entry.ordinal
            self.table.remove(ordinal)
            self.size_bytes -= entry.size
            number = entry.expires_ms >> _BUCKET_BITS
            bucket = self._buckets[number]
            del bucket[ordinal]
            if not bucket:
                del self._buckets[number]

    def evict(self, time_ms: int, bytes_max: int) -> None:
        """Forget some of what has expired at a time and, oldest first, what exceeds the budget.

        Of what has expired, at most `EXPIRED_A_RECORD_MAX` entries go at once, those that expired first; the
        next call goes on.
        """
        if time_ms >= self.due_ms:
            self._forget_expired(time_ms >> _BUCKET_BITS)
        self.trim(bytes_max)

    def trim(self, bytes_max: int) -> None:
        """Forget what exceeds the budget, oldest first."""
        while self.size_bytes > bytes_max:
            self.discard(self.table.oldest().key)

    def clear(self) -> None:
        """Forget everything."""
        self.table.clear()
        self._entries = {}
        self._buckets = {}
        self._order = []
        self.size_bytes = 0
        self.due_ms = NEVER_MS

    def _forget_expired(self, now: int) -> None:
        order, buckets = self._order, self._buckets
        left = EXPIRED_A_RECORD_MAX
        while order and order[0] < now and left:
            bucket = buckets.get(order[0])
            if bucket is None:
                heappop(order)
                continue
            for entry in list(islice(bucket.values(), left)):
                self.discard(entry.key)
                left -= 1
        self.due_ms = order[0] + 1 << _BUCKET_BITS if order else NEVER_MS

    def _new_bucket(self, number: int) -> dict[int, E]:
        order, buckets = self._order, self._buckets
        bucket = buckets[number] = {}
        heappush(order, number)
        if len(order) > 2 * len(buckets) + _STALE_MAX:
            # Emptied before their time, and perhaps filled again: most numbers here mean nothing any more.
            order[:] = sorted(buckets)
        self.due_ms = order[0] + 1 << _BUCKET_BITS
        return bucket


def key_scope(operation: str, owner: str, key: str) -> str:
    """Build a scope. The length keeps an owner and a key apart whatever they hold."""
    return f"{operation}{len(owner)}:{owner}{key}"


def scope_owner(scope: str) -> str:
    """Return the owner a scope was built with."""
    length, _, rest = scope[1:].partition(":")
    return rest[: int(length)]


def fingerprint(*parts: bytes) -> bytes:
    """Digest the parts of a request, each with its length."""
    joined = b"".join([b"%d:%b" % (len(part), part) for part in parts])
    return hashlib.blake2b(joined, digest_size=FINGERPRINT_BYTES).digest()


_EVENT_HASH: Final = hashlib.blake2b(b"5:apply", digest_size=FINGERPRINT_BYTES)


def event_fingerprint(event: bytes, payload: bytes) -> bytes:
    """Return `fingerprint(b"apply", event, payload)`, from a hash that already has the first part."""
    digest = _EVENT_HASH.copy()
    digest.update(b"%d:%b%d:%b" % (len(event), event, len(payload), payload))
    return digest.digest()


def entry_size(scope: str, answer: bytes | Applied) -> int:
    """Return the bytes charged for a key."""
    if type(answer) is bytes:
        return ENTRY_BYTES + text_bytes(scope) + len(answer)
    assert isinstance(answer, Applied)
    size = ENTRY_BYTES + text_bytes(scope) + len(answer.ctx)
    return size if answer.event_id is None else size + _EVENT_ID_BYTES + text_bytes(answer.event_id)


def text_bytes(text: str) -> int:
    """Return the bytes charged for a text: at most four a character, however few of them are wide."""
    return len(text) if text.isascii() else 4 * len(text)


def applied_answer(
    applied: bool, from_state: str, to_state: str, sequence: int, ctx: bytes, event_id: str | None
) -> bytes:
    """Build the result of an APPLY_EVENT as JSON text."""
    head = b'{"applied":true,"from_state":' if applied else b'{"applied":false,"from_state":'
    tail = b"}" if event_id is None else b',"event_id":%b}' % encode(event_id)
    return b'%b%b,"to_state":%b,"wal_offset":%d,"ctx":%b%b' % (
        head,
        encode(from_state),
        encode(to_state),
        sequence,
        ctx,
        tail,
    )
