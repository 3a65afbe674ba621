"""What goes wrong says what happened, where, and what to do next; and ends with the right code."""

import json
import re
import socket
from pathlib import Path

import pytest

from rstmdb_client import Client
from tests.cli.conftest import ORDER, Cli
from tests.server_process import running_server


@pytest.mark.parametrize(
    ("arguments", "code", "detailed", "hint"),
    [
        (("get-instance", "nope"), "INSTANCE_NOT_FOUND", 5, "rstmdb-cli list-instances"),
        (("apply-event", "-i", "nope", "-e", "PAY"), "INSTANCE_NOT_FOUND", 5, "rstmdb-cli list-instances"),
        (("delete-instance", "nope"), "INSTANCE_NOT_FOUND", 5, "rstmdb-cli list-instances"),
        (("snapshot-instance", "nope"), "INSTANCE_NOT_FOUND", 5, "rstmdb-cli list-instances"),
        (("watch-instance", "nope"), "INSTANCE_NOT_FOUND", 5, "rstmdb-cli list-instances"),
        (("history", "nope"), "INSTANCE_NOT_FOUND", 5, "rstmdb-cli list-instances"),
        (("get-machine", "-n", "nope", "-v", "1"), "MACHINE_NOT_FOUND", 5, "rstmdb-cli list-machines"),
        (("create-instance", "-m", "nope", "-V", "1"), "MACHINE_NOT_FOUND", 5, "rstmdb-cli list-machines"),
        (("create-instance", "-m", "order", "-V", "1", "-i", "o-1"), "INSTANCE_EXISTS", 6, "another --id"),
        (("apply-event", "-i", "o-1", "-e", "SHIP"), "INVALID_TRANSITION", 6, "events allowed now: PAY"),
        (
            ("apply-event", "-i", "o-1", "-e", "PAY", "--expected-state", "x"),
            "CONFLICT",
            6,
            "rstmdb-cli get-instance o-1",
        ),
        (("put-machine", "-n", "order", "-v", "1", '{"states":["a"],"initial":"a","transitions":[]}'),
         "MACHINE_VERSION_EXISTS", 6, "next --version"),
    ],
)  # fmt: skip
def test_server_errors(
    cli: Cli, instance: int, arguments: tuple[str, ...], code: str, detailed: int, hint: str
) -> None:
    run = cli(*arguments)
    first, second = run.stderr.splitlines()
    assert re.fullmatch(rf"Error: server error: {code} - .+", first)
    assert second.startswith("Hint: ")
    assert hint in second
    assert (run.stdout, run.code) == ("", 1)
    assert cli(*arguments, "--exit-codes", "detailed").code == detailed
    assert cli(*arguments, env={"RSTMDB_EXIT_CODES": "detailed"}).code == detailed


def test_a_failed_guard_shows_the_guard_and_what_it_saw(cli: Cli, client: Client, instance: int) -> None:
    client.apply_event("o-1", "PAY", payload={"ready": False})
    run = cli("apply-event", "-i", "o-1", "-e", "SHIP", "-p", '{"ready": true}')
    assert (run.stdout, run.code) == ("", 1)
    assert run.stderr.startswith("Error: server error: GUARD_FAILED - ")
    assert "\nHint: the guard 'ctx.ready' is false with ctx.ready = false. " in run.stderr
    assert "`rstmdb-cli describe o-1`" in run.stderr


def test_a_bad_definition_points_at_the_place(cli: Cli) -> None:
    bad = json.loads(json.dumps(ORDER))
    bad["transitions"][1]["guard"] = "ctx.a >"
    run = cli("put-machine", "-n", "order", "-v", "1", json.dumps(bad))
    assert (run.stdout, run.code) == ("", 1)
    lines = run.stderr.splitlines()
    assert lines[0].startswith("Error: server error: BAD_REQUEST - ")
    assert lines[2].startswith("  transitions[1].guard: ")
    assert lines[3] == "    ctx.a >"
    assert lines[4].strip() == "^"


@pytest.mark.parametrize(
    ("text", "said", "caret"),
    [
        ('{"a": }', "a value is expected here", 6),
        ('{"a": 1', "expecting ',' delimiter", 7),
        ("{a: 1}", "expecting property name enclosed in double quotes", 1),
        ('{"a": NaN}', "NaN is not a JSON value", 6),
        ('{"a": 1} x', "extra data", 9),
    ],
)
def test_wrong_json_points_at_the_place(cli: Cli, text: str, said: str, caret: int) -> None:
    run = cli("create-instance", "-m", "order", "-V", "1", "-c", text)
    lines = run.stderr.splitlines()
    assert lines[0] == f"Error: --ctx is not valid JSON: {said}"
    assert lines[1] == f"  {text}"
    assert lines[2] == f"  {' ' * caret}^"
    assert (run.stdout, run.code) == ("", 1)


def test_wrong_json_in_a_file_names_line_and_column(cli: Cli) -> None:
    (cli.home / "bad.json").write_text('{\n  "states": ["a"],\n  "initial" "a"\n}\n')
    run = cli("put-machine", "-n", "x", "-v", "1", "@bad.json")
    assert run.stderr == (
        "Error: bad.json is not valid JSON: expecting ':' delimiter (line 3, column 13)\n"
        '    "initial" "a"\n'
        "              ^\n"
    )


def test_a_context_must_be_an_object_and_a_file_must_exist(cli: Cli) -> None:
    run = cli("apply-event", "-i", "x", "-e", "E", "-p", "[1]")
    assert run.stderr == "Error: --payload must be a JSON object, this is an array\n"
    run = cli("apply-event", "-i", "x", "-e", "E", "-p", "@missing.json")
    assert run.stderr.startswith("Error: cannot read missing.json: No such file or directory\nHint: ")
    assert run.code == 1


