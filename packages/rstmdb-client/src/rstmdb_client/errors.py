"""Every error of the client, by meaning.

```
RstmdbError
├─ UsageError                     the call cannot be made like this; nothing was sent
│  ├─ InvalidURL  InvalidDocument  RequestTooLarge  UnsupportedByServer
├─ ConnectionFailed               no connection could be made, or it was lost; nothing was changed by the call
├─ RequestTimeout                 the time was up; nothing was changed by the call (also a TimeoutError)
├─ OutcomeUnknownError            a write was sent and not answered: it happened once or not at all
├─ ProtocolViolation              the peer does not speak the protocol
├─ ResultMismatch                 the answer came, but its document is not of the caller's type
├─ WatchInterrupted               the watch ended and cannot be resumed without a gap
├─ ClientClosed  PoolClosed  PoolTimeout
└─ ServerError                    the server refused: code, message, retryable, details
   ├─ BadRequest ── BatchFailed  HistoryCompacted  OffsetAhead
   ├─ UnsupportedProtocol  Unauthorized  AuthenticationFailed  RateLimited  InternalServerError
   ├─ NotFound ── MachineNotFound  InstanceNotFound
   ├─ MachineVersionExists  MachineVersionLimitExceeded  InstanceExists
   ├─ InvalidTransition  GuardFailed
   ├─ Conflict ── IdempotencyKeyReused
   └─ StorageFailed ── DiskFull
```

Fields are set in `__init__`, the text is made in `__str__`, and every error survives pickling. One table
leads from a wire code to its class; a code that is not in it becomes a plain `ServerError`.
"""

# ruff: noqa: N818 - the names say what happened; they are the vocabulary of the service

from collections.abc import Mapping
from typing import Any, ClassVar

__all__ = [
    "AuthenticationFailed",
    "BadRequest",
    "BatchFailed",
    "ClientClosed",
    "Conflict",
    "ConnectionFailed",
    "DiskFull",
    "GuardFailed",
    "HistoryCompacted",
    "IdempotencyKeyReused",
    "InstanceExists",
    "InstanceNotFound",
    "InternalServerError",
    "InvalidDocument",
    "InvalidTransition",
    "InvalidURL",
    "MachineNotFound",
    "MachineVersionExists",
    "MachineVersionLimitExceeded",
    "NotFound",
    "OffsetAhead",
    "OutcomeUnknownError",
    "PoolClosed",
    "PoolTimeout",
    "ProtocolViolation",
    "RateLimited",
    "RequestTimeout",
    "RequestTooLarge",
    "ResultMismatch",
    "RstmdbError",
    "ServerError",
    "StorageFailed",
    "Unauthorized",
    "UnsupportedByServer",
    "UnsupportedProtocol",
    "UsageError",
    "WatchInterrupted",
    "server_error",
]


class RstmdbError(Exception):
    """The base of every error this package raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild from the fields: `__init__` takes more than the text that `Exception` would keep."""
        return _restore, (type(self), self.args, dict(self.__dict__))


def _restore(kind: type[RstmdbError], args: tuple[Any, ...], fields: dict[str, Any]) -> RstmdbError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(fields)
    return error


class UsageError(RstmdbError):
    """The call cannot be made like this. Raised before a byte leaves."""


class InvalidURL(UsageError):
    """A URL or connection option cannot be used.

    Attributes:
        reason: what is wrong with it. The URL itself is not shown, because it may carry a token.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"invalid connection URL or option: {self.reason}"


class InvalidDocument(UsageError):
    """A value cannot be sent as JSON.

    Attributes:
        path: where the offending value stands, for example `payload.items[2].price`.
        reason: why it cannot be sent.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class RequestTooLarge(UsageError):
    """A request would not fit into one frame.

    Attributes:
        path: the largest part of the request.
        size_bytes: the size of the whole request.
        size_bytes_max: the largest size that may be sent.
    """

    def __init__(self, path: str, size_bytes: int, size_bytes_max: int) -> None:
        super().__init__(path, size_bytes, size_bytes_max)
        self.path = path
        self.size_bytes = size_bytes
        self.size_bytes_max = size_bytes_max

    def __str__(self) -> str:
        return f"{self.path}: the request has {self.size_bytes:,} bytes, at most {self.size_bytes_max:,} fit"


class UnsupportedByServer(UsageError):
    """The server did not offer a feature that the call needs.

    Attributes:
        feature: the name of the feature in HELLO.
        reason: what the feature is needed for.
    """

    def __init__(self, feature: str, reason: str) -> None:
        super().__init__(feature, reason)
        self.feature = feature
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.reason}: the server does not offer the feature {self.feature!r}"


