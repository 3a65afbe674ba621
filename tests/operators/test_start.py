"""How a server starts or says on one line why not."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
import yaml

HASH = "ea5add57437cbf20af59034d7ed17968dcc56767b41965fcc5b376d45db8b4a3"


def run(tmp_path, *arguments, environ=None, config=None):
    """Run the command until it ends; returns (code, stdout, lines of stderr)."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("RSTMDB_", "RUST_"))} | {
        "RSTMDB_BIND": "127.0.0.1:0",
        "RSTMDB_DATA": str(tmp_path / "data"),
        "RSTMDB_METRICS_ENABLED": "false",
        **(environ or {}),
    }
    if config is not None:
        (tmp_path / "rstmdb.yaml").write_text(config)
        arguments = ("--config", str(tmp_path / "rstmdb.yaml"), *arguments)
    done = subprocess.run(
        [sys.executable, "-m", "rstmdb_server", *arguments],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr.splitlines()


@pytest.mark.parametrize(
    ("config", "environ", "words"),
    [
        (
            "network: {max_conections: 5}",
            {},
            ["network.max_conections", "did you mean 'network.max_connections'?"],
        ),
        ("auth: {required: true}", {}, ["auth.required", "auth.token_hashes"]),
        ("auth: {secrets_file: /nonexistent/tokens}", {}, ["/nonexistent/tokens", "No such file"]),
        (
            "tls: {enabled: true, cert_path: /no/c.pem, key_path: /no/k.pem}",
            {},
            ["tls.cert_path '/no/c.pem'"],
        ),
        ("logging: {audit: /nonexistent/audit.jsonl}", {}, ["logging.audit", "/nonexistent/audit.jsonl"]),
        ("a: [", {}, ["rstmdb.yaml", "not valid YAML"]),
        ("", {"RSTMDB_FSYNC_POLICY": "every_ms:soon"}, ["RSTMDB_FSYNC_POLICY", "every_ms:100"]),
    ],
)
def test_a_wrong_configuration_is_one_line_and_code_2(tmp_path, config, environ, words):
    code, out, said = run(tmp_path, config=config, environ=environ)
    assert (code, out) == (2, "")
    told = [line for line in said if line.startswith("rstmdb: configuration")]
    assert len(told) == 1, said
    assert all(word in told[0] for word in words), told
    assert not any("Traceback" in line for line in said)
    assert not (tmp_path / "data").exists(), "nothing was touched"


def test_checking_a_configuration(tmp_path):
    assert run(tmp_path, "--check-config", config="network: {max_connections: 5}")[0] == 0
    code, _, said = run(tmp_path, "--check-config", config="network: {max_connections: no}\nx: 1")
    assert code == 2
    assert len(said) == 2
    assert not (tmp_path / "data").exists()


def test_printing_a_configuration(tmp_path):
    config = f"auth: {{required: true, token_hashes: ['{HASH}']}}\nnetwork: {{max_connections: 5}}"
    code, out, _ = run(tmp_path, "--print-config", config=config)
    assert code == 0
    assert HASH not in out
    printed = yaml.safe_load(out)
    assert printed["network"]["max_connections"] == 5
    assert printed["network"]["bind_addr"] == "127.0.0.1:0", "the environment is in it"


@pytest.fixture
def taken():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield f"127.0.0.1:{sock.getsockname()[1]}"


@pytest.mark.parametrize("variable", ["RSTMDB_BIND", "RSTMDB_METRICS_BIND"])
def test_a_taken_port_ends_the_start(tmp_path, taken, variable):
    code, _, said = run(tmp_path, environ={variable: taken, "RSTMDB_METRICS_ENABLED": "true"})
    assert code == 1
    assert any(taken in line and "in use" in line for line in said), said


def test_a_taken_default_port_of_the_operators_is_only_a_warning(start, session_of):
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for _ in range(100):
            try:
                sock.bind(("127.0.0.1", 9090))
                sock.listen()
                break
            except OSError:
                time.sleep(0.1)  # another test has it for a moment; whoever keeps it will do just as well
        server = start(environ={"RSTMDB_METRICS_BIND": ""})
        assert any("9090" in line and "warn" in line for line in server.said), server.said
        assert session_of(server)("PING") == {"pong": True}


def test_metrics_can_be_off(start, session_of):
    server = start(environ={"RSTMDB_METRICS_ENABLED": "0"})
    assert session_of(server)("PING") == {"pong": True}
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"{server.url}/health", timeout=5)


def test_the_status_page_asks_for_a_token_when_clients_need_one(start):
    server = start(environ={"RSTMDB_AUTH_REQUIRED": "1", "RSTMDB_AUTH_TOKEN_HASH": HASH})
    for path in ("/", "/status.json"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(server.url + path, timeout=5)
        assert refused.value.code == 401
        refused.value.close()
        request = urllib.request.Request(
            server.url + path, headers={"Authorization": "Bearer my-secret-token"}
        )
        with urllib.request.urlopen(request, timeout=5) as answer:
            assert answer.status == 200
    with urllib.request.urlopen(server.url + "/metrics", timeout=5) as answer:
        assert answer.status == 200


def test_dev_certificates_by_the_command(tmp_path):
    code, out, _ = run(tmp_path, "dev-certs", str(tmp_path / "certs"))
    assert code == 0
    assert len(out.splitlines()) >= 6
    assert len(list((tmp_path / "certs").iterdir())) == 6
