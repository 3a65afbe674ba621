"""What an operation sees while it is decided: the state, or a staging layer over it.

A BATCH decides its operations one after the other, each seeing what the ones before would change. They are
staged in small dictionaries over the untouched state, which is what makes an atomic batch free to fail.

    Staging.instances, .tombstones, .idempotency: changed entries, None for removed ones, over the state's
"""

from typing import Generic, Protocol, TypeVar

from rstmdb_core.fold import advanced, created, entry_of, tombstone_of
from rstmdb_core.idempotency import KeyEntry
from rstmdb_core.instance import Instance, Machine, Tombstone
from rstmdb_core.records import Effect, EventApplied, InstanceCreated, InstanceDeleted, Key
from rstmdb_core.state import EngineSettings, State

V = TypeVar("V")
V_co = TypeVar("V_co", covariant=True)


class Lookup(Protocol[V_co]):
    """Finds a value by its key, or None."""

    def get(self, key: str, /) -> V_co | None:
        """Return the value of a key."""
        ...


class View(Protocol):
    """What deciding an operation may look at."""

    @property
    def settings(self) -> EngineSettings:
        """What the host chose."""
        ...

    @property
    def next_sequence(self) -> int:
        """The sequence the next effect gets."""
        ...

    @property
    def machines(self) -> dict[str, dict[int, Machine]]:
        """The machines: name -> version -> machine."""
        ...

    @property
    def instances(self) -> Lookup[Instance]:
        """The live instances by id."""
        ...

    @property
    def tombstones(self) -> Lookup[Tombstone]:
        """The tombstones by id."""
        ...

    @property
    def idempotency(self) -> Lookup[KeyEntry]:
        """The remembered keys by scope."""
        ...


class _Layer(Generic[V]):
    """Changes over a table."""

    __slots__ = ("_base", "_changes")

    def __init__(self, base: Lookup[V]) -> None:
        self._base = base
        self._changes: dict[str, V | None] = {}

    def get(self, key: str, /) -> V | None:
        if key in self._changes:
            return self._changes[key]
        return self._base.get(key)

    def put(self, key: str, value: V | None) -> None:
        self._changes[key] = value


class Staging:
    """A layer over a state that takes effects without changing it."""

    def __init__(self, state: State, time_ms: int) -> None:
        self.settings = state.settings
        self.machines = state.machines
        self.next_sequence = state.next_sequence
        self.instances: _Layer[Instance] = _Layer(state.instances)
        self.tombstones: _Layer[Tombstone] = _Layer(state.tombstones)
        self.idempotency: _Layer[KeyEntry] = _Layer(state.idempotency)
        self._time_ms = time_ms

    def take(self, effect: Effect, key: Key | None) -> None:
        """Take one effect of an operation and its key."""
        sequence = self.next_sequence
        kind = type(effect)
        if kind is EventApplied:
            assert isinstance(effect, EventApplied)
            instance = self.instances.get(effect.instance_id)
            assert instance is not None
            self.instances.put(
                effect.instance_id,
                advanced(instance, effect, effect.to_state, sequence, self._time_ms),
            )
        elif kind is InstanceCreated:
            assert isinstance(effect, InstanceCreated)
            machine = self.machines[effect.machine][effect.version]
            self.instances.put(effect.instance_id, created(effect, machine, sequence, self._time_ms, 0))
            self.tombstones.put(effect.instance_id, None)
        else:
            assert isinstance(effect, InstanceDeleted)
            self.instances.put(effect.instance_id, None)
            self.tombstones.put(effect.instance_id, tombstone_of(effect, sequence, 0))
        if key is not None:
            self.idempotency.put(key.scope, entry_of(key, effect, sequence, 0))
        self.next_sequence = sequence + 1
