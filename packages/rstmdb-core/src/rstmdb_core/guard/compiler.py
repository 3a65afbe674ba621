"""Syntax tree to closures, once; then a guard is a plain call on the decoded context.

Evaluation is total: it never raises on a context that `document.intake` accepted, reads nothing but the
context and has no side effect. Values have exactly the types of decoded JSON.

    truthy   everything but null (or missing), false, zero, "", [] and {}
    ==       null with null; booleans; numbers as doubles, closer than 2^-52; strings, exactly; nothing else
    !=       the exact negation of ==
    < <= …   false unless the value is a number; compared as doubles
    a.b      each step needs an object, otherwise null; `.length` of an array or a string is its length
             (an object's own field of that name wins)
"""

from collections.abc import Callable
from typing import Any, Final

from rstmdb_core.guard.parser import All, Comparison, Either, Node, Not, Truthy, parse
from rstmdb_core.limits import DETAILS_TEXT_MAX

Context = dict[str, Any]
Test = Callable[[Context], bool]
Getter = Callable[[Context], Any]

_EPSILON: Final = 2.0**-52


class Guard:
    """A compiled guard: call it with a decoded context.

    Attributes:
        text: The guard as written.
        tree: Its syntax tree.
        test: The bare function, for the hot path.
        fields: The fields it reads, in order of appearance.
    """

    __slots__ = ("_getters", "fields", "test", "text", "tree")

    def __init__(self, text: str) -> None:
        self.text = text
        self.tree = parse(text)
        self.test = compile_node(self.tree)
        self.fields = tuple(dict.fromkeys(_fields(self.tree)))
        self._getters = tuple(_getter(field) for field in self.fields)

    def __call__(self, context: Context) -> bool:
        """Evaluate the guard on a context."""
        return self.test(context)

    def __repr__(self) -> str:
        return f"Guard({self.text!r})"

    def explain(self, context: Context) -> dict[str, Any]:
        """Return the value each field has, for details: large ones are described, not copied."""
        return {
            field: _described(get(context)) for field, get in zip(self.fields, self._getters, strict=True)
        }


def compile_guard(text: str) -> Guard:
    """Compile a guard.

    Raises:
        GuardSyntaxError: The text is not a guard.
    """
    return Guard(text)


def _described(value: Any) -> Any:
    kind = type(value)
    if kind is str and len(value) > DETAILS_TEXT_MAX:
        return value[:DETAILS_TEXT_MAX] + "…"
    if kind is list:
        return {"array": len(value)}
    if kind is dict:
        return {"object": len(value)}
    return value


def _fields(node: Node) -> list[str]:
    if isinstance(node, Truthy | Comparison):
        return [node.field]
    if isinstance(node, Not):
        return _fields(node.operand)
    return [field for operand in node.operands for field in _fields(operand)]


def _step(value: Any, name: str) -> Any:
    if type(value) is dict:
        return value.get(name)
    if name == "length" and (type(value) is list or type(value) is str):
        return len(value)
    return None


def _getter(field: str) -> Getter:
    first, *rest = field[len("ctx.") :].split(".")
    if not rest:

        def get_member(context: Context) -> Any:
            return context.get(first)

        return get_member
    steps = tuple(rest)

    def get_path(context: Context) -> Any:
        value = context.get(first)
        for name in steps:
            if value is None:
                return None
            value = _step(value, name)
        return value

    return get_path


def compile_node(node: Node) -> Test:
    """Compile a syntax tree, or a part of one, to a function on the decoded context."""
    match node:
        case Truthy(field):
            return _truthy(_getter(field))
        case Comparison(field, operator, literal):
            return _comparison(_getter(field), operator, literal)
        case Not(operand):
            return _negated(compile_node(operand))
        case All(operands):
            return _all(tuple(compile_node(operand) for operand in operands))
        case Either(operands):
            return _either(tuple(compile_node(operand) for operand in operands))


def _truthy(get: Getter) -> Test:
    # Python's truth of decoded JSON is the language's: null, false, 0, -0.0, "", [] and {} are false.
    return lambda context: bool(get(context))


def _negated(test: Test) -> Test:
    return lambda context: not test(context)


def _all(tests: tuple[Test, ...]) -> Test:
    if len(tests) == 2:
        first, second = tests
        return lambda context: first(context) and second(context)

    def test_all(context: Context) -> bool:
        return all(test(context) for test in tests)

    return test_all


def _either(tests: tuple[Test, ...]) -> Test:
    if len(tests) == 2:
        first, second = tests
        return lambda context: first(context) or second(context)

    def test_either(context: Context) -> bool:
        return any(test(context) for test in tests)

    return test_either


def _comparison(get: Getter, operator: str, literal: str | float | bool | None) -> Test:
    if operator == "==":
        return _equals(get, literal)
    if operator == "!=":
        return _negated(_equals(get, literal))
    assert type(literal) is float, "the parser lets only numbers follow an ordered operator"
    return _ordered(get, operator, literal)


def _equals(get: Getter, literal: str | float | bool | None) -> Test:
    if type(literal) is float:
        number = literal

        def equals_number(context: Context) -> bool:
            value = get(context)
            kind = type(value)
            return (kind is int or kind is float) and abs(float(value) - number) < _EPSILON

        return equals_number
    if type(literal) is str:
        text = literal

        def equals_text(context: Context) -> bool:
            value = get(context)
            return type(value) is str and value == text

        return equals_text
    # true, false and null are single objects, in Python and in decoded JSON.
    return lambda context: get(context) is literal


def _ordered(get: Getter, operator: str, number: float) -> Test:
    def number_of(context: Context) -> float | None:
        value = get(context)
        kind = type(value)
        return float(value) if kind is int or kind is float else None

    if operator == "<":
        return lambda context: (value := number_of(context)) is not None and value < number
    if operator == "<=":
        return lambda context: (value := number_of(context)) is not None and value <= number
    if operator == ">":
        return lambda context: (value := number_of(context)) is not None and value > number
    return lambda context: (value := number_of(context)) is not None and value >= number
