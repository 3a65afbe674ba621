"""Every command of the prompt (section 4.3), with its lines, read from a pipe."""

import json
import re

from rstmdb_client import Client
from tests.cli.conftest import ORDER, Cli


def session(cli: Cli, *lines: str) -> tuple[list[str], str]:
    """Run lines at the prompt; return what each printed, and standard error."""
    run = cli(stdin="\n".join([*lines, "quit"]) + "\n")
    assert run.code == 0, run.stderr
    banner, _, rest = run.stdout.partition("Type 'help' for available commands.\n\n")
    assert banner == f"rstmdb CLI\nConnecting to {cli.environ['RSTMDB_SERVER']}...\nConnected!\n"
    assert rest.endswith("Disconnected.\n")
    return rest.removesuffix("Disconnected.\n").split("\n\n")[:-1], run.stderr


def test_no_command_and_repl_are_the_same(cli: Cli) -> None:
    assert cli("repl", stdin="ping\n") == cli(stdin="ping\n")
    assert cli("repl", stdin="ping\n").stdout.endswith("commands.\n\nPONG\n\n")


def test_machines(cli: Cli, client: Client) -> None:
    answers, errors = session(
        cli,
        "list-machines",
        "put-machine order 1 " + json.dumps(ORDER),
        "pm order 1 " + json.dumps(ORDER),
        "LM",
        "gm order 1",
        "get-machine order",
        "pm order one {}",
    )
    checksum = client.get_machine("order", 1).checksum
    definition = json.dumps(client.get_machine("order", 1).definition, indent=2, sort_keys=True)
    assert (
        answers
        == [
            "No machines",
            f"Created order v1 (checksum: {checksum})",
            f"Exists order v1 (checksum: {checksum})",
            "  order v1 (3 states, 2 transitions)",
            definition,
            "Usage: get-machine NAME VERSION",
            "",
        ][: len(answers)]
    )
    assert errors == "Error: VERSION must be a number, not 'one'\n"


def test_instances(cli: Cli, client: Client, order: str) -> None:
    answers, errors = session(
        cli,
        "li",
        'create order 1 o-1 {"a": 1, "b": "two words"}',
        "c order 1",
        'c order 1 {"only": "ctx"}',
        "get o-1",
        "g",
        "list-instances",
        "li order paid",
        'apply o-1 PAY {"p":1}',
        "a o-1 PAY",
        "li order paid",
        "delete o-1",
        "d o-1",
    )
    created = client.wal_stats().latest_offset
    assert created is not None
    offsets = [int(found) for found in re.findall(r"offset: (\d+)", "\n".join(answers))]
    assert offsets == sorted(offsets)
    made = re.fullmatch(r"Created (\S+) \(state: created, offset: \d+\)", answers[2])
    other = re.fullmatch(r"Created (\S+) \(state: created, offset: \d+\)", answers[3])
    assert made is not None
    assert other is not None
    assert answers[:2] == ["No instances", f"Created o-1 (state: created, offset: {offsets[0]})"]
    assert answers[4:] == [
        'order 1 v\n  State: created\n  Context: {"a":1,"b":"two words"}',
        "Usage: get ID",
        (
            "Instances (3 total)\n"
            f"  o-1 (order v1) state=created\n  {made[1]} (order v1) state=created\n"
            f"  {other[1]} (order v1) state=created"
        ),
        "No instances",
        f"PAY created → paid (offset: {offsets[3]})",
        "\nInstances (1 total)\n  o-1 (order v1) state=paid",
        "Deleted o-1",
        "Deleted o-1",
    ]
    assert errors.startswith("Error: server error: INVALID_TRANSITION - ")


def test_more_than_fifty_instances(cli: Cli, client: Client, order: str) -> None:
    for number in range(51):
        client.create_instance("order", 1, instance_id=f"n-{number:02}")
    (answer,), _ = session(cli, "li order")
    lines = answer.splitlines()
    assert lines[0] == "Instances (51 total, showing first 50)"
    assert lines[1] == "  n-00 (order v1) state=created"
    assert len(lines) == 51


def test_log(cli: Cli, client: Client, instance: int) -> None:
    stats = client.wal_stats()
    answers, _ = session(cli, f"wal {instance}", f"wal {instance} 0", "wal-stats", "ws", "wal 0 1 2")
    assert answers[0] == f"[{instance}] create_instance"
    assert answers[1] == "No entries"
    assert answers[2].startswith(f"WAL Statistics\n  Entries: {stats.entry_count}\n  Segments: ")
    assert answers[3].partition("I/O")[0] == answers[2].partition("I/O")[0]
    assert answers[4] == "Usage: wal [FROM] [LIMIT]"


def test_other_commands(cli: Cli, client: Client, instance: int) -> None:
    answers, errors = session(
        cli,
        "PING",
        "info",
        "nonsense x",
        "describe o-1",
        "list-instances -o raw",
        "get-instance nope",
        "apply-event -i o-1",
        "reconnect",
        "rc",
        "\\timing",
    )
    assert answers[0] == "PONG"
    assert json.loads(answers[1]) == client.info().raw
    assert answers[2] == "Unknown command: nonsense. Type 'help' for help."
    assert answers[3].startswith("Instance o-1\n")
    assert json.loads(answers[4])["total"] == 1
    assert answers[5].startswith("\nError: Missing option '--event'")
    assert answers[6:8] == ["Reconnected!", "Reconnected!"]
    assert re.fullmatch(r"Timing is on.\nTime: \d+\.\d{3} ms", answers[8])
    assert errors.startswith("Error: server error: INSTANCE_NOT_FOUND - ")


def test_help(cli: Cli) -> None:
    (answer, one, *other), _ = session(cli, "help", "? apply", "help describe")
    for word in ("ping", "create MACHINE VERSION [ID] [CTX] (c)", "\\timing", "quit, exit (q)", "describe"):
        assert word in answer
    assert one == "Usage: apply ID EVENT [PAYLOAD]\n  Apply an event\n  Also: a"
    assert other[0].startswith("Usage: rstmdb-cli describe ")


def test_json_may_span_lines_and_the_end_of_input_leaves(cli: Cli, client: Client, instance: int) -> None:
    run = cli(stdin='apply o-1 PAY {"x":\n[1,\n2]}')
    assert "PAY created → paid" in run.stdout
    assert run.code == 0
    assert client.get_instance("o-1").ctx["x"] == [1, 2]
    run = cli(stdin='apply o-1 PAY {"x":')
    assert "Error: the JSON or the quotation does not end" in run.stdout


def test_words_in_quotes_and_apostrophes(cli: Cli, order: str) -> None:
    answers, _ = session(
        cli, "create order 1 'odd id'", "get 'odd id'", "create order 1 o'brien", "g o'brien"
    )
    assert answers[1].startswith("order 1 v\n")
    assert answers[3].startswith("order 1 v\n")
