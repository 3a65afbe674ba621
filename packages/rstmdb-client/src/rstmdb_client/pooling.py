"""What a pool tells about itself, the same for both faces."""

import msgspec

__all__ = ["PoolStats"]


class PoolStats(msgspec.Struct, frozen=True, kw_only=True):
    """What a pool holds now, and what it did since it was made.

    Attributes:
        min_size: how many clients it keeps.
        max_size: how many it may have.
        size: how many it has.
        idle: how many of them wait to be lent.
        lent: how many of them are in use, or being connected.
        waiting: how many borrowers wait.
        acquired_total: how often a client was lent.
        waited_total: how often a borrower had to wait.
        wait_secs_total: how long they waited together, in seconds.
        timeouts_total: how often nothing became free in time.
        created_total: how many clients were made.
        closed_total: how many were closed.
        checks_failed_total: how many did not pass their health check.
    """

    min_size: int
    max_size: int
    size: int
    idle: int
    lent: int
    waiting: int
    acquired_total: int
    waited_total: int
    wait_secs_total: float
    timeouts_total: int
    created_total: int
    closed_total: int
    checks_failed_total: int
