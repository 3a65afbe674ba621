r"""Finds the id of a request that cannot be decoded, so that its sender still gets an answer.

The id is the first `id` member of the outermost object that is a string, found before the first byte at
which the text stops being JSON. The scan keeps its own stack of open brackets, so that nesting costs memory
and not recursion, and it looks at each byte once.

    expects   means, behind the last token          accepts
    KEY       `{` at first, `,` in an object        a string (`}` only directly behind `{`)
    COLON     a key                                 `:`
    VALUE     `:`, `,` in an array, `[` at first    any value (`]` only directly behind `[`)
    NEXT      a value                               `,` or the closing bracket of the innermost container
"""

import re
from typing import Final, NamedTuple

import msgspec

from rstmdb_protocol.limits import RECOVERY_TOKENS_MAX

# One token behind optional white space. Group 1 is punctuation, 2 a string, 3 a number or literal name.
# Possessive repeats: no backtracking, so the scan is linear.
_TOKEN: Final = re.compile(
    rb"[ \t\n\r]*+(?:"
    rb"([{}\[\],:])|"
    rb'("(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+")|'
    rb"(-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?|true|false|null))"
)
_string: Final = msgspec.json.Decoder(str).decode

_KEY_OR_END, _KEY, _COLON, _VALUE_OR_END, _VALUE, _NEXT = range(6)
_OBJECT, _ARRAY = 0x7B, 0x5B


class RecoveredEnvelope(NamedTuple):
    """What is known of a request that could not be decoded; None where nothing is."""

    id: str | None
    op: str | None


def recover_envelope(payload: bytes) -> RecoveredEnvelope:
    """Return the id and the operation name of a malformed request, as far as they can be trusted.

    Never raises. Looks at no more than `RECOVERY_TOKENS_MAX` tokens.
    """
    found: dict[str, str] = {}
    _scan(payload, found)
    return RecoveredEnvelope(found.get("id"), found.get("op"))


def _scan(payload: bytes, found: dict[str, str]) -> None:
    match = _TOKEN.match
    stack = bytearray()
    key = ""
    expects = _VALUE
    position = 0
    for _ in range(RECOVERY_TOKENS_MAX):
        token = match(payload, position)
        if token is None:
            return
        position = token.end()
        group = token.lastindex
        if group == 1:
            char = payload[position - 1]
            if char == 0x2C:  # ,
                if expects != _NEXT:
                    return
                expects = _KEY if stack[-1] == _OBJECT else _VALUE
            elif char == 0x3A:  # :
                if expects != _COLON:
                    return
                expects = _VALUE
            elif char in (_OBJECT, _ARRAY):
                if expects not in (_VALUE, _VALUE_OR_END) or (not stack and char == _ARRAY):
                    return
                stack.append(char)
                expects = _KEY_OR_END if char == _OBJECT else _VALUE_OR_END
            else:  # } or ], two above its opening bracket in ASCII
                ends = _KEY_OR_END if char == 0x7D else _VALUE_OR_END
                if expects not in (_NEXT, ends) or stack[-1] + 2 != char:
                    return
                stack.pop()
                if not stack:
                    return
                expects = _NEXT
            continue
        if group == 2 and expects in (_KEY, _KEY_OR_END):
            text = _text(token[2])
            if text is None:
                return
            key = text
            expects = _COLON
            continue
        if expects not in (_VALUE, _VALUE_OR_END) or not stack:
            return
        if group == 2:
            text = _text(token[2])
            if text is None:
                return
            if len(stack) == 1 and key in ("id", "op"):
                found.setdefault(key, text)
                if len(found) == 2:
                    return
        expects = _NEXT


def _text(token: bytes) -> str | None:
    """Return the text of a string token; None for bad UTF-8 or half a surrogate pair."""
    try:
        return _string(token)
    except ValueError:
        return None
