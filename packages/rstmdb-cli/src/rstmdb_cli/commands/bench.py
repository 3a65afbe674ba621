"""`bench`: a chosen mix of operations against a server, as fast as it goes or at a given rate.

Every worker has one request in flight on a connection of its own, as most clients do; latencies are
measured around each request. The instances belong to a machine of their own and are deleted afterwards.
"""

import asyncio
import time
import uuid
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from rstmdb_cli.commands.instances import U32_MAX
from rstmdb_cli.context import Invocation
from rstmdb_cli.exit_codes import ExitCode
from rstmdb_cli.failures import Failure

if TYPE_CHECKING:
    from rstmdb_client import AsyncClient

OPERATIONS = ("apply", "get", "create", "ping")
PERCENTILES = (50.0, 90.0, 99.0, 99.9)
BENCH_MACHINE = {
    "states": ["a", "b"],
    "initial": "a",
    "transitions": [
        {"from": "a", "event": "TICK", "to": "b"},
        {"from": "b", "event": "TICK", "to": "a"},
    ],
}
_BARS = " ▁▂▃▄▅▆▇█"


def bench(
    ctx: typer.Context,
    mix: Annotated[
        str, typer.Option("--mix", metavar="OP=SHARE,...", help="Of apply, get, create, ping")
    ] = "apply=80,get=20",
    connections: Annotated[int, typer.Option("--connections", "-c", metavar="N", min=1, max=10_000)] = 16,
    duration: Annotated[float, typer.Option("--duration", "-d", metavar="SECONDS", min=0.1)] = 10.0,
    requests: Annotated[
        int | None,
        typer.Option("--requests", "-n", metavar="N", min=1, max=U32_MAX, help="End after N requests"),
    ] = None,
    payload_bytes: Annotated[int, typer.Option("--payload-bytes", metavar="N", min=0, max=1_000_000)] = 100,
    rate: Annotated[
        float | None, typer.Option("--rate", metavar="PER_SECOND", min=0.1, help="Send at this rate, in all")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask")] = False,
) -> None:
    """Measure a server: throughput and latencies of a mix of operations, with a plot.

    Writes to the server: a machine named rstmdb-bench, which stays, and instances that are deleted
    afterwards. With --rate latencies count from when a request should have been sent, so a stall is not
    left out (coordinated omission).
    """
    cli: Invocation = ctx.obj
    plan = Plan(parse_mix(mix), connections, duration, requests, payload_bytes, rate)
    if any(plan.mix.get(name) for name in ("apply", "create")):
        cli.confirm(f"Write to {cli.settings.place} for {duration:g} s?", assume_yes=yes)
    from rstmdb_cli.connection import explained

    with explained(cli.settings):
        measured = asyncio.run(_run(cli, plan))
    report = measured.report()
    if cli.output.document(report):
        return
    _show(cli, plan, measured, report)


class Plan(NamedTuple):
    """What is to be measured."""

    mix: dict[str, int]
    connections: int
    duration_s: float
    requests: int | None
    payload_bytes: int
    rate: float | None


class Measured:
    """Latencies by operation, and when requests ended."""

    def __init__(self) -> None:
        self.latencies: dict[str, list[float]] = {}
        self.errors: dict[str, int] = {}
        self.per_second: dict[int, int] = {}
        self.elapsed_s = 0.0

    def add(self, operation: str, latency_s: float, second: int) -> None:
        """Count one answer."""
        self.latencies.setdefault(operation, []).append(latency_s)
        self.per_second[second] = self.per_second.get(second, 0) + 1

    def report(self) -> dict[str, Any]:
        """Return the figures; latencies in milliseconds."""
        total = sum(map(len, self.latencies.values()))
        operations = {}
        for name, values in self.latencies.items():
            values.sort()
            operations[name] = {
                "requests": len(values),
                "per_second": round(len(values) / self.elapsed_s, 1),
                "mean_ms": round(sum(values) / len(values) * 1000, 3),
                **{f"p{p:g}_ms": round(percentile(values, p) * 1000, 3) for p in PERCENTILES},
                "max_ms": round(values[-1] * 1000, 3),
            }
        return {
            "requests": total,
            "seconds": round(self.elapsed_s, 3),
            "per_second": round(total / self.elapsed_s, 1) if self.elapsed_s else 0.0,
            "errors": self.errors,
            "operations": operations,
        }


def percentile(values: list[float], percent: float) -> float:
    """Return a percentile of sorted values, by the nearest rank."""
    assert values
    rank = max(1, -(-len(values) * percent // 100))
    return values[int(rank) - 1]


def parse_mix(text: str) -> dict[str, int]:
    """Read `apply=80,get=20`.

    Raises:
        Failure: An operation is unknown or a share is no number.
    """
    mix: dict[str, int] = {}
    for part in text.split(","):
        name, _, share = part.strip().partition("=")
        if name not in OPERATIONS or not (share.isascii() and share.isdigit()):
            raise Failure(
                f"invalid value {text!r} for --mix",
                hint=f"OPERATION=SHARE, separated by commas; operations: {', '.join(OPERATIONS)}",
                code=ExitCode.USAGE,
            )
        mix[name] = int(share)
    if not sum(mix.values()):
        raise Failure("--mix has no shares", code=ExitCode.USAGE)
    return mix


async def _run(cli: Invocation, plan: Plan) -> Measured:
    from rstmdb_cli.connection import client_options
    from rstmdb_client import AsyncClient

    options = client_options(cli.settings)
    machine = "rstmdb-bench"  # machines stay, so all runs share one
    run = uuid.uuid4().hex[:8]
    clients = [AsyncClient(**options) for _ in range(plan.connections)]
    instances = [f"bench-{run}-{index}" for index in range(plan.connections)]
    measured = Measured()
    created: list[str] = []
    try:
        await clients[0].open()
        for start in range(1, len(clients), 50):
            await asyncio.gather(*(client.open() for client in clients[start : start + 50]))
        if set(plan.mix) - {"ping"}:
            await clients[0].put_machine(machine, 1, BENCH_MACHINE)
            for instance in instances:
                await clients[0].create_instance(machine, 1, instance_id=instance, ctx={})
                created.append(instance)
        schedule = _schedule(plan.mix)
        started = time.perf_counter()
        budget = _Budget(plan, started)
        workers = [
            _work(client, instance, machine, plan, budget, schedule, index, measured, created)
            for index, (client, instance) in enumerate(zip(clients, instances, strict=True))
        ]
        await asyncio.gather(*workers)
        measured.elapsed_s = time.perf_counter() - started
    finally:
        await _clean_up(clients, created)
    return measured


def _schedule(mix: dict[str, int]) -> list[str]:
    """Return the operations of a mix, evenly spread: the same order in every run."""
    total = sum(mix.values())
    credit = dict.fromkeys(mix, 0)
    order = []
    for _ in range(total):
        for name, share in mix.items():
            credit[name] += share
        chosen = max(credit, key=lambda name: credit[name])
        credit[chosen] -= total
        order.append(chosen)
    return order


class _Budget:
    """Says whether another request may be sent, and when it is due."""

    def __init__(self, plan: Plan, started: float) -> None:
        self.started = started
        self._until = started + plan.duration_s
        self._left = plan.requests
        self._interval = 1 / plan.rate if plan.rate else 0.0
        self._sent = 0

    def take(self) -> float | None:
        """Return when the next request is due, or None when it is enough."""
        due = self.started + self._sent * self._interval if self._interval else time.perf_counter()
        if due >= self._until or self._left == 0:
            return None
        if self._left is not None:
            self._left -= 1
        self._sent += 1
        return due


async def _work(
    client: "AsyncClient",
    instance: str,
    machine: str,
    plan: Plan,
    budget: _Budget,
    schedule: list[str],
    index: int,
    measured: Measured,
    created: list[str],
) -> None:
    from rstmdb_client.errors import ServerError

    payload = {"note": "x" * max(0, plan.payload_bytes - 11)} if plan.payload_bytes else None
    clock = time.perf_counter
    turn = index * 7919  # workers begin at different places of the schedule
    while (due := budget.take()) is not None:
        if plan.rate is not None and (wait := due - clock()) > 0:
            await asyncio.sleep(wait)
        begun = due if plan.rate is not None else clock()
        operation = schedule[turn % len(schedule)]
        turn += 1
        try:
            match operation:
                case "apply":
                    await client.apply_event(instance, "TICK", payload=payload, idempotency_key=None)
                case "get":
                    await client.get_instance(instance)
                case "create":
                    name = f"{instance}-{turn}"
                    await client.create_instance(
                        machine, 1, instance_id=name, ctx=payload, idempotency_key=None
                    )
                    created.append(name)
                case _:
                    await client.ping()
        except ServerError as error:
            measured.errors[error.code] = measured.errors.get(error.code, 0) + 1
            continue
        ended = clock()
        measured.add(operation, ended - begun, int(ended - budget.started))


async def _clean_up(clients: list["AsyncClient"], created: list[str]) -> None:
    """Delete what the run made, and close; what fails here must not hide the run's own failure."""
    try:
        for start in range(0, len(created), 100):
            operations = [
                {"op": "DELETE_INSTANCE", "params": {"instance_id": name}}
                for name in created[start : start + 100]
            ]
            await clients[0].call("BATCH", {"mode": "best_effort", "ops": operations})
    except Exception:
        pass
    for client in clients:
        await client.close()


def _show(cli: Invocation, plan: Plan, measured: Measured, report: dict[str, Any]) -> None:
    out = cli.output
    mix = ", ".join(f"{name} {share}" for name, share in plan.mix.items())
    out.line(
        f"{cli.settings.place}: {plan.connections} connections, mix {mix}, payload {plan.payload_bytes} B"
    )
    out.line(f"{report['requests']} requests in {report['seconds']} s: {report['per_second']} requests/s")
    for code, count in report["errors"].items():
        out.line(f"errors: {code} {count}")
    out.line()
    columns = [
        "operation",
        "requests",
        "per_second",
        "mean_ms",
        *(f"p{p:g}_ms" for p in PERCENTILES),
        "max_ms",
    ]
    out.table([{"operation": name, **figures} for name, figures in report["operations"].items()], columns)
    latencies = sorted(value for values in measured.latencies.values() for value in values)
    if latencies:
        out.line()
        for line in histogram(latencies):
            out.line(line)
    seconds = [measured.per_second.get(second, 0) for second in range(int(measured.elapsed_s))]
    if len(seconds) > 1:
        out.line()
        out.line(f"requests a second, {min(seconds)} to {max(seconds)}:  {sparkline(seconds)}")


def histogram(latencies: list[float], *, width: int = 50) -> list[str]:
    """Return a plot of sorted latencies: a row a step of 1, 2, 5 from the first to the 99.9th percentile."""
    bounds = [scale * step for scale in (1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0) for step in (1, 2, 5)]
    counts: list[tuple[float, int]] = []
    position = 0
    for bound in [*bounds, float("inf")]:
        begin = position
        while position < len(latencies) and latencies[position] <= bound:
            position += 1
        counts.append((bound, position - begin))
    filled = [index for index, (_, count) in enumerate(counts) if count]
    most = max(count for _, count in counts)
    lines = ["latency up to    requests"]
    for bound, count in counts[filled[0] : filled[-1] + 1]:
        label = "more" if bound == float("inf") else f"{bound * 1000:g} ms"
        bar = "█" * round(count / most * width) or ("▏" if count else "")
        lines.append(f"{label:>12}  {count:>9}  {bar}".rstrip())
    return lines


def sparkline(values: list[int]) -> str:
    """Return values as bars of one row."""
    most = max(values) or 1
    return "".join(_BARS[round(value / most * (len(_BARS) - 1))] for value in values)
