"""A frozen directory stays as it was, is not written to, and a log that grows is not taken for damaged."""

import contextlib
import threading

import pytest

from rstmdb_server.offline.contents import Contents
from rstmdb_server.offline.frozen import FrozenFiles
from rstmdb_storage import CorruptionError, OsFileSystem


def test_nothing_can_be_written(database):
    database.work(3)
    with contextlib.closing(FrozenFiles(OsFileSystem(), str(database.path))) as files:
        path = files.paths[-1]
        file = files.open(path)
        for attempt in (
            lambda: files.open(path, write=True),
            lambda: files.open(f"{path}.new", create=True),
            lambda: files.make_directory(f"{path}.d"),
            lambda: files.rename(path, f"{path}.x"),
            lambda: files.link(path, f"{path}.x"),
            lambda: files.unlink(path),
            lambda: files.sync_directory(str(database.path)),
            lambda: files.lock(str(database.path / "LOCK")),
            lambda: file.pwrite(b"x", 0),
            lambda: file.truncate(0),
            lambda: file.preallocate(1),
            file.sync,
        ):
            with pytest.raises(OSError, match="Read-only"):
                attempt()
        with pytest.raises(FileNotFoundError):
            files.open(f"{path}.new")


def test_it_stays_as_it_was(database):
    database.work(40)
    with Contents.open(str(database.path)) as contents:
        database.snapshot()
        database.work(40, start=40)
        database.snapshot()
        database.work(1, start=99)
        database.snapshot()
        assert database.trim() > 0
        effects = [entry for _, entry, _ in contents.records()]
        assert effects[0].first_sequence == 1
        assert contents.files.changed()


def test_behind_its_cap_a_file_reads_as_zeros(database):
    database.work(3)
    with contextlib.closing(FrozenFiles(OsFileSystem(), str(database.path))) as files:
        path = files.paths[-1]
        whole = files.open(path).pread(1 << 20, 0)
        files.cap(path, 300)
        file = files.open(path)
        assert file.size() == len(whole)
        assert file.pread(1 << 20, 0) == whole[:300] + bytes(len(whole) - 300)
        assert file.pread(10, 295) == whole[295:300] + bytes(5)
        assert file.pread(10, 400) == bytes(10)


class Growing(OsFileSystem):
    """Commits one more record after each read of the active segment: the worst of timings."""

    def __init__(self, database):
        self.database = database
        self.commits = 0

    def open(self, path, *, write=False, create=False):
        file = super().open(path, write=write, create=create)
        if not path.endswith(".wal"):
            return file
        system = self

        class Watched:
            def __getattr__(self, name):
                return getattr(file, name)

            def pread(self, size, offset):
                data = file.pread(size, offset)
                if system.commits < 200:
                    system.commits += 1
                    system.database.work(1, start=1000 + system.commits)
                return data

        return Watched()


def test_a_log_that_grows_with_every_read(database):
    database.work(5)
    acknowledged = max(database.shadow)
    system = Growing(database)
    with Contents.open(str(database.path), fs=system) as contents:
        assert system.commits > 2
        last = [entry.first_sequence + entry.count - 1 for _, entry, _ in contents.records()][-1]
    assert last >= acknowledged


def test_damage_is_found_in_a_log_that_grows(database):
    database.work(5)
    path = max(database.path.glob("wal/*.wal"))
    data = bytearray(path.read_bytes())
    data[600] ^= 1
    with open(path, "r+b") as file:
        file.write(data)
    with (
        pytest.raises(CorruptionError, match=f"{path.name} is corrupt at byte"),
        Contents.open(str(database.path), fs=Growing(database)) as contents,
    ):
        # By now the damaged segment may be sealed, and is met on the way.
        list(contents.records())


def test_beside_a_writer_in_another_thread(database):
    """Every look sees at least what was acknowledged before it began."""
    database.work(3)
    stop = threading.Event()
    done = [max(database.shadow)]
    failures = []

    def write():
        number = 10
        try:
            while not stop.is_set() and number < 4000:
                database.work(5, start=number)
                number += 5
                done[0] = max(database.shadow)
                if number % 50 == 0:
                    database.snapshot()
                    database.trim()
        except BaseException as error:
            failures.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(25):
            acknowledged = done[0]
            with Contents.open(str(database.path)) as contents:
                assert contents.survey.last_sequence >= acknowledged
                last = 0
                for _, entry, _ in contents.records():
                    last = entry.first_sequence + entry.count - 1
                assert last == contents.survey.last_sequence
                assert contents.from_the_beginning or contents.usable_snapshots()
    finally:
        stop.set()
        writer.join()
    assert failures == []
