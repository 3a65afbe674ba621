"""The command line inside scripts: pipes, xargs, and every line of the project's introduction and README."""

import json
import shutil

import pytest

from rstmdb_client import Client
from tests.cli.conftest import ORDER, Cli

needs_jq = pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")


def test_head_ends_a_watch_quietly(cli: Cli, client: Client, instance: int) -> None:
    offset = client.apply_event("o-1", "PAY").wal_offset
    run = cli.shell(f"set -o pipefail; rstmdb-cli watch-all --from-offset {offset} 2>errors | head -1")
    assert json.loads(run.stdout)["event"] == "PAY"
    assert (run.stderr, run.code) == ("", 0)
    errors = (cli.home / "errors").read_text()
    assert "Traceback" not in errors
    assert "Broken pipe" not in errors
    assert errors.splitlines()[-1] == "Press Ctrl+C to stop..."


@pytest.mark.parametrize(
    "command", ["wal-read", "list-machines", "--help", "get-instance o-1", "list-instances --all"]
)
def test_a_reader_that_closes_early_is_no_error(cli: Cli, instance: int, command: str) -> None:
    run = cli.shell(f"rstmdb-cli {command} | true; exit ${{PIPESTATUS[0]}}")
    assert run.stderr == ""
    assert run.code in ((0, 1) if command == "--help" else (0,))


@needs_jq
def test_jq_reads_a_watch(cli: Cli, client: Client, instance: int) -> None:
    offset = client.apply_event("o-1", "PAY").wal_offset
    run = cli.shell(
        f"rstmdb-cli watch-all --from-offset {offset} --until paid | jq -c '[.event, .wal_offset]'"
    )
    assert run.stdout == f'["PAY",{offset}]\n'
    run = cli.shell("rstmdb-cli list-instances | jq -r .id")
    assert run.stdout == "o-1\n"


def test_xargs_applies_in_parallel(cli: Cli, client: Client, order: str) -> None:
    for number in range(32):
        client.create_instance("order", 1, instance_id=f"x-{number}")
    run = cli.shell("seq 0 31 | xargs -P 8 -I N rstmdb-cli apply-event -i x-N -e PAY", timeout=90)
    assert (run.stderr, run.code) == ("", 0)
    assert run.stdout.count("  created → paid\n") == 32
    assert client.list_instances(state="paid").total == 32


def test_a_failing_script_sees_codes_and_greps_for_them(cli: Cli, instance: int) -> None:
    run = cli.shell("rstmdb-cli apply-event -i o-1 -e SHIP 2>&1 | grep -q INVALID_TRANSITION")
    assert run.code == 0
    run = cli.shell("rstmdb-cli apply-event -i o-1 -e PAY --expected-state paid || echo no")
    assert run.stdout == "no\n"


README = """\
rstmdb-cli ping
rstmdb-cli put-machine -n order -v 1 '{
  "states": ["created", "paid", "shipped"],
  "initial": "created",
  "transitions": [
    {"from": "created", "event": "PAY", "to": "paid"},
    {"from": "paid", "event": "SHIP", "to": "shipped", "guard": "ctx.ready"}
  ]
}'
rstmdb-cli create-instance -m order -V 1 -i order-001 -c '{"ready": false}'
rstmdb-cli apply-event -i order-001 -e PAY -p '{"amount": 99.99}'
rstmdb-cli get-instance order-001
rstmdb-cli compact --force
rstmdb-cli hash-token "my-secret-token"
rstmdb-cli --token "my-secret-token" list-machines
export RSTMDB_TOKEN="my-secret-token"
rstmdb-cli list-machines
rstmdb-cli unwatch sub-xxxxxxxx
"""

INTRODUCTION = """\
rstmdb-cli put-machine -n order -v 1 '{
  "states": ["created", "paid", "shipped", "delivered"],
  "initial": "created",
  "transitions": [
    {"from": "created", "event": "PAY", "to": "paid"},
    {"from": "paid", "event": "SHIP", "to": "shipped"},
    {"from": "shipped", "event": "DELIVER", "to": "delivered"}
  ]
}'
rstmdb-cli create-instance -m order -V 1 -i order-123 -c '{"customer": "alice"}'
rstmdb-cli apply-event -i order-123 -e PAY -p '{"amount": 99.99}'
rstmdb-cli apply-event -i order-123 -e SHIP -p '{"carrier": "fedex"}'
rstmdb-cli get-instance order-123
"""


@pytest.mark.parametrize("script", [README, INTRODUCTION], ids=["readme", "introduction"])
def test_the_documented_lines_run_as_they_stand(cli: Cli, script: str) -> None:
    run = cli.shell("set -e\n" + script, timeout=60)
    assert (run.stderr, run.code) == ("", 0)
    assert "  created → paid\n" in run.stdout
    assert "  State: " in run.stdout


@pytest.mark.parametrize(
    "line",
    [
        "rstmdb-cli watch-instance order-001",
        "rstmdb-cli watch-all",
        "rstmdb-cli watch-all --machines order",
        "rstmdb-cli watch-all --to-states paid",
        "rstmdb-cli watch-all --events PAY,SHIP",
        "rstmdb-cli watch-all --machines order --to-states paid",
        "rstmdb-cli watch-all --no-ctx",
    ],
)
def test_the_documented_watches_run_as_they_stand(cli: Cli, client: Client, line: str) -> None:
    client.put_machine("order", 1, ORDER)
    client.create_instance("order", 1, instance_id="order-001")
    # The watch is ready when its header is there; then an event comes, and Ctrl-C ends it.
    script = f"""
        {line} >out 2>err & watch=$!
        until grep -q 'Press Ctrl+C' err 2>/dev/null; do kill -0 $watch || exit 9; done
        rstmdb-cli apply-event -i order-001 -e PAY >applied
        until grep -q '"event":"PAY"' out; do kill -0 $watch || exit 8; done
        kill -INT $watch; wait $watch
    """
    run = cli.shell(script)
    assert (run.stderr, run.code) == ("", 0)


@needs_jq
def test_the_documented_audit_log(cli: Cli, client: Client) -> None:
    client.put_machine("order", 1, ORDER)
    client.create_instance("order", 1, instance_id="order-001")
    script = """
        rstmdb-cli watch-all --until paid 2>err | jq -c . >> audit.jsonl & watch=$!
        until grep -q 'Press Ctrl+C' err 2>/dev/null; do kill -0 $watch || exit 9; done
        rstmdb-cli apply-event -i order-001 -e PAY >applied
        wait $watch
        grep -c '"event":"PAY"' audit.jsonl
    """
    assert cli.shell(script).stdout == "1\n"