class ConnectionFailed(RstmdbError):
    """No connection could be made, or it was lost before the call could have changed anything.

    Attributes:
        reason: what happened, naming the address.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class RequestTimeout(RstmdbError, TimeoutError):
    """The time for a call was up, and the call changed nothing.

    Attributes:
        operation: the operation that was called, for example `GET_INSTANCE`.
        timeout: the time it had, in seconds.
    """

    def __init__(self, operation: str, timeout: float | None) -> None:
        super().__init__(operation)  # with two arguments an OSError would take them for errno and text
        self.operation = operation
        self.timeout = timeout

    def __str__(self) -> str:
        within = "in time" if self.timeout is None else f"within {self.timeout:g} s"
        return f"{self.operation} was not answered {within}"


class OutcomeUnknownError(RstmdbError):
    """A write was sent and not answered: it happened once, or not at all.

    The client has not sent it again where that could have made it happen twice. What made the answer
    impossible is in `__cause__`.

    Attributes:
        operation: the operation that was called, for example `APPLY_EVENT`.
        idempotency_key: the key that was sent with it, or None. Where the server keeps keys durably, calling
            again with this key and the same arguments is safe and tells the outcome.
        reason: why there is no answer.
    """

    def __init__(self, operation: str, idempotency_key: str | None, reason: str) -> None:
        super().__init__(operation, idempotency_key, reason)
        self.operation = operation
        self.idempotency_key = idempotency_key
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.operation} was sent but not answered ({self.reason}): it may or may not have happened"


class ProtocolViolation(RstmdbError):
    """The peer sent something that is not the protocol.

    Attributes:
        reason: what it sent.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the server does not speak the protocol: {self.reason}"


class ResultMismatch(RstmdbError):
    """An answer came, but its document does not fit the type the caller asked for.

    The operation itself succeeded.

    Attributes:
        reason: what does not fit.
        result: the answer with its document as plain JSON values.
    """

    def __init__(self, reason: str, result: Any) -> None:
        super().__init__(reason, result)
        self.reason = reason
        self.result = result

    def __str__(self) -> str:
        return f"the document does not fit the requested type: {self.reason}"


class WatchInterrupted(RstmdbError):
    """A watch ended and cannot be resumed without a gap.

    Attributes:
        reason: why it ended.
        position: the offset of the last event that was handed out, or None.
    """

    def __init__(self, reason: str, position: int | None) -> None:
        super().__init__(reason, position)
        self.reason = reason
        self.position = position

    def __str__(self) -> str:
        return f"the watch was interrupted: {self.reason}"


class ClientClosed(RstmdbError):
    """The client was closed; it cannot be used any more."""

    def __str__(self) -> str:
        return "the client is closed"


class PoolClosed(RstmdbError):
    """The pool was closed or is being drained."""

    def __str__(self) -> str:
        return "the pool is closed"


class PoolTimeout(RstmdbError, TimeoutError):
    """No connection of the pool became free in time.

    Attributes:
        timeout: the time that was waited, in seconds.
    """

    def __init__(self, timeout: float) -> None:
        super().__init__(timeout)
        self.timeout = timeout

    def __str__(self) -> str:
        return f"no connection of the pool became free within {self.timeout:g} s"


