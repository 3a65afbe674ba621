"""The errors the engine raises, under one base class.

Refusals of a command are values (`engine.Refusal`), not exceptions: only the parsers of client text, the
reader of records and dumps, and our own mistakes raise.

    CoreError
    ├── DocumentError       a context or payload that is not acceptable JSON
    ├── GuardSyntaxError    a guard outside the language
    ├── DefinitionError     a machine definition with faults, all of them
    ├── RecordError         bytes that are no record
    ├── SequenceError       a record that does not follow the state it is applied to
    └── DumpError           chunks that are no dump of a state
"""

import msgspec

from rstmdb_core.limits import DETAILS_TEXT_MAX


class CoreError(Exception):
    """Base class of every error this package raises on purpose."""


class DocumentError(CoreError):
    """A JSON document of a client was refused.

    Attributes:
        place: Which document (and where in it), such as `payload`.
        reason: What is wrong, lower case.
    """

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(place, reason)
        self.place = place
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


class GuardSyntaxError(CoreError):
    """A guard does not follow the language.

    Attributes:
        position: Index of the character where the fault is, from 0.
        message: What was expected or is not allowed there.
    """

    def __init__(self, position: int, message: str) -> None:
        super().__init__(position, message)
        self.position = position
        self.message = message

    def __str__(self) -> str:
        return f"{self.message} at position {self.position}"


class Fault(msgspec.Struct, frozen=True):
    """One fault of a definition: where it is and what it is.

    Attributes:
        path: Place in the document, such as `transitions[2].from[0]`; empty for the document itself.
        message: What is wrong there.
        position: For a guard, the index of the offending character.
    """

    path: str
    message: str
    position: int | None = None

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class DefinitionError(CoreError):
    """A machine definition is invalid; `faults` holds every fault found."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__(faults)
        self.faults = faults

    def __str__(self) -> str:
        shown = "; ".join(str(fault) for fault in self.faults[:3])
        rest = len(self.faults) - 3
        return f"{shown}; and {rest} more" if rest > 0 else shown


class RecordError(CoreError):
    """Bytes do not hold a record this version can read."""


class SequenceError(CoreError):
    """A record was applied out of order.

    Attributes:
        expected: The next sequence of the state.
        actual: The first sequence of the record.
    """

    def __init__(self, expected: int, actual: int) -> None:
        super().__init__(expected, actual)
        self.expected = expected
        self.actual = actual

    def __str__(self) -> str:
        return f"record starts at sequence {self.actual}, expected {self.expected}"


class DumpError(CoreError):
    """Chunks do not hold a whole dump of a state this version can read."""


def quote(name: str) -> str:
    """Quote a name for a message, shortened.

    Published clients take an error text with the lower-case word for a socket as a lost one and retry, so a
    name that contains it is left out of the text; refusals carry it in their details.
    """
    if "connection" in name:
        return "'…'"
    if not name.isascii():
        # An embedding program may pass half a surrogate pair, which no message could carry.
        name = name.encode("utf-8", "replace").decode()
    if len(name) > DETAILS_TEXT_MAX:
        return f"'{name[:DETAILS_TEXT_MAX]}…'"
    return f"'{name}'"
