"""The 16 error codes of the wire, and the exceptions of this package.

    ProtocolError
    ├── FramingError     the byte stream cannot be cut into messages any more: close it
    ├── MessageError     a whole message that is no valid response or event (seen by clients)
    ├── ParamsError      parameters that an operation refuses: answer BAD_REQUEST
    └── LocalError       the local side asked for something that the protocol does not allow

Readers of remote bytes never raise anything else. A local mistake is its own class, so that nobody blames
the peer for it.
"""

from enum import StrEnum
from typing import Final


class ErrorCode(StrEnum):
    """The error codes that may appear on the wire. Two published clients break on any other."""

    UNSUPPORTED_PROTOCOL = "UNSUPPORTED_PROTOCOL"
    BAD_REQUEST = "BAD_REQUEST"
    UNAUTHORIZED = "UNAUTHORIZED"
    AUTH_FAILED = "AUTH_FAILED"
    NOT_FOUND = "NOT_FOUND"
    MACHINE_NOT_FOUND = "MACHINE_NOT_FOUND"
    MACHINE_VERSION_EXISTS = "MACHINE_VERSION_EXISTS"
    MACHINE_VERSION_LIMIT_EXCEEDED = "MACHINE_VERSION_LIMIT_EXCEEDED"
    INSTANCE_NOT_FOUND = "INSTANCE_NOT_FOUND"
    INSTANCE_EXISTS = "INSTANCE_EXISTS"
    INVALID_TRANSITION = "INVALID_TRANSITION"
    GUARD_FAILED = "GUARD_FAILED"
    CONFLICT = "CONFLICT"
    WAL_IO_ERROR = "WAL_IO_ERROR"
    INTERNAL_ERROR = "INTERNAL_ERROR"
    RATE_LIMITED = "RATE_LIMITED"


RETRYABLE: Final[frozenset[str]] = frozenset(
    {ErrorCode.WAL_IO_ERROR, ErrorCode.INTERNAL_ERROR, ErrorCode.RATE_LIMITED}
)
"""Codes whose `retryable` is true unless the answer says otherwise."""


class FramingFault(StrEnum):
    """Why a byte stream cannot be cut into messages."""

    BAD_MAGIC = "bad magic"
    UNSUPPORTED_VERSION = "unsupported frame version"
    RESERVED_FLAGS = "reserved flags set"
    PAYLOAD_TOO_LARGE = "payload too large"
    CHECKSUM_MISMATCH = "checksum mismatch"
    LINE_TOO_LONG = "line too long"


class ProtocolError(Exception):
    """Base class of every exception of this package."""


class FramingError(ProtocolError):
    """The byte stream cannot be cut into messages any more; the only remedy is to close it.

    Attributes:
        fault: What is wrong.
        detail: The values that show it, for a log line.
    """

    def __init__(self, fault: FramingFault, detail: str) -> None:
        super().__init__(fault, detail)
        self.fault = fault
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.fault.value}: {self.detail}"


class MessageError(ProtocolError):
    """A complete message is not one that a server may send.

    Attributes:
        reason: What is wrong with it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"malformed message: {self.reason}"


class ParamsError(ProtocolError):
    """Parameters of a request that its operation does not accept.

    Attributes:
        place: Where, as a path that starts with `params`.
        reason: What is wrong there.
    """

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(place, reason)
        self.place = place
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


class LocalError(ProtocolError):
    """The local side asked for something that the protocol does not allow in this state.

    Attributes:
        reason: What was asked, and why it cannot be.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason
