"""Every command of the specification: its lines, streams and exit code (section 4.2)."""

import hashlib
import json
import re

import pytest

from rstmdb_client import Client
from tests.cli.conftest import ORDER, Cli, Run


def test_ping(cli: Cli) -> None:
    assert cli("ping") == Run("PONG\n", "", 0)


def test_info_is_pretty_json_with_sorted_keys(cli: Cli, client: Client) -> None:
    run = cli("info")
    assert (run.stderr, run.code) == ("", 0)
    document = json.loads(run.stdout)
    assert document == client.info().raw
    assert run.stdout == json.dumps(document, indent=2, sort_keys=True) + "\n"


@pytest.mark.parametrize("names", [("-n", "-v"), ("--name", "--version")])
def test_put_machine(cli: Cli, client: Client, names: tuple[str, str]) -> None:
    arguments = ("put-machine", names[0], "order", names[1], "1", json.dumps(ORDER))
    run = cli(*arguments)
    checksum = client.get_machine("order", 1).checksum
    assert run == Run(f"Created machine order v1 (checksum: {checksum})\n", "", 0)
    assert cli(*arguments) == Run(f"Already exists machine order v1 (checksum: {checksum})\n", "", 0)


def test_put_machine_from_a_file_and_from_standard_input(cli: Cli, client: Client) -> None:
    (cli.home / "order.json").write_text(json.dumps(ORDER, indent=2))
    assert cli("put-machine", "-n", "a", "-v", "1", "@order.json").code == 0
    assert cli("put-machine", "-n", "b", "-v", "4294967295", "@-", stdin=json.dumps(ORDER)).code == 0
    assert [item.machine for item in client.list_machines()] == ["a", "b"]
    assert client.get_machine("a", 1).checksum == client.get_machine("b", 4294967295).checksum


def test_get_machine(cli: Cli, client: Client, order: str) -> None:
    definition = client.get_machine("order", 1).definition
    expected = f"Machine order v1\n{json.dumps(definition, indent=2, sort_keys=True)}\n"
    assert cli("get-machine", "-n", "order", "-v", "1") == Run(expected, "", 0)
    assert cli("get-machine", "--name", "order", "--version", "1") == Run(expected, "", 0)


def test_list_machines_shows_the_latest_version_and_ends_with_an_empty_line(cli: Cli, client: Client) -> None:
    assert cli("list-machines") == Run("No machines registered\n", "", 0)
    client.put_machine("order", 1, ORDER)
    client.put_machine("order", 3, {**ORDER, "states": [*ORDER["states"], "lost"]})
    client.put_machine("lamp", 1, {"states": ["off"], "initial": "off", "transitions": []})
    expected = "  lamp v1 (1 states, 0 transitions)\n  order v3 (4 states, 2 transitions)\n\n"
    assert cli("list-machines") == Run(expected, "", 0)


@pytest.mark.parametrize(
    "names",
    [
        ("-m", "-V", "-i", "-c"),
        ("--machine", "--version", "--id", "--ctx"),
        ("-m", "--machine-version", "-i", "-c"),
    ],
)
def test_create_instance(cli: Cli, client: Client, order: str, names: tuple[str, ...]) -> None:
    machine, version, name, context = names
    run = cli("create-instance", machine, "order", version, "1", name, "o-1", context, '{"ready": false}')
    offset = client.get_instance("o-1").last_wal_offset
    expected = f"Created instance o-1\n  Machine: order v1\n  State: created\n  WAL offset: {offset}\n"
    assert run == Run(expected, "", 0)
    assert client.get_instance("o-1").ctx == {"ready": False}


def test_create_instance_without_an_id_prints_the_one_it_got(cli: Cli, client: Client, order: str) -> None:
    run = cli("create-instance", "-m", "order", "-V", "1")
    made = re.fullmatch(
        r"Created instance (\S+)\n  Machine: order v1\n  State: created\n  WAL offset: \d+\n", run.stdout
    )
    assert made is not None
    assert (run.stderr, run.code) == ("", 0)
    assert client.get_instance(made[1]).ctx == {}


def test_get_instance(cli: Cli, instance: int) -> None:
    expected = (
        "Instance o-1\n  Machine: order v1\n  State: created\n"
        '  Context: {\n  "a": [\n    1\n  ],\n  "b": 2\n}\n'
        f"  Last WAL offset: {instance}\n"
    )
    assert cli("get-instance", "o-1") == Run(expected, "", 0)