def test_quotes_that_the_shell_took_are_recognised(cli: Cli) -> None:
    run = cli.shell('rstmdb-cli apply-event -i x -e E -p {"amount":5}')
    assert "are the double quotes gone?" in run.stderr


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize("arguments", [("ping",), ("watch-all",), (), ("get-instance", "x")])
def test_a_refused_connection_names_host_port_and_what_to_try(
    lone_cli: Cli, arguments: tuple[str, ...]
) -> None:
    place = f"127.0.0.1:{free_port()}"
    run = lone_cli("-s", place, *arguments)
    first, second = run.stderr.splitlines()
    assert first.startswith("Connection failed: ")
    assert place in first
    assert "refused" in first.lower()
    assert (
        second
        == f"Hint: is a server listening on {place}? start one with `rstmdb`, or name another with --server"
    )
    assert run.code == 1
    assert lone_cli("-s", place, "--exit-codes", "detailed", *arguments).code == 3


def test_an_unknown_host_is_a_failed_connection(lone_cli: Cli) -> None:
    run = lone_cli("-s", "no-such-host.invalid:7401", "ping")
    assert run.stderr.startswith("Connection failed: ")
    assert "no-such-host.invalid" in run.stderr
    assert "check the host name" in run.stderr
    assert run.code == 1


def test_a_port_that_speaks_something_else(lone_cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        process = lone_cli.start("-s", f"127.0.0.1:{listener.getsockname()[1]}", "ping")
        peer, _ = listener.accept()
        with peer:
            peer.sendall(b"SSH-2.0-OpenSSH_9.2\r\n" + b"x" * 64)
            stdout, stderr = process.communicate(timeout=20)
    assert (stdout, process.returncode) == ("", 1)
    assert stderr.startswith("Connection failed: ")
    assert "is this the port of rstmdb" in stderr


def test_a_silent_server_is_given_up_in_time(lone_cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        run = lone_cli("-s", f"127.0.0.1:{listener.getsockname()[1]}", "--timeout", "0.3", "ping", timeout=10)
    assert (run.stdout, run.code) == ("", 1)
    assert run.stderr.startswith(("Connection failed: ", "Error: "))


def test_tokens(tmp_path: Path) -> None:
    hashed = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"  # of "test"
    with running_server({"RSTMDB_AUTH_REQUIRED": "true", "RSTMDB_AUTH_TOKEN_HASH": hashed}) as server:
        cli = Cli(tmp_path, server.address)
        run = cli("info")
        assert (run.stdout, run.code) == ("", 1)
        assert run.stderr.startswith("Error: server error: UNAUTHORIZED - ")
        assert "give --token-file FILE, -t TOKEN, or set RSTMDB_TOKEN" in run.stderr
        assert cli("info", "--exit-codes", "detailed").code == 4
        assert cli("ping").stdout == "PONG\n"
        run = cli("-t", "wrong", "list-machines")
        assert run.stderr.startswith("Error: server error: AUTH_FAILED - ")
        assert "rstmdb-cli hash-token" in run.stderr
        assert "wrong" not in run.stderr
        assert cli("-t", "wrong", "--exit-codes", "detailed", "list-machines").code == 4
        assert cli("--token", "test", "list-machines").stdout == "No machines registered\n"
        assert cli("list-machines", "-t", "test").code == 0
        assert cli("list-machines", env={"RSTMDB_TOKEN": "test"}).code == 0
        (tmp_path / "token").write_text("test\n")
        assert cli("--token-file", "token", "list-machines").code == 0
        assert cli("list-machines", env={"RSTMDB_TOKEN_FILE": "token"}).code == 0
        assert cli("--token-file", "-", "list-machines", stdin="test\n").code == 0
        assert cli("-t", "test", "--token-file", "token", "ping").code == 2
        assert cli("list-machines", "--url", f"rstmdb://test@{server.address}").code == 0
        refused = cli("list-machines", "--url", f"rstmdb://secret@{server.address}")
        assert refused.code == 1
        assert "secret" not in refused.stderr


def test_usage_errors_are_code_2_on_standard_error(cli: Cli) -> None:
    for arguments in (
        ("no-such-command",),
        ("ping", "extra"),
        ("ping", "--no-such-option"),
        ("get-instance",),
        ("apply-event", "-i", "x"),
        ("get-machine", "-n", "x", "-v", "one"),
        ("get-machine", "-n", "x", "-v", "-1"),
        ("get-machine", "-n", "x", "-v", "4294967296"),
        ("put-machine", "-n", "x", "-v", "1"),
        ("-o", "xml", "ping"),
        ("--exit-codes", "many", "ping"),
        ("-s", "host:port", "ping"),
        ("-s", "127.0.0.1:99999", "ping"),
        ("--timeout", "0", "ping"),
        ("watch-all", "--until", "offset:x"),
        ("watch-all", "stray-argument"),
        ("bench", "--mix", "fly=1"),
    ):
        run = cli(*arguments)
        assert (run.stdout, run.code) == ("", 2), arguments
        assert "Error: " in run.stderr, arguments
        assert "Traceback" not in run.stderr, arguments
    assert "Did you mean ping?" in cli("pign").stderr


def test_a_full_disk_behind_standard_output(cli: Cli, instance: int) -> None:
    for command in ("ping", "get-instance o-1", "list-instances", "wal-read"):
        run = cli.shell(f"rstmdb-cli {command} > /dev/full")
        assert run.stderr == "Error: cannot write: No space left on device\n"
        assert run.code == 1
