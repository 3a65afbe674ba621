"""What a subscription wants to see of the log: pure, and asked once an effect and subscription."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from rstmdb_core import EventApplied
from rstmdb_server.wire_effects import kind_of, subject_of

APPLY_ONLY = frozenset({"apply"})
"""What a watch without ``include`` wants: the published event, an applied one."""

FILTER_BYTES_MAX = 1024 * 1024
"""Memory of the names in all filters of one session: thousands of names, which nobody lists by hand."""

_NAME_BYTES = 100


class Filter:
    """Which effects a subscription wants: OR inside a list, AND across lists; an empty list wants all."""

    __slots__ = (
        "_open",
        "events",
        "from_states",
        "instance_id",
        "kinds",
        "machines",
        "size_bytes",
        "to_states",
        "visible",
    )

    def __init__(
        self,
        *,
        instance_id: str | None = None,
        machines: Iterable[str] = (),
        from_states: Iterable[str] = (),
        to_states: Iterable[str] = (),
        events: Iterable[str] = (),
        kinds: frozenset[str] = APPLY_ONLY,
        visible: Callable[[str], bool] | None = None,
    ) -> None:
        self.instance_id = instance_id
        self.machines = frozenset(machines)
        self.from_states = frozenset(from_states)
        self.to_states = frozenset(to_states)
        self.events = frozenset(events)
        self.kinds = kinds
        self.visible = visible
        # About what its names take in memory.
        self.size_bytes = sum(
            _NAME_BYTES + 4 * len(name)
            for names in (self.machines, self.from_states, self.to_states, self.events)
            for name in names
        )
        # Wants every applied event: the common case, decided once.
        self._open = "apply" in kinds and not (
            instance_id or self.machines or self.from_states or self.to_states or self.events or visible
        )

    def seen_by(self, visible: Callable[[str], bool] | None) -> Filter:
        """Return the same filter for a principal that sees these machines; None for all of them."""
        return Filter(
            instance_id=self.instance_id,
            machines=self.machines,
            from_states=self.from_states,
            to_states=self.to_states,
            events=self.events,
            kinds=self.kinds,
            visible=visible,
        )

    def wants(self, effect: Any) -> bool:
        """Return whether the effect passes."""
        if type(effect) is EventApplied and self._open:
            return True
        if kind_of(effect) not in self.kinds:
            return False
        subject = subject_of(effect)
        if self.instance_id is not None and subject.instance_id != self.instance_id:
            return False
        if self.machines and subject.machine not in self.machines:
            return False
        if self.from_states and subject.from_state not in self.from_states:
            return False
        if self.to_states and subject.to_state not in self.to_states:
            return False
        if self.events and subject.event not in self.events:
            return False
        return self.visible is None or (subject.machine is not None and self.visible(subject.machine))
