"""Measures the engine: one APPLY in its parts, replay, and a million instances. Prints figures, asserts none.

All times are CPU time of this process, so that others on the machine do not show (the engine never waits).

python packages/rstmdb-core/tests/bench_core.py [--instances N]
"""

import argparse
import gc
import resource
import time
from collections.abc import Callable

from rstmdb_core import (
    ApplyEvent,
    CreateInstance,
    Outcome,
    PutMachine,
    State,
    apply,
    decide,
    decode_record,
    digest,
    dump,
    encode_record,
    get_instance,
    list_instances,
    load,
)

DEFINITION = b"""{"states": ["created", "paid", "packed", "shipped"], "initial": "created", "transitions": [
    {"from": "created", "event": "PAY", "to": "paid"},
    {"from": "paid", "event": "UNDO", "to": "created"},
    {"from": "created", "event": "PAY_IF", "to": "paid",
     "guard": "ctx.amount > 5 && ctx.currency == \\"EUR\\""},
    {"from": "paid", "event": "UNDO_IF", "to": "created",
     "guard": "ctx.amount > 5 && ctx.currency == \\"EUR\\""},
    {"from": "paid", "event": "PACK", "to": "packed"},
    {"from": "packed", "event": "SHIP", "to": "shipped"}]}"""
CONTEXT = (
    b'{"amount":99,"currency":"EUR","customer":"alice","address":"1 Main Street, Springfield","items":[1,2]}'
)


def no_id() -> str:
    raise AssertionError("every instance is named")


def run(state: State, command: object, now_ms: int) -> bytes:
    outcome = decide(state, command, now_ms=now_ms, new_id=no_id)  # type: ignore[arg-type]
    assert isinstance(outcome, Outcome), outcome
    assert outcome.record is not None
    body = encode_record(outcome.record)
    apply(state, outcome.record)
    return body


def best(rounds: int, work: Callable[[], int]) -> float:
    """Return the least seconds an item took in several rounds."""
    least = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        items = work()
        least = min(least, (time.process_time() - start) / items)
    return least


def small_state(instances: int) -> State:
    state = State()
    run(state, PutMachine("order", 1, DEFINITION), 1)
    for number in range(instances):
        run(state, CreateInstance(f"order-{number:08d}", "order", 1, CONTEXT), 1_700_000_000_000 + number)
    return state


def bench_apply() -> None:
    for name, suffix, payload, keyed in (
        ("bare", "", b"", False),
        ("payload", "", b'{"paid_by":"card"}', False),
        ("guard", "_IF", b"", False),
        ("guard and payload", "_IF", b'{"paid_by":"card"}', False),
        ("payload and key", "", b'{"paid_by":"card"}', True),
    ):
        state = small_state(1000)
        clock = 1_800_000_000_000
        serial = 0

        least = float("inf")
        for _ in range(8):
            commands = []
            for event in ("PAY", "UNDO"):
                for number in range(1000):
                    serial += 1
                    key = f"key-{serial}" if keyed else None
                    commands.append(
                        ApplyEvent(f"order-{number:08d}", event + suffix, payload, idempotency_key=key)
                    )
            start = time.process_time()
            for command in commands:
                clock += 1
                outcome = decide(state, command, now_ms=clock, new_id=no_id)
                record = outcome.record  # type: ignore[union-attr]
                body = encode_record(record)
                apply(state, record)
            least = min(least, (time.process_time() - start) / len(commands))
        print(f"apply, {name:20s} {least * 1e6:6.2f} us   (record {len(body)} bytes)")

    state = small_state(1000)
    commands = [ApplyEvent(f"order-{number:08d}", "PAY", b'{"paid_by":"card"}') for number in range(1000)]
    outcomes = [decide(state, command, now_ms=1, new_id=no_id) for command in commands]

    def only_decide() -> int:
        for command in commands:
            decide(state, command, now_ms=1, new_id=no_id)
        return len(commands)

    def only_encode() -> int:
        for outcome in outcomes:
            encode_record(outcome.record)  # type: ignore[union-attr]
        return len(outcomes)

    def only_get() -> int:
        for command in commands:
            get_instance(state, command.instance_id)
        return len(commands)

    print(f"  decide alone           {best(20, only_decide) * 1e6:6.2f} us")
    print(f"  encode_record alone    {best(20, only_encode) * 1e6:6.2f} us")
    print(f"get_instance             {best(20, only_get) * 1e6:6.2f} us")


