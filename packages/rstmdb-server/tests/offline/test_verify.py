"""verify: figures of what is good, one line for what is not, and not a byte changed."""

import json
import random
import shutil

import pytest
from msgspec.structs import replace

from rstmdb_core import (
    EventApplied,
    InstanceCreated,
    InstanceDeleted,
    Record,
    dump,
    encode_record,
    load,
)
from rstmdb_server import exit_codes
from rstmdb_server.offline.verify import verify
from rstmdb_storage import EmbeddedLog, LogConfig, OsFileSystem, SnapshotStore, StorageError


@pytest.fixture
def closed(database):
    """A directory with history, two snapshots in the middle and several epochs, closed."""
    database.work(30)
    database.snapshot()
    database.reopen()
    database.work(30, start=30)
    database.snapshot()
    database.work(10, start=60)
    database.close()
    return database


def test_figures_of_a_good_directory(closed, rstmdb, held):
    before = held.files(closed.path)
    assert rstmdb("verify", "--json", closed.path) == exit_codes.OK
    figures = json.loads(rstmdb.out)
    last = max(closed.shadow)
    assert figures["good"] is True
    assert figures["effects"] == last
    assert figures["records"] == len(closed.shadow) - 1
    assert (figures["first_sequence"], figures["last_sequence"], figures["next_sequence"]) == (
        1,
        last,
        last + 1,
    )
    assert (figures["first_epoch"], figures["last_epoch"]) == (1, 2)
    assert figures["segments"] > 1
    assert len(figures["snapshots"]) == 2
    assert figures["instances"] == len(closed.shadow[last]["instances"])
    assert figures["idempotency_keys"] == len(closed.shadow[last]["keys"])
    assert figures["clean"] is True
    assert held.files(closed.path) == before
    assert held.picture(verify(str(closed.path)).state) == closed.shadow[last]


def test_text_says_the_same(closed, rstmdb):
    assert rstmdb("verify", closed.path) == exit_codes.OK
    lines = rstmdb.out.splitlines()
    assert lines[-1] == "good"
    assert f"last sequence     {max(closed.shadow)}" in lines
    assert rstmdb.err == ""


def test_a_compacted_directory_is_replayed_from_its_older_snapshot(closed, held):
    closed.reopen()
    closed.snapshot()
    assert closed.trim() > 0
    closed.work(5, start=100)
    closed.close()
    findings = verify(str(closed.path))
    assert findings.damage == []
    assert findings.figures.first_sequence > 1
    assert held.picture(findings.state) == closed.shadow[max(closed.shadow)]


def test_an_empty_directory_of_ours_is_good(database, rstmdb):
    assert rstmdb("verify", database.path) == exit_codes.OK
    assert "last sequence     none" in rstmdb.out


def test_beside_a_database_that_has_it_open(database, rstmdb, held):
    database.work(20)
    before = held.files(database.path)
    assert rstmdb("verify", "--json", database.path) == exit_codes.OK
    assert json.loads(rstmdb.out)["last_sequence"] == max(database.shadow)
    assert held.files(database.path) == before
    database.work(5, start=20)  # the lock and the log are still good


def test_an_unfinished_write_at_the_end_is_no_damage(database, rstmdb):
    database.work(5)
    path = max((database.path / "wal").glob("*.wal"))
    copy = database.path.parent / "copy"
    shutil.copytree(database.path, copy)
    target = copy / "wal" / path.name
    data = bytearray(target.read_bytes())
    end = len(bytes(data).rstrip(b"\0"))
    end += -end % 8
    data[end : end + 20] = b"\xd7rsf" + b"\1" * 16
    target.write_bytes(data)
    assert rstmdb("verify", "--json", copy) == exit_codes.OK
    figures = json.loads(rstmdb.out)
    assert figures["torn_bytes"] == 20
    assert figures["last_sequence"] == max(database.shadow)


def test_every_flipped_bit_of_the_log_is_found(closed, tmp_path):
    """Bits of frames in sealed and active segments, of headers, and of snapshots."""
    chance = random.Random(7)
    copy = tmp_path / "copy"
    shutil.copytree(closed.path, copy)
    good = verify(str(copy))
    places = []
    for path in sorted(copy.glob("wal/*.wal")):
        used = len(path.read_bytes().rstrip(b"\0"))
        places += [(path, chance.randrange(used)) for _ in range(12)]
        places.append((path, chance.randrange(128)))
    for path in sorted(copy.glob("snapshots/*.snap")):
        places += [(path, chance.randrange(path.stat().st_size)) for _ in range(10)]
    assert len(places) >= 40
    for path, position in places:
        data = bytearray(path.read_bytes())
        data[position] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        try:
            told = verify(str(copy)).damage
        except StorageError as error:
            told = [str(error)]
        assert any(str(path) in damage for damage in told), (path, position, told)
        shutil.copyfile(closed.path / path.relative_to(copy), path)
    assert verify(str(copy)).figures == good.figures


