"""Every command line of the documents this project started from, as it stands there, against a real server.

The lines run in a shell whose PATH has our commands; the server's address comes from ``RSTMDB_SERVER`` so
that tests can run side by side (one test starts ``./rstmdb`` on the default address, as the document does).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server_process import ServerProcess, running_server

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


class Shell:
    """A folder and an environment in which lines run."""

    def __init__(self, folder: Path, server: str | None) -> None:
        self.folder = folder
        self.environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith("RSTMDB_")},
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "HOME": str(folder),
            "NO_COLOR": "1",
        }
        if server is not None:
            self.environ["RSTMDB_SERVER"] = server

    def run(self, line: str, *, code: int = 0) -> str:
        """Run a line; returns what it wrote to stdout."""
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == code, (line, done.returncode, done.stdout, done.stderr)
        return done.stdout

    def begin(self, line: str) -> subprocess.Popen[str]:
        """Begin a line that goes on until it is interrupted."""
        return subprocess.Popen(
            ["bash", "-c", line],
            cwd=self.folder,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with running_server() as server:
        yield Shell(tmp_path, server.address)


def wait_for_watch(process: subprocess.Popen[str]) -> str:
    """Wait for the header of a watch; returns the subscription id."""
    assert process.stderr is not None
    for line in process.stderr:
        found = re.search(r"sub_id: (sub-[^,)]+)", line)
        if found:
            return found.group(1)
    raise AssertionError(f"no watch began; exit code {process.wait()}")


def read_events(process: subprocess.Popen[str], count: int) -> list[dict[str, object]]:
    assert process.stdout is not None
    return [json.loads(process.stdout.readline()) for _ in range(count)]


def interrupt(process: subprocess.Popen[str]) -> int:
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=10)
    return process.returncode


PUT_ORDER = """rstmdb-cli put-machine -n order -v 1 '{
  "states": ["created", "paid", "shipped", "delivered"],
  "initial": "created",
  "transitions": [
    {"from": "created", "event": "PAY", "to": "paid"},
    {"from": "paid", "event": "SHIP", "to": "shipped"},
    {"from": "shipped", "event": "DELIVER", "to": "delivered"}
  ]
}'"""


def test_quick_example_of_the_introduction(shell: Shell) -> None:
    assert shell.run(PUT_ORDER).startswith("Created machine order v1 (checksum: ")
    created = shell.run(
        """rstmdb-cli create-instance -m order -V 1 -i order-123 -c '{"customer": "alice"}'"""
    )
    assert created.splitlines()[:3] == [
        "Created instance order-123",
        "  Machine: order v1",
        "  State: created",
    ]
    paid = shell.run("""rstmdb-cli apply-event -i order-123 -e PAY -p '{"amount": 99.99}'""")
    assert paid.splitlines()[:2] == ["Applied event PAY on order-123", "  created → paid"]
    shipped = shell.run("""rstmdb-cli apply-event -i order-123 -e SHIP -p '{"carrier": "fedex"}'""")
    assert "  paid → shipped" in shipped
    found = shell.run("rstmdb-cli get-instance order-123")
    assert "  State: shipped\n" in found
    for text in ('"amount": 99.99', '"carrier": "fedex"', '"customer": "alice"'):
        assert text in found


def test_guarded_approval_of_the_introduction(shell: Shell) -> None:
    definition = """{
  "states": ["pending", "approved", "rejected"],
  "initial": "pending",
  "transitions": [
    {"from": "pending", "event": "APPROVE", "to": "approved", "guard": "ctx.amount <= 1000"},
    {"from": "pending", "event": "REJECT", "to": "rejected"}
  ]
}"""
    shell.run(f"rstmdb-cli put-machine -n order -v 1 '{definition}'")
    shell.run("""rstmdb-cli create-instance -m order -V 1 -i order-001 -c '{"amount": 500}'""")
    approved = shell.run("""rstmdb-cli apply-event -i order-001 -e APPROVE -p '{"approver": "alice"}'""")
    assert "  pending → approved" in approved
    shell.run("""rstmdb-cli create-instance -m order -V 1 -i order-002 -c '{"amount": 1001}'""")
    shell.run("rstmdb-cli apply-event -i order-002 -e APPROVE", code=1)


@pytest.mark.parametrize(
    "guard",
    [
        "ctx.amount > 100 && ctx.approved",
        "ctx.amount <= 1000",
        "ctx.approved && ctx.manager_id",
        "ctx.items > 0",
        "!ctx.cancelled",
    ],
)
def test_guards_of_the_documents_are_accepted(shell: Shell, guard: str) -> None:
    definition = json.dumps(
        {
            "states": ["a"],
            "initial": "a",
            "transitions": [{"from": "a", "event": "E", "to": "a", "guard": guard}],
        }
    )
    assert shell.run(f"rstmdb-cli put-machine -n g -v 1 '{definition}'").startswith("Created machine g v1")


