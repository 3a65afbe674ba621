"""Completion in real shells: the scripts load, and candidates come from the server."""

import shutil
import subprocess

import pytest

from rstmdb_client import Client
from tests.cli.conftest import Cli


def candidates(cli: Cli, line: str) -> list[str]:
    """Return what bash would offer for the last word of a line."""
    words = line.split(" ")
    run = cli(
        env={
            "_RSTMDB_CLI_COMPLETE": "complete_bash",
            "COMP_WORDS": "\n".join(words),
            "COMP_CWORD": str(len(words) - 1),
        }
    )
    assert run.stderr == ""
    return run.stdout.split()


def test_commands_options_and_choices(cli: Cli) -> None:
    assert candidates(cli, "rstmdb-cli put") == ["put-machine"]
    assert "--expected-state" in candidates(cli, "rstmdb-cli apply-event --exp")
    assert candidates(cli, "rstmdb-cli graph --format s") == ["svg"]
    assert candidates(cli, "rstmdb-cli completion z") == ["zsh"]


def test_names_come_from_the_server(cli: Cli, client: Client, instance: int) -> None:
    assert candidates(cli, "rstmdb-cli get-machine -n o") == ["order"]
    assert candidates(cli, "rstmdb-cli get-instance o") == ["o-1"]
    assert candidates(cli, "rstmdb-cli apply-event -i o-1 -e ") == ["PAY"]
    client.apply_event("o-1", "PAY")
    assert candidates(cli, "rstmdb-cli apply-event -i o-1 -e ") == ["SHIP"]
    assert candidates(cli, "rstmdb-cli list-instances --state s") == ["shipped"]


def test_no_server_no_candidates_and_no_noise(lone_cli: Cli) -> None:
    lone_cli.environ["RSTMDB_SERVER"] = "127.0.0.1:1"
    assert candidates(lone_cli, "rstmdb-cli get-instance o") == []


def test_bash_loads_the_script_and_uses_it(cli: Cli, instance: int) -> None:
    run = cli.shell(
        "source <(rstmdb-cli completion bash); COMP_WORDS=(rstmdb-cli get-instance o); COMP_CWORD=2; "
        '_rstmdb_cli_completion rstmdb-cli; echo "${COMPREPLY[@]}"'
    )
    assert (run.stdout, run.stderr, run.code) == ("o-1\n", "", 0)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_scripts_are_valid(cli: Cli, shell: str) -> None:
    run = cli("completion", shell)
    assert (run.stderr, run.code) == ("", 0)
    assert f"rstmdb-cli completion {shell}" in run.stdout
    assert f"complete_{shell}" in run.stdout
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run(
        [program, "-n"], input=run.stdout, capture_output=True, text=True, check=False, timeout=20
    )
    assert (done.stderr, done.returncode) == ("", 0)
