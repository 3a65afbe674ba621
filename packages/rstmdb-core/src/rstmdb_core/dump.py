"""Dump a state in chunks, load it again, and digest it.

    chunk         = msgpack array [kind, ...] of about 128 KiB; in this order:
    "state"       format, next_sequence, time_ms, entry_count, next ordinals of instances, tombstones, keys
    "machines"    [[name, version, canonical definition], ...]
    "instances"   [[machine, version, state], ...],
                  [[id, kind, ctx, last_event_id, last_offset, created_ms, updated_ms, ordinal], ...]
                  kind: index into the list before
    "tombstones"  [[id, offset, expires_ms, ordinal], ...]
    "keys"        [[scope, fingerprint, answer | parts of an applied event, expires_ms, ordinal], ...]
    "end"         instances, tombstones, keys              a dump without it is not whole

A view shares the state's pages and copies none, so it is made in microseconds and stays as it is while the
state goes on (table.py). The kinds of a chunk let loading share one string object for each machine and
state, and the version fields of the format are positions: fields are only appended.
"""

import hashlib
from collections.abc import Iterable, Iterator
from sys import intern
from typing import Any, Final

import msgspec

from rstmdb_core.definition import parse_definition
from rstmdb_core.errors import CoreError, DumpError
from rstmdb_core.fold import tombstone_size
from rstmdb_core.idempotency import Applied, KeyEntry, entry_size, scope_owner
from rstmdb_core.instance import Instance, Tombstone, make_machine
from rstmdb_core.state import EngineSettings, State
from rstmdb_core.table import PagedTable

FORMAT: Final = 1

CHUNK_BYTES: Final = 128 * 1024
"""Where a chunk is cut: making it takes well below a millisecond, so a dump fits between turns of a loop."""

_ROW_BYTES: Final = 48
_encode = msgspec.msgpack.Encoder().encode

_Row = tuple[str, int, bytes, str | None, int, int, int, int]
_Rows = tuple[str, list[tuple[str, int, str]], list[_Row]]
_decode = msgspec.msgpack.Decoder().decode
_decode_rows = msgspec.msgpack.Decoder(_Rows).decode
_Keys = tuple[str, list[tuple[str, bytes, bytes | Applied, int, int]]]
_decode_keys = msgspec.msgpack.Decoder(_Keys).decode
_INSTANCES: Final = _encode("instances")
_KEYS: Final = _encode("keys")


class StateView:
    """A state as it was when the view was made; the state may go on changing.

    Attributes:
        next_sequence: The state's next sequence then: the dump holds every effect below it.
        time_ms: The state's time then.
        instance_count: Live instances then.
    """

    def __init__(self, state: State) -> None:
        self.next_sequence = state.next_sequence
        self.time_ms = state.time_ms
        self.instance_count = len(state.instances)
        self._state = state
        self._head = [
            FORMAT,
            state.next_sequence,
            state.time_ms,
            state.entry_count,
            state.table.next_ordinal,
            state.tombstones.table.next_ordinal,
            state.idempotency.table.next_ordinal,
        ]
        self._tables = (state.table, state.tombstones.table, state.idempotency.table)
        self._machines = [
            (name, version, machine.definition.canonical)
            for name, versions in state.machines.items()
            for version, machine in versions.items()
        ]
        self._instances = state.table.share()
        self._tombstones = state.tombstones.table.share()
        self._keys = state.idempotency.table.share()
        self._counts = (len(state.instances), state.tombstones.count, state.idempotency.count)
        self._open = True

    def chunks(self) -> Iterator[bytes]:
        """Iterate over the dump; each step takes well below a millisecond."""
        yield _encode(["state", *self._head])
        yield from _cut("machines", self._machines, lambda machine: len(machine[2]))
        yield from self._instance_chunks()
        yield from _cut("tombstones", map(_tombstone_row, _walk(self._tombstones)), lambda row: len(row[0]))
        yield from _cut("keys", map(_key_row, _walk(self._keys)), _key_bytes)
        yield _encode(["end", *self._counts])

    def close(self) -> None:
        """Give the pages back; without this the state copies pages for nobody."""
        if self._open:
            self._open = False
            for table in self._tables:
                table.unshare()

    def __enter__(self) -> "StateView":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _instance_chunks(self) -> Iterator[bytes]:
        kinds: dict[tuple[str, int, str], int] = {}
        rows: list[_Row] = []
        size = 0
        for page in self._instances:
            for each in page:
                if each is None:
                    continue
                kind = (each.machine, each.version, each.state)
                number = kinds.get(kind)
                if number is None:
                    number = kinds[kind] = len(kinds)
                    size += len(kind[0]) + len(kind[2])
                ctx = each.ctx
                rows.append(
                    (
                        each.id,
                        number,
                        ctx,
                        each.last_event_id,
                        each.last_offset,
                        each.created_ms,
                        each.updated_ms,
                        each.ordinal,
                    )
                )
                size += _ROW_BYTES + len(each.id) + len(ctx)
                if size >= CHUNK_BYTES:
                    yield _encode(("instances", list(kinds), rows))
                    kinds, rows, size = {}, [], 0
        if rows:
            yield _encode(("instances", list(kinds), rows))


