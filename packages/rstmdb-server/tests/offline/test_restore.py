"""backup and restore: the state at every offset and every time is the one that the shadow holds."""

import json
import os
import shutil

import pytest

from rstmdb_core import CreateInstance
from rstmdb_server import exit_codes
from rstmdb_server.offline.backup import back_up
from rstmdb_server.offline.errors import OfflineError
from rstmdb_server.offline.fresh import SEQUENCE_JUMP
from rstmdb_server.offline.manifest import timestamp
from rstmdb_server.offline.restore import Point, restore
from rstmdb_server.offline.verify import verify
from rstmdb_storage import CorruptionError, OsFileSystem


@pytest.fixture
def worked(database):
    database.work(12)
    database.snapshot()
    database.reopen()
    database.work(12, start=12)
    database.snapshot()
    database.work(4, start=24)
    return database


@pytest.fixture
def backup(worked, tmp_path):
    path = tmp_path / "backup"
    back_up(str(worked.path), str(path))
    return path


def test_everything(worked, backup, tmp_path, rstmdb, held):
    target = tmp_path / "restored"
    assert rstmdb("restore", "--from", backup, "--to", target) == exit_codes.OK
    last = max(worked.shadow)
    assert f"offset {last} of " in rstmdb.out
    state, next_sequence = held.opened(target)
    assert state == worked.shadow[last]
    assert next_sequence == last + 1 + SEQUENCE_JUMP
    assert verify(str(target)).damage == []


def test_every_offset(worked, backup, tmp_path, held):
    """An offset inside of a batch gives the state before it: a batch is there whole or not at all."""
    target = tmp_path / "restored"
    last = max(worked.shadow)
    for offset in [*range(0, last, 5), last]:
        restored = restore(str(backup), str(target), Point(sequence=offset))
        expected = max(known for known in worked.shadow if known <= offset)
        assert restored.sequence == expected
        assert held.picture(restored.state) == worked.shadow[expected]
        if offset % 3 == 0:
            state, next_sequence = held.opened(target)
            assert state == worked.shadow[expected]
            assert next_sequence == last + 1 + SEQUENCE_JUMP
        shutil.rmtree(target)


def test_every_time(worked, backup, tmp_path, rstmdb, held):
    target = tmp_path / "restored"
    sequences = sorted(worked.times)
    for sequence in sequences[::9]:
        text = timestamp(worked.times[sequence])
        assert rstmdb("restore", "--from", backup, "--to", target, "--to-time", text) == exit_codes.OK
        assert held.opened(target)[0] == worked.shadow[sequence]
        shutil.rmtree(target)
    before = timestamp(worked.times[sequences[4]] - 1).replace("Z", "+00:00")
    assert rstmdb("restore", "--from", backup, "--to", target, "--to-time", before) == exit_codes.OK
    assert held.opened(target)[0] == worked.shadow[sequences[3]]


def test_after_compaction_points_before_the_older_snapshot_are_refused(worked, tmp_path, held):
    worked.work(60, start=100)
    older = worked.snapshot()
    worked.work(3, start=200)
    worked.snapshot()
    worked.work(3, start=300)
    assert worked.trim() > 0
    manifest = back_up(str(worked.path), str(tmp_path / "backup"))
    assert manifest.restorable_from == older
    with pytest.raises(OfflineError, match=f"offset {older - 1} is not in the backup"):
        restore(str(tmp_path / "backup"), str(tmp_path / "restored"), Point(sequence=older - 1))
    with pytest.raises(OfflineError, match="the backup begins at"):
        restore(str(tmp_path / "backup"), str(tmp_path / "restored"), Point(time_ms=worked.times[older] - 1))
    for offset in (older, older + 1, max(worked.shadow)):
        restored = restore(
            str(tmp_path / "backup"), str(tmp_path / f"restored-{offset}"), Point(sequence=offset)
        )
        assert held.picture(restored.state) == worked.shadow[offset]


