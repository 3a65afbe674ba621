"""import: a directory of the original, written from the facts about its format, gives the same state."""

import contextlib
import json
import os

import pytest
from original_writer import ORDER, record

from rstmdb_core import ApplyEvent, CreateInstance, DeleteInstance, EngineSettings, State, get_instance
from rstmdb_server import exit_codes
from rstmdb_server.database import open_database
from rstmdb_server.offline import fresh, importing
from rstmdb_server.offline.fresh import SEQUENCE_JUMP
from rstmdb_server.offline.importing import import_directory
from rstmdb_server.offline.original_format import OriginalDirectory
from rstmdb_server.offline.verify import verify
from rstmdb_storage import CorruptionError, LogConfig, OsFileSystem


def shown(state: State):
    """What GET_INSTANCE shows of every instance, offsets apart."""
    found = {}
    for name in state.instances:
        answer = json.loads(get_instance(state, name))
        found[name] = (
            answer["machine"],
            answer["version"],
            answer["state"],
            answer["ctx"],
            answer.get("last_event_id"),
        )
    return found


@pytest.fixture
def imported(tmp_path, database):
    """Import a directory and open the result as a server would."""

    def run(source, **options):
        target = tmp_path / "imported"
        done = import_directory(str(source), str(target), **options)
        assert verify(str(target)).damage == []
        opened = type(database)(target)
        opened.clock.now_ms = int(os.stat(target).st_mtime * 1000)
        opened.database.now_ms = opened.clock.now_ms
        return done, opened

    return run


def test_the_same_state(original, imported):
    source = original(segment_bytes=4096)
    source.work(40)
    assert source.segment > 3
    done, opened = imported(source.root)
    assert shown(opened.database.state) == source.instances
    assert done.instances == len(source.instances) == 32
    assert done.machines == 2
    assert (done.faults, done.notes) == ([], [])
    opened.close()


def test_history_comes_along(original, tmp_path, rstmdb):
    source = original()
    source.work(10)
    assert rstmdb("import", "--from", source.root, "--to", tmp_path / "new") == exit_codes.OK
    assert rstmdb("dump", tmp_path / "new", "--instance", "order-4") == exit_codes.OK
    entries = [json.loads(line)["entry"] for line in rstmdb.out.splitlines()]
    assert [entry["type"] for entry in entries] == ["create_instance", "apply_event", "delete_instance"]
    assert entries[1]["payload"] == {"by": "card"}
    assert entries[1]["idempotency_key"] == "k4"


def test_offsets_begin_far_beyond_all_that_the_original_showed(original, imported):
    source = original()
    source.work(5)
    shown_last = OriginalDirectory(str(source.root)).end_offset
    assert shown_last > 1 << 40
    done, opened = imported(source.root)
    effects = max(opened.database.state.instances.values(), key=lambda each: each.last_offset)
    assert effects.last_offset > shown_last + SEQUENCE_JUMP
    assert done.next_sequence == shown_last + SEQUENCE_JUMP + done.effects
    opened.close()


def test_every_kind_of_key_is_recognised(original, imported):
    source = original()
    source.work(10)
    source.create("0b2d1c8e-9d57-4c51-8d6a-0123456789ab", {"total": 1}, idempotency_key="auto")
    _, opened = imported(source.root)
    count = opened.database.state.entry_count
    again = opened.execute(CreateInstance("order-3", "order", 2, b'{"total":3}', idempotency_key="c3"))
    assert (again["applied"], again["instance_id"], again["state"]) == (False, "order-3", "open")
    again = opened.execute(ApplyEvent("order-3", "PAY", b'{"by":"card"}', idempotency_key="k3"))
    assert (again["applied"], again["from_state"], again["to_state"]) == (False, "open", "paid")
    assert again["ctx"] == {"total": 3, "by": "card"}
    assert again["event_id"] == "e3"
    again = opened.execute(DeleteInstance("order-4", idempotency_key="d4"))
    assert (again["applied"], again["deleted"]) == (False, True)
    again = opened.execute(ApplyEvent("order-4", "PAY", b'{"by":"card"}', idempotency_key="k4"))
    assert again["applied"] is False
    again = opened.execute(CreateInstance(None, "order", 1, b'{"total":1}', idempotency_key="auto"))
    assert again["instance_id"] == "0b2d1c8e-9d57-4c51-8d6a-0123456789ab"
    assert opened.database.state.entry_count == count
    refused = opened.database.execute(ApplyEvent("order-3", "SHIP", b"{}", idempotency_key="k3"))
    assert refused.details["reason"] == "IDEMPOTENCY_KEY_REUSED"
    opened.close()


