"""`top`: what a server is doing, as a screen that renews itself.

Everything comes from STATS, whose totals only grow: two answers make rates, and two histograms the
latencies of the time between them.
"""

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rstmdb_cli.context import Invocation
from rstmdb_cli.output import human_bytes

if TYPE_CHECKING:
    from rich.console import Group

STATES_SHOWN = 15


def top(
    ctx: typer.Context,
    interval: Annotated[float, typer.Option("--interval", "-d", metavar="SECONDS", min=0.05)] = 2.0,
    count: Annotated[
        int | None, typer.Option("--count", "-n", metavar="N", min=1, help="End after N times")
    ] = None,
) -> None:
    """Show rates, latencies, machines by state, the log and watch lag. Ctrl-C ends it.

    Where it is no terminal, each time is one line of JSON.
    """
    cli: Invocation = ctx.obj
    with cli.client() as client:
        before: dict[str, Any] = client.call("STATS", {})
        if not (cli.output.chosen is None and cli.output.terminal):
            rounds = 0
            while count is None or rounds < count:
                time.sleep(interval)
                now = client.call("STATS", {})
                cli.output.event(rates(before, now))
                before = now
                rounds += 1
            return
        from rich.console import Console
        from rich.live import Live

        try:
            with Live(console=Console(), screen=count is None, auto_refresh=False) as live:
                live.update(screen(cli, rates(before, before)), refresh=True)
                rounds = 0
                while count is None or rounds < count:
                    time.sleep(interval)
                    now = client.call("STATS", {})
                    live.update(screen(cli, rates(before, now)), refresh=True)
                    before = now
                    rounds += 1
        except KeyboardInterrupt:
            return


def rates(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Return what happened between two answers of STATS; times in milliseconds."""
    seconds: float = max(now["uptime_seconds"] - before["uptime_seconds"], 1e-9)
    if before is now or seconds < 0:
        seconds = max(now["uptime_seconds"], 1e-9)
        before = {}
    bounds = now.get("request_bucket_bounds_seconds", [])
    operations = {}
    for name, figures in now["requests"].items():
        earlier = before.get("requests", {}).get(name, {"count": 0, "seconds": 0.0, "buckets": []})
        count = figures["count"] - earlier["count"]
        if count <= 0:
            continue
        previous = earlier["buckets"] or [0] * len(figures["buckets"])
        buckets = [a - b for a, b in zip(figures["buckets"], previous, strict=True)]
        operations[name] = {
            "per_second": round(count / seconds, 1),
            "mean_ms": round((figures["seconds"] - earlier["seconds"]) / count * 1000, 3),
            "p50_ms": estimate_ms(buckets, bounds, 50),
            "p99_ms": estimate_ms(buckets, bounds, 99),
        }

    def rate(group: str, name: str) -> float:
        grown: float = now[group][name] - before.get(group, {}).get(name, 0)
        return round(grown / seconds, 1)

    return {
        "time_ms": now["time_ms"],
        "server": f"{now['server_name']} {now['server_version']}",
        "uptime_seconds": now["uptime_seconds"],
        "requests_per_second": round(sum(figures["per_second"] for figures in operations.values()), 1),
        "operations": operations,
        "errors": now.get("errors", {}),
        "instances": now["instances"],
        "machines": now["machines"],
        "instances_by_state": now["instances_by_state"],
        "log": {
            **now["log"],
            "syncs_per_second": rate("log", "syncs"),
            "entries_per_second": rate("log", "entries"),
        },
        "watches": {**now["watches"], "events_per_second": rate("watches", "events_sent")},
        "snapshot": now.get("snapshot"),
    }


def estimate_ms(buckets: list[int], bounds: list[float], percent: float) -> float | None:
    """Return a percentile from a histogram: the bound of the bucket it falls into; None above the last bound.

    Args:
        buckets: How many fell into each; one more than there are bounds.
        bounds: Their upper bounds in seconds.
        percent: Which percentile.
    """
    rank = sum(buckets) * percent / 100
    seen = 0
    for count, bound in zip(buckets, bounds, strict=False):
        seen += count
        if seen >= rank:
            return round(bound * 1000, 3)
    return None


def screen(cli: Invocation, now: dict[str, Any]) -> "Group":
    """Return one picture of the screen."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    log, watches = now["log"], now["watches"]
    head = Text()
    head.append(f"{now['server']} at {cli.settings.place}", style="bold")
    head.append(f"   up {duration_text(now['uptime_seconds'])}   {time.strftime('%H:%M:%S')}\n")
    head.append(
        f"{now['requests_per_second']:,.1f} requests/s   {now['instances']:,} instances of "
        f"{now['machines']} machine versions   offset {log['durable_offset']:,}\n"
        f"log {human_bytes(log['bytes'])} in {log['segments']} segments, "
        f"{log['entries_per_second']:,.1f} entries/s, "
        f"{log['syncs_per_second']:,.1f} syncs/s   watches {watches['subscriptions']}, "
        f"{watches['events_per_second']:,.1f} events/s, "
    )
    lagging = watches["lagging"]
    head.append(f"{lagging} lagging, at most {watches['lag_max']:,}\n", style="yellow" if lagging else "")
    requests = Table(box=None, pad_edge=False, header_style="bold")
    requests.add_column("OPERATION")
    for name in ("PER SECOND", "MEAN ms", "P50 ms ≤", "P99 ms ≤"):
        requests.add_column(name, justify="right")
    for name, figures in sorted(now["operations"].items(), key=lambda item: -item[1]["per_second"]):
        cells = [f"{figures['per_second']:,.1f}", f"{figures['mean_ms']:.3f}"]
        cells += ["more" if figures[key] is None else f"{figures[key]:g}" for key in ("p50_ms", "p99_ms")]
        requests.add_row(name, *cells)
    states = Table(box=None, pad_edge=False, header_style="bold")
    states.add_column("MACHINE")
    states.add_column("STATE")
    states.add_column("INSTANCES", justify="right")
    by_count = sorted(now["instances_by_state"], key=lambda row: -row["instances"])
    for row in by_count[:STATES_SHOWN]:
        states.add_row(row["machine"], row["state"], f"{row['instances']:,}")
    if len(by_count) > STATES_SHOWN:
        states.add_row(f"and {len(by_count) - STATES_SHOWN} more", "", "")
    errors = Text(
        "\n" + "   ".join(f"{code} {count}" for code, count in now["errors"].items() if count), style="red"
    )
    return Group(head, requests, Text(), states, errors)


def duration_text(seconds: float) -> str:
    """Return a duration as people say it: `3 d 4 h`, `5 m 12 s`."""
    whole = int(seconds)
    for size, name, smaller, small_name in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            return f"{whole // size} {name} {whole % size // smaller} {small_name}"
    return f"{whole} s"
