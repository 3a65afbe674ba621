"""The figures, as Prometheus reads them: the published names exactly, nothing before it was used."""

import re
import timeit
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from rstmdb_server.metrics import (
    BATCH_BUCKETS,
    COMMIT_BUCKETS,
    CONTENT_TYPE,
    OPERATION_INDEX,
    REQUEST_BUCKETS,
    Collector,
    Counters,
    Gauges,
)

PUBLISHED = {
    "rstmdb_connections_total": ("counter", None),
    "rstmdb_connections_active": ("gauge", None),
    "rstmdb_requests_total": ("counter", "operation"),
    "rstmdb_errors_total": ("counter", "code"),
    "rstmdb_request_duration_seconds": ("histogram", "operation"),
    "rstmdb_subscriptions_active": ("gauge", "type"),
    "rstmdb_events_forwarded_total": ("counter", "type"),
    "rstmdb_instances_total": ("gauge", None),
    "rstmdb_machines_total": ("gauge", None),
    "rstmdb_wal_entries": ("gauge", None),
    "rstmdb_wal_segments": ("gauge", None),
    "rstmdb_wal_size_bytes": ("gauge", None),
    "rstmdb_wal_bytes_written_total": ("counter", None),
    "rstmdb_wal_bytes_read_total": ("counter", None),
    "rstmdb_wal_writes_total": ("counter", None),
    "rstmdb_wal_reads_total": ("counter", None),
    "rstmdb_wal_fsyncs_total": ("counter", None),
    "process_cpu_seconds_total": ("counter", None),
    "process_open_fds": ("gauge", None),
    "process_max_fds": ("gauge", None),
    "process_virtual_memory_bytes": ("gauge", None),
    "process_resident_memory_bytes": ("gauge", None),
    "process_start_time_seconds": ("gauge", None),
    "process_threads": ("gauge", None),
}


@pytest.fixture
def counters():
    return Counters()


@pytest.fixture
def gauges():
    return Gauges()


@pytest.fixture
def render(counters, gauges):
    collector = Collector(counters, lambda: gauges, version="1.2.3")
    return lambda: collector.render().decode()


def series(text):
    """Map each sample line's name and labels to its value."""
    return dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))


def use_everything(counters, gauges):
    counters.observe(OPERATION_INDEX["PING"], 0.002)
    counters.error("BAD_REQUEST")
    counters.refused("limit")
    counters.connection_opened()
    counters.subscriptions_instance = counters.subscriptions_all = 1
    counters.events_instance = counters.events_all = 1
    counters.observe_commit(0.0001, 3)


def test_every_published_name_has_its_type_and_label(render, counters, gauges):
    use_everything(counters, gauges)
    text = render()
    types = dict(re.findall(r"(?m)^# TYPE (\S+) (\S+)$", text))
    for name, (kind, label) in PUBLISHED.items():
        assert types[name] == kind
        lines = [line for line in text.splitlines() if re.match(rf"{name}(_bucket|_sum|_count)?[{{ ]", line)]
        assert lines, name
        labels = {found for line in lines for found in re.findall(r"(\w+)=", line)} - {"le"}
        assert labels == ({label} if label else set()), name


def test_the_buckets_are_named_exactly(render, counters, gauges):
    use_everything(counters, gauges)
    text = render()
    found = re.findall(r'rstmdb_request_duration_seconds_bucket\{le="([^"]+)",operation="PING"\}', text)
    assert found == ["0.001", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "+Inf"]
    assert tuple(found[:-1]) == REQUEST_BUCKETS
    assert re.findall(r'rstmdb_commit_records_bucket\{le="([^"]+)"\}', text) == [*BATCH_BUCKETS, "+Inf"]
    assert re.findall(r'rstmdb_commit_duration_seconds_bucket\{le="([^"]+)"\}', text) == [
        *COMMIT_BUCKETS,
        "+Inf",
    ]


def test_there_are_no_created_series_and_no_second_types(render, counters, gauges):
    use_everything(counters, gauges)
    text = render()
    assert "_created" not in text
    names = re.findall(r"(?m)^# TYPE (\S+)", text)
    assert len(names) == len(set(names))
    assert CONTENT_TYPE == "text/plain; version=0.0.4; charset=utf-8"


def test_labelled_series_do_not_exist_before_their_first_use(render):
    text = render()
    for name, (_, label) in PUBLISHED.items():
        assert (name in text) == (label is None), name


