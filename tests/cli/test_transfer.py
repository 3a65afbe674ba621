"""`export` and `import`: nothing lost, nothing twice, resumable; `bench` and `top` measure."""

import json
from pathlib import Path

from rstmdb_client import Client
from tests.cli.conftest import ORDER, Cli
from tests.server_process import ServerProcess

GUARDED = {
    "states": ["new", "small", "large", "done"],
    "initial": "new",
    "transitions": [
        {"from": "new", "event": "SORT", "to": "large", "guard": "ctx.n > 10"},
        {"from": "new", "event": "SORT", "to": "small"},
        {"from": ["small", "large"], "event": "END", "to": "done", "guard": "ctx.ready"},
        {"from": "large", "event": "FORCE", "to": "done"},
    ],
}


def filled(client: Client) -> dict[str, tuple[str, dict[str, object]]]:
    """Put a little of everything into a server; return what is there."""
    client.put_machine("order", 1, ORDER)
    client.put_machine("sort", 1, GUARDED)
    for number in range(120):
        client.create_instance("order", 1, instance_id=f"o-{number}", ctx={"n": number})
    for number in range(0, 120, 7):
        client.apply_event(f"o-{number}", "PAY", payload={"paid": True})
    for number in (3, 30):
        client.create_instance("sort", 1, instance_id=f"s-{number}", ctx={"n": number})
        client.apply_event(f"s-{number}", "SORT")
    client.apply_event("s-30", "FORCE")
    client.delete_instance("o-5")
    return there(client)


def there(client: Client) -> dict[str, tuple[str, dict[str, object]]]:
    found = {}
    for row in client.iter_instances():
        instance = client.get_instance(row.id)
        found[row.id] = (instance.state, instance.ctx)
    return found


def test_export_and_import_give_the_same_instances(cli: Cli, client: Client, tmp_path: Path) -> None:
    expected = filled(client)
    run = cli("export", "all.jsonl")
    assert (run.stdout, run.stderr, run.code) == ("", "2 machine versions, 121 instances\n", 0)
    assert cli("export").stdout.count('"kind":"instance"') == 121
    with ServerProcess(tmp_path / "other") as other, Client(host="127.0.0.1", port=other.port) as target:
        run = cli("import", "all.jsonl", "-s", other.address)
        assert (run.stderr, run.code) == ("", 0)
        assert run.stdout.startswith("Imported 2 machine versions, 121 instances, ")
        assert run.stdout.endswith("0 were there already, 0 failed\n")
        assert there(target) == expected
        again = cli("import", "all.jsonl", "-s", other.address)
        assert again.stdout == (
            "Imported 0 machine versions, 0 instances, 0 events; 123 were there already, 0 failed\n"
        )
        target.apply_event("o-1", "PAY")
        third = cli("import", "all.jsonl", "-s", other.address)
        assert third.code == 1
        assert "o-1 is there already, with another state" in third.stderr


def test_history_is_replayed_event_by_event(cli: Cli, client: Client, tmp_path: Path) -> None:
    expected = filled(client)
    assert cli("export", "--history", "all.jsonl").code == 0
    with ServerProcess(tmp_path / "other") as other, Client(host="127.0.0.1", port=other.port) as target:
        first = cli("import", "all.jsonl", "-s", other.address, "--resume-file", "resume")
        assert (first.stderr, first.code) == ("", 0)
        assert {name: there(target)[name] for name in expected} == expected
        before = target.wal_stats().entry_count
        (cli.home / "resume").unlink()
        again = cli("import", "all.jsonl", "-s", other.address)
        assert again.code == 0
        assert target.wal_stats().entry_count == before


def test_a_state_that_nothing_leads_to_is_reported(cli: Cli, client: Client) -> None:
    lines = [
        {"kind": "export", "format": 1, "id": "x"},
        {"kind": "machine", "machine": "sort", "version": 1, "definition": GUARDED},
        {"kind": "instance", "id": "s-1", "machine": "sort", "version": 1, "state": "done", "ctx": {"n": 1}},
        {
            "kind": "instance",
            "id": "s-2",
            "machine": "sort",
            "version": 1,
            "state": "done",
            "ctx": {"n": 1, "ready": 1},
        },
        {"kind": "instance", "id": "s-3", "machine": "none", "version": 1, "state": "a", "ctx": {}},
    ]
    run = cli("import", "-", stdin="".join(json.dumps(line) + "\n" for line in lines))
    assert run.code == 1
    assert "line 3: s-1 cannot be led to state done: " in run.stderr
    assert "line 5: s-3: MACHINE_NOT_FOUND" in run.stderr
    assert "the export was not finished" in run.stderr
    assert (
        run.stdout == "Imported 1 machine versions, 1 instances, 2 events; 0 were there already, 2 failed\n"
    )
    assert client.get_instance("s-2").state == "done"
    assert client.list_instances().total == 1


def test_a_broken_export_is_resumed(cli: Cli, client: Client) -> None:
    client.put_machine("order", 1, ORDER)
    for start in range(0, 1200, 100):
        operations = [
            {"op": "CREATE_INSTANCE", "params": {"instance_id": f"o-{n}", "machine": "order", "version": 1}}
            for n in range(start, start + 100)
        ]
        client.call("BATCH", {"mode": "best_effort", "ops": operations})
    assert cli("export", "whole.jsonl").code == 0
    whole = (cli.home / "whole.jsonl").read_text().splitlines(keepends=True)
    assert len(whole) == 1 + 1 + 1200 + 1 + 1
    (cli.home / "part.jsonl").write_text("".join(whole[:1100])[:-20])
    assert cli("export", "part.jsonl", "--resume").code == 0
    assert (cli.home / "part.jsonl").read_text().splitlines(keepends=True)[1:] == whole[1:]
    assert cli("export", "part.jsonl", "--resume").code == 2


def test_an_import_is_resumed(cli: Cli, client: Client) -> None:
    lines = [{"kind": "machine", "machine": "order", "version": 1, "definition": ORDER}]
    lines += [
        {"kind": "instance", "id": f"o-{n}", "machine": "order", "version": 1, "state": "created", "ctx": {}}
        for n in range(250)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (cli.home / "in.jsonl").write_text(text + "{broken\n")
    run = cli("import", "in.jsonl", "--resume-file", "resume")
    assert run.code == 1
    assert "line 252" in run.stderr
    assert (cli.home / "resume").read_text() == "201\n"
    (cli.home / "in.jsonl").write_text(text + '{"kind":"end"}\n')
    run = cli("import", "in.jsonl", "--resume-file", "resume")
    assert run.stdout.startswith("Imported 0 machine versions, 50 instances, 0 events; 1 were there already")
    assert client.list_instances().total == 250


def test_bench_reports_and_cleans_up(cli: Cli, client: Client) -> None:
    run = cli("bench", "-n", "400", "-c", "4", "--mix", "apply=2,get=1,create=1,ping=1", timeout=60)
    assert (run.stderr, run.code) == ("", 0)
    assert "400 requests in " in run.stdout
    assert "█" in run.stdout
    assert client.list_instances().total == 0
    report = json.loads(cli("bench", "-n", "100", "-c", "2", "--json", "--mix", "ping=1").stdout)
    assert report["requests"] == report["operations"]["ping"]["requests"] == 100
    assert report["operations"]["ping"]["p50_ms"] <= report["operations"]["ping"]["max_ms"]
    paced = json.loads(cli("bench", "-d", "0.5", "--rate", "100", "--mix", "ping=1", "--json").stdout)
    assert paced["requests"] == 50


def test_top_in_a_pipe_is_a_line_each_time(cli: Cli, client: Client, instance: int) -> None:
    run = cli("top", "-n", "2", "-d", "0.1")
    assert (run.stderr, run.code) == ("", 0)
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(lines) == 2
    assert lines[0]["instances_by_state"] == [{"machine": "order", "state": "created", "instances": 1}]
    assert lines[1]["operations"]["STATS"]["per_second"] > 0
