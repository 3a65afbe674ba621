"""The dashboards: the published one exactly, ours beside it, both provisioned."""

import json
import re
from pathlib import Path

import pytest
import yaml

GRAFANA = Path(__file__).parents[2] / "deploy/grafana"

QUANTILE = "histogram_quantile({}, sum(rate(rstmdb_request_duration_seconds_bucket[5m])) by (le, operation))"
PUBLISHED = {
    "Request Rate by Operation": ["sum(rate(rstmdb_requests_total[1m])) by (operation)"],
    "Request Latency (p50/p90/p99)": [QUANTILE.format(share) for share in ("0.50", "0.90", "0.99")],
    "Error Rate by Code": ["sum(rate(rstmdb_errors_total[1m])) by (code)"],
    "Connections": ["rstmdb_connections_active", "rate(rstmdb_connections_total[1m])"],
    "Active Subscriptions": ["rstmdb_subscriptions_active"],
    "Events Forwarded Rate": ["sum(rate(rstmdb_events_forwarded_total[1m])) by (type)"],
    "Total Instances": ["rstmdb_instances_total"],
    "Total Machines": ["rstmdb_machines_total"],
    "WAL Entries": ["rstmdb_wal_entries"],
    "WAL Segments": ["rstmdb_wal_segments"],
    "WAL Size": ["rstmdb_wal_size_bytes"],
    "WAL Throughput": ["rate(rstmdb_wal_bytes_written_total[1m])", "rate(rstmdb_wal_bytes_read_total[1m])"],
    "WAL Operations": [
        "rate(rstmdb_wal_writes_total[1m])",
        "rate(rstmdb_wal_reads_total[1m])",
        "rate(rstmdb_wal_fsyncs_total[1m])",
    ],
    "CPU Usage": ["rate(process_cpu_seconds_total[1m])"],
    "Memory Usage": ["process_resident_memory_bytes", "process_virtual_memory_bytes"],
    "File Descriptors": ["process_open_fds", "process_max_fds"],
}


@pytest.fixture(params=sorted((GRAFANA / "dashboards").glob("*.json")), ids=lambda path: path.name)
def dashboard(request):
    return json.loads(request.param.read_text())


def published():
    return json.loads((GRAFANA / "dashboards/rstmdb.json").read_text())


def queries(board):
    return {
        panel["title"]: [target["expr"] for target in panel["targets"]]
        for panel in board["panels"]
        if panel["type"] != "row"
    }


def test_the_published_dashboard_panel_by_panel():
    board = published()
    assert board["uid"] == "rstmdb-dashboard"
    assert queries(board) == PUBLISHED
    rows = [panel["title"] for panel in board["panels"] if panel["type"] == "row"]
    assert rows == ["Requests", "State Machines", "WAL I/O", "System Resources"]
    [subscriptions] = [panel for panel in board["panels"] if panel["title"] == "Active Subscriptions"]
    assert subscriptions["targets"][0]["legendFormat"] == "{{type}}"


def test_ours_shows_what_the_published_one_cannot():
    board = json.loads((GRAFANA / "dashboards/rstmdb-internals.json").read_text())
    names = set(re.findall(r"\brstmdb_\w+", json.dumps(list(queries(board).values()))))
    published_names = set(re.findall(r"\brstmdb_\w+", json.dumps(list(PUBLISHED.values()))))
    assert not names & published_names
    assert len(names) > 20


def test_every_figure_of_ours_is_on_a_dashboard():
    from rstmdb_server.metrics import Collector, Counters, Gauges

    counters = Counters()
    counters.observe(1, 0.1)
    counters.error("BAD_REQUEST")
    counters.refused("limit")
    counters.subscriptions_all = counters.events_all = 1
    text = Collector(counters, Gauges, version="0").render().decode()
    exported = {name for name in re.findall(r"(?m)^# TYPE (\S+)", text) if name.startswith("rstmdb_")}
    shown = " ".join(path.read_text() for path in (GRAFANA / "dashboards").glob("*.json"))
    assert {name for name in exported if name not in shown} == set()


def test_panels_ask_the_chosen_data_source_and_do_not_overlap(dashboard):
    [variable] = dashboard["templating"]["list"]
    assert (variable["name"], variable["type"], variable["query"]) == (
        "datasource",
        "datasource",
        "prometheus",
    )
    taken = {}
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, f"{panel['title']} lies on {taken.get((x, y))}"
                taken[x, y] = panel["title"]
        if panel["type"] != "row":
            sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
            assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))


def test_the_dashboards_link_to_each_other(dashboard):
    uids = {json.loads(path.read_text())["uid"] for path in (GRAFANA / "dashboards").glob("*.json")}
    [link] = dashboard["links"]
    assert link["url"].removeprefix("/d/") in uids - {dashboard["uid"]}


def test_provisioning_finds_them_where_compose_puts_them():
    compose = yaml.safe_load((GRAFANA.parent / "compose.yaml").read_text())
    volumes = dict(volume.split(":")[:2] for volume in compose["services"]["grafana"]["volumes"])
    [provider] = yaml.safe_load((GRAFANA / "provisioning/dashboards/rstmdb.yaml").read_text())["providers"]
    assert volumes["./grafana/dashboards"] == provider["options"]["path"]
    assert volumes["./grafana/provisioning"] == "/etc/grafana/provisioning"
    [source] = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yaml").read_text())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in compose["services"]