def test_damage_is_one_line_with_file_and_position(closed, rstmdb):
    path = min((closed.path / "wal").glob("*.wal"))
    data = bytearray(path.read_bytes())
    data[1000] ^= 4
    path.write_bytes(data)
    assert rstmdb("verify", closed.path) == exit_codes.DATA_DAMAGED
    (line,) = rstmdb.err.splitlines()
    assert line.startswith(f"rstmdb: {path} is corrupt at byte ")
    assert rstmdb.out.splitlines()[-1] == "damaged"


def append(path, effects, *, first):
    """Append a record that the engine would never have decided, as a valid frame."""
    log, _ = EmbeddedLog.open(OsFileSystem(), f"{path}/wal", LogConfig(reserve_bytes=0))
    log.append(encode_record(Record(first, 1_800_000_000_000, tuple(effects))), len(effects))
    log.close()


@pytest.mark.parametrize(
    ("effects", "reason"),
    [
        (
            [EventApplied("order-1", "order", 1, "PAY", "shipped", "paid", b"", b"{}")],
            "leaves 'shipped', but instance 'order-1' is in 'paid'",
        ),
        (
            [EventApplied("order-x", "order", 1, "PAY", "open", "paid", b"", b"{}")],
            "'order-x', which is not there",
        ),
        ([InstanceCreated("order-1", "order", 1, "open", b"{}")], "'order-1', which is there"),
        ([InstanceCreated("new", "nothing", 1, "open", b"{}")], "machine 'nothing' version 1"),
        ([InstanceDeleted("order-x", "order", 1, 0)], "'order-x', which is not there"),
        (
            [
                InstanceCreated("new", "order", 1, "open", b"{}"),
                EventApplied("new", "order", 1, "PAY", "paid", "open", b"", b"{}"),
            ],
            "leaves 'paid', but instance 'new' is in 'open'",
        ),
        (
            [EventApplied("order-1", "order", 1, "PAY", "paid", "nowhere", b"", b"{}")],
            "does not fit the state",
        ),
    ],
)
def test_a_log_that_contradicts_itself_is_damage(database, rstmdb, effects, reason):
    database.work(2)
    last = max(database.shadow)
    database.close()
    append(database.path, effects, first=last + 1)
    assert rstmdb("verify", database.path) == exit_codes.DATA_DAMAGED
    assert reason in rstmdb.err
    assert len(rstmdb.err.splitlines()) == 1


def test_bytes_that_are_no_record_are_damage(database, rstmdb):
    database.work(1)
    database.close()
    log, _ = EmbeddedLog.open(OsFileSystem(), f"{database.path}/wal", LogConfig(reserve_bytes=0))
    log.append(b"not a record", 1)
    log.close()
    assert rstmdb("verify", database.path) == exit_codes.DATA_DAMAGED
    assert "bytes are not a record" in rstmdb.err


def test_a_snapshot_of_another_state_is_damage(closed, rstmdb):
    """All checksums are right: only the replay can tell."""
    store = SnapshotStore(OsFileSystem(), f"{closed.path}/snapshots")
    newest = store.infos()[-1]
    opened = store.open(newest)
    state = load(opened.chunks())
    opened.close()
    name, instance = next(iter(state.instances.items()))
    changed = replace(instance, ctx=b'{"forged":true}')
    state.instances[name] = changed
    state.table.replace(instance.ordinal, changed)
    with dump(state) as view:
        writer = store.begin(newest.sequence)
        for chunk in view.chunks():
            writer.write(chunk)
        writer.finish()
    assert rstmdb("verify", closed.path) == exit_codes.DATA_DAMAGED
    assert (
        f"{newest.name} is corrupt at byte 0: its state is not the one that the log makes: instances"
        in rstmdb.err
    )


def test_what_is_no_data_directory(tmp_path, rstmdb):
    assert rstmdb("verify", tmp_path / "nothing") == exit_codes.START_FAILED
    assert rstmdb.err == f"rstmdb: {tmp_path}/nothing: no such directory\n"
    assert rstmdb("verify", tmp_path) == exit_codes.DATA_DAMAGED
    assert "not a data directory" in rstmdb.err
    (tmp_path / "FORMAT").write_text("rstmdb data directory, format 99\n")
    assert rstmdb("verify", tmp_path) == exit_codes.DATA_DAMAGED
    assert "says format 99" in rstmdb.err
