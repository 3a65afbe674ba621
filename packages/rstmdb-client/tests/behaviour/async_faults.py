"""What a client does when connections break: single runs, which `test_faults.py` repeats by the thousand."""

# ruff: noqa: ASYNC109 - handed on to the client

from typing import Any

from rstmdb_client import (
    AsyncClient,
    ConnectionFailed,
    OutcomeUnknownError,
    ProtocolViolation,
    RequestTimeout,
    RetryPolicy,
)

EAGER = RetryPolicy(attempts_max=5, backoff_secs=0.0, backoff_secs_max=0.0)


async def apply_once(url: str, instance_id: str, *, timeout: float = 5.0) -> str:
    """Apply one event and say what the caller was told: `done`, `unknown` or `nothing`."""
    client = AsyncClient(url, retry=EAGER, timeout=timeout)
    try:
        applied = await client.apply_event(instance_id, "PAY")
    except OutcomeUnknownError:
        return "unknown"
    except (ConnectionFailed, RequestTimeout, ProtocolViolation):
        return "nothing"
    finally:
        await client.close()
    assert applied.to_state == "paid"
    return "done"


async def call_after_fault(url: str, instance_id: str, *, timeout: float) -> str:
    """Apply one event into a fault, then read: the second call must work."""
    client = AsyncClient(url, retry=EAGER, timeout=timeout)
    try:
        try:
            await client.apply_event(instance_id, "PAY")
            told = "done"
        except OutcomeUnknownError:
            told = "unknown"
        except (ConnectionFailed, RequestTimeout):
            told = "nothing"
        found = await client.get_instance(instance_id, timeout=5.0)
        assert found.state in ("created", "paid")
        return told
    finally:
        await client.close()


async def watch_through_faults(url: str, instance_id: str, execute: Any, count: int) -> list[int]:
    """Watch `count` events while connections break, and return their offsets."""
    offsets: list[int] = []
    async with AsyncClient(url, retry=EAGER) as client, client.watch_instance(instance_id) as watch:
        for index in range(count):
            execute("APPLY_EVENT", instance_id=instance_id, event="NOTE", payload={"n": index})
            if index % 3 == 2:
                for _ in range(3):
                    event = await watch.next(10)
                    assert event is not None
                    offsets.append(event.wal_offset)
        while len(offsets) < count:
            event = await watch.next(10)
            assert event is not None
            offsets.append(event.wal_offset)
    return offsets