def test_points_beyond_the_backup_are_refused(worked, backup, tmp_path, rstmdb):
    target = tmp_path / "restored"
    beyond = max(worked.shadow) + 1
    assert (
        rstmdb("restore", "--from", backup, "--to", target, "--to-offset", beyond) == exit_codes.START_FAILED
    )
    assert f"offset {beyond} is not in the backup, which goes from 0 to {beyond - 1}" in rstmdb.err
    arguments = ["restore", "--from", backup, "--to", target, "--to-time"]
    assert rstmdb(*arguments, "2999-01-01T00:00:00Z") == exit_codes.START_FAILED
    assert "is after the backup" in rstmdb.err
    assert rstmdb(*arguments, "2026-01-01T00:00:00") == exit_codes.USAGE
    assert rstmdb(*arguments, "yesterday") == exit_codes.USAGE
    assert not target.exists()


def test_a_restored_directory_goes_on_and_can_be_backed_up_again(worked, backup, tmp_path, held):
    target = tmp_path / "restored"
    restore(str(backup), str(target), Point(sequence=20))
    again = type(worked)(target)
    again.execute(CreateInstance("afterwards", "order", 1, b"{}"))
    again.close()
    manifest = back_up(str(target), str(tmp_path / "second"))
    restored = restore(str(tmp_path / "second"), str(tmp_path / "twice"))
    assert manifest.last_sequence > SEQUENCE_JUMP
    assert restored.next_sequence > 2 * SEQUENCE_JUMP
    assert held.opened(tmp_path / "twice")[0] == again.shadow[manifest.last_sequence]


def test_sealed_files_are_hard_links_unless_asked_otherwise(worked, tmp_path):
    back_up(str(worked.path), str(tmp_path / "linked"))
    back_up(str(worked.path), str(tmp_path / "copied"), copy=True)
    names = sorted(path.name for path in (worked.path / "wal").glob("*.wal"))
    assert len(names) >= 2
    for name in names:
        source = (worked.path / "wal" / name).stat().st_ino
        assert ((tmp_path / "linked/wal" / name).stat().st_ino == source) is (name != names[-1])
        assert (tmp_path / "copied/wal" / name).stat().st_ino != source
    for path in (worked.path / "snapshots").glob("*.snap"):
        assert (tmp_path / "linked/snapshots" / path.name).stat().st_ino == path.stat().st_ino
    assert verify(str(tmp_path / "linked")).figures == verify(str(tmp_path / "copied")).figures


class Vanishing(OsFileSystem):
    """Removes what is about to be linked, as a compaction at the worst moment would."""

    def link(self, source, target):
        os.unlink(source)
        super().link(source, target)


def test_a_file_that_vanishes_in_between_is_still_copied(worked, tmp_path, held):
    copy = tmp_path / "copy"
    shutil.copytree(worked.path, copy)
    back_up(str(copy), str(tmp_path / "backup"), fs=Vanishing())
    assert len(list((copy / "wal").glob("*.wal"))) == 1
    restored = restore(str(tmp_path / "backup"), str(tmp_path / "restored"))
    assert held.picture(restored.state) == worked.shadow[max(worked.shadow)]


class Listing(OsFileSystem):
    """Compacts once between the list of the snapshots and that of the log."""

    def __init__(self, compaction):
        self.compaction = compaction

    def list(self, directory):
        if directory.endswith("/wal") and self.compaction:
            compaction, self.compaction = self.compaction, None
            compaction()
        return super().list(directory)


def test_a_compaction_between_the_lists(worked, tmp_path, held):
    def compaction():
        worked.work(60, start=100)
        worked.snapshot()
        worked.work(1, start=200)
        worked.snapshot()
        assert worked.trim() > 0

    manifest = back_up(str(worked.path), str(tmp_path / "backup"), fs=Listing(compaction))
    assert manifest.restorable_to == max(worked.shadow)
    restored = restore(str(tmp_path / "backup"), str(tmp_path / "restored"))
    assert held.picture(restored.state) == worked.shadow[max(worked.shadow)]


def test_a_backup_without_its_manifest_is_none(backup, tmp_path, rstmdb):
    (backup / "manifest.json").unlink()
    assert rstmdb("restore", "--from", backup, "--to", tmp_path / "r") == exit_codes.START_FAILED
    assert "not a finished backup" in rstmdb.err
    assert rstmdb("verify", backup) == exit_codes.DATA_DAMAGED
    assert "not a finished backup" in rstmdb.err


