"""What an operator does to a serving process: stop, stop at once, reload under load, start it wrongly."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.server_process import ServerProcess
from tests.wire import ORDER, StreamClosedError, Wire, frame, request


def furnish(server: ServerProcess, count: int = 4) -> None:
    with Wire(server.port) as wire:
        wire.call("PUT_MACHINE", machine="order", version=1, definition=ORDER)
        for number in range(count):
            wire.call("CREATE_INSTANCE", machine="order", version=1, instance_id=f"i{number}")


def test_sigterm_answers_what_was_sent_and_keeps_it(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data") as server:
        furnish(server)
        wires = [Wire(server.port) for _ in range(4)]
        acknowledged: dict[int, int] = {}

        def work(number: int, wire: Wire) -> None:
            with contextlib.suppress(StreamClosedError, ConnectionError):
                while True:
                    offset = wire.call("APPLY_EVENT", instance_id=f"i{number}", event="NOTE")["wal_offset"]
                    acknowledged[number] = offset

        threads = [threading.Thread(target=work, args=item) for item in enumerate(wires)]
        for thread in threads:
            thread.start()
        while len(acknowledged) < 4:
            time.sleep(0.01)
        assert server.stop() == 0
        for thread in threads:
            thread.join()
        for wire in wires:
            wire.close()
        assert '"message":"stopped"' in server.output
        server.start()
        assert '"clean":true' in server.output
        with Wire(server.port) as wire:
            for number, offset in acknowledged.items():
                assert wire.call("GET_INSTANCE", instance_id=f"i{number}")["last_wal_offset"] >= offset


def test_pipelined_requests_before_sigterm_are_answered(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data") as server:
        furnish(server)
        with Wire(server.port) as wire:
            wire.send_raw(frame(request("APPLY_EVENT", {"instance_id": "i0", "event": "NOTE"})) * 500)
            first = wire.receive()
            assert server.process is not None
            server.process.send_signal(signal.SIGTERM)
            answers = [first]
            with contextlib.suppress(StreamClosedError, ConnectionError):
                while True:
                    answers.append(wire.receive())
            assert server.process.wait(20) == 0
        server.stop()
        server.start()
        with Wire(server.port) as wire:
            last = wire.call("GET_INSTANCE", instance_id="i0")["last_wal_offset"]
            # Whatever was applied was answered, too: nothing happens behind a client's back.
            assert last == answers[-1]["result"]["wal_offset"]


@pytest.mark.parametrize("policy", ["every_write", "every_ms:5", "every_n:10", "never"])
def test_stopping_at_any_moment_is_clean(tmp_path: Path, policy: str) -> None:
    """Also while a sync of its own runs in the background."""
    with ServerProcess(tmp_path / "data", environ={"RSTMDB_FSYNC_POLICY": policy}) as server:
        furnish(server)
        for number in range(3):
            with Wire(server.port) as wire:
                wire.call("APPLY_EVENT", instance_id="i0", event="NOTE")
                time.sleep(0.004 * number)  # three moments around the sync
                assert server.stop() == 0, server.output
            assert "Traceback" not in server.output
            server.start()
            assert '"clean":true' in server.output
        with Wire(server.port) as wire:
            assert len(wire.call("WAL_READ", from_offset=0)["records"]) == 5 + 3


def test_the_second_signal_does_not_wait(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data") as server:
        furnish(server)
        with Wire(server.port, receive_buffer=4096) as stuck:
            stuck.call("PING")
            stuck.call(
                "CREATE_INSTANCE",
                machine="order",
                version=1,
                instance_id="b",
                initial_ctx={"t": "x" * 900_000},
            )
            stuck.send_raw(frame(request("GET_INSTANCE", {"instance_id": "b"})) * 40)
            stuck.receive()
            process = server.process
            assert process is not None
            process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            with contextlib.suppress(OSError, StreamClosedError):
                while time.monotonic() - began < 10:  # until nobody is let in any more
                    with Wire(server.port, timeout=1) as late:
                        late.call("PING")
            assert process.poll() is None, "it waits for the one who reads slowly"
            process.send_signal(signal.SIGTERM)
            assert process.wait(5) == 128 + signal.SIGTERM
            server.stop()
        server.start()
        with Wire(server.port) as wire:
            wire.call("GET_INSTANCE", instance_id="b")


def test_a_client_that_never_reads_does_not_hold_up_the_end(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data") as server:
        furnish(server)
        with Wire(server.port, receive_buffer=4096) as stuck:
            stuck.call("PING")
            stuck.call(
                "CREATE_INSTANCE",
                machine="order",
                version=1,
                instance_id="b",
                initial_ctx={"t": "x" * 900_000},
            )
            stuck.send_raw(frame(request("GET_INSTANCE", {"instance_id": "b"})) * 40)
            stuck.receive()
            began = time.monotonic()
            assert server.stop(timeout=20) == 0
            assert time.monotonic() - began < 15


# -- reload ------------------------------------------------------------------------------------------------


class Authority:
    """A certificate authority in a folder, and server certificates of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = trustme.CA()
        self.ca_path = folder / "ca.pem"
        self.ca.cert_pem.write_to_path(str(self.ca_path))
        self.issue()

    def issue(self) -> None:
        """Put a new server certificate in place."""
        certificate = self.ca.issue_cert("localhost", "127.0.0.1")
        certificate.private_key_pem.write_to_path(str(self.folder / "key.pem"))
        certificate.cert_chain_pems[0].write_to_path(str(self.folder / "cert.pem"))

    def settings(self, *, client_ca: bool = False) -> dict[str, str]:
        found = {
            "RSTMDB_TLS_ENABLED": "true",
            "RSTMDB_TLS_CERT": str(self.folder / "cert.pem"),
            "RSTMDB_TLS_KEY": str(self.folder / "key.pem"),
        }
        if client_ca:
            found |= {"RSTMDB_TLS_REQUIRE_CLIENT_CERT": "1", "RSTMDB_TLS_CLIENT_CA": str(self.ca_path)}
        return found

    def client(self, *, certificate: bool = False) -> ssl.SSLContext:
        """What a client that trusts this authority uses."""
        context = ssl.create_default_context(cafile=str(self.ca_path))
        if certificate:
            self.ca.issue_cert("client").configure_cert(context)
        return context


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    folder = tmp_path / "certs"
    folder.mkdir()
    return Authority(folder)


def serial(wire: Wire) -> str:
    assert isinstance(wire.socket, ssl.SSLSocket)
    certificate = wire.socket.getpeercert()
    assert certificate is not None
    return str(certificate["serialNumber"])


def reload(server: ServerProcess, times: int) -> None:
    """SIGHUP, and wait until it is told to be done for so many times in all."""
    assert server.process is not None
    server.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 20
    while server.output.count("configuration reloaded") + server.output.count("reload refused") < times:
        assert time.monotonic() < deadline, server.output
        time.sleep(0.01)


def test_reload_under_load(tmp_path: Path, authority: Authority) -> None:
    """A new certificate, a revoked token, other limits; not one request of the others is lost."""
    secrets = tmp_path / "secrets"

    def write_secrets(*tokens: str) -> None:
        entries = [f"{hashlib.sha256(t.encode()).hexdigest()} name={t}\n" for t in tokens]
        secrets.write_text("".join(entries))

    write_secrets("stays", "goes")
    config = tmp_path / "config.yaml"
    config.write_text("network: {subscriptions_max: 2}\n")
    settings = {
        **authority.settings(),
        "RSTMDB_AUTH_REQUIRED": "1",
        "RSTMDB_AUTH_SECRETS_FILE": str(secrets),
        "RSTMDB_CONFIG": str(config),
    }
    with ServerProcess(tmp_path / "data", environ=settings) as server:
        context = authority.client()
        with Wire(server.port, context=context) as wire:
            old_serial = serial(wire)
            wire.authenticate("stays")
            wire.call("PUT_MACHINE", machine="order", version=1, definition=ORDER)
            for number in range(3):
                wire.call("CREATE_INSTANCE", machine="order", version=1, instance_id=f"i{number}")
        stop = threading.Event()
        faults: list[BaseException] = []
        done = [0, 0, 0]

        def work(number: int) -> None:
            try:
                with Wire(server.port, context=context) as wire:
                    wire.authenticate("stays")
                    while not stop.is_set():
                        wire.call("APPLY_EVENT", instance_id=f"i{number}", event="NOTE")
                        done[number] += 1
            except BaseException as error:
                faults.append(error)

        def connect() -> None:
            """New connections all the while: none is refused in between."""
            try:
                while not stop.is_set():
                    with Wire(server.port, context=context) as wire:
                        wire.call("PING")
                        done[2] += 1
            except BaseException as error:
                faults.append(error)

        threads = [threading.Thread(target=work, args=(0,)), threading.Thread(target=work, args=(1,))]
        threads.append(threading.Thread(target=connect))
        for thread in threads:
            thread.start()
        with Wire(server.port, context=context) as going, Wire(server.port, context=context) as staying:
            going.authenticate("goes")
            subscription = going.call("WATCH_ALL", events=["PAY"])["subscription_id"]
            staying.authenticate("stays")
            staying.call("WATCH_ALL", events=["PAY"])
            staying.call("WATCH_ALL", events=["PAY"])
            assert staying.refusal("WATCH_ALL").reason == "SUBSCRIPTIONS_MAX"
            authority.issue()
            write_secrets("stays")
            config.write_text("network: {subscriptions_max: 3}\n")
            for times in range(1, 6):
                reload(server, times)
            assert going.event() == {
                "type": "end",
                "subscription_id": subscription,
                "reason": "TOKEN_REVOKED",
            }
            refused = going.refusal("LIST_MACHINES")
            assert (refused.code, refused.reason) == ("UNAUTHORIZED", "TOKEN_REVOKED")
            assert going.refusal("AUTH", method="bearer", token="goes").code == "AUTH_FAILED"
            going.authenticate("stays")
            going.call("LIST_MACHINES")
            staying.call("WATCH_ALL", events=["PAY"])
        with Wire(server.port, context=context) as wire:
            assert serial(wire) != old_serial
        before = list(done)
        deadline = time.monotonic() + 20
        while any(now <= then for now, then in zip(done, before, strict=True)) and not faults:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        stop.set()
        for thread in threads:
            thread.join()
        assert faults == []

        # A reload that is wrong changes nothing and says so.
        (authority.folder / "cert.pem").write_text("nonsense")
        reload(server, 6)
        assert "reload refused" in server.output
        assert "cert.pem" in server.output
        with Wire(server.port, context=context) as wire:
            wire.authenticate("stays")
            wire.call("LIST_MACHINES")


def test_reload_turns_authentication_on(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    token_hash = hashlib.sha256(b"t").hexdigest()
    config.write_text(f"auth: {{token_hashes: ['{token_hash}']}}\n")
    with (
        ServerProcess(tmp_path / "data", arguments=("--config", str(config))) as server,
        Wire(server.port) as wire,
    ):
        wire.call("LIST_MACHINES")
        config.write_text(f"auth: {{required: true, token_hashes: ['{token_hash}']}}\n")
        reload(server, 1)
        assert wire.refusal("LIST_MACHINES").reason == "NOT_AUTHENTICATED"
        wire.authenticate("t")
        wire.call("LIST_MACHINES")
        config.write_text("auth: {required: false}\n")
        reload(server, 2)
        wire.call("LIST_MACHINES")
        with Wire(server.port) as other:
            other.call("LIST_MACHINES")


# -- certificates ------------------------------------------------------------------------------------------


def test_client_certificates(tmp_path: Path, authority: Authority) -> None:
    folder = tmp_path / "others"
    folder.mkdir()
    strangers = Authority(folder)
    with ServerProcess(tmp_path / "data", environ=authority.settings(client_ca=True)) as server:
        with Wire(server.port, context=authority.client(certificate=True)) as wire:
            wire.call("PING")
            none = authority.client()
            wrong = authority.client()
            strangers.ca.issue_cert("client").configure_cert(wrong)
            for context in (none, wrong):
                # In TLS 1.3 the client only hears of it when it reads.
                with (
                    pytest.raises((ssl.SSLError, ConnectionError, StreamClosedError)),
                    Wire(server.port, context=context) as refused,
                ):
                    refused.call("PING")
            with pytest.raises(ssl.SSLCertVerificationError):
                Wire(server.port, context=strangers.client())
            for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                context = authority.client(certificate=True)
                context.minimum_version = context.maximum_version = version
                with Wire(server.port, context=context) as same:
                    same.call("PING")
            wire.call("PING")
        assert "Traceback" not in server.output


def test_a_handshake_that_takes_for_ever(tmp_path: Path, authority: Authority) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    settings = {
        **authority.settings(),
        "RSTMDB_NETWORK_HANDSHAKE_TIMEOUT_SECS": "1",
        "RSTMDB_METRICS_ENABLED": "1",
        "RSTMDB_METRICS_BIND": f"127.0.0.1:{port}",
    }
    with ServerProcess(tmp_path / "data", environ=settings) as server:
        hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
        slow = [Wire(server.port) for _ in range(10)]
        for number, wire in enumerate(slow):
            wire.send_raw(hello[:number])
        with Wire(server.port) as plain:
            plain.send_raw(frame(request("PING")))  # no TLS at all
            assert plain.ended(5)
        with Wire(server.port, context=authority.client()) as good:
            good.call("PING")
            for wire in slow:
                assert wire.ended(6)
                wire.close()
            good.call("PING")
        deadline = time.monotonic() + 10
        wanted = ('rstmdb_connections_refused_total{reason="tls"} 11.0', "rstmdb_connections_active 0.0")
        while any(line not in _metrics(port) for line in wanted):
            assert time.monotonic() < deadline, _metrics(port)
            time.sleep(0.05)
        assert server.stop() == 0
        assert "Traceback" not in server.output


def _metrics(port: int) -> str:
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text: str = answer.read().decode()
        return text


# -- starting wrongly --------------------------------------------------------------------------------------


def refused_start(environ: dict[str, str], *arguments: str) -> tuple[int, str]:
    """Start a server that must not start; return its exit code and what it said."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("RSTMDB_", "RUST_LOG"))}
    ended = subprocess.run(
        [sys.executable, "-m", "rstmdb_server", *arguments],
        env={**inherited, "RSTMDB_METRICS_ENABLED": "false", **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.stdout == ""
    return ended.returncode, ended.stderr


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock.getsockname()[1]


def test_one_line_for_each_wrong_start(tmp_path: Path, taken: int) -> None:
    unwritable = tmp_path / "file"
    unwritable.write_text("in the way")
    config = tmp_path / "config.yaml"
    config.write_text("network:\n  bind_adr: 127.0.0.1:0\n")
    good = {"RSTMDB_BIND": "127.0.0.1:0", "RSTMDB_DATA": str(tmp_path / "data")}
    cases: list[tuple[dict[str, str], tuple[str, ...], tuple[str, ...]]] = [
        ({**good, "RSTMDB_BIND": f"127.0.0.1:{taken}"}, (), (f"127.0.0.1:{taken}", "in use")),
        ({**good, "RSTMDB_BIND": "no.such.host.invalid:1"}, (), ("no.such.host.invalid",)),
        ({**good, "RSTMDB_BIND": "7401"}, (), ("RSTMDB_BIND", "7401")),
        (
            {**good, "RSTMDB_METRICS_ENABLED": "1", "RSTMDB_METRICS_BIND": f"127.0.0.1:{taken}"},
            (),
            ("metrics.bind_addr", "in use"),
        ),
        ({**good, "RSTMDB_DATA": str(unwritable / "data")}, (), (str(unwritable),)),
        ({**good, "RSTMDB_MAX_CONNECTIONS": "many"}, (), ("RSTMDB_MAX_CONNECTIONS", "many")),
        ({**good, "RSTMDB_FSYNC_POLICY": "sometimes"}, (), ("RSTMDB_FSYNC_POLICY", "sometimes")),
        (good, ("--config", str(config)), ("bind_adr", "bind_addr")),
        (good, ("--config", str(tmp_path / "missing.yaml")), ("missing.yaml",)),
        ({**good, "RSTMDB_AUTH_REQUIRED": "1"}, (), ("auth.required",)),
        ({**good, "RSTMDB_TLS_ENABLED": "1", "RSTMDB_TLS_CERT": "x"}, (), ("tls.key_path",)),
    ]
    for environ, arguments, words in cases:
        code, said = refused_start(environ, *arguments)
        assert code != 0, (words, said)
        lines = [line for line in said.splitlines() if not line.startswith(("{", "rstmdb: warning:"))]
        assert len(lines) == 1, said
        assert all(word in lines[0] for word in words), (words, lines[0])


def test_a_taken_default_address_of_the_operators_only_warns(tmp_path: Path) -> None:
    """Two servers on one machine: the second one serves without its page."""
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(socket.socket())
        with contextlib.suppress(OSError):  # somebody else may have it, which does as well
            sock.bind(("127.0.0.1", 9090))
            sock.listen()
        server = stack.enter_context(
            ServerProcess(tmp_path / "data", environ={"RSTMDB_METRICS_ENABLED": "true"})
        )
        assert "is taken; going on without it" in server.output
        with Wire(server.port) as wire:
            wire.call("PING")
