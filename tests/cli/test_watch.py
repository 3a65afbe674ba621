"""`watch-instance`, `watch-all`, `unwatch`: the stream, its header, how it ends, and where it goes on."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from rstmdb_client import Client
from tests.cli.conftest import ORDER, Cli
from tests.server_process import ServerProcess

Stopped = Callable[["subprocess.Popen[str]"], AbstractContextManager["subprocess.Popen[str]"]]


def header(process: "subprocess.Popen[str]") -> str:
    """Read the two lines that a watch begins with; it is subscribed then."""
    assert process.stderr is not None
    first = process.stderr.readline()
    assert process.stderr.readline() == "Press Ctrl+C to stop...\n"
    return first


def test_watch_instance(cli: Cli, client: Client, instance: int, stopped: Stopped) -> None:
    with stopped(cli.start("watch-instance", "o-1")) as process:
        assert process.stdout is not None
        head = re.fullmatch(
            rf"Watching instance o-1 \(sub_id: (sub-\S+), state: created, wal_offset: {instance}\)\n",
            header(process),
        )
        assert head is not None
        paid = client.apply_event("o-1", "PAY", payload={"z": 1, "é": "ü"})
        assert process.stdout.readline() == (
            f'{{"type":"event","subscription_id":"{head[1]}","instance_id":"o-1","machine":"order","version":1,'
            f'"wal_offset":{paid.wal_offset},"from_state":"created","to_state":"paid","event":"PAY",'
            '"payload":{"z":1,"é":"ü"},"ctx":{"b":2,"a":[1],"z":1,"é":"ü"}}\n'
        )
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        assert process.stdout.read() == ""
        assert process.stderr is not None
        assert process.stderr.read() == f"\nStopped watching (sub_id: {head[1]})\n"


def test_watch_without_ctx_omits_what_is_absent(
    cli: Cli, client: Client, instance: int, stopped: Stopped
) -> None:
    with stopped(cli.start("watch-instance", "o-1", "--no-ctx")) as process:
        header(process)
        client.apply_event("o-1", "PAY")
        assert process.stdout is not None
        event = json.loads(process.stdout.readline())
        assert list(event) == [
            "type",
            "subscription_id",
            "instance_id",
            "machine",
            "version",
            "wal_offset",
            "from_state",
            "to_state",
            "event",
            *(["payload"] if "payload" in event else []),
        ]
        assert "ctx" not in event


def test_watch_all_with_filters(cli: Cli, client: Client, instance: int, stopped: Stopped) -> None:
    client.put_machine("lamp", 1, {**ORDER, "states": [*ORDER["states"], "lost"]})
    for name in ("l-1", "l-2"):
        client.create_instance("lamp", 1, instance_id=name, ctx={"ready": True})
    filters = (
        "--machines",
        "lamp,other",
        "--to-states",
        "shipped",
        "--events",
        "SHIP,PAY",
        "--from-states",
        "paid",
    )
    with stopped(cli.start("watch-all", *filters)) as process:
        assert re.fullmatch(r"Watching all events \(sub_id: sub-\S+, wal_offset: \d+\)\n", header(process))
        for name in ("o-1", "l-1", "l-2"):
            client.apply_event(name, "PAY", payload={"ready": True})
            client.apply_event(name, "SHIP")
        assert process.stdout is not None
        seen = [json.loads(process.stdout.readline()) for _ in range(2)]
        assert [(event["instance_id"], event["event"]) for event in seen] == [
            ("l-1", "SHIP"),
            ("l-2", "SHIP"),
        ]


def test_unwatch_from_another_shell_ends_the_watch(
    cli: Cli, client: Client, instance: int, stopped: Stopped
) -> None:
    with stopped(cli.start("watch-all")) as process:
        found = re.search(r"sub_id: (\S+),", header(process))
        assert found is not None
        run = cli("unwatch", found[1])
        assert (run.stdout, run.stderr, run.code) == (f"Removed subscription {found[1]}\n", "", 0)
        assert process.wait(10) == 0
        assert process.stderr is not None
        assert process.stderr.read() == f"Subscription {found[1]} was ended by the server\n"


def test_from_offset_replays_and_zero_is_the_oldest(cli: Cli, client: Client, instance: int) -> None:
    first = client.apply_event("o-1", "PAY").wal_offset
    for start in ("0", str(first)):
        run = cli("watch-all", "--from-offset", start, "--until", f"offset:{first}")
        assert run.code == 0
        assert json.loads(run.stdout.splitlines()[-1])["wal_offset"] == first
    run = cli("watch-instance", "o-1", "--from-offset", "0", "--until", "paid")
    assert json.loads(run.stdout.splitlines()[-1])["to_state"] == "paid"
    run = cli("watch-all", "--from-offset", str(first + 1000))
    assert run.stderr.startswith("Error: server error: BAD_REQUEST - ")
    assert "another server, or one restored" in run.stderr


def test_until_a_state_that_is_already_there(cli: Cli, instance: int) -> None:
    run = cli("watch-instance", "o-1", "--until", "created")
    assert (run.stdout, run.code) == ("", 0)
    assert run.stderr.endswith("Already in state created\n")


def test_included_kinds(cli: Cli, client: Client, order: str, stopped: Stopped) -> None:
    with stopped(cli.start("watch-all", "--include", "create,delete")) as process:
        header(process)
        client.create_instance("order", 1, instance_id="i-1")
        client.delete_instance("i-1")
        assert process.stdout is not None
        kinds = [json.loads(process.stdout.readline()) for _ in range(2)]
        assert [(event["instance_id"], event["kind"]) for event in kinds] == [
            ("i-1", "create"),
            ("i-1", "delete"),
        ]


def test_a_command_for_each_event(cli: Cli, client: Client, instance: int) -> None:
    offset = client.apply_event("o-1", "PAY", payload={"n": 1}).wal_offset
    start = ("watch-all", "--from-offset", str(offset), "--until", "paid")
    script = 'read line; echo "$RSTMDB_EVENT $RSTMDB_INSTANCE $RSTMDB_OFFSET"; echo "$line" | jq -c .payload'
    run = cli(*start, "--", "sh", "-c", script)
    assert run.stdout == f'PAY o-1 {offset}\n{{"n":1}}\n'
    assert run.code == 0
    run = cli(*start, "--", "sh", "-c", "exit 3")
    assert run.code == 1
    assert f"Error: sh ended with 3 on the event at offset {offset}\n" in run.stderr
    run = cli(*start, "--", "no-such-program")
    assert run.stderr.endswith("Error: cannot run no-such-program: No such file or directory\n")
    assert cli("watch-all", "--").code == 2


def test_formats_of_events(cli: Cli, client: Client, instance: int) -> None:
    offset = client.apply_event("o-1", "PAY").wal_offset
    arguments = ("watch-all", "--from-offset", str(offset), "--until", "paid", "--no-ctx")
    plain = cli(*arguments).stdout
    for chosen in ("json", "ndjson", "raw"):
        given = json.loads(cli(*arguments, "-o", chosen).stdout)
        assert {**given, "subscription_id": ""} == {**json.loads(plain), "subscription_id": ""}
    assert cli(*arguments, "-o", "table").stdout == f"{offset:>12}  o-1  PAY  created → paid\n"
    assert cli(*arguments, "-o", "yaml").stdout.startswith("---\ntype: event\n")


def test_a_watch_survives_a_restart_of_the_server(tmp_path: Path, stopped: Stopped) -> None:
    with ServerProcess(tmp_path / "data") as server:
        cli = Cli(tmp_path, server.address)
        with Client(host="127.0.0.1", port=server.port) as client:
            client.put_machine("order", 1, ORDER)
            client.create_instance("order", 1, instance_id="o-1", ctx={"ready": True})
            with stopped(cli.start("watch-all")) as process:
                header(process)
                assert process.stdout is not None
                client.apply_event("o-1", "PAY")
                assert json.loads(process.stdout.readline())["event"] == "PAY"
                server.stop()
                server.start()
                client.apply_event("o-1", "SHIP")
                assert json.loads(process.stdout.readline())["event"] == "SHIP"
                process.send_signal(signal.SIGINT)
                assert process.wait(10) == 0
                assert process.stderr is not None
                lost, again, *_ = process.stderr.read().splitlines()
                assert re.fullmatch(r"Connection lost \(.+\); connecting again\.\.\.", lost)
                assert again == "Connected again; going on after the last event"


def test_the_resume_file_goes_on_where_it_ended(cli: Cli, client: Client, instance: int) -> None:
    arguments = ("watch-all", "--resume-file", "resume", "--no-ctx")
    first = client.apply_event("o-1", "PAY", payload={"ready": True}).wal_offset
    second = client.apply_event("o-1", "SHIP").wal_offset
    run = cli(*arguments, "--from-offset", str(first), "--until", f"offset:{first}")
    assert [json.loads(line)["wal_offset"] for line in run.stdout.splitlines()] == [first]
    run = cli(*arguments, "--from-offset", str(first), "--until", f"offset:{second}")
    assert [json.loads(line)["wal_offset"] for line in run.stdout.splitlines()] == [second]
    (cli.home / "other").write_text("something else")
    run = cli("watch-all", "--resume-file", "other")
    assert run.stderr.startswith("Error: other is not a resume file\n")
    assert (cli.home / "other").read_text() == "something else"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_resume_under_load_gives_every_event_once(
    cli: Cli, client: Client, order: str, stopped: Stopped, number: signal.Signals
) -> None:
    """Killed again and again while events pour in: the file has each event once, in order, no line torn."""
    machine = {**ORDER, "transitions": [{"from": "created", "event": "TICK", "to": "created"}]}
    client.put_machine("clock", 1, machine)
    client.create_instance("clock", 1, instance_id="c-1")
    path = cli.home / "events.jsonl"
    applied: list[int] = []

    def apply(count: int) -> None:
        for _ in range(count):
            applied.append(client.apply_event("c-1", "TICK", payload={"n": len(applied)}).wal_offset)

    for _ in range(6):
        with (
            path.open("ab") as target,
            stopped(
                cli.start(
                    "watch-all",
                    "--machines",
                    "clock",
                    "--resume-file",
                    "resume",
                    stdout=target,
                    text=False,
                    encoding=None,
                )
            ) as process,
        ):
            assert process.stderr is not None
            process.stderr.readline()
            process.stderr.readline()
            apply(150)
            os.kill(process.pid, number)
            process.wait(10)
            apply(20)
    with path.open("ab") as target:
        done = cli.start(
            "watch-all",
            "--machines",
            "clock",
            "--resume-file",
            "resume",
            "--until",
            f"offset:{applied[-1]}",
            stdout=target,
        )
        with stopped(done) as process:
            assert process.wait(20) == 0
    seen = [json.loads(line)["wal_offset"] for line in path.read_text().splitlines()]
    assert seen == applied
