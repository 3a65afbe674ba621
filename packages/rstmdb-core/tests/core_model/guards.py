"""The guard language once more, from its specification: a scanner and an evaluator in one pass.

It shares nothing with the engine: it evaluates while it reads, where the engine compiles.
"""

import re
import unicodedata

SPACE = "\t\n\x0b\x0c\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)
NUMBER = re.compile(r"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)")
OPERATORS = ("==", "!=", ">=", "<=", ">", "<")
MISSING = None


class NotAGuardError(Exception):
    """The text is outside the language."""


def evaluate(text, ctx):
    """Return the value of a guard on a context, or raise NotAGuardError."""
    if len(text) > 4096:
        raise NotAGuardError
    reader = _Reader(text, ctx)
    value = reader.disjunction(0)
    reader.space()
    if reader.at < len(text):
        raise NotAGuardError
    return value


def look_up(path, ctx):
    """Return the value at a dotted path."""
    here = ctx
    for key in path.split("."):
        if isinstance(here, dict):
            here = here.get(key, MISSING)
        elif key == "length" and isinstance(here, list | str):
            here = len(here)
        else:
            here = MISSING
    return here


class _Reader:
    def __init__(self, text, ctx):
        self.text, self.ctx, self.at = text, ctx, 0

    def space(self):
        while self.at < len(self.text) and self.text[self.at] in SPACE:
            self.at += 1

    def take(self, word):
        self.space()
        if self.text.startswith(word, self.at):
            self.at += len(word)
            return True
        return False

    def disjunction(self, depth):
        values = [self.conjunction(depth)]
        while self.take("||"):
            values.append(self.conjunction(depth))
        return any(values)

    def conjunction(self, depth):
        values = [self.negation(depth)]
        while self.take("&&"):
            values.append(self.negation(depth))
        return all(values)

    def negation(self, depth):
        self.space()
        if self.text.startswith("!", self.at) and not self.text.startswith("!=", self.at):
            if depth >= 64:
                raise NotAGuardError
            self.at += 1
            return not self.negation(depth + 1)
        if self.take("("):
            if depth >= 64:
                raise NotAGuardError
            value = self.disjunction(depth + 1)
            if not self.take(")"):
                raise NotAGuardError
            return value
        return self.comparison()

    def comparison(self):
        if not self.take("ctx."):
            raise NotAGuardError
        start = self.at
        while self.at < len(self.text) and self._in_name(self.text[self.at]):
            self.at += 1
        if self.at == start:
            raise NotAGuardError
        value = look_up(self.text[start : self.at], self.ctx)
        self.space()
        for operator in OPERATORS:
            if self.take(operator):
                return self._compare(operator, value)
        return not (value is None or value in (False, 0, "") or value in ([], {}))

    @staticmethod
    def _in_name(character):
        return character in "_." or character.isalnum() or unicodedata.category(character) in ("Mn", "Mc")

    def _compare(self, operator, value):
        self.space()
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if operator in ("==", "!="):
            literal = self._literal()
            if isinstance(literal, float):
                same = is_number and abs(float(value) - literal) < 2**-52
            else:
                same = type(value) is type(literal) and value == literal
            return same if operator == "==" else not same
        literal = self._number()
        if not is_number:
            return False
        left = float(value)
        return {
            ">": left > literal,
            "<": left < literal,
            ">=": left >= literal,
            "<=": left <= literal,
        }[operator]

    def _literal(self):
        for word, value in (("true", True), ("false", False), ("null", None)):
            if self.text.startswith(word, self.at):
                self.at += len(word)
                if self.at < len(self.text) and self._in_name(self.text[self.at]):
                    raise NotAGuardError
                return value
        if self.text.startswith('"', self.at):
            end = self.at + 1
            while end < len(self.text) and self.text[end] != '"':
                end += 2 if self.text[end] == "\\" else 1
            if end >= len(self.text):
                raise NotAGuardError
            literal = self.text[self.at + 1 : end]
            self.at = end + 1
            return literal
        return self._number()

    def _number(self):
        found = NUMBER.match(self.text, self.at)
        if found is None:
            raise NotAGuardError
        self.at = found.end()
        value = float(found[0])
        if value in (float("inf"), float("-inf")):
            raise NotAGuardError
        return value
