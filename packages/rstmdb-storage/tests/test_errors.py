from __future__ import annotations

import pickle

import pytest

from rstmdb_storage import errors
from rstmdb_storage.errors import StorageError

EXAMPLES: list[tuple[StorageError, str]] = [
    (errors.LockedError("/d/LOCK", "process 7 on host"), "/d/LOCK is held by process 7 on host"),
    (errors.FormatError("/d/FORMAT", "format 9"), "/d/FORMAT: format 9"),
    (errors.CorruptionError("/d/wal/1.wal", 128, "a frame"), "/d/wal/1.wal is corrupt at byte 128: a frame"),
    (errors.DiskFull("/d/wal", 10, 3), "no space in /d/wal: 10 bytes needed, 3 free"),
    (errors.LogPoisoned("OSError: eio"), "the log is poisoned until a restart: OSError: eio"),
    (errors.StaleEpoch(3, 4), "epoch 3 is fenced: the log was opened with epoch 4"),
    (errors.SequenceTrimmed(3, 10), "sequence 3 is gone: the log begins at 10"),
    (errors.LogClosed(), "the log is closed"),
]


@pytest.mark.parametrize(("error", "text"), EXAMPLES)
def test_errors_say_what_they_carry(error: StorageError, text: str) -> None:
    assert str(error) == text
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.__dict__) == (type(error), text, error.__dict__)


def test_every_error_is_in_the_tree_and_has_an_example() -> None:
    named = {getattr(errors, name) for name in errors.__all__}
    assert all(issubclass(error, StorageError) for error in named)
    assert {type(error) for error, _ in EXAMPLES} == named - {StorageError}
