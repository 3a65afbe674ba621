"""No byte of an answer leaves before a sync that covers its record: seen at the file seam and with strace."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import time
from pathlib import Path

import msgspec
import pytest

from rstmdb_protocol import encode_frame
from rstmdb_server.session import Session
from rstmdb_storage import CommitPolicy, File, FsyncPolicy, LogConfig, OsFileSystem
from tests.benchmarks import load
from tests.in_process import InProcessServer, TestWire
from tests.server_process import ServerProcess

MARK = re.compile(rb"mark-\d+-\d+")

MACHINE = {
    "states": ["a", "b"],
    "initial": "a",
    "transitions": [{"from": "a", "event": "GO", "to": "b"}, {"from": "b", "event": "GO", "to": "a"}],
}


class Trace:
    """Which marks are on their way to the disk, and which a sync has covered."""

    def __init__(self) -> None:
        self.written: set[bytes] = set()
        self.synced: set[bytes] = set()
        self.sync_times: list[float] = []
        self.answers = 0

    def on_answer(self, data: bytes) -> None:
        for mark in MARK.findall(data):
            assert mark in self.synced, f"{mark!r} left before a sync covered it"
            self.answers += 1


class TracedFile:
    """A real file whose writes and syncs are noted."""

    def __init__(self, file: File, trace: Trace, clock: object) -> None:
        self._file = file
        self._trace = trace
        self._clock = clock

    def pwrite(self, data: bytes, offset: int) -> int:
        written = self._file.pwrite(data, offset)
        self._trace.written.update(MARK.findall(bytes(data[:written])))
        return written

    def sync(self) -> None:
        covered = set(self._trace.written)
        self._file.sync()
        self._trace.synced |= covered
        self._trace.sync_times.append(self._clock())  # type: ignore[operator]

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)


class TracedFileSystem(OsFileSystem):
    """The real file system, traced."""

    def __init__(self, trace: Trace, clock: object) -> None:
        super().__init__()
        self._trace = trace
        self._clock = clock

    def open(self, path: str, *, write: bool = False, create: bool = False) -> File:
        return TracedFile(super().open(path, write=write, create=create), self._trace, self._clock)  # type: ignore[return-value]


def frame(op: str, **params: object) -> bytes:
    return encode_frame(msgspec.json.encode({"type": "request", "id": "1", "op": op, "params": params}))


def prepare(server: InProcessServer, sessions: list[tuple[Session, TestWire]]) -> None:
    server.reactor.receive(sessions[0][0], frame("PUT_MACHINE", machine="m", version=1, definition=MACHINE))
    for number, (session, _) in enumerate(sessions):
        server.reactor.receive(
            session, frame("CREATE_INSTANCE", machine="m", version=1, instance_id=f"i{number}")
        )
    server.host.settle()


@pytest.mark.parametrize("threads", [False, True], ids=["inline", "in a thread"])
def test_no_answer_before_its_sync(tmp_path: Path, threads: bool) -> None:
    """Random turns of many sessions, reads between the writes, commits inline and in a thread."""
    trace = Trace()
    policy = CommitPolicy()
    policy.inline_allowed = not threads
    server = InProcessServer(
        TracedFileSystem(trace, lambda: 0.0), str(tmp_path / "data"), policy=policy,
        log_config=LogConfig(segment_bytes=1 << 20, reserve_bytes=0),
    )  # fmt: skip
    server.host.job_seconds = lambda: random_source.choice([0.0, 0.001, 0.01])
    random_source = random.Random(7)
    sessions = [server.connect(trace.on_answer) for _ in range(12)]
    prepare(server, sessions)
    server.host.advance(1.0)
    sent = 0
    for turn in range(400):
        for number in random_source.sample(range(12), random_source.randrange(1, 12)):
            session = sessions[number][0]
            for _ in range(random_source.randrange(1, 4)):
                sent += 1
                payload = {"mark": f"mark-{number}-{sent}", "pad": "x" * random_source.randrange(800)}
                server.reactor.receive(
                    session, frame("APPLY_EVENT", instance_id=f"i{number}", event="GO", payload=payload)
                )
                if random_source.random() < 0.3:
                    # A read of what another session has just written must wait for that write's sync too.
                    other = random_source.randrange(12)
                    server.reactor.receive(session, frame("GET_INSTANCE", instance_id=f"i{other}"))
        if turn % 3:
            server.host.turn()
            server.host.advance(random_source.choice([0.0, 0.002, 0.02]))
    for _ in range(200):
        server.host.advance(0.05)
    assert trace.answers > sent, "every write and many reads were seen"
    server.database.close()


def test_every_ms_syncs_within_twice_its_interval_also_when_no_more_writes_come(tmp_path: Path) -> None:
    trace = Trace()
    clock: list[InProcessServer] = []
    server = InProcessServer(
        TracedFileSystem(trace, lambda: clock[0].host.now if clock else 0.0),
        str(tmp_path / "data"),
        log_config=LogConfig(fsync=FsyncPolicy.every_ms(100), reserve_bytes=0, segment_bytes=1 << 20),
    )
    clock.append(server)
    sessions = [server.connect()]
    prepare(server, sessions)
    for burst in range(20):
        trace.sync_times.clear()
        written_at = server.host.now
        mark = f"mark-0-{burst}"
        server.reactor.receive(
            sessions[0][0], frame("APPLY_EVENT", instance_id="i0", event="GO", payload={"mark": mark})
        )
        server.host.settle()
        assert mark.encode() in trace.written
        assert mark.encode() not in trace.synced
        for _ in range(10):  # the shell's tick, and nothing else happens
            server.host.advance(0.05)
            server.tick()
        assert mark.encode() in trace.synced
        assert trace.sync_times[0] - written_at <= 0.2
        server.host.advance(0.37)
    server.database.close()


needs_strace = pytest.mark.skipif(
    shutil.which("strace") is None, reason="strace, with which the system calls are watched, is not installed"
)


def traced_calls(server: ServerProcess, output: Path, calls: str) -> subprocess.Popen[bytes]:
    tracer = subprocess.Popen(
        [
            "strace",
            "-f",
            "-ttt",
            "-y",
            "-s",
            "2000",
            "-e",
            f"trace={calls}",
            "-o",
            str(output),
            "-p",
            str(server.pid),
        ],
        stderr=subprocess.PIPE,
    )
    assert tracer.stderr is not None
    assert b"attached" in tracer.stderr.readline()
    return tracer


def stop_tracing(tracer: subprocess.Popen[bytes]) -> None:
    tracer.terminate()
    tracer.communicate(timeout=10)


@needs_strace
@pytest.mark.timeout(120)
def test_system_calls_under_load(tmp_path: Path) -> None:
    """The kernel's view: each answer is sent after an fdatasync that began after its record was written."""
    with ServerProcess(tmp_path / "data") as server:
        with server.connect() as sock:
            sock.sendall(load.request("PUT_MACHINE", machine="m", version=1, definition=MACHINE))
            for number in range(8):
                sock.sendall(
                    load.request("CREATE_INSTANCE", machine="m", version=1, instance_id=f"i{number}")
                )
            received = bytearray()
            answers = 0
            while answers < 9:
                received += sock.recv(65536)
                count, used = load.count_frames(received)
                del received[:used]
                answers += count
        trace = tmp_path / "trace"
        tracer = traced_calls(server, trace, "pwrite64,fdatasync,fsync,write,writev,sendto,sendmsg")
        requests = [
            load.request("APPLY_EVENT", instance_id=f"i{n}", event="GO", payload={"mark": f"mark-{n}-1"})
            for n in range(8)
        ]
        try:
            load.run(("127.0.0.1", server.port), requests, seconds=1.0, warm_up=0.0)
        finally:
            stop_tracing(tracer)
    check_call_order(trace.read_text(errors="replace"))


