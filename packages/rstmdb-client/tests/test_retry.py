import pytest

from rstmdb_client.errors import (
    ConnectionFailed,
    OutcomeUnknownError,
    ProtocolViolation,
    RequestTimeout,
    ServerError,
    server_error,
)
from rstmdb_client.retry import AttemptFailed, Effect, RetryPolicy, final_error, may_retry

NOT_SENT = AttemptFailed(sent=False, cause=ConnectionFailed("down"))
LOST = AttemptFailed(sent=True, cause=ConnectionFailed("down"))
LATE = AttemptFailed(sent=True, timed_out=True)
LATE_NOT_SENT = AttemptFailed(sent=False, timed_out=True)
BUSY = server_error("RATE_LIMITED", "busy", retryable=True)
FULL = server_error("WAL_IO_ERROR", "full", retryable=True, details={"outcome": "not_applied"})
UNSURE = server_error("WAL_IO_ERROR", "sync", details={"outcome": "unknown", "reason": "SYNC_FAILED"})
BROKEN = server_error("INTERNAL_ERROR", "oops", retryable=True)
REFUSED = server_error("GUARD_FAILED", "no")

HARMLESS = [(Effect.READ, False), (Effect.REPEATABLE, False), (Effect.KEYED, True)]
HARMFUL = [(Effect.KEYED, False), (Effect.ONCE, False), (Effect.ONCE, True)]


@pytest.mark.parametrize(("effect", "durable"), HARMLESS)
def test_what_is_harmless_is_tried_again(effect: Effect, durable: bool) -> None:
    for failure in (NOT_SENT, LOST, BUSY, FULL, UNSURE, BROKEN):
        assert may_retry(failure, effect, durable_keys=durable), failure
    for failure in (LATE, LATE_NOT_SENT, REFUSED):
        assert not may_retry(failure, effect, durable_keys=durable), failure


@pytest.mark.parametrize(("effect", "durable"), HARMFUL)
def test_what_may_happen_twice_is_not(effect: Effect, durable: bool) -> None:
    for failure in (NOT_SENT, BUSY, FULL):
        assert may_retry(failure, effect, durable_keys=durable), failure
    for failure in (LOST, LATE, LATE_NOT_SENT, REFUSED, UNSURE, BROKEN):
        assert not may_retry(failure, effect, durable_keys=durable), failure


@pytest.mark.parametrize(
    ("failure", "effect", "unanswered", "kind"),
    [
        (LOST, Effect.READ, True, ConnectionFailed),
        (LOST, Effect.KEYED, True, OutcomeUnknownError),
        (LOST, Effect.ONCE, False, OutcomeUnknownError),
        (NOT_SENT, Effect.ONCE, False, ConnectionFailed),
        (NOT_SENT, Effect.KEYED, True, OutcomeUnknownError),
        (LATE, Effect.READ, True, RequestTimeout),
        (LATE, Effect.KEYED, True, OutcomeUnknownError),
        (LATE_NOT_SENT, Effect.KEYED, False, RequestTimeout),
        (AttemptFailed(sent=True, cause=ProtocolViolation("x")), Effect.READ, True, ProtocolViolation),
        (AttemptFailed(sent=True), Effect.READ, True, ConnectionFailed),
        (UNSURE, Effect.KEYED, True, OutcomeUnknownError),
        (UNSURE, Effect.READ, False, ServerError),
        (REFUSED, Effect.KEYED, True, ServerError),
        (BROKEN, Effect.KEYED, True, OutcomeUnknownError),
        (BROKEN, Effect.KEYED, False, ServerError),
    ],
)
def test_the_last_error_tells_the_truth(
    failure: AttemptFailed | ServerError, effect: Effect, unanswered: bool, kind: type[Exception]
) -> None:
    error = final_error(failure, effect, operation="OP", key="k", timeout=1.0, unanswered=unanswered)
    assert isinstance(error, kind)
    if isinstance(error, OutcomeUnknownError):
        assert (error.operation, error.idempotency_key) == ("OP", "k")


def test_pauses_grow_and_jitter() -> None:
    policy = RetryPolicy(backoff_secs=0.1, backoff_secs_max=1.0)
    for attempt, span in ((1, 0.1), (2, 0.2), (3, 0.4), (4, 0.8), (5, 1.0), (5000, 1.0)):
        pauses = [policy.pause_secs(attempt) for _ in range(200)]
        assert span / 2 <= min(pauses) < max(pauses) <= span
        assert max(pauses) - min(pauses) > span / 4
    for wrong in (
        {"attempts_max": 0},
        {"backoff_secs": -1.0},
        {"backoff_secs": 3.0, "backoff_secs_max": 2.0},
    ):
        with pytest.raises(ValueError, match="retry policy"):
            RetryPolicy(**wrong)  # type: ignore[arg-type]