def test_command_line_usage_of_the_readme(shell: Shell) -> None:
    assert shell.run("rstmdb-cli ping") == "PONG\n"
    shell.run("""rstmdb-cli put-machine -n order -v 1 '{
  "states": ["created", "paid", "shipped"],
  "initial": "created",
  "transitions": [
    {"from": "created", "event": "PAY", "to": "paid"},
    {"from": "paid", "event": "SHIP", "to": "shipped", "guard": "ctx.ready"}
  ]
}'""")
    shell.run("""rstmdb-cli create-instance -m order -V 1 -i order-001 -c '{"ready": false}'""")
    shell.run("""rstmdb-cli apply-event -i order-001 -e PAY -p '{"amount": 99.99}'""")
    assert "  State: paid\n" in shell.run("rstmdb-cli get-instance order-001")
    compacted = shell.run("rstmdb-cli compact --force")
    assert compacted.startswith("Compaction complete\n  Snapshots created: 1\n")


def test_event_streaming_of_the_readme(shell: Shell) -> None:
    shell.run(PUT_ORDER)
    shell.run("rstmdb-cli create-instance -m order -V 1 -i order-001")
    lines = {
        "rstmdb-cli watch-instance order-001": 2,
        "rstmdb-cli watch-all": 2,
        "rstmdb-cli watch-all --machines order": 2,
        "rstmdb-cli watch-all --to-states shipped": 1,
        "rstmdb-cli watch-all --events PAY,SHIP": 2,
        "rstmdb-cli watch-all --machines order --to-states shipped": 1,
        "rstmdb-cli watch-all --no-ctx": 2,
    }
    watches = {line: shell.begin(line) for line in lines}
    for watch in watches.values():
        wait_for_watch(watch)
    shell.run("""rstmdb-cli apply-event -i order-001 -e PAY -p '{"amount": 99.99}'""")
    shell.run("rstmdb-cli apply-event -i order-001 -e SHIP")
    for line, count in lines.items():
        events = read_events(watches[line], count)
        assert events[-1]["to_state"] == "shipped", line
        assert ("ctx" in events[-1]) is ("--no-ctx" not in line), line
        assert list(events[-1])[:8] == [
            "type",
            "subscription_id",
            "instance_id",
            "machine",
            "version",
            "wal_offset",
            "from_state",
            "to_state",
        ]
    for line, watch in watches.items():
        assert interrupt(watch) == 0, line


def test_pipelines_of_the_readme(shell: Shell) -> None:
    if shutil.which("jq", path=shell.environ["PATH"]) is None:
        pytest.skip("jq, which the documented pipeline pipes into, is not installed")
    shell.run(PUT_ORDER)
    shell.run("rstmdb-cli create-instance -m order -V 1 -i order-001")
    builder = shell.folder / "projection-builder"
    builder.write_text("#!/bin/sh\nexec head -1 > projection.txt\n")
    builder.chmod(0o755)
    audit = shell.begin("rstmdb-cli watch-all | jq -c >> audit.jsonl")
    projection = shell.begin("rstmdb-cli watch-all --machines order | ./projection-builder")
    subscriptions = [wait_for_watch(audit), wait_for_watch(projection)]
    shell.run("rstmdb-cli apply-event -i order-001 -e PAY")
    for subscription, pipeline in zip(subscriptions, (audit, projection), strict=True):
        # Ending the watch, not the pipeline: jq writes what it holds back when its input ends.
        shell.run(f"rstmdb-cli unwatch {subscription}")
        pipeline.communicate(timeout=20)
    for name in ("audit.jsonl", "projection.txt"):
        assert json.loads((shell.folder / name).read_text().splitlines()[0])["to_state"] == "paid"


def test_unwatch_from_another_shell(shell: Shell) -> None:
    watch = shell.begin("rstmdb-cli watch-all")
    subscription = wait_for_watch(watch)
    assert shell.run(f"rstmdb-cli unwatch {subscription}") == f"Removed subscription {subscription}\n"
    watch.communicate(timeout=10)
    assert watch.returncode == 0
    unknown = shell.run("rstmdb-cli unwatch sub-xxxxxxxx 2>&1")
    assert unknown == "Warning: subscription sub-xxxxxxxx not found\n"


def test_authentication_of_the_readme(tmp_path: Path) -> None:
    shell = Shell(tmp_path, None)
    token_hash = shell.run('rstmdb-cli hash-token "my-secret-token"').strip()
    assert token_hash == "ea5add57437cbf20af59034d7ed17968dcc56767b41965fcc5b376d45db8b4a3"
    (tmp_path / "tokens.secret").write_text(f"{token_hash}  # one hash a line\n".split("  ")[0] + "\n")
    (tmp_path / "config.yaml").write_text("auth:\n  required: true\n  secrets_file: tokens.secret\n")
    for environ in (
        {"RSTMDB_AUTH_REQUIRED": "true", "RSTMDB_AUTH_TOKEN_HASH": token_hash},
        {"RSTMDB_AUTH_REQUIRED": "true", "RSTMDB_AUTH_SECRETS_FILE": str(tmp_path / "tokens.secret")},
    ):
        with running_server(environ) as server:
            shell.environ["RSTMDB_SERVER"] = server.address
            line = 'rstmdb-cli --token "my-secret-token" list-machines'
            assert shell.run(line) == "No machines registered\n"
            exported = 'export RSTMDB_TOKEN="my-secret-token"\nrstmdb-cli list-machines'
            assert shell.run(exported) == "No machines registered\n"
            shell.run("rstmdb-cli list-machines", code=1)