@pytest.mark.parametrize("kind", ["snapshots/*.snap", "wal/*.wal", "FORMAT"])
def test_a_damaged_backup_is_refused(backup, tmp_path, rstmdb, kind):
    path = min(backup.glob(kind))
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    os.unlink(path)  # it may be a hard link
    path.write_bytes(data)
    assert rstmdb("restore", "--from", backup, "--to", tmp_path / "r") == exit_codes.DATA_DAMAGED
    assert f"{path} is corrupt" in rstmdb.err or f"{path}: says" in rstmdb.err
    assert not (tmp_path / "r").exists()
    assert rstmdb("verify", backup) == exit_codes.DATA_DAMAGED
    assert str(path) in rstmdb.err


def test_a_good_backup_verifies_and_a_byte_that_only_the_manifest_knows_counts(backup, rstmdb):
    assert rstmdb("verify", backup) == exit_codes.OK
    path = min(backup.glob("wal/*.wal"))
    data = bytearray(path.read_bytes())
    assert data[-1] == 0  # behind the frames of a sealed segment
    data[-1] = 1
    os.unlink(path)
    path.write_bytes(data)
    assert rstmdb("verify", backup) == exit_codes.DATA_DAMAGED
    assert f"{path} is corrupt at byte 0: SHA-256 is" in rstmdb.err


def test_a_missing_or_shortened_file_is_refused(backup, tmp_path):
    path = min(backup.glob("snapshots/*.snap"))
    data = path.read_bytes()
    os.unlink(path)
    with pytest.raises(CorruptionError, match=r"missing, although it stands in manifest\.json"):
        restore(str(backup), str(tmp_path / "r"))
    path.write_bytes(data[:-1])
    with pytest.raises(CorruptionError, match="bytes instead of"):
        restore(str(backup), str(tmp_path / "r"))


def test_a_manifest_that_names_other_places_is_refused(backup, tmp_path):
    path = backup / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"][0]["path"] = "../../etc/passwd"
    path.write_text(json.dumps(manifest))
    with pytest.raises(CorruptionError, match="outside of the backup"):
        restore(str(backup), str(tmp_path / "r"))


def test_targets_must_be_empty(worked, backup, tmp_path, rstmdb):
    full = tmp_path / "full"
    full.mkdir()
    (full / "file").write_text("mine")
    for arguments in (["restore", "--from", backup], ["backup", "--data", worked.path]):
        assert rstmdb(*arguments, "--to", full) == exit_codes.START_FAILED
        assert "must be empty, and holds 'file'" in rstmdb.err
    assert (full / "file").read_text() == "mine"
    assert rstmdb("backup", "--data", worked.path, "--to", worked.path / "inside") == exit_codes.START_FAILED
    assert "inside of the data directory" in rstmdb.err


def test_a_target_that_exists_and_is_empty_will_do(backup, tmp_path, worked, held):
    target = tmp_path / "volume"
    (target / "lost+found").mkdir(parents=True)
    restore(str(backup), str(target))
    assert held.opened(target)[0] == worked.shadow[max(worked.shadow)]


def test_a_damaged_snapshot_is_left_out_of_a_backup(worked, tmp_path, rstmdb, held):
    path = max(worked.path.glob("snapshots/*.snap"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert rstmdb("backup", "--data", worked.path, "--to", tmp_path / "backup") == exit_codes.OK
    assert f"left out: {path} is corrupt" in rstmdb.err
    restored = restore(str(tmp_path / "backup"), str(tmp_path / "restored"))
    assert held.picture(restored.state) == worked.shadow[max(worked.shadow)]


def test_a_damaged_log_is_not_backed_up_as_if_it_were_good(worked, tmp_path, rstmdb):
    path = min(worked.path.glob("wal/*.wal"))
    data = bytearray(path.read_bytes())
    data[700] ^= 1
    path.write_bytes(data)
    assert rstmdb("backup", "--data", worked.path, "--to", tmp_path / "backup") == exit_codes.DATA_DAMAGED
    assert "is corrupt at byte" in rstmdb.err
    assert not (tmp_path / "backup").exists()