def test_a_subscription_that_came_and_went_leaves_a_zero(render, counters):
    counters.subscriptions_instance += 1
    found = series(render())
    assert float(found['rstmdb_subscriptions_active{type="instance"}']) == 0
    assert 'rstmdb_subscriptions_active{type="all"}' not in found


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [
        (0.0, "0.001"),
        (0.001, "0.001"),
        (0.0011, "0.005"),
        (0.005, "0.005"),
        (0.3, "0.5"),
        (1.0, "1"),
        (1.1, "+Inf"),
    ],
)
def test_an_observation_is_in_every_bucket_from_its_own_on(render, counters, seconds, bucket):
    counters.observe(OPERATION_INDEX["APPLY_EVENT"], seconds)
    found = series(render())
    bounds = [*REQUEST_BUCKETS, "+Inf"]
    for position, bound in enumerate(bounds):
        name = f'rstmdb_request_duration_seconds_bucket{{le="{bound}",operation="APPLY_EVENT"}}'
        assert float(found[name]) == (position >= bounds.index(bucket))
    assert float(found['rstmdb_request_duration_seconds_count{operation="APPLY_EVENT"}']) == 1
    assert float(found['rstmdb_request_duration_seconds_sum{operation="APPLY_EVENT"}']) == seconds
    assert float(found['rstmdb_requests_total{operation="APPLY_EVENT"}']) == 1


def test_unknown_operations_are_one_series_of_their_own(render, counters):
    counters.observe(counters.operation_index("DROP TABLE"), 0.1)
    counters.observe(counters.operation_index(""), 0.1)
    found = series(render())
    assert float(found["rstmdb_requests_unknown_total"]) == 2
    assert not any("operation=" in name for name in found)


def test_commits_count_time_and_records(render, counters):
    counters.observe_commit(0.0002, 1)
    counters.observe_commit(0.003, 600)
    found = series(render())
    assert float(found["rstmdb_commit_duration_seconds_count"]) == 2
    assert float(found["rstmdb_commit_duration_seconds_sum"]) == pytest.approx(0.0032)
    assert float(found['rstmdb_commit_duration_seconds_bucket{le="0.00025"}']) == 1
    assert float(found['rstmdb_commit_records_bucket{le="512"}']) == 1
    assert float(found['rstmdb_commit_records_bucket{le="1024"}']) == 2
    assert float(found["rstmdb_commit_records_sum"]) == 601


def test_connections_are_counted_once_each(render, counters):
    counters.connection_opened()
    counters.connection_opened()
    counters.connection_closed()
    found = series(render())
    assert float(found["rstmdb_connections_total"]) == 2
    assert float(found["rstmdb_connections_active"]) == 1
    counters.connection_closed()
    with pytest.raises(AssertionError, match="ended twice"):
        counters.connection_closed()


def test_every_gauge_is_shown(render, gauges):
    """Each field gets a value of its own, which must come back under some name."""
    for number, field in enumerate(Gauges.__struct_fields__):
        if field not in ("ready", "poisoned"):
            setattr(gauges, field, 1000 + number)
    shown = {float(value) for name, value in series(render()).items() if name.startswith("rstmdb_")}
    assert {
        1000 + n for n, f in enumerate(Gauges.__struct_fields__) if f not in ("ready", "poisoned")
    } <= shown


def test_large_counts_keep_every_digit(render, gauges):
    gauges.wal_bytes_written = 2**53 - 1
    assert float(series(render())["rstmdb_wal_bytes_written_total"]) == 2**53 - 1


def test_the_process_is_this_one(render):
    found = series(render())
    assert float(found["process_threads"]) >= 1
    assert float(found["process_threads"]) == len(list(Path("/proc/self/task").iterdir()))
    assert float(found["process_open_fds"]) >= 3


def test_the_text_is_read_by_an_independent_parser(render, counters, gauges):
    use_everything(counters, gauges)
    families = {family.name: family for family in text_string_to_metric_families(render())}
    assert families["rstmdb_build_info"].samples[0].labels == {"version": "1.2.3"}
    assert families["rstmdb_request_duration_seconds"].type == "histogram"


def test_counting_costs_nothing_that_matters(counters):
    """Loose on purpose: two orders of magnitude above the cost on a quiet machine (80 ns)."""
    observe = counters.observe
    assert min(timeit.repeat(lambda: observe(3, 0.0004), number=2000, repeat=5)) / 2000 < 10e-6