def dump(state: State) -> StateView:
    """Open a view of the state; close it when its chunks have been read."""
    return StateView(state)


def load(chunks: Iterable[bytes], settings: EngineSettings | None = None) -> State:
    """Rebuild a state from the chunks of a dump.

    Raises:
        DumpError: The chunks are not a whole dump that this version can read.
    """
    try:
        return _Loader(settings).load(chunks)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DumpError(f"bytes are not a chunk of this version ({error})") from None
    except (CoreError, KeyError, IndexError, TypeError, ValueError, AssertionError) as error:
        if isinstance(error, DumpError):
            raise
        raise DumpError(f"dump is not consistent ({error!r})") from None


def digest(state: State) -> str:
    """Digest everything a state holds: equal states have equal digests, whatever way they came about."""
    total = hashlib.blake2b(digest_size=16)
    with dump(state) as view:
        for chunk in view.chunks():
            total.update(chunk)
    return total.hexdigest()


def _walk(pages: list[list[Any]]) -> Iterator[Any]:
    for page in pages:
        for value in page:
            if value is not None:
                yield value


def _tombstone_row(entry: Tombstone) -> tuple[str, int, int, int]:
    return entry.key, entry.offset, entry.expires_ms, entry.ordinal


def _key_row(entry: KeyEntry) -> tuple[str, bytes, bytes | Applied, int, int]:
    return entry.key, entry.fingerprint, entry.answer, entry.expires_ms, entry.ordinal


def _key_bytes(row: tuple[str, bytes, bytes | Applied, int, int]) -> int:
    return entry_size(row[0], row[2])


def _cut(kind: str, rows: Iterable[Any], size_of: Any) -> Iterator[bytes]:
    """Encode rows in chunks of about the size that is right."""
    held: list[Any] = []
    size = 0
    for row in rows:
        held.append(row)
        size += _ROW_BYTES + size_of(row)
        if size >= CHUNK_BYTES:
            yield _encode((kind, held))
            held, size = [], 0
    if held:
        yield _encode((kind, held))


