"""When a call is tried again, how long it waits before, and which error ends it. Pure decisions.

What an attempt left behind decides, together with what the operation does:

```
                    not sent    sent, not answered                   answered: retryable error
READ, REPEATABLE    again       again                                again
KEYED, durable keys again       again (same bytes, same key)         again
KEYED, without      again       OutcomeUnknownError                  only RATE_LIMITED or "not_applied"
ONCE                again       OutcomeUnknownError                  only RATE_LIMITED or "not_applied"
```

"Durable keys" means that the server named `idempotency.durable` in HELLO: then a key answers for the first
attempt even after a restart of the server. The original's keys live in memory and do not cover CREATE, so
with it a write that was sent and not answered is never sent again, whatever key it carries.
"""

import random
from enum import Enum

import msgspec

from rstmdb_client.errors import (
    ConnectionFailed,
    OutcomeUnknownError,
    ProtocolViolation,
    RequestTimeout,
    RstmdbError,
    ServerError,
)

__all__ = ["AttemptFailed", "Effect", "RetryPolicy", "final_error", "may_retry"]


class Effect(Enum):
    """What it means to execute an operation twice."""

    READ = "changes nothing"
    REPEATABLE = "the second time changes nothing more"
    KEYED = "an idempotency key makes the second time harmless"
    ONCE = "must not happen twice"


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How often and how patiently a call is tried again, within its own time limit.

    Attributes:
        attempts_max: attempts in all; 1 turns retries off.
        backoff_secs: the longest pause before the second attempt; it doubles with each further one.
        backoff_secs_max: where the doubling ends.
    """

    attempts_max: int = 10
    backoff_secs: float = 0.05
    backoff_secs_max: float = 2.0

    def __post_init__(self) -> None:
        """Refuse what would never end or never begin."""
        if self.attempts_max < 1 or self.backoff_secs < 0 or self.backoff_secs_max < self.backoff_secs:
            raise ValueError("a retry policy needs at least one attempt and pauses that do not shrink")

    def pause_secs(self, attempt: int) -> float:
        """Return the pause after the given attempt (the first is 1), with full jitter.

        Half of the span is fixed, so that a crowd spreads out and nobody hammers.
        """
        span = min(self.backoff_secs * 2.0 ** min(attempt - 1, 30), self.backoff_secs_max)
        return span * (0.5 + 0.5 * random.random())


class AttemptFailed(Exception):  # noqa: N818 - it never leaves the package
    """One attempt brought no answer. Internal: becomes a public error or another attempt.

    Attributes:
        sent: False when certainly not a byte of the request left.
        timed_out: True when the time of the call was up, so that there is nothing left to try.
        cause: the error behind it.
    """

    def __init__(self, *, sent: bool, timed_out: bool = False, cause: BaseException | None = None) -> None:
        super().__init__(sent, timed_out, cause)
        self.sent = sent
        self.timed_out = timed_out
        self.cause = cause


def may_retry(failure: AttemptFailed | ServerError, effect: Effect, *, durable_keys: bool) -> bool:
    """Say whether sending the same bytes again cannot make the operation happen twice, and may help.

    Args:
        failure: what the last attempt brought.
        effect: what the operation does.
        durable_keys: the request carried a key, and the server keeps keys durably.
    """
    harmless = effect in (Effect.READ, Effect.REPEATABLE) or (effect is Effect.KEYED and durable_keys)
    if isinstance(failure, AttemptFailed):
        return not failure.timed_out and (harmless or not failure.sent)
    outcome = failure.details.get("outcome")
    if outcome == "unknown":
        return harmless
    if not failure.retryable:
        return False
    return harmless or outcome == "not_applied" or failure.code == "RATE_LIMITED"


def final_error(
    failure: AttemptFailed | ServerError,
    effect: Effect,
    *,
    operation: str,
    key: str | None,
    timeout: float | None,
    unanswered: bool,
) -> RstmdbError:
    """Choose the error that tells the caller the truth about a call that will not be tried again.

    Args:
        failure: what the last attempt brought.
        effect: what the operation does.
        operation: its name.
        key: the idempotency key that was sent, if any.
        timeout: the time the call had.
        unanswered: some attempt of this call was sent and not answered.
    """
    if isinstance(failure, ServerError):
        if failure.details.get("outcome") == "unknown" and effect in (Effect.KEYED, Effect.ONCE):
            error: RstmdbError = OutcomeUnknownError(operation, key, str(failure))
            error.__cause__ = failure
            return error
        # A refusal settles an earlier attempt too only when it cannot be due to that attempt itself.
        if unanswered and effect in (Effect.KEYED, Effect.ONCE) and failure.retryable:
            error = OutcomeUnknownError(operation, key, str(failure))
            error.__cause__ = failure
            return error
        return failure
    why = "the time was up" if failure.timed_out else (str(failure.cause) if failure.cause else "no answer")
    if (unanswered or failure.sent) and effect in (Effect.KEYED, Effect.ONCE):
        error = OutcomeUnknownError(operation, key, why)
    elif failure.timed_out:
        error = RequestTimeout(operation, timeout)
    elif isinstance(failure.cause, ServerError):
        return failure.cause
    elif isinstance(failure.cause, (ConnectionFailed, ProtocolViolation)):
        # All calls that a lost connection has failed have one cause. Raised in each of them, it would collect
        # the tracebacks of all.
        error = type(failure.cause)(failure.cause.reason)
        error.__cause__ = failure.cause.__cause__
        return error
    else:
        error = ConnectionFailed(why)
    error.__cause__ = failure.cause
    return error
