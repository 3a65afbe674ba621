"""Guard text to tokens.

    token    = "(" | ")" | "!" | "&&" | "||" | "==" | "!=" | ">=" | "<=" | ">" | "<"
             | field | word | string | number
    field    = "ctx." name            name: one or more letters, digits, combining marks, "_" or "."
    word     = "true" | "false" | "null"
    string   = '"' ... '"'            a backslash and the character after it are a pair; kept as written
    number   = [ "-" ] digits [ "." digits ]      digits may be missing on one side

White space (Unicode's White_Space) may stand between tokens. The lexer never looks at bytes, so any character
is one step; the original stepped by bytes and crashed inside multi-byte characters.
"""

import unicodedata
from typing import Final, NamedTuple

from rstmdb_core.errors import GuardSyntaxError

WHITE_SPACE: Final = frozenset(
    "\t\n\x0b\x0c\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
)
_DIGITS: Final = frozenset("0123456789")
_TWO: Final = frozenset(("&&", "||", "==", "!=", ">=", "<="))
_ONE: Final = frozenset("()!<>")
_WORDS: Final[dict[str, bool | None]] = {"true": True, "false": False, "null": None}


class Token(NamedTuple):
    """One token: its kind (`field`, `word`, `string`, `number`, `end` or the operator), value and place."""

    kind: str
    value: str | float | bool | None
    position: int
    end: int


def is_name_character(character: str) -> bool:
    """Tell whether a character may stand in a field's name (dots apart)."""
    return character.isalnum() or character == "_" or unicodedata.category(character) in ("Mn", "Mc")


class Lexer:
    """Reads one token at a time, so that a fault is reported where it is met."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._at = 0

    def next(self) -> Token:
        """Read the next token; at the end of the text, one of kind `end`.

        Raises:
            GuardSyntaxError: No token starts here.
        """
        text, at = self.text, self._at
        size = len(text)
        while at < size and text[at] in WHITE_SPACE:
            at += 1
        if at == size:
            self._at = at
            return Token("end", None, at, at)
        pair = text[at : at + 2]
        character = text[at]
        if pair in _TWO:
            return self._token(pair, None, at, at + 2)
        if character in _ONE:
            return self._token(character, None, at, at + 1)
        if character == '"':
            return self._string(at)
        if character in _DIGITS or character in "-.":
            return self._number(at)
        if is_name_character(character):
            return self._name(at)
        raise GuardSyntaxError(at, f"unexpected character {character!r}")

    def _token(self, kind: str, value: str | float | bool | None, start: int, end: int) -> Token:
        self._at = end
        return Token(kind, value, start, end)

    def _string(self, start: int) -> Token:
        text, at = self.text, start + 1
        while at < len(text):
            if text[at] == "\\":
                at += 2
                continue
            if text[at] == '"':
                return self._token("string", text[start + 1 : at], start, at + 1)
            at += 1
        raise GuardSyntaxError(start, "string without closing quote")

    def _number(self, start: int) -> Token:
        text, at = self.text, start
        size = len(text)
        if text[at] == "-":
            at += 1
        digits = at
        while at < size and text[at] in _DIGITS:
            at += 1
        count = at - digits
        if at < size and text[at] == ".":
            at += 1
            fraction = at
            while at < size and text[at] in _DIGITS:
                at += 1
            count += at - fraction
        if count == 0:
            raise GuardSyntaxError(start, "number without digits")
        value = float(text[start:at])
        if value in (float("inf"), float("-inf")):
            raise GuardSyntaxError(start, "number out of range")
        return self._token("number", value, start, at)

    def _name(self, start: int) -> Token:
        text, at = self.text, start
        size = len(text)
        while at < size and (text[at] == "." or is_name_character(text[at])):
            at += 1
        name = text[start:at]
        if name.startswith("ctx.") and len(name) > 4:
            return self._token("field", name, start, at)
        if name in _WORDS:
            return self._token("word", _WORDS[name], start, at)
        raise GuardSyntaxError(start, f"{name!r} is neither a field (ctx.…) nor true, false or null")
