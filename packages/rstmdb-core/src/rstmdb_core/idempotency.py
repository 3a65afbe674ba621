"""Idempotency keys: what each answered, bounded in time and bytes, part of the state.

    scope        = operation letter, length of the owner, ":", owner, key
                   A apply, D delete, C create: the owner is the instance id
                   M create with an automatic id: the machine; B batch: the principal
    fingerprint  = BLAKE2b-128 of the canonical parameters without key, event_id and expectations

The table holds entries in the order in which they were stored. An entry goes when its time has passed (by
the time of the records, in buckets of about a second) or when the bytes of all exceed the budget (the
oldest first); both happen inside `apply`, from what the record says, so that a replay forgets what the live
engine forgot. Tombstones of deleted instances are kept the same way.
"""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Final, Generic, Protocol, TypeVar

import msgspec

from rstmdb_core.document import encode
from rstmdb_core.table import PagedTable

ENTRY_BYTES: Final = 480
"""Charged for each entry besides its strings and answer: what Python's objects and tables take, measured."""

_BUCKET_BITS: Final = 10
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

    Attributes:
        table: The entries by ordinal.
        size_bytes: Bytes charged for all.
    """

    __slots__ = ("_buckets", "_entries", "_swept", "size_bytes", "table")

    def __init__(self, time_ms: int = 0) -> None:
        self.table: PagedTable[E] = PagedTable()
        self.size_bytes = 0
        self._entries: dict[str, E] = {}
        self._buckets: dict[int, list[int]] = {}
        self._swept = time_ms >> _BUCKET_BITS

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
        if entry.key in entries:
            self.discard(entry.key)
        self.table.restore(entry.ordinal, entry)
        entries[entry.key] = entry
        self.size_bytes += entry.size
        bucket = entry.expires_ms >> _BUCKET_BITS
        if bucket < self._swept:
            bucket = self._swept
        ordinals = self._buckets.get(bucket)
        if ordinals is None:
            self._buckets[bucket] = [entry.ordinal]
        else:
            ordinals.append(entry.ordinal)

    def discard(self, key: str) -> None:
        """Remove the entry of a key, if there is one."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.table.remove(entry.ordinal)
            self.size_bytes -= entry.size

    def evict(self, time_ms: int, bytes_max: int) -> None:
        """Forget what has expired at a time and, oldest first, what exceeds the budget."""
        now = time_ms >> _BUCKET_BITS
        if now > self._swept:
            for bucket in self._due(now):
                for ordinal in self._buckets.pop(bucket):
                    entry = self.table.get(ordinal)
                    if entry is not None:
                        self.discard(entry.key)
            self._swept = now
        while self.size_bytes > bytes_max:
            self.discard(self.table.oldest().key)

    def clear(self) -> None:
        """Forget everything."""
        self.table.clear()
        self._entries = {}
        self._buckets = {}
        self.size_bytes = 0

    def _due(self, now: int) -> Iterable[int]:
        """Return the buckets below `now`, by counting after a short time, else by looking at all."""
        if now - self._swept <= len(self._buckets):
            return [bucket for bucket in range(self._swept, now) if bucket in self._buckets]
        return sorted(bucket for bucket in self._buckets if bucket < now)


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


def entry_size(scope: str, answer: bytes | Applied) -> int:
    """Return the bytes charged for a key."""
    kept = len(answer) if type(answer) is bytes else len(answer.ctx)  # type: ignore[union-attr]
    return ENTRY_BYTES + len(scope) + kept


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