def test_life_goes_on(original, imported):
    source = original()
    source.work(10)
    _, opened = imported(source.root)
    assert opened.execute(ApplyEvent("order-0", "SHIP"))["to_state"] == "shipped"
    opened.snapshot()
    opened.reopen()
    assert opened.database.state.instances["order-0"].state == "shipped"
    opened.close()
    assert verify(str(opened.path)).damage == []


def test_null_contexts_and_odd_documents(original, imported):
    source = original()
    source.put("order", 1)
    source.create("none", None)
    source.apply("none", "PAY", "paid", None)
    source.create("big", {"n": 10**20, "deep": [[[{}]]], "text": "ü\u0000"})
    source.write(
        {
            "type": "apply_event",
            "instance_id": "none",
            "event": "NOTE",
            "from_state": "paid",
            "to_state": "open",
            "payload": 5,
            "ctx": {},
        }
    )
    _, opened = imported(source.root)
    assert shown(opened.database.state)["none"] == ("order", 1, "open", {}, None)
    assert shown(opened.database.state)["big"][3] == {"n": 1e20, "deep": [[[{}]]], "text": "ü\u0000"}
    opened.close()


def test_replay_rules_of_the_original(original, imported):
    source = original()
    source.put("order", 1)
    source.put("order", 1, {**ORDER, "initial": "paid"})  # the first one counts
    source.create("one", {"a": 1}, event_id=None)
    before = source.instances["one"]
    source.create("one", {"b": 2})  # passed over
    source.instances["one"] = before
    source.apply("one", "PAY", "paid", event_id="first")
    source.apply("one", "SHIP", "shipped")  # without an id the last one stays
    source.create("two", {})
    gone = source.instances["two"]
    source.delete("two")
    source.instances["two"] = gone
    source.apply("two", "PAY", "paid")  # the original lets that through
    del source.instances["two"]
    source.create("three", {"first": True})
    source.delete("three")
    source.create("three", {"second": True})  # 0.2 allows that
    _, opened = imported(source.root)
    assert shown(opened.database.state) == source.instances
    assert opened.database.state.instances["one"].last_event_id == "first"
    opened.close()


def test_instances_whose_beginning_was_compacted_come_from_snapshots(original, imported):
    source = original(segment_bytes=2048)
    source.put("order", 1)
    source.create("old", {"total": 1})
    source.create("idle", {"total": 2})
    source.create("lost", {"total": 3})
    offset = source.apply("old", "PAY", "paid", {"by": "card"})
    source.snapshot("idle", offset)
    while source.segment == 1:
        source.snapshot("old", offset)
        offset = source.apply("old", "NOTE", "open")
    # Events go on after the compaction; after a restart the machine is missing, and is put again.
    source.put("order", 1)
    source.apply("old", "PAY", "paid", {"by": "cash"}, event_id="late")
    source.apply("lost", "PAY", "paid")
    source.compact()
    done, opened = imported(source.root)
    del source.instances["lost"]
    assert shown(opened.database.state) == source.instances
    assert any("'lost' among them" in note for note in done.notes)
    assert any("2 instances whose beginning had been compacted away" in note for note in done.notes)
    opened.close()


def test_a_machine_that_was_compacted_away_can_be_given(original, tmp_path, rstmdb):
    source = original(segment_bytes=2048)
    source.put("order", 1)
    while source.segment == 1:
        source.create(f"early-{source.sequence}", {"n": 1})
    source.create("late", {"n": 2})
    source.compact()
    arguments = ["import", "--from", source.root, "--to", tmp_path / "new"]
    assert rstmdb(*arguments) == exit_codes.START_FAILED
    assert "machine 'order' version 1: it is not in the log, which was compacted" in rstmdb.err
    path = tmp_path / "order.json"
    path.write_text(json.dumps(ORDER))
    assert rstmdb(*arguments, "--definition", f"order/1={path}") == exit_codes.OK
    assert "1 machine versions" in rstmdb.out


BAD = {
    "states": ["open", "paid"],
    "initial": "open",
    "transitions": [{"from": "open", "event": "PAY", "to": "paid", "guard": "ctx.total > 0 whatever"}],
}


