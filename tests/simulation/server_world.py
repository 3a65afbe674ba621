"""The whole server in one thread: clients, reactor, engine, log and disk, from one seed.

A world lives through several processes. Clients keep requests in flight over byte streams that are cut
anywhere; each write has an idempotency key and a number of its own, so that every effect can be told apart.
The process dies at a random file operation or a random moment, by a kill or a power loss, or a sync fails and
it ends by itself. Then the next one recovers, and the clients connect again and repeat what was not answered.

What is held against it, with the log (read over the wire) as the witness:

* durability: every acknowledged write is in the log, where and as it was acknowledged, for ever
* exactly once: a write is in the log at most once, however often it was sent
* order: a write that was answered before another was sent has the smaller offset
* no dirty read: whatever was shown (answers of reads and of refusals, watch events) is in the log for ever
* reads: what a read shows is the instance after the effect it names, and not older than what was acknowledged
* watches: every event once, in order, without a gap, across processes
* fail-stop: after a failed sync nothing is acknowledged
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from rstmdb_server.session import Session
from rstmdb_server.settings import CompactionSettings, RetentionSettings, Settings
from rstmdb_storage import CommitPolicy, FsyncPolicy, LogConfig
from tests.benchmarks.load import request
from tests.in_process import InProcessServer, TestWire, VirtualHost
from tests.simulation.filesystem import (
    Crash,
    Disk,
    Fault,
    FaultKind,
    Moment,
    Operation,
    SimulatedFileSystem,
    keep_drawn,
)
from tests.simulation.prng import Prng

DATA = "/data"
STEPS = 400
FINAL_STEPS_MAX = 2000

MACHINE = {
    "states": ["a", "b"],
    "initial": "a",
    "transitions": [{"from": "a", "event": "GO", "to": "b"}, {"from": "b", "event": "GO", "to": "a"}],
}


class BrokenPromiseError(AssertionError):
    """A promise was not kept."""


@dataclass
class Figures:
    """What a run of seeds has done."""

    seeds: int = 0
    acknowledged: int = 0
    repeated: int = 0
    kills: int = 0
    power_losses: int = 0
    failed_syncs: int = 0
    events: int = 0
    reads: int = 0
    snapshots: int = 0
    seconds: float = 0.0
    findings: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        speed = self.seeds / self.seconds if self.seconds else 0.0
        return (
            f"{self.seeds} seeds, {self.acknowledged} acknowledged writes ({self.repeated} repeated), "
            f"{self.reads} reads, {self.events} watch events, {self.kills} kills, "
            f"{self.power_losses} power losses, {self.failed_syncs} failed syncs, "
            f"{self.snapshots} snapshots; {speed:.1f} seeds/s; {len(self.findings)} findings"
        )


@dataclass
class Asked:
    """A request that has no answer yet."""

    op: str
    params: dict[str, Any]
    number: int  # of the write; 0 for a read
    sent_at: int  # how many writes had been acknowledged when it was first sent
    floor: int = 0  # for a read: the offset that must be visible
    tries: int = 0


@dataclass
class Client:
    """One client: its stream, what it waits for, and the watch it keeps."""

    name: str
    session: Session | None = None
    wire: TestWire | None = None
    waiting: deque[Asked] = field(default_factory=deque)
    unsent: deque[Asked] = field(default_factory=deque)
    outgoing: bytearray = field(default_factory=bytearray)
    watches: bool = False
    watched: int = 0  # offset of the last event seen
    events: set[int] = field(default_factory=set)  # the offsets of all of them
    watch_from: int = 0  # where the watch began; 0: not yet


class AlwaysInThread(CommitPolicy):
    """As on a disk that is slow all the time."""

    def inline(self, now: float) -> bool:
        return False


class ServerWorld:
    """One seed; see the module docstring."""

    def __init__(self, seed: int, figures: Figures) -> None:
        self.prng = Prng(seed)
        self.figures = figures
        settings = self.prng.fork("settings")
        self.policy = settings.pick(["every_write", "every_write", "every_n:5", "every_ms:20", "never"])
        self.durable_against_power_loss = self.policy == "every_write"
        self.segment_bytes = settings.pick([1 << 15, 1 << 16])
        self.threads = settings.chance(0.3)
        self.settings = Settings(
            compaction=CompactionSettings(
                enabled=settings.chance(0.7), events_threshold=settings.between(10, 80), min_interval_secs=0
            ),
            # The witness needs the whole history.
            retention=RetentionSettings(history_mb=1024, history_secs=10 * 86_400),
        )
        self.choice = self.prng.fork("operations")
        self.streams = self.prng.fork("streams")
        self.deaths = self.prng.fork("deaths")
        self.job_time = self.prng.fork("jobs")
        self.fault_rate = settings.pick([0.0, 0.0, 0.02])
        self.clients = [Client(f"c{n}") for n in range(settings.between(1, 6))]
        for client in self.clients[: settings.between(1, 2)]:
            client.watches = True
        self.instances = [f"i{n}" for n in range(settings.between(2, 8))]
        self.disk = Disk()
        self.fs = SimulatedFileSystem(self.disk)
        self.host = VirtualHost()
        self.server: InProcessServer | None = None
        self.wrote = 1
        first = {"machine": "m", "version": 1, "definition": MACHINE}
        self.clients[0].unsent.append(Asked("PUT_MACHINE", first, 1, 0))
        self.acknowledged: dict[int, int] = {}  # number of the write -> offset
        self.order: list[tuple[int, int]] = []  # (offset, sent_at) in the order of acknowledgement
        self.highest_acknowledged = 0
        self.instance_floor: dict[str, int] = {}
        self.shown: dict[int, dict[str, Any]] = {}  # offset -> what somebody saw of it

    # -- the life of the world --------------------------------------------------------------------------

    def run(self) -> None:
        """Live, then end calmly and compare everything with the log."""
        for _ in range(STEPS):
            if self.server is None:
                self._start()
            else:
                self._step()
        self.fs._stop_at = self.fs._fault_for = None
        for _ in range(FINAL_STEPS_MAX):
            if self.server is None:
                self._start(calm=True)
            elif (
                all(not c.waiting and not c.unsent for c in self.clients) and self.server.host.failure is None
            ):
                break
            else:
                self._step(calm=True)
        else:
            raise BrokenPromiseError("after the faults had stopped, not everything was answered")
        self._final_check()

    def _start(self, *, calm: bool = False) -> None:
        stop_at = None
        if not calm and self.deaths.chance(0.6):
            stop_at = (self.deaths.between(1, 250), self.deaths.pick(list(Moment)))
        fault_for = None if calm else self._fault
        self.fs = fs = SimulatedFileSystem(self.disk, stop_at=stop_at, fault_for=fault_for)
        host = VirtualHost()
        host.now = self.host.now + 1.0  # wall time goes with it
        host.job_seconds = lambda: self.job_time.pick([0.0, 0.0, 0.001, 0.02])
        self.host = host
        policy = AlwaysInThread() if self.threads else CommitPolicy()
        try:
            self.server = InProcessServer(
                fs,
                DATA,
                host=host,
                settings=self.settings,
                policy=policy,
                log_config=LogConfig(
                    segment_bytes=self.segment_bytes, fsync=FsyncPolicy.parse(self.policy), reserve_bytes=0
                ),
            )
        except Crash:
            self._die()
            return
        except OSError:
            self._restart_after_failure()
            return
        for client in self.clients:
            self._connect(client)

    def _step(self, *, calm: bool = False) -> None:
        server = self.server
        assert server is not None
        if not calm and self.deaths.chance(0.004):
            self._die()
            return
        try:
            for client in self.clients:
                self._act(client, calm=calm)
            if self.streams.chance(0.7):
                server.host.turn()
            if self.streams.chance(0.3):
                server.host.advance(self.streams.pick([0.001, 0.01, 0.05]))
            if self.streams.chance(0.2) or calm:
                server.host.advance(0.05)
                server.tick()
        except Crash:
            self._die()
            return
        for client in self.clients:
            self._read(client)
        if server.host.failure is not None:
            self.figures.failed_syncs += 1
            self._restart_after_failure()

    def _die(self) -> None:
        """Lose the process, and perhaps the power."""
        if self.server is not None:
            self.figures.snapshots += self.server.compaction.written
        for client in self.clients:
            self._read(client)  # what had left the process reached its client
        if self.durable_against_power_loss and self.deaths.chance(0.5):
            self.figures.power_losses += 1
            effects = len(self.disk.effects())
            survive = self.deaths.pick([0.0, 0.3, 0.7, 1.0])
            self.disk = self.disk.after_power_loss(keep_drawn(self.deaths, survive, effects))
        else:
            self.figures.kills += 1
            self.disk = self.disk.after_kill()
        self._disconnect_all()

    def _restart_after_failure(self) -> None:
        for client in self.clients:
            self._read(client)
        self.disk = self.disk.after_kill()
        self._disconnect_all()

    def _disconnect_all(self) -> None:
        self.server = None
        for client in self.clients:
            client.session = client.wire = None
            client.outgoing.clear()
            # Not answered: sent again on the next stream, with the same key.
            writes = [asked for asked in client.waiting if asked.number]
            for asked in writes:
                asked.tries += 1
            client.unsent.extendleft(reversed(writes))
            client.waiting.clear()

    def _fault(self, operation: Operation) -> Fault | None:
        if operation.name == "sync" and self.deaths.chance(self.fault_rate):
            return Fault(self.deaths.pick([FaultKind.SYNC_KEEP, FaultKind.SYNC_DROP]))
        return None

    # -- clients ----------------------------------------------------------------------------------------

    def _connect(self, client: Client) -> None:
        assert self.server is not None
        client.session, client.wire = self.server.connect()
        if client.watches:
            params: dict[str, Any] = {"include_ctx": True}
            if client.watch_from:
                params["after_offset"] = max(client.watched, client.watch_from - 1)
            self._ask(client, Asked("WATCH_ALL", params, 0, 0))
        unsent, client.unsent = client.unsent, deque()
        for asked in unsent:
            self._ask(client, asked)

    def _ask(self, client: Client, asked: Asked) -> None:
        client.waiting.append(asked)
        client.outgoing += request(asked.op, **asked.params)

    def _act(self, client: Client, *, calm: bool) -> None:
        """Think of something to ask, and send some bytes of what is to be sent."""
        server, session = self.server, client.session
        assert server is not None
        assert session is not None
        if session.closed or (client.wire is not None and client.wire.closed):
            return
        if not calm and len(client.waiting) < 4 and self.choice.chance(0.4):
            self._ask(client, self._think(client))
        if client.outgoing and session.phase.value != "closing":
            size = self.streams.pick([1, 7, 40, 200, 10_000, 10_000])
            data = bytes(client.outgoing[:size])
            del client.outgoing[:size]
            server.reactor.receive(session, data)

    def _think(self, client: Client) -> Asked:
        instance = self.choice.pick(self.instances)
        what = self.choice.weighted(
            {
                "apply": 10.0,
                "create": 3.0,
                "get": 5.0,
                "delete": 0.5,
                "batch": 1.5,
                "compact": 0.15,
                "put": 0.3,
            }
        )
        if what == "get":
            floor = self.instance_floor.get(instance, 0)
            return Asked("GET_INSTANCE", {"instance_id": instance}, 0, 0, floor=floor)
        if what == "compact":
            return Asked("COMPACT", {"force_snapshot": True}, 0, 0)
        self.wrote += 1
        number = self.wrote
        sent_at = len(self.order)
        key = f"k{number}"
        if what == "put":
            params: dict[str, Any] = {"machine": "m", "version": number, "definition": MACHINE}
            return Asked("PUT_MACHINE", params, number, sent_at)
        if what == "create":
            params = {"machine": "m", "version": 1, "instance_id": instance, "initial_ctx": {"w": number}}
            return Asked("CREATE_INSTANCE", {**params, "idempotency_key": key}, number, sent_at)
        if what == "delete":
            return Asked(
                "DELETE_INSTANCE", {"instance_id": instance, "idempotency_key": key}, number, sent_at
            )
        if what == "batch":
            ops = [
                {"op": "APPLY_EVENT", "params": {"instance_id": i, "event": "GO", "payload": {"w": number}}}
                for i in (instance, self.choice.pick(self.instances))
            ]
            mode = self.choice.pick(["atomic", "best_effort"])
            return Asked("BATCH", {"mode": mode, "ops": ops, "idempotency_key": key}, number, sent_at)
        params = {"instance_id": instance, "event": "GO", "payload": {"w": number, "c": client.name}}
        return Asked("APPLY_EVENT", {**params, "idempotency_key": key}, number, sent_at)

    def _read(self, client: Client) -> None:
        """Take what has arrived and hold it against what is known."""
        if client.wire is None:
            return
        for payload in client.wire.take():
            message = msgspec.json.decode(payload)
            if message["type"] == "event":
                self._saw_event(client, message)
            elif message["type"] == "response":
                self._answered(client, client.waiting.popleft(), message)
            else:
                raise BrokenPromiseError(f"{client.name} got {message}")

    def _saw_event(self, client: Client, message: dict[str, Any]) -> None:
        offset = message["wal_offset"]
        if offset <= client.watched:
            raise BrokenPromiseError(f"{client.name} saw event {offset} after {client.watched}")
        client.watched = offset
        client.events.add(offset)
        self.figures.events += 1
        self._show(offset, {"w": message["ctx"]["w"], "instance": message["instance_id"]})

    def _show(self, offset: int, seen: dict[str, Any]) -> None:
        before = self.shown.setdefault(offset, seen)
        if before != seen:
            raise BrokenPromiseError(f"offset {offset} was shown as {before} and as {seen}")

    def _answered(self, client: Client, asked: Asked, message: dict[str, Any]) -> None:
        if message["status"] == "error":
            self._refused(client, asked, message["error"])
            return
        result = message["result"]
        if asked.op == "WATCH_ALL":
            if not client.watch_from:
                client.watch_from = result["wal_offset"]
        elif asked.op == "GET_INSTANCE":
            self.figures.reads += 1
            if result["last_wal_offset"] < asked.floor:
                raise BrokenPromiseError(
                    f"a read saw {result['last_wal_offset']}, but {asked.floor} was acknowledged before"
                )
            self._show(
                result["last_wal_offset"],
                {"w": result["ctx"]["w"], "instance": asked.params["instance_id"]},
            )
        elif asked.number:
            self._acknowledged(asked, result)

    def _acknowledged(self, asked: Asked, result: dict[str, Any]) -> None:
        self.figures.acknowledged += 1
        self.figures.repeated += asked.tries > 0
        instance = asked.params.get("instance_id")
        if asked.op == "BATCH":
            offsets = [
                (item["result"]["wal_offset"], asked.params["ops"][n]["params"]["instance_id"])
                for n, item in enumerate(result["results"])
                if item["status"] == "ok"
            ]
        elif asked.op == "PUT_MACHINE":
            offsets = []
        else:
            offsets = [(result["wal_offset"], instance)]
        for offset, name in offsets:
            # Another delete's offset may come back: a second DELETE answers with the first one's.
            if asked.op != "DELETE_INSTANCE":
                self._show(offset, {"w": asked.number, "instance": name})
                self.instance_floor[name] = max(self.instance_floor.get(name, 0), offset)
                self.acknowledged[asked.number] = offset
                self.order.append((offset, asked.sent_at))
        if asked.op == "DELETE_INSTANCE":
            assert instance is not None
            self.instance_floor.pop(instance, None)

    def _refused(self, client: Client, asked: Asked, error: dict[str, Any]) -> None:
        details = error.get("details") or {}
        if error["code"] == "WAL_IO_ERROR":
            if details.get("outcome") == "unknown":
                asked.tries += 1
                if asked.number:
                    client.unsent.append(asked)
                return
            if asked.op == "COMPACT":
                return
            raise BrokenPromiseError(f"{asked.op}: {error}")
        if error["code"] in ("INTERNAL_ERROR", "BAD_REQUEST") and not details.get("rolled_back"):
            raise BrokenPromiseError(f"{asked.op} {asked.params}: {error}")

    # -- the end ----------------------------------------------------------------------------------------

    def _final_check(self) -> None:
        log = dict(self._read_log())
        by_number: dict[int, set[int]] = {}
        for offset, entry in log.items():
            ctx = entry.get("ctx") or entry.get("initial_ctx") or {}
            number = ctx.get("w")
            if entry["type"] in ("apply_event", "create_instance"):
                by_number.setdefault(number, set()).add(offset)
        # Prefix: numbers are dense but for jumps after an unclean end under a relaxed policy.
        offsets = sorted(log)
        for before, after in itertools.pairwise(offsets):
            if after != before + 1 and (self.policy == "every_write" or after - before < 1 << 20):
                raise BrokenPromiseError(f"the log has a hole between {before} and {after}")
        # Durability and no dirty read.
        for offset, seen in self.shown.items():
            entry_found = log.get(offset)
            if entry_found is None:
                raise BrokenPromiseError(f"{seen} was shown at {offset} and is gone")
            ctx = entry_found.get("ctx") or entry_found.get("initial_ctx") or {}
            if ctx.get("w") != seen["w"] or entry_found["instance_id"] != seen["instance"]:
                raise BrokenPromiseError(f"{seen} was shown at {offset}, the log has {entry_found}")
        # Exactly once: one record a write; a batch has two effects at consecutive offsets.
        for number, found in by_number.items():
            if len(found) > 2 or (len(found) == 2 and max(found) - min(found) != 1):
                raise BrokenPromiseError(f"write {number} happened at {sorted(found)}")
        # Order: sent after another was answered, so later in the log.
        highest = 0
        ceilings = []
        for offset, _ in self.order:
            highest = max(highest, offset)
            ceilings.append(highest)
        for number, offset in self.acknowledged.items():
            if offset not in by_number.get(number, set()):
                raise BrokenPromiseError(
                    f"write {number} was acknowledged at {offset}, the log has {by_number.get(number)}"
                )
        # Watches: between its beginning and its last event a client saw every applied event.
        for client in self.clients:
            if client.watches and client.watch_from:
                expected = {
                    offset
                    for offset, entry in log.items()
                    if entry["type"] == "apply_event" and client.watch_from <= offset <= client.watched
                }
                missed = expected - client.events
                if missed:
                    raise BrokenPromiseError(f"{client.name} missed the events {sorted(missed)}")

    def _read_log(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Read the whole log over the wire."""
        assert self.server is not None
        session, wire = self.server.connect()
        position = 0
        while True:
            self.server.reactor.receive(session, request("WAL_READ", from_offset=position, limit=500))
            answers: list[bytes] = []
            while not answers:
                self.server.host.advance(0.05)
                self.server.tick()
                answers = wire.take()
            result = msgspec.json.decode(answers[0])["result"]
            for record in result["records"]:
                yield record["offset"], record["entry"]
            if not result["records"]:
                return
            position = result["next_offset"]


def run_seeds(first: int, count: int, figures: Figures) -> Figures:
    """Run some seeds; what breaks is noted with its seed."""
    import time

    began = time.perf_counter()
    for seed in range(first, first + count):
        figures.seeds += 1
        try:
            world = ServerWorld(seed, figures)
            world.run()
        except Exception as error:
            figures.findings.append(f"seed {seed}: {type(error).__name__}: {error}")
    figures.seconds += time.perf_counter() - began
    return figures