class _Loader:
    """Takes chunks in order."""

    def __init__(self, settings: EngineSettings | None) -> None:
        self._settings = settings
        self._state: State | None = None
        self._ordinals: tuple[int, int, int] = (0, 0, 0)
        self._ended = False

    def load(self, chunks: Iterable[bytes]) -> State:
        for chunk in chunks:
            if self._ended:
                raise DumpError("dump goes on after its end")
            if self._state is None:
                self._state = self._begin(chunk)
            elif chunk.startswith(_INSTANCES, 1):
                self._instances(self._state, chunk)
            elif chunk.startswith(_KEYS, 1):
                self._keys(self._state, chunk)
            else:
                self._small(self._state, chunk)
        if self._state is None or not self._ended:
            raise DumpError("dump is not whole: its end is missing")
        return self._state

    def _begin(self, chunk: bytes) -> State:
        kind, version, sequence, time_ms, entry_count, *ordinals = _decode(chunk)
        if kind != "state":
            raise DumpError("dump does not begin with its head")
        if version != FORMAT:
            raise DumpError(f"dump has format {version}, this version reads {FORMAT}")
        state = State(self._settings, time_ms=time_ms)
        state.next_sequence = sequence
        state.entry_count = entry_count
        instances, tombstones, keys = ordinals[:3]
        self._ordinals = (instances, tombstones, keys)
        return state

    def _small(self, state: State, chunk: bytes) -> None:
        kind, *rest = _decode(chunk)
        if kind == "machines":
            for name, version, text in rest[0]:
                definition = parse_definition(text, bytes_max=len(text))
                state.machines.setdefault(name, {})[version] = make_machine(name, version, definition)
        elif kind == "tombstones":
            for key, offset, expires_ms, ordinal in rest[0]:
                state.tombstones.put(Tombstone(key, offset, expires_ms, tombstone_size(key), ordinal))
        elif kind == "end":
            self._end(state, rest)
        else:
            raise DumpError(f"dump holds a chunk of unknown kind {kind!r}")

    def _instances(self, state: State, chunk: bytes) -> None:
        _, kinds, rows = _decode_rows(chunk)
        shared = []
        for name, version, state_name in kinds:
            machine = state.machines[name][version]
            group = state.index.group(machine.name)
            own = machine.states[state_name]
            shared.append((machine.name, machine.version, own, group.all.add, group.state(own).add))
        instances = state.instances
        restore = state.table.restore
        count = len(instances) + len(rows)
        for key, number, ctx, event_id, offset, created_ms, updated_ms, ordinal in rows:
            machine_name, version, state_name, add_to_machine, add_to_state = shared[number]
            instance = instances[key] = Instance(
                key,
                machine_name,
                version,
                state_name,
                ctx,
                event_id,
                offset,
                # Most instances were never changed: one integer object is enough for both times.
                updated_ms if created_ms == updated_ms else created_ms,
                updated_ms,
                ordinal,
            )
            restore(ordinal, instance)
            add_to_machine(ordinal)
            add_to_state(ordinal)
        if len(instances) != count:
            raise DumpError("dump holds an instance twice")

    def _keys(self, state: State, chunk: bytes) -> None:
        _, rows = _decode_keys(chunk)
        instances = state.instances
        for key, mark, answer, expires_ms, ordinal in rows:
            if type(answer) is Applied:
                instance = instances.get(scope_owner(key))
                if instance is not None and instance.last_offset == answer.sequence:
                    # The instance still has the context of that answer: keep it once.
                    ctx = instance.ctx
                else:
                    ctx = answer.ctx
                answer = Applied(
                    intern(answer.from_state), intern(answer.to_state), ctx, answer.sequence, answer.event_id
                )
            state.idempotency.put(KeyEntry(key, mark, answer, expires_ms, entry_size(key, answer), ordinal))

    def _end(self, state: State, counts: list[int]) -> None:
        found = [len(state.instances), state.tombstones.count, state.idempotency.count]
        if counts[:3] != found:
            raise DumpError(f"dump says it holds {counts[:3]} instances, tombstones and keys, found {found}")
        tables: tuple[PagedTable[Any], ...] = (
            state.table,
            state.tombstones.table,
            state.idempotency.table,
        )
        for table, ordinal in zip(tables, self._ordinals, strict=True):
            if ordinal < table.next_ordinal:
                raise DumpError("dump numbers its rows beyond its head")
            table.next_ordinal = ordinal
        # Here, where nobody waits: under a smaller budget than before that may be many.
        state.idempotency.trim(state.settings.idempotency_bytes_max)
        state.tombstones.trim(state.settings.tombstone_bytes_max)
        self._ended = True