def test_get_instance_with_an_empty_context(cli: Cli, client: Client, order: str) -> None:
    offset = client.create_instance("order", 1, instance_id="e").wal_offset
    expected = (
        f"Instance e\n  Machine: order v1\n  State: created\n  Context: {{}}\n  Last WAL offset: {offset}\n"
    )
    assert cli("get-instance", "e") == Run(expected, "", 0)


@pytest.mark.parametrize("names", [("-i", "-e", "-p"), ("--instance", "--event", "--payload")])
def test_apply_event(cli: Cli, client: Client, instance: int, names: tuple[str, ...]) -> None:
    run = cli("apply-event", names[0], "o-1", names[1], "PAY", names[2], '{"amount": 99.99}')
    offset = client.get_instance("o-1").last_wal_offset
    assert run == Run(f"Applied event PAY on o-1\n  created → paid\n  WAL offset: {offset}\n", "", 0)
    assert client.get_instance("o-1").ctx == {"b": 2, "a": [1], "amount": 99.99}


def test_apply_event_with_expectations(cli: Cli, client: Client, instance: int) -> None:
    run = cli("apply-event", "-i", "o-1", "-e", "PAY", "--expected-state", "paid")
    assert (run.stdout, run.code) == ("", 1)
    assert run.stderr.startswith("Error: server error: CONFLICT - ")
    assert "rstmdb-cli get-instance o-1" in run.stderr
    run = cli("apply-event", "-i", "o-1", "-e", "PAY", "--expected-wal-offset", str(instance + 1))
    assert run.stderr.startswith("Error: server error: CONFLICT - ")
    chosen = ("--expected-state", "created", "--expected-wal-offset", str(instance), "--event-id", "e-1")
    assert cli("apply-event", "-i", "o-1", "-e", "PAY", *chosen).code == 0
    assert client.get_instance("o-1").last_event_id == "e-1"


def test_apply_event_with_an_idempotency_key_is_applied_once(cli: Cli, client: Client, instance: int) -> None:
    arguments = ("apply-event", "-i", "o-1", "-e", "PAY", "--idempotency-key", "k-1")
    first, second = cli(*arguments), cli(*arguments)
    assert first.stdout == second.stdout
    assert first.stderr == ""
    assert second.stderr == "Note: applied before under this idempotency key; nothing changed now\n"
    assert (first.code, second.code) == (0, 0)
    again = cli("apply-event", "-i", "o-1", "-e", "SHIP", "--idempotency-key", "k-1")
    assert again.stderr.startswith("Error: server error: CONFLICT - ")
    assert "use a new key for a new request" in again.stderr


def test_create_and_delete_with_an_idempotency_key(cli: Cli, order: str) -> None:
    create = ("create-instance", "-m", "order", "-V", "1", "-i", "k", "--idempotency-key", "c")
    assert cli(*create) == cli(*create)
    delete = ("delete-instance", "k", "--idempotency-key", "d")
    assert cli(*delete) == cli(*delete) == Run("Deleted instance k\n", "", 0)


def test_delete_instance_twice(cli: Cli, instance: int) -> None:
    assert cli("delete-instance", "o-1") == Run("Deleted instance o-1\n", "", 0)
    assert cli("delete-instance", "o-1") == Run("Deleted instance o-1\n", "", 0)


def test_wal_read(cli: Cli, client: Client, instance: int) -> None:
    applied = client.apply_event("o-1", "PAY").wal_offset
    deleted = client.delete_instance("o-1").wal_offset
    expected = (
        f"[{instance:>6}] {instance:>12} | create_instance\n"
        "         Instance: o-1, Machine: order v1\n"
        f"[{applied:>6}] {applied:>12} | apply_event\n"
        "         Instance: o-1, Event: PAY, created → paid\n"
        f"[{deleted:>6}] {deleted:>12} | delete_instance\n"
        f"\nNext offset: {deleted + 1}\n"
    )
    assert cli("wal-read", "-f", str(instance)) == Run(expected, "", 0)
    assert cli("wal-read", "--from", str(instance)) == Run(expected, "", 0)
    limited = cli("wal-read", "--from", str(instance), "--limit", "1")
    assert limited.stdout.endswith(f"order v1\n\nNext offset: {instance + 1}\n")
    assert cli("wal-read", "-f", str(deleted + 1)) == Run("No WAL entries\n", "", 0)


def test_wal_read_of_one_instance(cli: Cli, client: Client, instance: int) -> None:
    client.create_instance("order", 1, instance_id="other")
    run = cli("wal-read", "--instance", "other", "-f", str(instance))
    assert run.stdout.count(" | ") == 1
    assert "Instance: other, Machine: order v1" in run.stdout


