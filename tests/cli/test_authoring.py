"""`graph`, `lint`, `simulate`: seeing and writing definitions, with and without a server."""

import json
import shutil
import subprocess
from xml.etree import ElementTree as ET

import pytest

from rstmdb_client import Client
from tests.cli.conftest import ORDER, Cli, Run

TEXT = """\
order v1

▶ created
    └─ PAY ──▶ paid
· paid
    └─ SHIP [ctx.ready] ──▶ shipped
■ shipped
"""
MERMAID = """\
---
title: order v1
---
stateDiagram-v2
    [*] --> created
    created --> paid: PAY
    paid --> shipped: SHIP #91;ctx.ready#93;
    shipped --> [*]
"""


def test_graph_of_the_server_and_of_a_file(cli: Cli, lone_cli: Cli, instance: int) -> None:
    assert cli("graph", "order") == Run(TEXT, "", 0)
    assert cli("graph", "order", "-v", "1", "-f", "mermaid") == Run(MERMAID, "", 0)
    marked = TEXT.replace("▶ created\n", "● created  (initial) ◀ o-1\n")
    assert cli("graph", "-i", "o-1").stdout == marked
    assert cli("graph", "order", "--instance", "o-1").stdout == marked
    (cli.home / "order v1.json").write_text(json.dumps(ORDER))
    assert lone_cli("graph", "@order v1.json") == Run(TEXT, "", 0)
    assert cli("graph", "other", "-i", "o-1").code == 2
    assert cli("graph").code == 2
    run = cli("graph", "nope", "--exit-codes", "detailed")
    assert (run.code, run.stdout) == (5, "")
    assert "list-machines" in run.stderr


def test_svg_shows_every_state_and_transition(cli: Cli, instance: int) -> None:
    run = cli("graph", "-i", "o-1", "-f", "svg", "--file", "order.svg")
    assert run == Run("", "", 0)
    root = ET.parse(cli.home / "order.svg").getroot()
    space = "{http://www.w3.org/2000/svg}"
    texts = [element.text for element in root.iter(f"{space}text")]
    assert texts.count("created") == texts.count("paid") == texts.count("shipped") == 1
    assert "SHIP [ctx.ready]" in texts
    marked = [element for element in root.iter(f"{space}rect") if "current" in element.get("class", "")]
    assert len(marked) == 1


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
def test_graphviz_accepts_the_dot(cli: Cli, order: str) -> None:
    drawn = cli("graph", "order", "-f", "dot").stdout
    done = subprocess.run(
        ["dot", "-Tsvg"], input=drawn, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stderr, done.returncode) == ("", 0)


def test_lint(lone_cli: Cli) -> None:
    text = """{
  "states": ["a", "b", "lost"],
  "initial": "a",
  "transitions": [
    {"from": "a", "event": "GO", "to": "b", "guard": "ctx.x >"},
    {"from": "a", "event": "STAY", "to": "nowhere"}
  ]
}
"""
    (lone_cli.home / "m.json").write_text(text)
    run = lone_cli("lint", "m.json")
    assert run.code == 1
    lines = run.stdout.splitlines()
    assert lines[0].startswith("m.json:5:")
    assert ": error: transitions[0].guard: " in lines[0]
    assert lines[1] == "    ctx.x >"
    assert lines[2].strip() == "^"
    assert lines[3].startswith("m.json:6:")
    assert run.stderr.startswith("2 errors, ")
    good = text.replace(" >", " > 1").replace("nowhere", "a")
    (lone_cli.home / "m.json").write_text(good)
    run = lone_cli("lint", "m.json")
    assert run.code == 0
    assert "m.json:2:24: warning: states[2]: " in run.stdout
    assert lone_cli("lint", "--strict", "m.json").code == 1
    rows = [json.loads(line) for line in lone_cli("lint", "m.json", "-o", "ndjson").stdout.splitlines()]
    assert "unreachable-state" in [row["rule"] for row in rows]
    assert "\n<stdin>:2:24: warning: " in lone_cli("lint", "-", stdin=good).stdout
    run = lone_cli("lint", "-", stdin='{"states": [,]}')
    assert run.stderr.startswith("Error: standard input is not valid JSON: ")


def test_simulate_from_a_pipe(lone_cli: Cli) -> None:
    (lone_cli.home / "order.json").write_text(json.dumps(ORDER))
    run = lone_cli(
        "simulate", "order.json", "-c", '{"n": 1}', stdin='events\nPAY {"ready": true}\nSHIP\nctx\nhistory\n'
    )
    assert run == Run(
        "order: created\n"
        "  ✓ PAY → paid\n"
        "  created → paid\n"
        "  paid → shipped\n"
        '{\n  "n": 1,\n  "ready": true\n}\n'
        '  PAY created → paid  {"ready":true}\n'
        "  SHIP paid → shipped\n",
        "",
        0,
    )
    run = lone_cli("simulate", "order.json", stdin="PAY\nSHIP\nback\nback\nback\nNO\nrestart\ngraph\n")
    assert run.code == 1
    assert run.stdout.splitlines()[:4] == [
        "order: created",
        "  created → paid",
        "  created",
        "  nothing to take back",
    ]
    assert "● created  (initial)" in run.stdout
    assert "  GUARD_FAILED - " in run.stderr
    assert "the guard 'ctx.ready' is false with ctx.ready = null" in run.stderr
    assert "  INVALID_TRANSITION - " in run.stderr
    (lone_cli.home / "bad.json").write_text('{"states": []}')
    run = lone_cli("simulate", "bad.json")
    assert run.code == 1
    assert "rstmdb-cli lint bad.json" in run.stderr


def test_describe_agrees_with_apply(cli: Cli, client: Client, instance: int) -> None:
    asked = json.loads(cli("describe", "o-1", "-e", "PAY", "-p", '{"n": 7}', "--json").stdout)
    assert client.get_instance("o-1").state == "created"
    (event,) = asked["events"]
    applied = client.apply_event("o-1", "PAY", payload={"n": 7})
    assert (event["from_state"], event["to_state"], event["ctx"]) == (
        applied.from_state,
        applied.to_state,
        applied.ctx,
    )
