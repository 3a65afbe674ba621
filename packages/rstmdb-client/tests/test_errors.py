import copy
import inspect
import pickle
import re

import pytest

import rstmdb_client
from rstmdb_client import errors
from rstmdb_client.errors import RstmdbError, ServerError, server_error
from rstmdb_protocol import ErrorCode

EXAMPLES: list[RstmdbError] = [
    errors.InvalidURL("no host"),
    errors.InvalidDocument("payload.a", "nan is not a JSON number"),
    errors.RequestTooLarge("payload", 17_000_000, 16_777_216),
    errors.UnsupportedByServer("explain", "explaining an event"),
    errors.ConnectionFailed("host:1: refused"),
    errors.RequestTimeout("PING", 1.5),
    errors.RequestTimeout("PING", None),
    errors.OutcomeUnknownError("APPLY_EVENT", "k", "the connection was lost"),
    errors.ProtocolViolation("no frame"),
    errors.ResultMismatch("expected int", {"ctx": 1}),
    errors.WatchInterrupted("history is gone", 7),
    errors.ClientClosed(),
    errors.PoolClosed(),
    errors.PoolTimeout(2.0),
    server_error("CONFLICT", "offset differs", retryable=True, details={"actual": 7}),
]


def test_every_code_has_its_class() -> None:
    for code in ErrorCode:
        error = server_error(code.value, "message")
        assert type(error) is not ServerError
        assert type(error).default_code == code.value == error.code
    strange = server_error("READ_ONLY_MODE", "message", retryable=True)
    assert type(strange) is ServerError
    assert (strange.code, strange.retryable, strange.details, strange.reason) == (
        "READ_ONLY_MODE",
        True,
        {},
        None,
    )


@pytest.mark.parametrize(
    ("code", "details", "kind"),
    [
        ("BAD_REQUEST", {"reason": "OFFSET_COMPACTED", "oldest_offset": 7}, errors.HistoryCompacted),
        ("BAD_REQUEST", {"reason": "OFFSET_AHEAD"}, errors.OffsetAhead),
        ("BAD_REQUEST", {"failed_index": 2, "code": "CONFLICT"}, errors.BatchFailed),
        ("CONFLICT", {"reason": "IDEMPOTENCY_KEY_REUSED"}, errors.IdempotencyKeyReused),
        ("WAL_IO_ERROR", {"reason": "DISK_FULL"}, errors.DiskFull),
        ("WAL_IO_ERROR", {"reason": "SYNC_FAILED"}, errors.StorageFailed),
        ("BAD_REQUEST", {"reason": 7}, errors.BadRequest),
    ],
)
def test_details_narrow_the_class(code: str, details: dict[str, object], kind: type[ServerError]) -> None:
    error = server_error(code, "message", details=details)
    assert type(error) is kind
    assert error.details == details


def test_details_as_attributes() -> None:
    failed = server_error("BAD_REQUEST", "m", details={"failed_index": 2, "code": "CONFLICT"})
    assert isinstance(failed, errors.BatchFailed)
    assert (failed.failed_index, failed.failed_code) == (2, "CONFLICT")
    gone = server_error("BAD_REQUEST", "m", details={"reason": "OFFSET_COMPACTED", "oldest_offset": 7})
    assert isinstance(gone, errors.HistoryCompacted)
    assert (gone.oldest_offset, gone.reason) == (7, "OFFSET_COMPACTED")


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_errors_tell_pickle_and_copy(error: RstmdbError) -> None:
    assert str(error)
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is type(error)
        assert str(twin) == str(error)
        assert vars(twin) == vars(error)
        assert twin.args == error.args


def test_the_tree_is_drawn_as_it_is() -> None:
    drawn = set(re.findall(r"[A-Z]\w+", errors.__doc__.split("```")[1]))  # type: ignore[union-attr]
    classes = {
        name for name, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, RstmdbError)
    }
    assert classes <= drawn
    assert classes <= set(rstmdb_client.__all__)
    assert {name for name in errors.__all__ if name[0].isupper()} == classes


def test_timeouts_are_timeouts() -> None:
    assert issubclass(errors.RequestTimeout, TimeoutError)
    assert issubclass(errors.PoolTimeout, TimeoutError)