@pytest.mark.parametrize("force", ["-f", "--force"])
def test_compact(cli: Cli, instance: int, force: str) -> None:
    run = cli("compact", force)
    assert re.fullmatch(
        r"Compaction complete\n  Snapshots created: 1\n  WAL segments deleted: \d+\n"
        r"  Bytes reclaimed: \S+ \S+\n"
        r"  ---\n  Total snapshots: \d+\n  WAL segments remaining: \d+\n",
        run.stdout,
    )
    assert (run.stderr, run.code) == ("", 0)
    assert cli("compact").stdout.startswith("Compaction complete\n  Snapshots created: 0\n")


def test_hash_token_needs_no_server(lone_cli: Cli) -> None:
    for token in ("my-secret-token", "", "ä"):
        assert lone_cli("hash-token", token) == Run(hashlib.sha256(token.encode()).hexdigest() + "\n", "", 0)
    known = "ea5add57437cbf20af59034d7ed17968dcc56767b41965fcc5b376d45db8b4a3\n"
    assert lone_cli("hash-token", "-", stdin="my-secret-token\n") == Run(known, "", 0)


def test_unwatch_of_an_unknown_subscription_is_a_warning(cli: Cli) -> None:
    assert cli("unwatch", "sub-x") == Run("Warning: subscription sub-x not found\n", "", 0)


def test_flush_all(cli: Cli, client: Client, instance: int) -> None:
    expected = "Flushed all data\n  Instances removed: 1\n  Machines removed: 1\n"
    assert cli("flush-all") == Run(expected, "", 0)
    assert client.list_machines() == []


def test_backup_and_replication_status_say_what_to_do(cli: Cli) -> None:
    run = cli("backup", "-o", "x.gz", "--compression", "none")
    assert (run.stdout, run.code) == ("", 1)
    assert run.stderr.startswith("Error: ")
    assert "rstmdb backup" in run.stderr
    run = cli("replication-status")
    assert (run.stdout, run.code) == ("", 1)
    assert run.stderr.startswith("Error: this server does not replicate")


def test_list_instances(cli: Cli, client: Client, instance: int) -> None:
    client.create_instance("order", 1, instance_id="o-2")
    client.apply_event("o-2", "PAY")
    run = cli("list-instances")
    assert [json.loads(line)["id"] for line in run.stdout.splitlines()] == ["o-1", "o-2"]
    assert (run.stderr, run.code) == ("", 0)
    run = cli("list-instances", "-m", "order", "--state", "paid")
    assert [json.loads(line)["id"] for line in run.stdout.splitlines()] == ["o-2"]
    run = cli("list-instances", "--limit", "1")
    assert [json.loads(line)["id"] for line in run.stdout.splitlines()] == ["o-1"]
    following = re.fullmatch(r"1 of 2 instances; go on with --cursor (\S+), or --all\n", run.stderr)
    assert following is not None
    run = cli("list-instances", "--cursor", following[1])
    assert [json.loads(line)["id"] for line in run.stdout.splitlines()] == ["o-2"]
    run = cli("list-instances", "--offset", "1")
    assert [json.loads(line)["id"] for line in run.stdout.splitlines()] == ["o-2"]
    assert len(cli("list-instances", "--all").stdout.splitlines()) == 2
    table = cli("list-instances", "-o", "table").stdout.splitlines()
    assert table[0].split() == ["ID", "MACHINE", "VERSION", "STATE", "LAST", "WAL", "OFFSET", "UPDATED"]
    assert table[1].split()[:4] == ["o-1", "order", "1", "created"]


def test_snapshot_instance(cli: Cli, instance: int) -> None:
    run = cli("snapshot-instance", "o-1")
    assert re.match(r"Snapshot snap-\S+ of instance o-1\n  WAL offset: \d+\n  Size: ", run.stdout)
    assert (run.stderr, run.code) == ("", 0)


def test_wal_stats(cli: Cli, client: Client, instance: int) -> None:
    run = cli("wal-stats")
    lines = [line.partition(":")[0] for line in run.stdout.splitlines()]
    assert lines == [
        "WAL Statistics",
        "  Entries",
        "  Segments",
        "  Size",
        "  Latest offset",
        "I/O Statistics",
        "  Bytes written",
        "  Bytes read",
        "  Writes",
        "  Reads",
        "  Fsyncs",
    ]
    assert f"  Latest offset: {client.wal_stats().latest_offset}\n" in run.stdout