def check_call_order(text: str) -> None:
    """Walk the trace: marks written and not yet synced must not appear in what is sent to a socket.

    The marks repeat, so what counts is the order: between the write of a mark's record and the send of its
    answer there has to be a sync of that file.
    """
    unsynced: set[str] = set()
    syncing: dict[str, set[str]] = {}  # by thread: what a sync that has begun will have covered
    sends = syncs = 0
    for line in text.splitlines():
        thread = line.split(maxsplit=1)[0]
        if "fdatasync resumed" in line and thread in syncing:
            covered = syncing.pop(thread)
            if "= 0" in line:
                syncs += 1
                unsynced -= covered
            continue
        call = re.search(r"(\w+)\(\d+<([^>]*)>", line)
        if call is None:
            continue
        name, target = call.groups()
        if ".wal" in target:
            if name == "pwrite64":
                unsynced.update(re.findall(r"mark-\d+-1", line))
            elif name == "fdatasync" and "unfinished" in line:
                syncing[thread] = set(unsynced)
            elif name == "fdatasync" and "= 0" in line:
                syncs += 1
                unsynced.clear()
        elif "socket" in target or "TCP" in target:
            marks = re.findall(r"mark-\d+-1", line)
            sends += len(marks)
            assert not unsynced.intersection(marks), line
    assert sends > 100, "the load was traced"
    assert syncs > 10


def delays_to_sync(trace: Path) -> list[float]:
    """Return the seconds from each marked write, or the first of some, to the sync that follows it."""
    writes = []
    delays = []
    for line in trace.read_text(errors="replace").splitlines(keepends=True):
        if not line.endswith("\n"):
            break  # it is being written
        stamp = float(line.split()[1])
        if "pwrite64" in line and "mark-1-1" in line:
            writes.append(stamp)
        elif "fdatasync" in line and ".wal" in line and writes:
            delays.append(stamp - writes[0])
            writes.clear()
    return delays


@needs_strace
@pytest.mark.timeout(60)
def test_a_real_server_syncs_every_ms_without_more_writes(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data", environ={"RSTMDB_FSYNC_POLICY": "every_ms:100"}) as server:
        trace = tmp_path / "trace"
        tracer = traced_calls(server, trace, "pwrite64,fdatasync")
        try:
            with server.connect() as sock:
                for version in range(1, 4):
                    sock.sendall(
                        load.request("PUT_MACHINE", machine="mark-1-1", version=version, definition=MACHINE)
                    )
                    sock.recv(65536)
                    deadline = time.monotonic() + 10
                    while len(delays_to_sync(trace)) < version:
                        assert time.monotonic() < deadline, trace.read_text(errors="replace")
                        time.sleep(0.02)
        finally:
            stop_tracing(tracer)
    delays = delays_to_sync(trace)
    assert len(delays) == 3
    assert all(0.05 <= delay <= 0.2 for delay in delays), delays
