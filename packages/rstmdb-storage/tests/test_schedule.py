from __future__ import annotations

from rstmdb_storage import FsyncPolicy
from rstmdb_storage.commit import UNSYNCED_EFFECTS_MAX
from rstmdb_storage.schedule import SyncSchedule


def schedule(policy: str) -> SyncSchedule:
    made = SyncSchedule(FsyncPolicy.parse(policy), 1.0)
    made.note_time(0.0)
    return made


def test_every_write_syncs_each_commit_and_marks_after_a_rest() -> None:
    made = schedule("every_write")
    assert made.wants_sync(1, 1, None)
    assert made.mark_due_at() is None
    made.committed(1)
    made.synced()
    made.note_time(5.0)
    assert made.sync_due_at() is None
    assert made.mark_due_at() == 6.0
    made.note_time(5.5)
    assert made.mark_due_at() == 6.0
    made.marked = True
    assert made.mark_due_at() is None


def test_every_n_syncs_the_commit_that_reaches_n() -> None:
    made = schedule("every_n:10")
    assert not made.wants_sync(9, 9, None)
    made.committed(9)
    assert made.unsynced_records == 9
    assert made.wants_sync(1, 10, None)
    made.committed(1)
    made.synced()
    assert made.unsynced_records == 0
    assert not made.wants_sync(9, 9, None)
    assert made.wants_sync(10, 10, None)


def test_every_ms_syncs_so_long_after_the_first_unsynced_commit() -> None:
    made = schedule("every_ms:100")
    assert not made.wants_sync(1, 1, None)
    made.committed(1)
    made.note_time(7.0)
    assert made.sync_due_at() == 7.1
    made.committed(1)
    made.note_time(7.05)
    assert made.sync_due_at() == 7.1
    # A commit that is told the time takes the sync over.
    assert not made.wants_sync(1, 3, 7.09)
    assert made.wants_sync(1, 3, 7.11)
    made.committed(1)
    made.synced()
    made.note_time(7.2)
    assert made.sync_due_at() is None
    # The time counts from the first unsynced commit, when that was told the time.
    assert not made.wants_sync(1, 1, 8.0)
    made.committed(1)
    made.note_time(8.05)
    assert made.sync_due_at() == 8.1


def test_never_neither_syncs_nor_marks() -> None:
    made = schedule("never")
    assert not made.wants_sync(10_000, 10_000, 3.0)
    made.committed(10_000)
    made.note_time(100.0)
    assert made.sync_due_at() is None
    assert made.mark_due_at() is None


def test_no_policy_lets_more_effects_wait_than_the_sequence_jumps() -> None:
    for policy in ("every_n:2000000000", "every_ms:2000000000", "never"):
        made = schedule(policy)
        assert not made.wants_sync(1, UNSYNCED_EFFECTS_MAX, 0.0)
        assert made.wants_sync(1, UNSYNCED_EFFECTS_MAX + 1, 0.0)
