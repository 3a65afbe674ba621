"""The interactive prompt in a real terminal: what keys do, and what a person sees."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rstmdb_client import Client
from tests.cli.conftest import COMMAND, ORDER, Cli
from tests.cli.terminal import Terminal
from tests.server_process import ServerProcess

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")

GOLDEN = Path(__file__).parent / "golden"
PROMPT = "rstmdb>"


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """Opens terminals that are closed at the end."""
    opened: list[Terminal] = []

    def open_one(cli: Cli, *arguments: str) -> Terminal:
        directory = tmp_path / f"t{len(opened)}"
        directory.mkdir()
        one = Terminal(directory, [COMMAND, *arguments], cli.environ)
        opened.append(one)
        return one

    yield open_one
    for one in opened:
        one.close()


def test_completion(cli: Cli, client: Client, instance: int, terminal: Callable[..., Terminal]) -> None:
    prompt = terminal(cli)
    prompt.wait_for_end(PROMPT)
    prompt.type("pin")
    prompt.press("Tab")
    prompt.wait_for("rstmdb> ping")
    prompt.press("Enter")
    prompt.wait_for("PONG")
    prompt.wait_for_end(PROMPT)
    prompt.type("create ord")
    prompt.press("Tab")
    prompt.wait_for("rstmdb> create order")
    prompt.type(" ")
    prompt.press("Tab")
    prompt.wait_for("rstmdb> create order 1")
    prompt.press("C-c")
    prompt.wait_for("^C")
    prompt.wait_for_end(PROMPT)
    prompt.type("apply o")
    prompt.press("Tab")
    prompt.wait_for("rstmdb> apply o-1")
    prompt.type(" ")
    prompt.press("Tab")
    prompt.wait_for("rstmdb> apply o-1 PAY")
    prompt.press("Enter")
    prompt.wait_for("PAY created → paid")
    prompt.wait_for_end(PROMPT)
    prompt.type("apply o-1 ")  # another state, other events
    prompt.press("Tab")
    prompt.wait_for("rstmdb> apply o-1 SHIP")
    prompt.press("C-c")
    prompt.wait_for("^C", count=2)
    prompt.wait_for_end(PROMPT)
    prompt.type("describe ")
    prompt.press("Tab")
    prompt.wait_for("rstmdb> describe o-1")
    prompt.type(" --ev")
    prompt.press("Tab")
    prompt.wait_for("rstmdb> describe o-1 --event")
    prompt.type(" ")
    prompt.press("Tab")
    prompt.press("Tab")
    prompt.press("C-c")
    prompt.wait_for("^C", count=3)
    prompt.wait_for_end(PROMPT)
    prompt.press("C-d")
    prompt.wait_for("[ended with 0]")


def test_history_is_kept_between_sessions_and_shared_with_the_original(
    cli: Cli, instance: int, terminal: Callable[..., Terminal]
) -> None:
    (cli.home / ".rstmdb_history").write_text("#V2\nget o-1\nput-machine x 1 {\\n\\\\}\n")
    prompt = terminal(cli)
    prompt.wait_for_end(PROMPT)
    prompt.press("Up")
    prompt.wait_for("   ...> \\}")  # an entry of two lines, as two lines
    prompt.press("Up", "Up")
    prompt.wait_for("rstmdb> get o-1")
    prompt.press("Enter")
    prompt.wait_for("State: created")
    prompt.wait_for_end(PROMPT)
    prompt.enter("ping")
    prompt.wait_for("PONG")
    prompt.wait_for_end(PROMPT)
    prompt.enter(" info")
    prompt.wait_for("server_version")
    prompt.wait_for_end(PROMPT)
    prompt.enter("quit")
    prompt.wait_for("Disconnected.")
    prompt.wait_for("[ended with 0]")
    kept = (cli.home / ".rstmdb_history").read_text().splitlines()
    assert kept == ["#V2", "get o-1", "put-machine x 1 {\\n\\\\}", "get o-1", "ping", "quit"]
    again = terminal(cli)
    again.wait_for_end(PROMPT)
    again.press("Up", "Up")
    again.wait_for("rstmdb> ping")


def test_multi_line_json(cli: Cli, client: Client, instance: int, terminal: Callable[..., Terminal]) -> None:
    prompt = terminal(cli)
    prompt.wait_for_end(PROMPT)
    prompt.enter('apply o-1 PAY {"note": "two words",')
    prompt.wait_for("   ...>")
    prompt.enter('"deep": {"a": [1,')
    prompt.wait_for("   ...>", count=2)
    prompt.enter("2]}}")
    prompt.wait_for("PAY created → paid")
    assert client.get_instance("o-1").ctx == {
        "b": 2,
        "a": [1],
        "note": "two words",
        "deep": {"a": [1, 2]},
    }
    prompt.wait_for_end(PROMPT)
    prompt.enter("apply o-1 SHIP {")
    prompt.wait_for("   ...>", count=3)
    prompt.press("C-c")
    prompt.wait_for("^C")
    prompt.wait_for_end(PROMPT)
    prompt.enter("ping")
    prompt.wait_for("PONG")


def test_a_restart_of_the_server_in_between(tmp_path: Path, terminal: Callable[..., Terminal]) -> None:
    with ServerProcess(tmp_path / "data") as server:
        cli = Cli(tmp_path, server.address)
        prompt = terminal(cli)
        prompt.wait_for_end(PROMPT)
        prompt.enter("ping")
        prompt.wait_for("PONG")
        prompt.wait_for_end(PROMPT)
        server.stop()
        server.start()
        prompt.enter("ping")
        prompt.wait_for("PONG", count=2)
        prompt.wait_for_end(PROMPT)
        prompt.enter("list-machines")
        prompt.wait_for("No machines")
        prompt.wait_for_end(PROMPT)
        server.stop()
        prompt.enter("\\timing")
        prompt.wait_for("Timing is on.")
        prompt.wait_for_end(PROMPT)
        prompt.enter("rc")
        prompt.wait_for("Reconnect failed: ")
        prompt.wait_for_end(PROMPT)
        server.start()
        prompt.enter("rc")
        prompt.wait_for("Reconnected!")
        prompt.wait_for_end(PROMPT)
        prompt.enter("ping")
        prompt.wait_for("PONG", count=3)


def test_a_server_that_is_gone_leads_to_reconnect(tmp_path: Path, terminal: Callable[..., Terminal]) -> None:
    with ServerProcess(tmp_path / "data") as server:
        cli = Cli(tmp_path, server.address)
        prompt = terminal(cli, "--timeout", "0.5")
        prompt.wait_for_end(PROMPT)
        server.stop()
        prompt.enter("list-machines")
        prompt.wait_for("type 'reconnect' to try again")
        assert "Traceback" not in prompt.wait_for_end(PROMPT)


def test_events_appear_while_one_types(
    cli: Cli, client: Client, instance: int, terminal: Callable[..., Terminal]
) -> None:
    prompt = terminal(cli)
    prompt.wait_for_end(PROMPT)
    prompt.enter("watch-all --machines order")
    prompt.wait_for("Watching all events (sub_id: sub-")
    prompt.wait_for_end(PROMPT)
    prompt.type("pin")
    prompt.wait_for_end("rstmdb> pin")
    offset = client.apply_event("o-1", "PAY").wal_offset
    prompt.wait_for(f"{offset}  o-1  PAY  created → paid")
    prompt.wait_for_end("rstmdb> pin")
    prompt.enter("g")
    prompt.wait_for("PONG")
    prompt.wait_for_end(PROMPT)
    prompt.enter("unwatch")
    prompt.wait_for("Removed subscription sub-")


def test_timing_repetition_and_questions(
    cli: Cli, client: Client, instance: int, terminal: Callable[..., Terminal]
) -> None:
    prompt = terminal(cli)
    prompt.wait_for_end(PROMPT)
    prompt.enter("\\timing")
    prompt.wait_for("Timing is on.")
    prompt.wait_for_end(PROMPT)
    prompt.enter("ping")
    prompt.wait_for("Time: ", count=2)
    assert re.search(r"PONG\nTime: \d+\.\d{3} ms", prompt.wait_for_end(PROMPT))
    prompt.enter("\\timing")
    prompt.wait_for("Timing is off.")
    prompt.wait_for_end(PROMPT)
    prompt.enter("ping")
    prompt.wait_for("PONG", count=2)
    prompt.wait_for_end(PROMPT)
    prompt.enter("\\watch 0.05")
    prompt.wait_for("(every 0.05s)  ping", count=3)
    prompt.press("C-c")
    prompt.wait_for("^C")
    prompt.wait_for_end(PROMPT)
    prompt.enter("delete o-1")
    prompt.wait_for("Delete instance o-1? [y/N]")
    prompt.enter("n")
    prompt.wait_for("Not done.")
    assert client.get_instance("o-1").state == "created"
    prompt.wait_for_end(PROMPT)
    prompt.enter("d o-1")
    prompt.wait_for("Delete instance o-1? [y/N]", count=2)
    prompt.enter("y")
    prompt.wait_for("Deleted o-1")


def test_commands_on_a_terminal(
    cli: Cli, client: Client, instance: int, terminal: Callable[..., Terminal]
) -> None:
    """A table instead of JSON lines, colour instead of none, a screen that ends with Ctrl-C."""
    listed = terminal(cli, "list-instances").wait_for("[ended with 0]")
    assert listed.splitlines()[0].split()[:4] == ["ID", "MACHINE", "VERSION", "STATE"]
    assert "o-1  order" in listed
    top = terminal(cli, "top", "-d", "0.1")
    for shown in ("1 instances of", "OPERATION", "created"):
        top.wait_for(shown)
    top.press("C-c")
    top.wait_for("[ended with 0]")
    asked = terminal(cli, "flush-all")
    asked.wait_for("Remove ALL machines and instances of")
    asked.enter("no")
    asked.wait_for("[ended with 1]")
    assert client.get_instance("o-1").state == "created"
    again = terminal(cli, "flush-all", "--yes")
    again.wait_for("Instances removed: 1")


def test_a_session_as_a_person_sees_it(tmp_path: Path, terminal: Callable[..., Terminal]) -> None:
    """The whole screen of a short session, kept as a file; RSTMDB_UPDATE_GOLDEN=1 writes it anew."""
    with ServerProcess(tmp_path / "data") as server:
        cli = Cli(tmp_path, server.address)
        prompt = terminal(cli)
        prompt.wait_for_end(PROMPT)
        with Client(host="127.0.0.1", port=server.port) as client:
            client.put_machine("order", 1, ORDER)
        steps = [
            ("list-machines", "order v1"),
            ('create order 1 o-1 {"amount": 5,', "...>"),
            ('"note": "two words"}', "Created o-1"),
            ("GET o-1", "State: created"),
            ("apply o-1 PAY", "created → paid"),
            ("apply o-1 SHIP", "describe o-1` shows both)"),
            ("apply o-1", "Usage: apply"),
            ("describe o-1", "SHIP → shipped"),
            ("list-instances order paid", "state=paid"),
            ("graph order", "■ shipped"),
            ("wal 0 2", "[2] create_instance"),
            ("nonsense", "Unknown command: nonsense"),
        ]
        for line, expected in steps:
            before = prompt.text.count(expected)
            prompt.enter(line)
            prompt.wait_for(expected, count=before + 1)
            prompt.wait_for_end(PROMPT if expected != "...>" else "...>")
        prompt.press("C-c")
        prompt.wait_for("^C")
        prompt.wait_for_end(PROMPT)
        prompt.press("C-d")
        seen = prompt.wait_for("[ended with 0]").replace(server.address, "127.0.0.1:PORT")
    path = GOLDEN / "repl.txt"
    if os.environ.get("RSTMDB_UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(seen + "\n", encoding="utf-8")
    assert seen + "\n" == path.read_text(encoding="utf-8")
