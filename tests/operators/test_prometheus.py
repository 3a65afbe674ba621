"""Every query of the dashboards and of the alerts, asked of a real Prometheus that scrapes a real server."""

import contextlib
import itertools
import json
import re
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
import yaml

from tests.operators.conftest import free_port

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARDS = sorted((DEPLOY / "grafana/dashboards").glob("*.json"))
SECONDS_MAX = 60

pytestmark = pytest.mark.skipif(shutil.which("prometheus") is None, reason="no Prometheus here")


def queries_of(dashboard):
    """Return (panel, query) for every query of a dashboard."""
    panels = json.loads(dashboard.read_text())["panels"]
    return [(panel["title"], target["expr"]) for panel in panels for target in panel.get("targets", ())]


class Prometheus:
    def __init__(self, directory, target):
        self.port = free_port()
        shutil.copy(DEPLOY / "prometheus/alerts.yml", directory)
        config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "1s"}
        config["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
        (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.process = subprocess.Popen(
            [
                "prometheus", f"--config.file={directory / 'prometheus.yml'}",
                f"--storage.tsdb.path={directory}",
                f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=error",
            ],
            stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def get(self, path, **parameters):
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def query(self, expression):
        return self.get("query", query=expression)["result"]

    def stop(self):
        self.process.terminate()
        self.process.wait(20)


@pytest.fixture
def prometheus(tmp_path):
    with contextlib.ExitStack() as stack:

        def start(target):
            directory = tmp_path / "prometheus"
            directory.mkdir()
            started = Prometheus(directory, target)
            stack.callback(started.stop)
            return started

        yield start


def refuse_some(server, limit):
    """Open more connections than allowed; the refused ones hear why."""
    with contextlib.ExitStack() as stack:
        for _ in range(limit + 2):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=10))
            sock.sendall(b'{"type":"request","id":"1","op":"PING"}\n')
            sock.recv(1000)


def test_every_query_returns_data(start, session_of, busy, prometheus):
    limit = 8
    server = start(environ={"RSTMDB_MAX_CONNECTIONS": str(limit)})
    scraping = prometheus(f"127.0.0.1:{server.metrics_port}")
    call = session_of(server)
    busy(call)
    call("COMPACT", force_snapshot=True)
    waiting = dict.fromkeys(itertools.chain.from_iterable(map(queries_of, DASHBOARDS)))
    assert len(waiting) > 50
    deadline = time.monotonic() + SECONDS_MAX
    number = 0
    while waiting:
        refuse_some(server, limit)
        for _ in range(50):  # rates need a change between two scrapes
            number += 1
            call(
                "CREATE_INSTANCE",
                machine="order",
                version=1,
                instance_id=f"more{number}",
                initial_ctx={"amount": 1},
            )
            call("APPLY_EVENT", instance_id=f"more{number}", event="PAY", payload={})
            call.answer("APPLY_EVENT", instance_id=f"more{number}", event="PAY", payload={})
        with contextlib.suppress(OSError):  # it may not listen yet
            for panel, expression in list(waiting):
                result = scraping.query(expression)
                # An operation nobody asks for just now has no quantile; those that are asked for do.
                if any(value["value"][1] != "NaN" for value in result):
                    del waiting[panel, expression]
        assert time.monotonic() < deadline, f"no data for {list(waiting)}"
    [target] = scraping.get("targets")["activeTargets"]
    assert target["health"] == "up"
    assert target["lastError"] == ""


def test_every_alert_speaks_of_figures_that_exist(start, session_of, busy, prometheus):
    server = start()
    busy(session_of(server), orders=1)
    text = urllib.request.urlopen(f"{server.url}/metrics", timeout=10).read().decode()
    exist = set(re.findall(r"(?m)^# TYPE (\S+)", text)) | {"up"}
    # These are labelled, so they are there when the first one is counted.
    exist |= {"rstmdb_connections_refused_total"}
    exist |= {f"{name}_bucket" for name in exist}
    rules = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"][0]["rules"]
    for rule in rules:
        names = set(re.findall(r"\b(?:rstmdb|process)_\w+", rule["expr"]))
        assert names <= exist, rule["alert"]
        assert rule["annotations"]["summary"]
    if shutil.which("promtool"):
        checked = subprocess.run(
            ["promtool", "check", "config", DEPLOY / "prometheus/prometheus.yml"],
            capture_output=True,
            text=True,
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_metrics_pass_promtools_lint(start, session_of, busy):
    if shutil.which("promtool") is None:
        pytest.skip("no promtool here")
    server = start()
    busy(session_of(server), orders=1)
    text = urllib.request.urlopen(f"{server.url}/metrics", timeout=10).read()
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True)
    complaints = [line for line in checked.stderr.decode().splitlines() if line]
    # Published names break two rules of the lint: gauges whose names end in _total.
    published = {"rstmdb_instances_total", "rstmdb_machines_total"}
    assert {line.split()[0] for line in complaints} <= published, complaints
