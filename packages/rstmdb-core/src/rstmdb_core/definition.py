"""Machine definitions: parsed, validated with every fault, and in canonical form.

    {"states": [name, ...], "initial": name,
     "transitions": [{"from": name | [name, ...], "event": name, "to": name, "guard"?: text}, ...],
     "meta"?: any JSON}

Several transitions may share (state, event): they are tried in order and the first whose guard passes is
taken. The canonical form is compact JSON with the keys in the order above, `from` always an array, `guard`
and `meta` only when given, keys inside `meta` sorted, unknown keys dropped. The checksum is the SHA-256 of
it, and it is what GET_MACHINE returns and the log keeps.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

import msgspec

from rstmdb_core.document import canonical, decode_checked, encode
from rstmdb_core.errors import DefinitionError, DocumentError, Fault, GuardSyntaxError, quote
from rstmdb_core.guard import Guard, compile_guard
from rstmdb_core.guard.compiler import Test
from rstmdb_core.limits import DEFINITION_BYTES_MAX, DEFINITION_FAULTS_MAX, NAME_BYTES_MAX


class Transition(msgspec.Struct, frozen=True):
    """One transition as written, for all its source states.

    Attributes:
        sources: The states it leaves, as listed in `from`.
        event: The event that triggers it.
        to: The state it enters.
        guard: Its compiled guard, or None when it is always allowed.
        test: The guard's bare function, for the hot path.
    """

    sources: tuple[str, ...]
    event: str
    to: str
    guard: Guard | None
    test: Test | None


class Definition(msgspec.Struct, frozen=True, dict=True):
    """A valid machine definition.

    Attributes:
        states: State names in their order, as given.
        initial: The state of a new instance.
        transitions: All transitions in their order.
        meta: The author's own data, or None.
        table: state -> event -> the transitions to try, in order.
        canonical: The canonical JSON text.
        checksum: SHA-256 of the canonical text, 64 lower-case hex digits.
    """

    states: tuple[str, ...]
    initial: str
    transitions: tuple[Transition, ...]
    meta: Any
    table: dict[str, dict[str, tuple[Transition, ...]]]
    canonical: bytes
    checksum: str


def parse_definition(raw: bytes, *, bytes_max: int = DEFINITION_BYTES_MAX) -> Definition:
    """Parse and validate a definition.

    Args:
        raw: The definition's JSON text.
        bytes_max: Largest canonical form accepted, in bytes.

    Raises:
        DefinitionError: With every fault found (up to a limit), in document order.
    """
    try:
        document = decode_checked(bytes(raw), place="definition", bytes_max=bytes_max)
    except DocumentError as error:
        raise DefinitionError([Fault("", f"definition {error.reason}")]) from None
    if len(raw) > bytes_max and sum(map(len, _texts(document))) > bytes_max:
        # Its guards might take a minute to compile, and then it would be too large all the same.
        raise DefinitionError([Fault("", f"definition takes more than the limit of {bytes_max} bytes")])
    reader = _Reader()
    definition = reader.read(document)
    if definition is None:
        raise DefinitionError(reader.faults)
    if len(definition.canonical) > bytes_max:
        size = len(definition.canonical)
        raise DefinitionError([Fault("", f"definition takes {size} bytes, the limit is {bytes_max}")])
    return definition


def _texts(document: Any) -> Iterator[str]:
    """Iterate over texts that are part of the canonical form, if the document is a definition at all."""
    if not isinstance(document, dict):
        return
    holders = [document, *_members(document.get("transitions"))]
    for holder in holders:
        if isinstance(holder, dict):
            for key in ("states", "initial", "from", "event", "to", "guard"):
                value = holder.get(key)
                yield from (text for text in _members(value) if isinstance(text, str))
                if isinstance(value, str):
                    yield value


def _members(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _name_fault(name: str) -> str | None:
    if len(name.encode("utf-8", "replace")) > NAME_BYTES_MAX:
        return f"longer than {NAME_BYTES_MAX} bytes"
    return None


class _Reader:
    """Walks one decoded document and collects faults."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self._guards: dict[str, Guard] = {}

    def _fault(self, path: str, message: str, position: int | None = None) -> None:
        if len(self.faults) < DEFINITION_FAULTS_MAX:
            self.faults.append(Fault(path, message, position))

    def read(self, document: Any) -> Definition | None:
        if not isinstance(document, dict):
            self._fault("", "definition must be an object")
            return None
        states = self._states(document)
        initial = self._text(document, "initial", "")
        if initial is not None and states is not None and initial not in states:
            self._fault("initial", f"state {quote(initial)} is not in states")
        transitions = self._transitions(document, frozenset(states or ()), states is not None)
        if self.faults:
            return None
        assert states is not None
        assert initial is not None
        return _build(states, initial, transitions, document.get("meta"))

    def _states(self, document: dict[str, Any]) -> list[str] | None:
        value = document.get("states")
        if value is None:
            self._fault("states", "missing")
            return None
        if not isinstance(value, list):
            self._fault("states", "must be an array of names")
            return None
        if not value:
            self._fault("states", "must name at least one state")
            return None
        for index, name in enumerate(value):
            if not isinstance(name, str):
                self._fault(f"states[{index}]", "must be a string")
            elif (fault := _name_fault(name)) is not None:
                self._fault(f"states[{index}]", fault)
        return [name for name in value if isinstance(name, str)]

    def _text(self, holder: dict[str, Any], key: str, place: str) -> str | None:
        value = holder.get(key)
        path = f"{place}.{key}" if place else key
        if value is None:
            self._fault(path, "missing")
        elif not isinstance(value, str):
            self._fault(path, "must be a string")
        elif (fault := _name_fault(value)) is not None:
            self._fault(path, fault)
        else:
            return value
        return None

    def _transitions(self, document: dict[str, Any], states: frozenset[str], known: bool) -> list[Transition]:
        value = document.get("transitions")
        if value is None:
            self._fault("transitions", "missing")
            return []
        if not isinstance(value, list):
            self._fault("transitions", "must be an array")
            return []
        transitions = []
        for index, item in enumerate(value):
            if len(self.faults) >= DEFINITION_FAULTS_MAX:
                break
            transition = self._transition(item, f"transitions[{index}]", states, known)
            if transition is not None:
                transitions.append(transition)
        return transitions

    def _transition(self, item: Any, place: str, states: frozenset[str], known: bool) -> Transition | None:
        if not isinstance(item, dict):
            self._fault(place, "must be an object")
            return None
        sources = self._sources(item, f"{place}.from", states, known)
        event = self._text(item, "event", place)
        to = self._text(item, "to", place)
        if to is not None and known and to not in states:
            self._fault(f"{place}.to", f"state {quote(to)} is not in states")
        guard = self._guard(item.get("guard"), f"{place}.guard")
        if event is None or to is None:
            return None
        return Transition(sources, event, to, guard, None if guard is None else guard.test)

    def _sources(
        self, item: dict[str, Any], path: str, states: frozenset[str], known: bool
    ) -> tuple[str, ...]:
        value = item.get("from")
        if value is None:
            self._fault(path, "missing")
            return ()
        single = isinstance(value, str)
        if not single and not isinstance(value, list):
            self._fault(path, "must be a string or an array of strings")
            return ()
        names = [value] if single else value
        for index, name in enumerate(names):
            place = path if single else f"{path}[{index}]"
            if not isinstance(name, str):
                self._fault(place, "must be a string")
            elif known and name not in states:
                self._fault(place, f"state {quote(name)} is not in states")
        return tuple(name for name in names if isinstance(name, str))

    def _guard(self, value: Any, path: str) -> Guard | None:
        if value is None:
            return None
        if not isinstance(value, str):
            self._fault(path, "must be a string")
            return None
        guard = self._guards.get(value)
        if guard is None:
            try:
                guard = self._guards[value] = compile_guard(value)
            except GuardSyntaxError as error:
                self._fault(path, error.message, error.position)
        return guard


def _build(states: list[str], initial: str, transitions: list[Transition], meta: Any) -> Definition:
    parts: dict[str, Any] = {
        "states": states,
        "initial": initial,
        "transitions": [
            {"from": transition.sources, "event": transition.event, "to": transition.to}
            | ({} if transition.guard is None else {"guard": transition.guard.text})
            for transition in transitions
        ],
    }
    if meta is not None:
        parts["meta"] = msgspec.Raw(canonical(meta))
    text = encode(parts)
    table: dict[str, dict[str, list[Transition]]] = {}
    # One string object per state name, shared by the transitions and by every instance.
    shared = {name: name for name in states}
    for transition in transitions:
        own = msgspec.structs.replace(transition, to=shared[transition.to])
        for source in dict.fromkeys(transition.sources):
            table.setdefault(shared[source], {}).setdefault(transition.event, []).append(own)
    return Definition(
        states=tuple(states),
        initial=shared[initial],
        transitions=tuple(transitions),
        meta=meta,
        table={
            state: {event: tuple(options) for event, options in events.items()}
            for state, events in table.items()
        },
        canonical=text,
        checksum=hashlib.sha256(text).hexdigest(),
    )
