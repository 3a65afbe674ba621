"""Tokens to a syntax tree.

    guard      = or <end>
    or         = and { "||" and }
    and        = unary { "&&" unary }
    unary      = "!" unary | primary
    primary    = "(" or ")" | comparison
    comparison = field [ ("==" | "!=") literal | (">=" | "<=" | ">" | "<") number ]

`!` applies to the whole comparison after it. Text after a complete guard is refused; the original ignored
it, which `original_prefix` reproduces for imported definitions. Chains of `&&` and `||` are flat, so only
parentheses and negations nest, and those are limited.
"""

from typing import Final, NamedTuple

from rstmdb_core.errors import GuardSyntaxError
from rstmdb_core.guard.lexer import WHITE_SPACE, Lexer, Token
from rstmdb_core.limits import GUARD_LENGTH_MAX, GUARD_NESTING_MAX

_ORDERED: Final = frozenset((">=", "<=", ">", "<"))
_LITERALS: Final = frozenset(("word", "string", "number"))


class Truthy(NamedTuple):
    """A field alone: true when its value is truthy."""

    field: str


class Comparison(NamedTuple):
    """A field against a literal."""

    field: str
    operator: str
    literal: str | float | bool | None


class Not(NamedTuple):
    """The negation of a node."""

    operand: "Node"


class All(NamedTuple):
    """Nodes joined by `&&`, two or more."""

    operands: "tuple[Node, ...]"


class Either(NamedTuple):
    """Nodes joined by `||`, two or more."""

    operands: "tuple[Node, ...]"


Node = Truthy | Comparison | Not | All | Either


def parse(text: str) -> Node:
    """Parse a guard.

    Raises:
        GuardSyntaxError: The text is not a guard, all of it.
    """
    if len(text) > GUARD_LENGTH_MAX:
        raise GuardSyntaxError(
            GUARD_LENGTH_MAX, f"guard of {len(text)} characters, the limit is {GUARD_LENGTH_MAX}"
        )
    parser = _Parser(text)
    if parser.token.kind == "end":
        raise GuardSyntaxError(0, "empty guard")
    node = parser.either(0)
    if parser.token.kind != "end":
        raise GuardSyntaxError(parser.token.position, "unexpected text after the guard")
    return node


def original_prefix(text: str) -> str:
    """Cut what the original server ignored after a complete guard.

    The original stopped at the first thing that could not continue the expression and took what came
    before. For the importer only: a definition it accepted keeps its meaning.

    Raises:
        GuardSyntaxError: No prefix of the text is a guard.
    """
    try:
        parse(text)
    except GuardSyntaxError as error:
        # Whatever the original accepted, it accepted up to some character: the longest such prefix.
        for end in range(min(len(text), GUARD_LENGTH_MAX), 0, -1):
            if text[end - 1] in WHITE_SPACE:
                continue
            try:
                parse(text[:end])
            except GuardSyntaxError:
                continue
            return text[:end]
        raise error from None
    return text


class _Parser:
    def __init__(self, text: str) -> None:
        self._lexer = Lexer(text)
        self.token: Token = self._lexer.next()

    def _advance(self) -> None:
        self.token = self._lexer.next()

    def either(self, depth: int) -> Node:
        operands = [self._all(depth)]
        while self.token.kind == "||":
            self._advance()
            operands.append(self._all(depth))
        return operands[0] if len(operands) == 1 else Either(tuple(operands))

    def _all(self, depth: int) -> Node:
        operands = [self._unary(depth)]
        while self.token.kind == "&&":
            self._advance()
            operands.append(self._unary(depth))
        return operands[0] if len(operands) == 1 else All(tuple(operands))

    def _unary(self, depth: int) -> Node:
        if self.token.kind not in ("!", "("):
            return self._comparison()
        if depth == GUARD_NESTING_MAX:
            raise GuardSyntaxError(self.token.position, f"nested deeper than {GUARD_NESTING_MAX}")
        if self.token.kind == "!":
            self._advance()
            return Not(self._unary(depth + 1))
        opened = self.token.position
        self._advance()
        node = self.either(depth + 1)
        if self.token.kind != ")":
            raise GuardSyntaxError(
                self.token.position, f"expected ')' for the parenthesis at position {opened}"
            )
        self._advance()
        return node

    def _comparison(self) -> Node:
        token = self.token
        if token.kind != "field":
            raise GuardSyntaxError(token.position, "expected a field (ctx.…), '!' or '('")
        field = str(token.value)
        self._advance()
        operator = self.token.kind
        if operator in _ORDERED:
            self._advance()
            if self.token.kind != "number":
                raise GuardSyntaxError(self.token.position, f"expected a number after {operator!r}")
        elif operator in ("==", "!="):
            self._advance()
            if self.token.kind not in _LITERALS:
                raise GuardSyntaxError(self.token.position, f"expected a literal after {operator!r}")
        else:
            return Truthy(field)
        literal = self.token.value
        self._advance()
        return Comparison(field, operator, literal)