class ServerError(RstmdbError):
    """The server refused a request.

    Attributes:
        code: the code on the wire, for example `GUARD_FAILED`.
        message: the server's own words.
        retryable: True when the server says that the same request may succeed later.
        details: why, as the server tells it; empty when it does not.
    """

    default_code: ClassVar[str] = ""

    def __init__(
        self, code: str, message: str, *, retryable: bool = False, details: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.retryable = retryable
        self.details: dict[str, Any] = dict(details) if details else {}

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"

    @property
    def reason(self) -> str | None:
        """The machine-readable reason behind the code, for example `OFFSET_COMPACTED`, or None."""
        reason = self.details.get("reason")
        return reason if isinstance(reason, str) else None


class BadRequest(ServerError):
    """BAD_REQUEST: the request is malformed or breaks a rule of the server."""

    default_code = "BAD_REQUEST"


class BatchFailed(BadRequest):
    """An atomic batch failed, and nothing of it happened."""

    @property
    def failed_index(self) -> int:
        """The place of the operation that failed, counted from 0."""
        return int(self.details["failed_index"])

    @property
    def failed_code(self) -> str | None:
        """The code of the operation that failed, or None when the server does not tell."""
        code = self.details.get("code")
        return code if isinstance(code, str) else None


class HistoryCompacted(BadRequest):
    """The history from the requested offset on is no longer kept."""

    @property
    def oldest_offset(self) -> int | None:
        """The oldest offset that can still be read, or None when the server does not tell."""
        offset = self.details.get("oldest_offset")
        return offset if isinstance(offset, int) else None


class OffsetAhead(BadRequest):
    """The requested offset lies beyond the newest one: what the caller saw there is gone."""


class UnsupportedProtocol(ServerError):
    """UNSUPPORTED_PROTOCOL: the server speaks another version of the protocol."""

    default_code = "UNSUPPORTED_PROTOCOL"


class Unauthorized(ServerError):
    """UNAUTHORIZED: the operation needs a token."""

    default_code = "UNAUTHORIZED"


class AuthenticationFailed(ServerError):
    """AUTH_FAILED: the token was not accepted."""

    default_code = "AUTH_FAILED"


class NotFound(ServerError):
    """NOT_FOUND: something that the request names does not exist."""

    default_code = "NOT_FOUND"


class MachineNotFound(NotFound):
    """MACHINE_NOT_FOUND: no machine of this name and version."""

    default_code = "MACHINE_NOT_FOUND"


class InstanceNotFound(NotFound):
    """INSTANCE_NOT_FOUND: no instance of this id, or it was deleted."""

    default_code = "INSTANCE_NOT_FOUND"


class MachineVersionExists(ServerError):
    """MACHINE_VERSION_EXISTS: this version is stored with another definition."""

    default_code = "MACHINE_VERSION_EXISTS"


class MachineVersionLimitExceeded(ServerError):
    """MACHINE_VERSION_LIMIT_EXCEEDED: the machine has as many versions as the server allows."""

    default_code = "MACHINE_VERSION_LIMIT_EXCEEDED"


class InstanceExists(ServerError):
    """INSTANCE_EXISTS: an instance of this id exists already."""

    default_code = "INSTANCE_EXISTS"


class InvalidTransition(ServerError):
    """INVALID_TRANSITION: the event is not allowed in the instance's state."""

    default_code = "INVALID_TRANSITION"


class GuardFailed(ServerError):
    """GUARD_FAILED: the transition exists, but its guard is false for the instance's context."""

    default_code = "GUARD_FAILED"


class Conflict(ServerError):
    """CONFLICT: the instance is not in the expected state, or not at the expected offset."""

    default_code = "CONFLICT"


class IdempotencyKeyReused(Conflict):
    """The idempotency key was used before, for another request."""


class StorageFailed(ServerError):
    """WAL_IO_ERROR: the server could not write the change."""

    default_code = "WAL_IO_ERROR"


class DiskFull(StorageFailed):
    """The server's disk is full; the change was not made."""


class InternalServerError(ServerError):
    """INTERNAL_ERROR: the server failed."""

    default_code = "INTERNAL_ERROR"


class RateLimited(ServerError):
    """RATE_LIMITED: too many requests; the request was not executed."""

    default_code = "RATE_LIMITED"


_BY_CODE: dict[str, type[ServerError]] = {
    kind.default_code: kind
    for kind in (
        UnsupportedProtocol,
        BadRequest,
        Unauthorized,
        AuthenticationFailed,
        NotFound,
        MachineNotFound,
        MachineVersionExists,
        MachineVersionLimitExceeded,
        InstanceNotFound,
        InstanceExists,
        InvalidTransition,
        GuardFailed,
        Conflict,
        StorageFailed,
        InternalServerError,
        RateLimited,
    )
}

# One code has several causes that a program tells apart: the reason in the details narrows the class.
_BY_REASON: dict[tuple[str, str], type[ServerError]] = {
    ("BAD_REQUEST", "OFFSET_COMPACTED"): HistoryCompacted,
    ("BAD_REQUEST", "OFFSET_AHEAD"): OffsetAhead,
    ("CONFLICT", "IDEMPOTENCY_KEY_REUSED"): IdempotencyKeyReused,
    ("WAL_IO_ERROR", "DISK_FULL"): DiskFull,
}


def server_error(
    code: str, message: str, *, retryable: bool = False, details: Mapping[str, Any] | None = None
) -> ServerError:
    """Build the error that a wire error means.

    Args:
        code: the code on the wire.
        message: the server's words.
        retryable: as the server says.
        details: the object that explains it, if any.
    """
    kind = _BY_CODE.get(code, ServerError)
    if details:
        reason = details.get("reason")
        if isinstance(reason, str):
            kind = _BY_REASON.get((code, reason), kind)
        if kind is BadRequest and isinstance(details.get("failed_index"), int):
            kind = BatchFailed
    return kind(code, message, retryable=retryable, details=details)
