"""A line at the prompt as words, without the surprises of a shell.

    create order 1 o-1 {"amount": 5, "note": "a b"}    a word that begins with { or [ lasts until that closes
    describe 'odd id'                                  one that begins with a quote lasts until the next quote
    get o'brien                                        anywhere else quotes are letters, as in the original

A line whose JSON or quotation is still open is incomplete: the prompt goes on in the next line.
"""

_CLOSING = {"{": "}", "[": "]"}


class Incomplete(Exception):  # noqa: N818 - it is no error, the line goes on
    """The line ends within JSON or a quotation."""


def split(line: str) -> list[str]:
    """Split a line into words.

    Raises:
        Incomplete: It ends within JSON or a quotation.
    """
    words: list[str] = []
    position = 0
    while True:
        while position < len(line) and line[position].isspace():
            position += 1
        if position == len(line):
            return words
        first = line[position]
        if first in "{[":
            end = json_end(line, position)
        elif first in "'\"":
            end = line.find(first, position + 1)
            if end < 0:
                raise Incomplete
            after = end + 1
            if after == len(line) or line[after].isspace():
                words.append(line[position + 1 : end])
                position = after
                continue
        else:
            end = position
        while end < len(line) and not line[end].isspace():
            end += 1
        words.append(line[position:end])
        position = end


def json_end(line: str, start: int) -> int:
    """Return where the JSON object or array that begins at a position closes; wrong JSON ends with the line.

    Raises:
        Incomplete: It does not close.
    """
    open_brackets: list[str] = []
    in_string = False
    position = start
    while position < len(line):
        letter = line[position]
        position += 1
        if in_string:
            if letter == "\\":
                position += 1
            elif letter == '"':
                in_string = False
        elif letter == '"':
            in_string = True
        elif letter in _CLOSING:
            open_brackets.append(_CLOSING[letter])
        elif letter in "}]":
            if letter != open_brackets.pop():
                return len(line)
            if not open_brackets:
                return position
    raise Incomplete


def incomplete(line: str) -> bool:
    """Say whether a line goes on: its JSON or quotation is open."""
    try:
        split(line)
    except Incomplete:
        return True
    return False
