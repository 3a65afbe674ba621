"""Advice for authors: what is valid in a definition but hardly meant.

    invalid             a fault that PUT_MACHINE would refuse
    unreachable-state   no path of transitions leads there from the initial state
    dead-end            a state without a way out (an information: final states are such)
    trap                a state from which no state without a way out can be reached, though there are some
    shadowed            a transition behind one that is always taken for the same state and event
    constant-guard      a guard that is the same for every context
    repeated-guard      a guard equal to an earlier one for the same state and event
    duplicate-state     a state named twice
    duplicate-source    a state listed twice in one `from`
    no-source           a transition whose `from` is empty
    odd-field           a field with an empty step, such as `ctx.a.`

Constancy is decided exactly, over the comparisons a guard makes, when it makes few of them.
"""

from collections.abc import Iterator

import msgspec

from rstmdb_core.definition import Definition, parse_definition
from rstmdb_core.errors import DefinitionError, quote
from rstmdb_core.guard.constancy import constant_value, normal_form

Constant = dict[str, bool | None]
"""Guard text -> the value it has for every context, or None."""


class Finding(msgspec.Struct, frozen=True):
    """One piece of advice.

    Attributes:
        rule: Which rule, as listed in the module's documentation.
        severity: `error`, `warning` or `information`.
        path: Place in the definition, such as `transitions[2].guard`.
        message: What is odd there.
    """

    rule: str
    severity: str
    path: str
    message: str


def lint_definition(raw: bytes) -> list[Finding]:
    """Check a definition's JSON text for faults and oddities, in no more than one pass each.

    An invalid definition yields its faults alone.
    """
    try:
        definition = parse_definition(raw)
    except DefinitionError as error:
        return [Finding("invalid", "error", fault.path, fault.message) for fault in error.faults]
    constant = {
        transition.guard.text: constant_value(transition.guard)
        for transition in definition.transitions
        if transition.guard is not None
    }
    return [
        *_duplicates(definition),
        *_reachability(definition, constant),
        *_guards(definition, constant),
        *_order(definition, constant),
    ]


def _duplicates(definition: Definition) -> Iterator[Finding]:
    seen: set[str] = set()
    for index, state in enumerate(definition.states):
        if state in seen:
            yield Finding(
                "duplicate-state", "warning", f"states[{index}]", f"state {quote(state)} is named twice"
            )
        seen.add(state)
    for index, transition in enumerate(definition.transitions):
        path = f"transitions[{index}].from"
        if not transition.sources:
            yield Finding("no-source", "warning", path, "transition leaves no state")
        if len(set(transition.sources)) < len(transition.sources):
            yield Finding("duplicate-source", "warning", path, "a state is listed twice")


def _reachability(definition: Definition, constant: Constant) -> Iterator[Finding]:
    """Walk the live transitions, forwards from the initial state and backwards from the dead ends."""
    forward: dict[str, set[str]] = {state: set() for state in definition.states}
    backward: dict[str, set[str]] = {state: set() for state in definition.states}
    for state, events in definition.table.items():
        for options in events.values():
            for option in options:
                value = True if option.guard is None else constant[option.guard.text]
                if value is not False:
                    forward[state].add(option.to)
                    backward[option.to].add(state)
                if value is True:
                    break
    reached = _closure({definition.initial}, forward)
    ends = {state for state, targets in forward.items() if not targets - {state}}
    escaping = _closure(ends, backward)
    named: set[str] = set()
    for index, state in enumerate(definition.states):
        path = f"states[{index}]"
        if state in named:
            continue
        named.add(state)
        if state not in reached:
            yield Finding(
                "unreachable-state",
                "warning",
                path,
                f"state {quote(state)} cannot be reached from the initial one",
            )
        elif state in ends:
            yield Finding("dead-end", "information", path, f"state {quote(state)} has no way out")
        elif ends & reached and state not in escaping:
            yield Finding("trap", "warning", path, f"state {quote(state)} leads to no final state")


def _closure(start: set[str], edges: dict[str, set[str]]) -> set[str]:
    reached = set(start)
    waiting = list(start)
    while waiting:
        for target in edges[waiting.pop()]:
            if target not in reached:
                reached.add(target)
                waiting.append(target)
    return reached


def _guards(definition: Definition, constant: Constant) -> Iterator[Finding]:
    for index, transition in enumerate(definition.transitions):
        guard = transition.guard
        if guard is None:
            continue
        path = f"transitions[{index}].guard"
        value = constant[guard.text]
        if value is not None:
            always = "passes" if value else "fails"
            yield Finding("constant-guard", "warning", path, f"guard {always} for every context")
        for field in guard.fields:
            if "" in field.split(".")[1:]:
                yield Finding("odd-field", "warning", path, f"field {quote(field)} has an empty step")


def _order(definition: Definition, constant: Constant) -> Iterator[Finding]:
    """Look for transitions that an earlier one for the same state and event leaves nothing to do."""
    taken: dict[tuple[str, str], int] = {}
    guards: dict[tuple[str, str, object], int] = {}
    for index, transition in enumerate(definition.transitions):
        guard = transition.guard
        form = None if guard is None else normal_form(guard.tree)
        for state in dict.fromkeys(transition.sources):
            where = f"in state {quote(state)} for event {quote(transition.event)}"
            place = state, transition.event
            if place in taken:
                yield Finding(
                    "shadowed",
                    "warning",
                    f"transitions[{index}]",
                    f"never tried {where}: transitions[{taken[place]}] is always taken",
                )
                continue
            if guard is None or constant[guard.text] is True:
                taken[place] = index
                continue
            other = guards.setdefault((*place, form), index)
            if other != index:
                yield Finding(
                    "repeated-guard",
                    "warning",
                    f"transitions[{index}].guard",
                    f"never passes {where}: transitions[{other}] has the same guard",
                )