CONFIG = """
network:
  bind_addr: "127.0.0.1:7401"
  max_connections: 1000

auth:
  required: false
  # token_hashes:
  #   - "<sha256-hash>"  # Generate with: rstmdb-cli hash-token <token>

storage:
  data_dir: "./data"
  wal_segment_size_mb: 64
  fsync_policy: every_write

compaction:
  enabled: true
  events_threshold: 10000
  size_threshold_mb: 100
"""


def test_tls_of_the_readme(tmp_path: Path) -> None:
    shell = Shell(tmp_path, None)
    (tmp_path / "rstmdb").write_text(f'#!/bin/sh\nexec "{BIN}/rstmdb" "$@"\n')
    (tmp_path / "rstmdb").chmod(0o755)
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "generate-dev-certs.sh", tmp_path / "scripts")
    shell.run("./scripts/generate-dev-certs.sh ./dev-certs")
    certs = tmp_path / "dev-certs"
    names = "ca-cert ca-key server-cert server-key client-cert client-key"
    assert {path.name for path in certs.iterdir()} == {f"{name}.pem" for name in names.split()}
    environ = {
        "RSTMDB_TLS_ENABLED": "true",
        "RSTMDB_TLS_CERT": str(certs / "server-cert.pem"),
        "RSTMDB_TLS_KEY": str(certs / "server-key.pem"),
    }
    with running_server(environ) as server:
        shell.environ["RSTMDB_SERVER"] = server.address
        line = "rstmdb-cli --tls --ca-cert ./dev-certs/ca-cert.pem -t my-token ping"
        assert shell.run(line) == "PONG\n"
        assert shell.run("rstmdb-cli --tls --insecure -t my-token ping") == "PONG\n"
        shell.run("rstmdb-cli --tls -t my-token ping", code=1)
    environ |= {
        "RSTMDB_TLS_REQUIRE_CLIENT_CERT": "true",
        "RSTMDB_TLS_CLIENT_CA": str(certs / "ca-cert.pem"),
    }
    with running_server(environ) as server:
        shell.environ["RSTMDB_SERVER"] = server.address
        mutual = r"""rstmdb-cli --tls \
    --ca-cert ./dev-certs/ca-cert.pem \
    --client-cert ./dev-certs/client-cert.pem \
    --client-key ./dev-certs/client-key.pem \
    -t my-token ping"""
        assert shell.run(mutual) == "PONG\n"
        shell.run("rstmdb-cli --tls --ca-cert ./dev-certs/ca-cert.pem -t my-token ping", code=1)
        exported = "\n".join(
            [
                "export RSTMDB_TLS=true",
                f"export RSTMDB_CA_CERT={certs}/ca-cert.pem",
                f"export RSTMDB_CLIENT_CERT={certs}/client-cert.pem",
                f"export RSTMDB_CLIENT_KEY={certs}/client-key.pem",
                "rstmdb-cli ping",
            ]
        )
        assert shell.run(exported) == "PONG\n"


def test_starting_the_server_as_the_documents_do(tmp_path: Path) -> None:
    """``./rstmdb`` and ``RSTMDB_CONFIG=config.yaml ... rstmdb``, on the default address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", 7401))
        except OSError:
            pytest.skip("something else listens on the default address 127.0.0.1:7401")
    shell = Shell(tmp_path, None)
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "rstmdb").write_text(f'#!/bin/sh\nexec "{BIN}/rstmdb" "$@"\n')
    (tmp_path / "rstmdb").chmod(0o755)
    for line in ("exec ./rstmdb", "RSTMDB_CONFIG=config.yaml exec rstmdb"):
        server = shell.begin(line)
        try:
            assert server.stderr is not None
            for text in server.stderr:
                if " is ready on 127.0.0.1:7401" in text:
                    break
            assert shell.run("rstmdb-cli ping") == "PONG\n"
            shell.run(f"{PUT_ORDER} && rstmdb-cli get-machine -n order -v 1")
        finally:
            server.send_signal(signal.SIGTERM)
            server.communicate(timeout=20)
        assert server.returncode == 0
    assert (tmp_path / "data" / "wal" / "0000000000000001.wal").exists()


def test_a_second_server_on_the_same_directory_is_refused(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data") as server:
        second = ServerProcess(tmp_path / "data")
        with pytest.raises(
            AssertionError, match=f"ended with 1: rstmdb: data directory .* is in use: .*{server.pid}"
        ):
            second.start()