def bench_replay() -> None:
    for keyed in (False, True):
        state = State()
        bodies = [run(state, PutMachine("order", 1, DEFINITION), 1)]
        bodies.extend(
            run(state, CreateInstance(f"order-{number:08d}", "order", 1, CONTEXT), 1_700_000_000_000 + number)
            for number in range(50_000)
        )
        for event in ("PAY", "PACK", "SHIP"):
            for number in range(50_000):
                key = f"key-{event}-{number}" if keyed else None
                command = ApplyEvent(f"order-{number:08d}", event, b'{"n":1}', idempotency_key=key)
                bodies.append(run(state, command, 1_700_000_100_000 + number))
        gc.collect()
        gc.disable()
        replica = State()
        start = time.process_time()
        for body in bodies:
            apply(replica, decode_record(body))
        spent = time.process_time() - start
        gc.enable()
        assert digest(replica) == digest(state)
        name = "with keys" if keyed else "without keys"
        each = spent / len(bodies)
        print(f"replay {name:14s}    {1 / each:10,.0f} records/s  ({each * 1e6:.2f} us)")


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def bench_million(count: int) -> None:
    gc.collect()
    before = resident_bytes()
    state = State()
    run(state, PutMachine("order", 1, DEFINITION), 1)
    for number in range(count):
        # Decided records are decoded again, as in replay: nothing is shared that a restart would not share.
        command = CreateInstance(f"order-{number:08d}", "order", 1, CONTEXT)
        outcome = decide(state, command, now_ms=1_700_000_000_000 + number // 20, new_id=no_id)
        apply(state, decode_record(encode_record(outcome.record)))  # type: ignore[union-attr,arg-type]
    for number in range(0, count, 3):
        run(state, ApplyEvent(f"order-{number:08d}", "PAY"), 1_700_001_000_000)
    gc.collect()
    print(
        f"memory, live             {(resident_bytes() - before) / count:6.0f} bytes an instance ({count:,})"
    )

    start = time.process_time()
    view = dump(state)
    opened = time.process_time() - start
    chunks = []
    slowest = 0.0
    start = at = time.process_time()
    for chunk in view.chunks():
        chunks.append(chunk)
        now = time.process_time()
        slowest = max(slowest, now - at)
        at = now
    view.close()
    spent = at - start
    size = sum(map(len, chunks))
    print(
        f"dump                     {spent:6.2f} s, {len(chunks)} chunks of {size // len(chunks):,} bytes, "
        f"view {opened * 1e3:.2f} ms, slowest slice {slowest * 1e3:.2f} ms"
    )
    start = time.process_time()
    total = digest(state)
    print(f"digest                   {time.process_time() - start:6.2f} s")

    def page(state: State = state, **where: object) -> float:
        start = time.process_time()
        answer = list_instances(state, limit=100, **where)  # type: ignore[arg-type]
        assert type(answer) is bytes
        return (time.process_time() - start) * 1e3

    for name, where in (
        ("machine and state", {"machine": "order", "state_name": "paid"}),
        ("machine", {"machine": "order"}),
        ("state", {"state_name": "created"}),
        ("all", {}),
    ):
        cursors = [
            min(page(cursor=f"c{count * part // 20:x}", **where) for _ in range(5)) for part in range(20)
        ]
        offsets = [min(page(offset=count * part // 80, **where) for _ in range(5)) for part in range(20)]
        print(
            f"page of 100 by {name:18s} cursor {max(cursors):5.2f} ms at worst, offset {max(offsets):5.2f} ms"
        )

    gc.disable()
    start = time.process_time()
    loaded = load(chunks)
    spent = time.process_time() - start
    gc.enable()
    print(f"load                     {spent:6.2f} s, {count / spent:,.0f} instances/s")
    assert digest(loaded) == total


def bench_memory_after_load(count: int) -> None:
    """Load in a process of its own would be the honest figure; fresh arenas come close."""
    state = State()
    run(state, PutMachine("order", 1, DEFINITION), 1)

    def chunks() -> list[bytes]:
        for number in range(count):
            command = CreateInstance(f"order-{number:08d}", "order", 1, CONTEXT)
            outcome = decide(state, command, now_ms=1_700_000_000_000 + number // 20, new_id=no_id)
            apply(state, outcome.record)  # type: ignore[union-attr,arg-type]
        with dump(state) as view:
            return list(view.chunks())

    taken = chunks()
    before = resident_bytes()
    loaded = load(taken)
    gc.collect()
    print(
        f"memory, loaded           {(resident_bytes() - before) / count:6.0f} bytes an instance ({count:,})"
    )
    assert loaded.instance_count == count


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--instances", type=int, default=1_000_000)
    count = parser.parse_args().instances
    bench_apply()
    bench_replay()
    bench_million(count)
    bench_memory_after_load(count // 2)


if __name__ == "__main__":
    main()
