"""The state: everything the log's effects add up to.

    State
      next_sequence, time_ms, entry_count     where the fold stands
      machines      name -> version -> Machine
      instances     id -> Instance            also by ordinal in `table`, by machine and state in `index`
      tombstones    id -> Tombstone           deleted lately
      idempotency   scope -> KeyEntry         answers of keyed requests

Only `engine.apply` changes it. Nothing in it depends on the clock or on chance, so two states that applied
the same records are equal, which `dump.digest` shows.
"""

import msgspec

from rstmdb_core import limits
from rstmdb_core.idempotency import BoundedTable, KeyEntry
from rstmdb_core.index import InstanceIndex
from rstmdb_core.instance import Instance, Machine, Tombstone
from rstmdb_core.table import PagedTable


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a host may choose. Changing them between two runs never makes a log unreadable.

    Attributes:
        idempotency_retention_ms: How long a key is remembered.
        idempotency_bytes_max: Memory for all keys; the oldest go first.
        tombstone_bytes_max: Memory for the tombstones of deleted instances; the oldest go first.
        machine_versions_max: Versions of one machine, 0 for no limit.
        machines_max: Machine versions altogether.
        allow_instance_recreate: Whether the id of a deleted instance may be used again.
        ctx_bytes_max: Largest context or payload, as compact JSON.
        definition_bytes_max: Largest definition, as canonical JSON.
        answer_bytes_max: Largest answer.
        batch_operations_max: Operations of one BATCH.
    """

    idempotency_retention_ms: int = limits.IDEMPOTENCY_RETENTION_MS
    idempotency_bytes_max: int = limits.IDEMPOTENCY_BYTES_MAX
    tombstone_bytes_max: int = limits.TOMBSTONE_BYTES_MAX
    machine_versions_max: int = 0
    machines_max: int = limits.MACHINES_MAX
    allow_instance_recreate: bool = True
    ctx_bytes_max: int = limits.CONTEXT_BYTES_MAX
    definition_bytes_max: int = limits.DEFINITION_BYTES_MAX
    answer_bytes_max: int = limits.ANSWER_BYTES_MAX
    batch_operations_max: int = limits.BATCH_OPERATIONS_MAX


class State:
    """The fold of all records so far.

    Attributes:
        settings: What the host chose.
        next_sequence: The sequence of the next effect; the first is 1.
        time_ms: Time of the last record, Unix milliseconds.
        entry_count: Effects ever applied; unlike the sequence it never jumps.
        machines: name -> version -> machine.
        instances: Live instances by id.
        table: The same by ordinal, in creation order.
        index: The same by machine and state.
        tombstones: Instances deleted lately.
        idempotency: Remembered keys.
    """

    __slots__ = (
        "entry_count",
        "idempotency",
        "index",
        "instances",
        "machines",
        "next_sequence",
        "settings",
        "table",
        "time_ms",
        "tombstones",
    )

    def __init__(self, settings: EngineSettings | None = None, *, time_ms: int = 0) -> None:
        self.settings = settings or EngineSettings()
        self.next_sequence = 1
        self.time_ms = time_ms
        self.entry_count = 0
        self.machines: dict[str, dict[int, Machine]] = {}
        self.instances: dict[str, Instance] = {}
        self.table: PagedTable[Instance] = PagedTable()
        self.index = InstanceIndex()
        self.tombstones: BoundedTable[Tombstone] = BoundedTable()
        self.idempotency: BoundedTable[KeyEntry] = BoundedTable()

    def skip_to(self, sequence: int) -> None:
        """Leave out sequences, after the log jumped: the next effect gets `sequence`.

        Args:
            sequence: The log's next sequence, not below the state's.
        """
        assert sequence >= self.next_sequence, "sequences only grow"
        self.next_sequence = sequence

    def instance(self, instance_id: str) -> Instance | None:
        """Return a live instance, or None."""
        return self.instances.get(instance_id)

    def machine_of(self, instance_id: str) -> str | None:
        """Return the name of a live instance's machine, or None."""
        instance = self.instances.get(instance_id)
        return None if instance is None else instance.machine

    def counts_by_state(self) -> dict[tuple[str, str], int]:
        """Return how many instances each machine has in each of its states, leaving out empty ones."""
        return {
            (machine, state): members.count
            for machine, group in self.index.groups.items()
            for state, members in group.states.items()
            if members.count
        }

    @property
    def instance_count(self) -> int:
        """Live instances."""
        return len(self.instances)

    @property
    def machine_version_count(self) -> int:
        """Machine versions altogether."""
        return sum(map(len, self.machines.values()))
