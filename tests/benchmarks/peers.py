"""The peers of the benchmark, started on loopback for its duration: Redis and PostgreSQL.

Both come from the distribution's packages; each is set to sync before it answers, on the same disk as ours.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until something listens."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"nothing listens on {port}")


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[int]:
    """Redis with an append-only file, synced before each answer; gives its port."""
    folder.mkdir()
    port = free_port()
    process = subprocess.Popen(
        [
            *("redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)),
            *("--appendonly", "yes", "--appendfsync", "always", "--save", ""),
        ],
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_for_port(port, process)
        yield port
    finally:
        process.terminate()
        process.wait()


def redis_command(*words: str) -> bytes:
    """Encode a command in Redis' protocol."""
    encoded = [word.encode() for word in words]
    return b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in encoded)


PGBENCH_SCRIPT = """\\set n random(1, 256)
BEGIN;
UPDATE instances SET state = CASE state WHEN 'a' THEN 'b' ELSE 'a' END, ctx = '{"n":1}', seq = seq + 1
 WHERE id = :n;
INSERT INTO events (instance, event, payload) VALUES (:n, 'GO', '{"n":1}');
COMMIT;
"""


class Postgres:
    """A PostgreSQL cluster with a state row an instance and a table of events."""

    def __init__(self, port: int, folder: Path) -> None:
        self.port = port
        self._script = folder / "apply.sql"
        self._script.write_text(PGBENCH_SCRIPT)
        self._environ = {**os.environ, "PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": "postgres"}

    def prepare(self) -> None:
        """Make the tables."""
        sql = (
            "CREATE TABLE instances (id int PRIMARY KEY, state text, ctx text, seq bigint);"
            "INSERT INTO instances SELECT n, 'a', '{}', 0 FROM generate_series(1, 256) n;"
            "CREATE TABLE events (id bigserial PRIMARY KEY, instance int, event text, payload text);"
        )
        subprocess.run(["psql", "-q", "-c", sql], env=self._environ, check=True)

    def rate(self, clients: int, seconds: float) -> float:
        """Return transactions a second of so many clients."""
        done = subprocess.run(
            [
                *("pgbench", "-n", "-M", "prepared", "-c", str(clients), "-j", "1"),
                # Its clients connect one after the other within the time, so it gets two seconds at least.
                *("-T", str(max(3, round(seconds))), "-f", str(self._script)),
            ],
            env=self._environ,
            check=True,
            capture_output=True,
            text=True,
        )
        found = re.search(r"tps = ([0-9.]+)", done.stdout)
        assert found is not None, done.stdout
        return float(found.group(1))


def _postgres_binary(name: str) -> str | None:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(found[-1]) if found else shutil.which(name)


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[Postgres]:
    """PostgreSQL in its default durability (fsync on, synchronous_commit on)."""
    folder.mkdir()
    # The server refuses to run as root; the distribution's own user is used then.
    as_user: list[str] = []
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
        as_user = ["runuser", "-u", "postgres", "--"]
    data = folder / "cluster"
    initdb, server = _postgres_binary("initdb"), _postgres_binary("postgres")
    assert initdb is not None
    assert server is not None
    subprocess.run(
        [*as_user, initdb, "-D", str(data), "-U", "postgres", "-A", "trust"],
        check=True,
        stdout=subprocess.DEVNULL,
        cwd=folder,
    )
    port = free_port()
    process = subprocess.Popen(
        [
            *(*as_user, server, "-D", str(data), "-p", str(port), "-c", "listen_addresses=127.0.0.1"),
            *("-c", "unix_socket_directories=", "-c", "max_connections=300", "-c", "shared_buffers=256MB"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
    )
    try:
        wait_for_port(port, process)
        peer = Postgres(port, folder)
        deadline = time.monotonic() + 30
        while subprocess.run(["pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]).returncode != 0:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        peer.prepare()
        yield peer
    finally:
        # The postmaster's own pid: runuser would not pass the signal on. SIGINT is a "fast" shutdown.
        postmaster = int((data / "postmaster.pid").read_text().splitlines()[0])
        os.kill(postmaster, signal.SIGINT)
        process.wait(30)


def missing_peers() -> list[str]:
    """Return the packages that the benchmark needs and does not find."""
    missing = []
    if shutil.which("redis-server") is None:
        missing.append("redis-server")
    if _postgres_binary("postgres") is None or shutil.which("pgbench") is None:
        missing.append("postgresql")
    return missing
