"""Global options: before and after the command, from the environment, from a profile; help and versions."""

import json
import stat
from pathlib import Path

import pytest

from rstmdb_cli import __version__
from rstmdb_cli.app import COMMANDS
from rstmdb_client import Client
from tests.cli.conftest import Cli, Run
from tests.server_process import ServerProcess


def test_the_server_may_be_named_before_and_after_the_command(lone_cli: Cli, server: ServerProcess) -> None:
    pong = Run("PONG\n", "", 0)
    place = server.address
    assert lone_cli("-s", place, "ping") == pong
    assert lone_cli("--server", place, "ping") == pong
    assert lone_cli("ping", "-s", place) == pong
    assert lone_cli("ping", f"--server={place}") == pong
    assert lone_cli("ping", "-s", f"localhost:{server.port}") == pong
    assert lone_cli("ping", "--url", f"rstmdb://{place}") == pong
    assert lone_cli("ping", env={"RSTMDB_SERVER": place}) == pong
    assert lone_cli("ping", env={"RSTMDB_URL": f"rstmdb://{place}"}) == pong
    assert lone_cli("ping", "-s", place, env={"RSTMDB_SERVER": "127.0.0.1:1"}) == pong
    assert lone_cli("ping", "-s", place, env={"RSTMDB_URL": "rstmdb://127.0.0.1:1"}) == pong
    assert lone_cli("ping", "-s", place, "--url", "rstmdb://x").code == 2


def test_a_command_keeps_its_own_short_options(cli: Cli, client: Client, order: str) -> None:
    assert cli("get-machine", "-n", "order", "-v", "1").stdout.startswith("Machine order v1\n")
    assert cli("create-instance", "-m", "order", "-V", "1", "-i", "v").code == 0
    run = cli("ping", "-v")
    assert run.stdout == "PONG\n"
    assert run.stderr.startswith(f"connecting to {cli.environ['RSTMDB_SERVER']}\n")


@pytest.mark.parametrize("value", ["1", "yes", "TRUE", "on", ""])
def test_rstmdb_tls_must_be_true_or_false(cli: Cli, value: str) -> None:
    run = cli("ping", env={"RSTMDB_TLS": value})
    assert (run.stdout, run.code) == ("", 2)
    assert "RSTMDB_TLS" in run.stderr
    assert cli("ping", env={"RSTMDB_TLS": "false"}).code == 0


def test_a_client_certificate_needs_its_key(cli: Cli) -> None:
    for options in (
        ("--client-cert", "c.pem"),
        ("--tls", "--client-key", "k.pem"),
        ("-k", "--client-key", "k.pem"),
    ):
        run = cli(*options, "ping")
        assert run.stderr == "Error: --client-cert and --client-key must be used together\n"
        assert (run.stdout, run.code) == ("", 1)
    assert cli("--client-key", "k.pem", "ping") == Run("PONG\n", "", 0)  # without TLS it does not matter


def test_help(lone_cli: Cli) -> None:
    for option in ("-h", "--help"):
        run = lone_cli(option)
        assert (run.stderr, run.code) == ("", 0)
        for name in COMMANDS:
            assert f"  {name} " in run.stdout
    for name in COMMANDS:
        run = lone_cli(name, "--help")
        assert (run.stderr, run.code) == ("", 0), name
        assert run.stdout.startswith(f"Usage: rstmdb-cli {name} "), name


def test_version_shows_the_servers_too(cli: Cli, client: Client) -> None:
    expected = (
        f"rstmdb-cli {__version__}\nrstmdb {client.info().server_version} at {cli.environ['RSTMDB_SERVER']}\n"
    )
    for arguments in (("--version",), ("-V",), ("ping", "--version"), ("ping", "-V")):
        assert cli(*arguments) == Run(expected, "", 0)


def test_version_without_a_server(lone_cli: Cli) -> None:
    run = lone_cli("--version", "-s", "127.0.0.1:1")
    assert run.stdout == f"rstmdb-cli {__version__}\n"
    assert run.stderr.startswith("server 127.0.0.1:1: ")
    assert run.code == 0


def test_profiles(lone_cli: Cli, server: ServerProcess) -> None:
    path = Path(lone_cli("profile", "path").stdout.strip())
    assert path == lone_cli.home / ".config" / "rstmdb" / "config.toml"
    assert lone_cli("ping", "--profile", "prod").code == 2
    saved = lone_cli("profile", "set", "prod", f"server={server.address}", "timeout=5", "tls=false")
    assert saved == Run(f"Saved profile prod ({path})\n", "", 0)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert lone_cli("ping", "--profile", "prod").stdout == "PONG\n"
    assert lone_cli("ping", env={"RSTMDB_PROFILE": "prod"}).stdout == "PONG\n"
    assert lone_cli("ping", "--profile", "prod", "-s", "127.0.0.1:1").code == 1  # a flag wins
    assert lone_cli("profile", "use", "prod").code == 0
    assert lone_cli("ping").stdout == "PONG\n"
    listed = [json.loads(line) for line in lone_cli("profile").stdout.splitlines()]
    assert listed == [{"name": "prod", "server": server.address, "default": True}]
    assert lone_cli("profile", "show", "prod").stdout.splitlines()[0] == f"server = {server.address}"
    assert lone_cli("profile", "set", "prod", "colour=red").code == 2
    assert lone_cli("profile", "remove", "prod").code == 0
    assert lone_cli("profile").stdout == ""
    path.write_text("default = [", encoding="utf-8")
    run = lone_cli("ping")
    assert run.code == 2
    assert "is not valid TOML" in run.stderr


def test_a_token_in_a_readable_profile_is_refused(lone_cli: Cli, server: ServerProcess) -> None:
    path = lone_cli.home / "profiles.toml"
    path.write_text(f'[profiles.p]\nserver = "{server.address}"\ntoken = "t"\n', encoding="utf-8")
    path.chmod(0o644)
    named = {"RSTMDB_CLI_CONFIG": str(path)}
    run = lone_cli("ping", "--profile", "p", env=named)
    assert run.code == 2
    assert "chmod 600" in run.stderr
    path.chmod(0o600)
    assert lone_cli("ping", "--profile", "p", env=named).stdout == "PONG\n"


def test_unusual_locales_still_get_utf_8(cli: Cli, instance: int) -> None:
    run = cli("apply-event", "-i", "o-1", "-e", "PAY", env={"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0"})
    assert "created → paid" in run.stdout
