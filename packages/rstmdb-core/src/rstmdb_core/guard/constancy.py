"""Whether a guard is the same for every context, and whether two guards say the same.

A guard joins comparisons of fields with literals. The comparisons of one field can only be true together in
so many ways, found by trying each literal, the numbers beside and between them, and a value of every other
kind. Every way of every field, combined, is every context the guard can tell apart, so trying them all
decides constancy exactly. A guard with too many combinations stays undecided, and so does one that reads a
field and something inside it, because those do not vary freely.
"""

import math
from collections.abc import Iterator
from itertools import pairwise, product
from typing import Any, Final

from rstmdb_core.guard.compiler import Guard, compile_node
from rstmdb_core.guard.parser import All, Comparison, Either, Node, Not, Truthy

COMBINATIONS_MAX: Final = 4096
"""Combinations tried for one guard."""

_KINDS: Final[tuple[Any, ...]] = (None, False, True, 0.0, 1.0, -1.0, "", "\0other", [], [0], {}, {"\0": 0})
_EPSILON: Final = 2.0**-52

Leaf = Truthy | Comparison
Truth = dict[tuple[object, ...], bool]


def constant_value(guard: Guard) -> bool | None:
    """Return the value a guard has for every context, or None when it varies or that is undecided."""
    if _nested_fields(guard.fields):
        return None
    ways: list[list[Truth]] = []
    combinations = 1
    for field in guard.fields:
        leaves = [leaf for leaf in _leaves(guard.tree) if leaf.field == field]
        ways.append(_ways(leaves))
        combinations *= len(ways[-1])
        if combinations > COMBINATIONS_MAX:
            return None
    seen: set[bool] = set()
    for combination in product(*ways):
        truth: Truth = {}
        for way in combination:
            truth.update(way)
        seen.add(_value(guard.tree, truth))
        if len(seen) == 2:
            return None
    return seen.pop()


def normal_form(node: Node) -> tuple[object, ...]:
    """Return a form that equal guards share: order and repetition of operands do not matter."""
    match node:
        case Truthy(field):
            return ("truthy", field)
        case Comparison(field, "!=", literal):
            return ("!", ("==", field, type(literal).__name__, literal))
        case Comparison(field, operator, literal):
            return (operator, field, type(literal).__name__, literal)
        case Not(operand):
            inner = normal_form(operand)
            return inner[1] if inner[0] == "!" else ("!", inner)  # type: ignore[return-value]
        case All(operands):
            return ("&&", frozenset(map(normal_form, operands)))
        case Either(operands):
            return ("||", frozenset(map(normal_form, operands)))


def _nested_fields(fields: tuple[str, ...]) -> bool:
    return any(longer.startswith(shorter + ".") for shorter in fields for longer in fields)


def _leaves(node: Node) -> Iterator[Leaf]:
    match node:
        case Truthy() | Comparison():
            yield node
        case Not(operand):
            yield from _leaves(operand)
        case All(operands) | Either(operands):
            for operand in operands:
                yield from _leaves(operand)


def _ways(leaves: list[Leaf]) -> list[Truth]:
    """Return every way in which the comparisons of one field can be true together."""
    tests = {_name(leaf): compile_node(leaf._replace(field="ctx.v")) for leaf in leaves}
    found: dict[tuple[bool, ...], Truth] = {}
    for value in _values(leaves):
        truth = {name: test({"v": value}) for name, test in tests.items()}
        found.setdefault(tuple(truth.values()), truth)
    return list(found.values())


def _values(leaves: list[Leaf]) -> Iterator[Any]:
    yield from _KINDS
    numbers: list[float] = []
    for leaf in leaves:
        if isinstance(leaf, Comparison):
            if isinstance(leaf.literal, float):
                numbers.append(leaf.literal)
            else:
                yield leaf.literal
    numbers.sort()
    for number in numbers:
        yield number
        yield from (math.nextafter(number, -math.inf), math.nextafter(number, math.inf))
        yield from (number - 2 * _EPSILON, number + 2 * _EPSILON)
    for low, high in pairwise(numbers):
        yield low / 2 + high / 2
    if numbers:
        yield from (numbers[0] - abs(numbers[0]) - 1, numbers[-1] + abs(numbers[-1]) + 1)


def _name(leaf: Leaf) -> tuple[object, ...]:
    if isinstance(leaf, Truthy):
        return ("truthy", leaf.field)
    return (leaf.operator, leaf.field, type(leaf.literal).__name__, leaf.literal)


def _value(node: Node, truth: Truth) -> bool:
    match node:
        case Truthy() | Comparison():
            return truth[_name(node)]
        case Not(operand):
            return not _value(operand, truth)
        case All(operands):
            return all(_value(operand, truth) for operand in operands)
        case Either(operands):
            return any(_value(operand, truth) for operand in operands)
