"""Translates entries of the original's log to records of ours; what cannot be translated becomes a fault.

The rules of replay are the original's: the first PUT_MACHINE of a version counts, a CREATE of an id that is
there is passed over, an event sets state and context, a delete is final until the id is created again. Of an
instance in its snapshots only, events up to the snapshot's offset are passed over, being in it.

Idempotency keys get a whole window of time from the import on, whatever they are for. The original kept keys
of events only, in memory only; its log has the others too, so retries of those are recognised as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from rstmdb_core import (
    CreateInstance,
    DefinitionError,
    DocumentError,
    EventApplied,
    InstanceCreated,
    InstanceDeleted,
    InstanceImported,
    Key,
    MachinePut,
    Record,
    intake,
    parse_definition,
)
from rstmdb_core.answers import as_replay
from rstmdb_core.document import decode_checked, encode
from rstmdb_core.errors import quote
from rstmdb_core.idempotency import key_scope
from rstmdb_core.limits import VERSION_MAX
from rstmdb_core.operations import DELETE_MARK, apply_mark, create_mark
from rstmdb_server.offline.fresh import HistoryWriter
from rstmdb_server.offline.original_format import (
    ApplyEntry,
    CreateEntry,
    DeleteEntry,
    InstanceSnapshot,
    OriginalRecord,
    PutMachineEntry,
)

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ENVELOPE_BYTES = 8192


class Translation:
    """Takes records of the original in order and adds ours to a new directory.

    Args:
        writer: Where to.
        definitions: JSON texts to use instead of those in the log.
        all_definitions: Reads the whole log for definitions; asked once an instance comes before its
            machine, which happens after the original had compacted the machine away.
        now_ms: The time of the import.

    Attributes:
        faults: What cannot be taken over, each named.
        lost: Instances that neither log nor snapshots hold the beginning of.
        from_snapshots: How many instances came from snapshots.
    """

    def __init__(
        self,
        writer: HistoryWriter,
        definitions: dict[tuple[str, int], bytes],
        all_definitions: Callable[[], dict[tuple[str, int], bytes]],
        *,
        now_ms: int,
    ) -> None:
        self._writer = writer
        self._state = writer.state
        self._definitions = definitions
        self._all_definitions = all_definitions
        self._later: dict[tuple[str, int], bytes] | None = None
        self._now_ms = now_ms
        self._expires_ms = now_ms + self._state.settings.idempotency_retention_ms
        self._time_ms = 0
        self._snapshots: dict[str, InstanceSnapshot] = {}
        self._bad_machines: set[tuple[str, int]] = set()
        self._bad_instances: set[str] = set()
        self._deleted: set[str] = set()
        self.faults: list[str] = []
        self.lost: dict[str, None] = {}
        self.from_snapshots = 0

    def offer(self, snapshot: InstanceSnapshot) -> None:
        """Keep a snapshot of an instance, should the log not have its beginning."""
        self._snapshots[snapshot.instance_id] = snapshot

    def take(self, record: OriginalRecord) -> None:
        """Translate one record."""
        self._time_ms = max(self._time_ms, min(record.time_ms, self._now_ms))
        entry = record.entry
        try:
            match entry:
                case ApplyEntry():
                    self._apply(entry, record.offset)
                case CreateEntry():
                    self._create(entry)
                case DeleteEntry():
                    self._delete(entry)
                case PutMachineEntry():
                    self._put(entry.machine, entry.version, bytes(entry.definition))
        except (DocumentError, UnicodeEncodeError) as error:
            name = str(getattr(entry, "instance_id", ""))
            self._refuse_instance(name, str(error))

    def finish(self) -> None:
        """Add what only snapshots hold."""
        for instance_id in list(self._snapshots):
            if instance_id not in self._state.instances and instance_id not in self._deleted:
                self._from_snapshot(instance_id)

    # Entries

    def _put(self, machine: str, version: int, text: bytes) -> None:
        known = (machine, version)
        if version in self._state.machines.get(machine, {}) or known in self._bad_machines:
            return
        text = self._definitions.get(known, text)
        if not 0 <= version <= VERSION_MAX:
            self._refuse_machine(known, f"the version is not from 0 to {VERSION_MAX}")
            return
        if text == b"null":
            self._refuse_machine(known, "the log does not hold its definition")
            return
        try:
            definition = parse_definition(text, bytes_max=self._state.settings.answer_bytes_max)
            machine.encode()
        except (DefinitionError, UnicodeEncodeError) as error:
            self._refuse_machine(known, str(error))
            return
        self._add(MachinePut(machine, version, definition.canonical, definition.checksum))

    def _create(self, entry: CreateEntry) -> None:
        instance_id = entry.instance_id
        if instance_id in self._state.instances or instance_id in self._bad_instances:
            return
        self._snapshots.pop(instance_id, None)
        if not self._machine_is_good(instance_id, entry.machine, entry.version, entry.initial_state):
            return
        document, ctx = intake(
            bytes(entry.initial_ctx), place="initial_ctx", bytes_max=self._room(instance_id)
        )
        keys: list[Key] = []
        key = entry.idempotency_key
        if key is not None:
            answer = b'{"instance_id":%b,"state":%b,"wal_offset":%d}' % (
                encode(instance_id),
                encode(entry.initial_state),
                self._state.next_sequence,
            )
            scopes = [("C", instance_id, instance_id)]
            if _UUID.fullmatch(instance_id):
                # Ids that the original chose look like this: the request may have had none.
                scopes.append(("M", entry.machine, ""))
            for operation, owner, requested in scopes:
                command = CreateInstance(requested or None, entry.machine, entry.version)
                keys.append(
                    Key(
                        -1,
                        key_scope(operation, owner, key),
                        create_mark(command, document),
                        self._expires_ms,
                        as_replay(answer),
                    )
                )
        self._deleted.discard(instance_id)
        self._add(
            InstanceCreated(instance_id, entry.machine, entry.version, entry.initial_state, ctx, key), *keys
        )

    def _apply(self, entry: ApplyEntry, offset: int) -> None:
        instance_id = entry.instance_id
        if instance_id in self._bad_instances or instance_id in self._deleted:
            # The original applies events to deleted instances too; nobody should rely on those.
            return
        instance = self._state.instances.get(instance_id)
        if instance is None:
            snapshot = self._snapshots.get(instance_id)
            if snapshot is None:
                self.lost[instance_id] = None
                return
            if offset <= snapshot.wal_offset:
                return
            if not self._from_snapshot(instance_id):
                return
            instance = self._state.instances[instance_id]
        if entry.from_state != instance.state:
            self._refuse_instance(
                instance_id,
                f"event {quote(entry.event)} leaves state {quote(entry.from_state)}, but the instance is in "
                f"{quote(instance.state)}: records are missing",
            )
            return
        machine = self._state.machines[instance.machine][instance.version]
        if entry.to_state not in machine.states:
            self._refuse_instance(instance_id, f"its machine has no state {quote(entry.to_state)}")
            return
        _, ctx = intake(bytes(entry.ctx), place="ctx", bytes_max=self._room(instance_id))
        payload, document = _payload(bytes(entry.payload))
        keys = []
        key = entry.idempotency_key
        if key is not None:
            keys.append(
                Key(0, key_scope("A", instance_id, key), apply_mark(entry.event, document), self._expires_ms)
            )
        # The original keeps the last id that was given.
        event_id = instance.last_event_id if entry.event_id is None else entry.event_id
        self._add(
            EventApplied(
                instance_id,
                instance.machine,
                instance.version,
                entry.event,
                entry.from_state,
                entry.to_state,
                payload,
                ctx,
                event_id,
                key,
            ),
            *keys,
        )

    def _delete(self, entry: DeleteEntry) -> None:
        instance_id = entry.instance_id
        self._deleted.add(instance_id)
        self._snapshots.pop(instance_id, None)
        instance = self._state.instances.get(instance_id)
        if instance is None:
            return
        keys = []
        key = entry.idempotency_key
        if key is not None:
            answer = b'{"instance_id":%b,"deleted":true,"wal_offset":%d}' % (
                encode(instance_id),
                self._state.next_sequence,
            )
            keys.append(
                Key(0, key_scope("D", instance_id, key), DELETE_MARK, self._expires_ms, as_replay(answer))
            )
        self._add(
            InstanceDeleted(instance_id, instance.machine, instance.version, self._expires_ms, key), *keys
        )

    def _from_snapshot(self, instance_id: str) -> bool:
        """Add an instance as its snapshot has it; say whether that went well."""
        snapshot = self._snapshots.pop(instance_id)
        if not self._machine_is_good(instance_id, snapshot.machine, snapshot.version, snapshot.state):
            return False
        try:
            _, ctx = intake(bytes(snapshot.ctx), place="ctx", bytes_max=self._room(instance_id))
        except DocumentError as error:
            self._refuse_instance(instance_id, str(error))
            return False
        time_ms = min(max(snapshot.created_at, 0), self._now_ms)
        self._add(
            InstanceImported(
                instance_id,
                snapshot.machine,
                snapshot.version,
                snapshot.state,
                ctx,
                None,
                time_ms,
                time_ms,
            )
        )
        self.from_snapshots += 1
        return True

    # Rules

    def _machine_is_good(self, instance_id: str, machine: str, version: int, state: str) -> bool:
        known = (machine, version)
        if version not in self._state.machines.get(machine, {}) and known not in self._bad_machines:
            if self._later is None:
                self._later = self._all_definitions()
            text = self._definitions.get(known) or self._later.get(known)
            if text is not None:
                self._put(machine, version, text)
        if version not in self._state.machines.get(machine, {}):
            if known not in self._bad_machines:
                self._refuse_machine(known, "it is not in the log, which was compacted")
            self._bad_instances.add(instance_id)
            return False
        if state not in self._state.machines[machine][version].states:
            self._refuse_instance(instance_id, f"its machine has no state {quote(state)}")
            return False
        return True

    def _refuse_machine(self, machine: tuple[str, int], reason: str) -> None:
        self._bad_machines.add(machine)
        self.faults.append(f"machine {quote(machine[0])} version {machine[1]}: {reason}")

    def _refuse_instance(self, instance_id: str, reason: str) -> None:
        """Name an instance as invalid; what was added of it so far is removed again."""
        self._bad_instances.add(instance_id)
        self.faults.append(f"instance {quote(instance_id)}: {reason}")
        instance = self._state.instances.get(instance_id)
        if instance is not None:
            self._add(InstanceDeleted(instance_id, instance.machine, instance.version, self._expires_ms))

    def _room(self, instance_id: str) -> int:
        """Return how large a context may be so that the answers that show it fit a frame."""
        return self._state.settings.answer_bytes_max - 6 * len(instance_id) - _ENVELOPE_BYTES

    def _add(self, effect: Any, *keys: Key) -> None:
        self._writer.add(Record(self._state.next_sequence, self._time_ms, (effect,), keys))


def _payload(text: bytes) -> tuple[bytes, dict[str, Any]]:
    """Return a payload as it is logged, and as an object for the fingerprint of its request.

    Raises:
        DocumentError: It could not be shown to clients.
    """
    if text == b"null":
        return b"", {}
    value = decode_checked(text, place="payload")
    return encode(value), value if isinstance(value, dict) else {}
