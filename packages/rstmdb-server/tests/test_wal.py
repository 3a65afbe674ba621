"""WAL_READ: what a reader is told when compaction passes by its page, and what a page may cost the others."""

import json
from typing import Any

import pytest

from rstmdb_server.session import Session
from rstmdb_server.settings import CompactionSettings, RetentionSettings, Settings
from rstmdb_storage import EmbeddedLog, LogConfig, LogReader, LogRecord
from tests.in_process import InProcessServer, TestWire
from tests.simulation.filesystem import SimulatedFileSystem
from tests.trimming_host import TrimmingHost
from tests.wire import ORDER, frame, request


class Logged:
    """A server with a log of some segments, a session that works and one that reads."""

    def __init__(self) -> None:
        self.host = TrimmingHost()
        self.server = InProcessServer(
            SimulatedFileSystem(),
            "/data",
            host=self.host,
            settings=Settings(
                compaction=CompactionSettings(enabled=False),
                retention=RetentionSettings(history_mb=0, history_secs=0),
            ),
            log_config=LogConfig(segment_bytes=64 << 10, reserve_bytes=0, fill=False),
        )
        self.log = self.server.database.log
        self.worker = self.server.connect()
        self.reader = self.server.connect()
        self.ask(self.worker, "PUT_MACHINE", machine="order", version=1, definition=ORDER)

    def send(self, session: tuple[Session, TestWire], op: str, **params: Any) -> None:
        self.server.reactor.receive(session[0], frame(request(op, params)))
        self.host.settle()

    def answers(self, session: tuple[Session, TestWire]) -> list[dict[str, Any]]:
        return [json.loads(payload) for payload in session[1].take()]

    def ask(self, session: tuple[Session, TestWire], op: str, **params: Any) -> dict[str, Any]:
        self.send(session, op, **params)
        (answer,) = self.answers(session)
        return answer

    def work(self, records: int) -> None:
        for _ in range(records):
            junk = {"junk": "x" * 1000}
            self.ask(self.worker, "CREATE_INSTANCE", machine="order", version=1, initial_ctx=junk)


def test_a_page_that_meets_a_trim_under_way_is_told_the_oldest_there_is() -> None:
    it = Logged()
    it.work(150)
    it.ask(it.worker, "COMPACT")
    it.work(150)
    before = it.log.oldest_sequence
    it.host.job_seconds = lambda: 1.0
    it.send(it.reader, "WAL_READ", from_offset=0)
    it.host.job_seconds = lambda: 0.0
    it.send(it.worker, "COMPACT")
    assert it.host.trims, "nobody is to know yet that the files are gone"
    it.host.advance(1.0)
    (refused,) = it.answers(it.reader)
    details = refused["error"]["details"]
    assert details["reason"] == "OFFSET_COMPACTED"
    assert details["oldest_offset"] == it.log.oldest_sequence > before
    # Trying again at that offset works at once, while the trim is still under way.
    page = it.ask(it.reader, "WAL_READ", from_offset=details["oldest_offset"])["result"]
    assert page["records"][0]["offset"] == details["oldest_offset"]
    assert page["next_offset"] == it.log.durable_sequence + 1
    it.host.finish_trims()
    (compacted,) = it.answers(it.worker)
    assert compacted["result"]["segments_deleted"] > 0
    assert it.log.oldest_sequence == details["oldest_offset"]


def test_figures_leave_out_what_is_being_trimmed() -> None:
    it = Logged()
    it.work(150)
    it.ask(it.worker, "COMPACT")
    it.work(150)
    before = it.ask(it.reader, "WAL_STATS")["result"]
    it.send(it.worker, "COMPACT")
    assert it.host.trims
    meanwhile = it.ask(it.reader, "WAL_STATS")["result"]
    assert meanwhile["oldest_offset"] == it.log.oldest_sequence > before["oldest_offset"]
    assert meanwhile["segment_count"] < before["segment_count"]
    assert meanwhile["total_size_bytes"] < before["total_size_bytes"]
    it.host.finish_trims()
    after = it.ask(it.reader, "WAL_STATS")["result"]
    same = ("oldest_offset", "segment_count", "total_size_bytes")
    assert [after[key] for key in same] == [meanwhile[key] for key in same]


class CountingReader:
    """Counts what is asked of a reader of the log."""

    reads = 0

    def __init__(self, reader: LogReader) -> None:
        self._reader = reader

    def read(self, from_sequence: int, *, bytes_max: int, records_max: int) -> list[LogRecord]:
        CountingReader.reads += 1
        return self._reader.read(from_sequence, bytes_max=bytes_max, records_max=records_max)

    def close(self) -> None:
        self._reader.close()


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Logged:
    it = Logged()
    make = EmbeddedLog.reader
    monkeypatch.setattr(EmbeddedLog, "reader", lambda log: CountingReader(make(log)))
    monkeypatch.setattr(CountingReader, "reads", 0)
    return it


def test_the_records_of_one_instance_are_found_without_reading_the_others_one_by_one(counted: Logged) -> None:
    for name in ("i1", "i10", "i2"):
        counted.ask(counted.worker, "CREATE_INSTANCE", machine="order", version=1, instance_id=name)
    for number in range(300):
        counted.ask(counted.worker, "APPLY_EVENT", instance_id="i10", event="NOTE", payload={"n": number})
    operations = [
        {"op": "APPLY_EVENT", "params": {"instance_id": name, "event": "NOTE"}}
        for name in ("i2", "i1", "i10")
    ]
    counted.ask(counted.worker, "BATCH", mode="atomic", ops=operations)
    # It mentions the other, and is none of its.
    counted.ask(counted.worker, "APPLY_EVENT", instance_id="i2", event="NOTE", payload={"of": "i1"})
    page = counted.ask(counted.reader, "WAL_READ", from_offset=0, instance_id="i1", limit=2)["result"]
    assert [(r["offset"], r["entry"]["instance_id"]) for r in page["records"]] == [(2, "i1"), (306, "i1")]
    assert page["next_offset"] == 308
    assert CountingReader.reads <= 2
    rest = counted.ask(counted.reader, "WAL_READ", from_offset=308, instance_id="i1", limit=2)["result"]
    assert (rest["records"], rest["next_offset"]) == ([], counted.log.durable_sequence + 1)


def test_nothing_is_read_for_whoever_has_left(counted: Logged) -> None:
    counted.work(10)
    counted.host.job_seconds = lambda: 1.0
    for _ in range(3):
        counted.send(counted.reader, "WAL_READ", from_offset=0)
    counted.server.reactor.disconnect(counted.reader[0])
    counted.host.advance(5.0)
    assert CountingReader.reads == 0
    assert counted.log.statistics.reads == 0