def test_invalid_machines_are_named_and_nothing_is_imported(original, tmp_path, rstmdb, held):
    source = original()
    source.put("order", 1)
    source.put("strict", 7, BAD)
    source.put("none", 1, None)
    source.create("good", {})
    source.create("bad", {}, machine="strict", version=7)
    source.apply("bad", "PAY", "paid")
    before = held.files(source.root)
    target = tmp_path / "new"
    assert rstmdb("import", "--from", source.root, "--to", target) == exit_codes.START_FAILED
    lines = rstmdb.err.splitlines()
    assert lines[0].startswith("rstmdb: machine 'strict' version 7: transitions[0].guard: ")
    assert lines[1] == "rstmdb: machine 'none' version 1: the log does not hold its definition"
    assert lines[2].startswith("rstmdb: nothing was imported: 2 faults; ")
    assert not target.exists()
    assert held.files(source.root) == before

    assert rstmdb("import", "--from", source.root, "--to", target, "--skip-invalid") == exit_codes.OK
    assert "1 machine versions, 1 instances" in rstmdb.out
    assert "left out: machine 'strict' version 7" in rstmdb.err
    assert list(verify(str(target)).state.instances) == ["good"]

    path = tmp_path / "strict.json"
    path.write_text(json.dumps(BAD).replace(" whatever", ""))
    fixed = tmp_path / "fixed"
    arguments = ["import", "--from", source.root, "--to", fixed, "--definition", f"strict/7={path}"]
    assert rstmdb(*arguments, "--skip-invalid") == exit_codes.OK
    assert shown(verify(str(fixed)).state) == source.instances


def test_instances_that_do_not_fit_are_named(original, tmp_path, rstmdb):
    source = original()
    source.put("order", 1)
    source.create("array", {})
    source.write(
        {
            "type": "apply_event",
            "instance_id": "array",
            "event": "PAY",
            "from_state": "open",
            "to_state": "paid",
            "ctx": [1],
        }
    )
    source.create("jump", {})
    source.instances["jump"] = ("order", 1, "paid", {}, None)
    source.apply("jump", "SHIP", "shipped")
    source.create("good", {})
    arguments = ["import", "--from", source.root, "--to", tmp_path / "new"]
    assert rstmdb(*arguments) == exit_codes.START_FAILED
    assert "instance 'array': ctx: must be a JSON object" in rstmdb.err
    assert "instance 'jump': event 'SHIP' leaves state 'paid', but the instance is in 'open'" in rstmdb.err
    assert rstmdb(*arguments, "--skip-invalid") == exit_codes.OK
    assert list(verify(str(tmp_path / "new")).state.instances) == ["good"]


def test_the_target_must_be_empty_and_the_source_the_original_s(original, database, tmp_path, rstmdb):
    source = original()
    source.work(1)
    assert rstmdb("import", "--from", source.root, "--to", database.path) == exit_codes.START_FAILED
    assert "must be empty" in rstmdb.err
    assert rstmdb("import", "--from", database.path, "--to", tmp_path / "x") == exit_codes.DATA_DAMAGED
    assert "already a data directory of this server" in rstmdb.err
    assert rstmdb("import", "--from", tmp_path, "--to", tmp_path / "x") == exit_codes.START_FAILED
    assert "wal/ is missing" in rstmdb.err
    assert rstmdb("import", "--from", tmp_path / "nowhere", "--to", tmp_path / "x") == exit_codes.START_FAILED
    bad = ["import", "--from", source.root, "--to", tmp_path / "x", "--definition", "order=1"]
    assert rstmdb(*bad) == exit_codes.USAGE


def test_the_configured_directory_is_the_target_by_default(original, tmp_path, rstmdb, monkeypatch):
    source = original()
    source.work(2)
    monkeypatch.setenv("RSTMDB_DATA", str(tmp_path / "configured"))
    assert rstmdb("import", "--from", source.root) == exit_codes.OK
    assert (tmp_path / "configured" / "FORMAT").exists()


def test_a_crash_on_the_way_leaves_nothing_that_would_be_served(original, tmp_path, rstmdb, monkeypatch):
    """As if the process ended just before the snapshot: no cleaning up either."""
    source = original()
    source.work(5)

    class Killed(BaseException):
        pass

    def killed(self):
        self._commit()
        raise Killed

    monkeypatch.setattr(fresh.HistoryWriter, "finish", killed)
    monkeypatch.setattr(importing, "empty_directory", lambda path, what: contextlib.nullcontext(path))
    with pytest.raises(Killed):
        import_directory(str(source.root), str(tmp_path / "new"))
    assert rstmdb("verify", tmp_path / "new") == exit_codes.DATA_DAMAGED
    assert "no good snapshot reaches beyond 0" in rstmdb.err

    class Host:
        monotonic = staticmethod(lambda: 0.0)
        wall_ms = staticmethod(lambda: 0)

    with pytest.raises(CorruptionError, match="no snapshot reaches beyond 0"):
        open_database(
            Host(),
            OsFileSystem(),
            str(tmp_path / "new"),
            log_config=LogConfig(),
            engine_settings=EngineSettings(),
        )


def test_record_is_as_the_facts_say():
    data = record(1, {"type": "delete_instance", "instance_id": "a"})
    assert data[:8] == b"WLOG\x04\0\0\0"
    assert int.from_bytes(data[8:12], "big") == len(data) - 24
    assert int.from_bytes(data[16:24], "big") == 1
