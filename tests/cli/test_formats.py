"""`-o table|json|ndjson|yaml|raw` and `--json`."""

import json

import pytest
import yaml

from rstmdb_client import Client
from tests.cli.conftest import Cli

ONE = [
    ("ping",),
    ("info",),
    ("get-machine", "-n", "order", "-v", "1"),
    ("get-instance", "o-1"),
    ("apply-event", "-i", "o-1", "-e", "PAY"),
    ("delete-instance", "o-1"),
    ("snapshot-instance", "o-1"),
    ("wal-stats",),
    ("compact",),
    ("unwatch", "sub-x"),
    ("describe", "o-1"),
]
SEVERAL = [("list-machines",), ("list-instances",), ("wal-read",), ("history", "o-1")]


@pytest.mark.parametrize("arguments", ONE, ids=lambda arguments: arguments[0])
def test_one_result_in_every_format(cli: Cli, instance: int, arguments: tuple[str, ...]) -> None:
    as_json = cli(*arguments, "--json")
    assert (as_json.stderr, as_json.code) == ("", 0)
    document = json.loads(as_json.stdout)
    assert isinstance(document, dict)
    assert as_json.stdout == json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    if arguments[0] in ("apply-event", "delete-instance", "snapshot-instance"):
        return  # the second time is another answer
    lines = cli(*arguments, "-o", "ndjson").stdout.splitlines()
    assert len(lines) == 1
    assert json.loads(lines[0]).keys() == document.keys()
    assert yaml.safe_load(cli(*arguments, "-o", "yaml").stdout).keys() == document.keys()
    table = cli(*arguments, "-o", "table").stdout.splitlines()
    assert [line.split()[0] for line in table] == list(json.loads(lines[0]))
    assert cli("-o", "raw", *arguments).code == 0


@pytest.mark.parametrize("arguments", SEVERAL, ids=lambda arguments: arguments[0])
def test_several_rows_in_every_format(cli: Cli, instance: int, arguments: tuple[str, ...]) -> None:
    rows = json.loads(cli(*arguments, "--json").stdout)
    assert isinstance(rows, list)
    assert rows
    lines = cli(*arguments, "-o", "ndjson").stdout.splitlines()
    assert [json.loads(line) for line in lines] == rows
    assert yaml.safe_load(cli(*arguments, "-o", "yaml").stdout) == rows
    table = cli(*arguments, "-o", "table").stdout.splitlines()
    assert table[0].isupper()
    assert len(table) == len(rows) + 1
    assert json.loads(cli(*arguments, "-o", "raw").stdout)


def test_raw_is_the_servers_own_result(cli: Cli, client: Client, instance: int) -> None:
    for operation, arguments, params in (
        ("GET_INSTANCE", ("get-instance", "o-1"), {"instance_id": "o-1"}),
        ("LIST_MACHINES", ("list-machines",), {}),
        ("LIST_INSTANCES", ("list-instances",), {"limit": 100}),
        ("WAL_READ", ("wal-read",), {"from_offset": 0}),
    ):
        assert json.loads(cli("-o", "raw", *arguments).stdout) == client.call(operation, params)


def test_json_and_another_format_exclude_each_other(cli: Cli) -> None:
    assert cli("--json", "-o", "yaml", "ping").code == 2
    assert cli("--json", "-o", "json", "ping").code == 0
    assert cli("-o", "yaml", "ping", "--json").code == 2


def test_yaml_quotes_what_yaml_would_read_otherwise(cli: Cli, client: Client, order: str) -> None:
    context = {
        "no": "no",
        "n": "1",
        "empty": {},
        "list": [],
        "deep": [{"a": [1, {"b": None}]}],
        "text": "a: #b\n",
    }
    client.create_instance("order", 1, instance_id="y", ctx=context)
    assert yaml.safe_load(cli("get-instance", "y", "-o", "yaml").stdout)["ctx"] == context


def test_no_colour_in_a_pipe(cli: Cli, instance: int) -> None:
    for arguments in (
        ("ping",),
        ("get-instance", "o-1"),
        ("describe", "o-1"),
        ("list-instances", "-o", "table"),
    ):
        assert "\x1b" not in cli(*arguments, env={"TERM": "xterm-256color"}).stdout