def test_batch_reports_each_operation(cli: Cli, client: Client, order: str) -> None:
    lines = [
        {"op": "CREATE_INSTANCE", "params": {"instance_id": "b-1", "machine": "order", "version": 1}},
        {"op": "APPLY_EVENT", "params": {"instance_id": "b-1", "event": "PAY"}},
        {"op": "APPLY_EVENT", "params": {"instance_id": "b-1", "event": "PAY"}},
        {"op": "DELETE_INSTANCE", "params": {"instance_id": "b-1"}},
    ]
    run = cli("batch", "-", stdin="".join(json.dumps(line) + "\n" for line in lines))
    assert run.code == 1
    assert run.stderr == ""
    shown = run.stdout.splitlines()
    assert re.fullmatch(r"\[     0\] ok    CREATE_INSTANCE b-1: created \(offset: \d+\)", shown[0])
    assert re.fullmatch(r"\[     1\] ok    APPLY_EVENT b-1: created → paid \(offset: \d+\)", shown[1])
    assert shown[2].startswith("[     2] error APPLY_EVENT b-1: INVALID_TRANSITION - ")
    assert re.fullmatch(r"\[     3\] ok    DELETE_INSTANCE b-1: deleted \(offset: \d+\)", shown[3])
    assert shown[4] == "4 operations: 3 ok, 1 failed"


@pytest.mark.parametrize("form", ["array", "object", "one"])
def test_batch_reads_json_too(cli: Cli, client: Client, order: str, form: str) -> None:
    operation = {"op": "CREATE_INSTANCE", "params": {"instance_id": "b-1", "machine": "order", "version": 1}}
    document = {"array": [operation], "object": {"ops": [operation]}, "one": operation}[form]
    (cli.home / "ops.json").write_text(json.dumps(document, indent=2))
    run = cli("batch", "ops.json", "--atomic")
    assert (run.stderr, run.code) == ("", 0)
    assert client.get_instance("b-1").state == "created"


def test_batch_atomic_leaves_nothing_behind(cli: Cli, client: Client, order: str) -> None:
    operations = [
        {"op": "CREATE_INSTANCE", "params": {"instance_id": "b-1", "machine": "order", "version": 1}},
        {"op": "APPLY_EVENT", "params": {"instance_id": "b-1", "event": "NO"}},
    ]
    run = cli("batch", "--atomic", "-", stdin=json.dumps(operations))
    assert (run.stdout, run.code) == ("", 1)
    assert run.stderr.startswith("Error: server error: BAD_REQUEST - ")
    assert client.list_instances().total == 0


def test_batch_of_more_than_one_request(cli: Cli, client: Client, order: str) -> None:
    lines = "".join(
        json.dumps(
            {"op": "CREATE_INSTANCE", "params": {"instance_id": f"m-{n}", "machine": "order", "version": 1}}
        )
        + "\n"
        for n in range(250)
    )
    run = cli("batch", "-", stdin=lines)
    assert run.stdout.endswith("250 operations: 250 ok, 0 failed\n")
    assert client.list_instances().total == 250
    run = cli("batch", "--atomic", "-", stdin=lines)
    assert (run.code, run.stdout) == (2, "")


def test_describe_and_history(cli: Cli, client: Client, instance: int) -> None:
    client.apply_event("o-1", "PAY", payload={"amount": 5})
    run = cli("describe", "o-1")
    assert (run.stderr, run.code) == ("", 0)
    assert run.stdout.startswith("Instance o-1\n  Machine: order v1\n  State: paid\n")
    assert "    ✗ SHIP → shipped: the guard 'ctx.ready' is false with ctx.ready = null\n" in run.stdout
    refused = cli("describe", "o-1", "-e", "PAY").stdout
    assert "    ✗ PAY: INVALID_TRANSITION - " in refused
    start = ("-f", str(instance))  # earlier tests had an o-1 too, and the log remembers it
    rows = [json.loads(line) for line in cli("history", "o-1", *start).stdout.splitlines()]
    assert [(row["what"], row["change"]) for row in rows] == [
        ("created", "order v1 → created"),
        ("PAY", "created → paid"),
    ]
    assert rows[1]["payload"] == {"amount": 5}
    assert [json.loads(line)["what"] for line in cli("history", "o-1", "-l", "1").stdout.splitlines()] == [
        "PAY"
    ]
    client.delete_instance("o-1")
    assert json.loads(cli("history", "o-1").stdout.splitlines()[-1])["what"] == "delete"
