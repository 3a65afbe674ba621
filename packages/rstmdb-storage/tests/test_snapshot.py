"""Snapshots on a real file system: round trips, every kind of damage, what is kept and what goes."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rstmdb_storage.errors import CorruptionError, DiskFull, FormatError
from rstmdb_storage.filesystem import File, OsFileSystem
from rstmdb_storage.snapshot import SnapshotFailed, SnapshotInfo, SnapshotStore
from rstmdb_storage.snapshot_file import HEADER, SnapshotEncoder, crc32c


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "data" / "snapshots"


def opened(directory: Path, **options: object) -> SnapshotStore:
    return SnapshotStore(OsFileSystem(), str(directory), now_ms=lambda: 1_700_000_000_000, **options)


def take(store: SnapshotStore, sequence: int, *chunks: bytes, metadata: bytes = b"") -> SnapshotInfo:
    writer = store.begin(sequence, metadata=metadata)
    for chunk in chunks:
        writer.write(chunk)
    return writer.finish()


def contents(store: SnapshotStore) -> tuple[int, list[bytes]] | None:
    snapshot = store.newest()
    if snapshot is None:
        return None
    chunks = list(snapshot.chunks())
    snapshot.close()
    return snapshot.sequence, chunks


def names(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


def snapshot_names(directory: Path) -> list[str]:
    return [name for name in names(directory) if name.endswith(".snap")]


class Failing:
    """A real file system of which one kind of call fails on request."""

    def __init__(self) -> None:
        self.real = OsFileSystem()
        self.fail: dict[str, int] = {}
        self.calls: list[str] = []
        self.short = 0

    def check(self, call: str) -> None:
        self.calls.append(call)
        number = self.fail.get(call)
        if number:
            raise OSError(number, os.strerror(number))

    def open(self, path: str, *, write: bool = False, create: bool = False) -> File:
        if create:
            self.check("create")
        return FailingFile(self, self.real.open(path, write=write, create=create))

    def rename(self, source: str, target: str) -> None:
        self.check("rename index" if target.endswith("index.json") else "rename")
        self.real.rename(source, target)

    def unlink(self, path: str) -> None:
        self.check("unlink")
        self.real.unlink(path)

    def sync_directory(self, path: str) -> None:
        self.check("sync_directory")
        self.real.sync_directory(path)

    def __getattr__(self, name: str) -> Callable[..., object]:
        return getattr(self.real, name)


class FailingFile:
    def __init__(self, fs: Failing, file: File) -> None:
        self.fs = fs
        self.file = file

    def pwrite(self, data: bytes, offset: int) -> int:
        self.fs.check("pwrite")
        return self.file.pwrite(data[: self.fs.short] if self.fs.short else data, offset)

    def pread(self, size: int, offset: int) -> bytes:
        data = self.file.pread(size, offset)
        if "garbled read" in self.fs.fail and len(data) > 60:
            return data[:-1] + bytes([data[-1] ^ 1])
        return data

    def sync(self) -> None:
        self.fs.check("sync")
        self.file.sync()

    def __getattr__(self, name: str) -> Callable[..., object]:
        return getattr(self.file, name)


def test_a_snapshot_comes_back_chunk_by_chunk(directory):
    store = opened(directory)
    assert store.newest() is None
    info = take(store, 42, b"one" * 1000, b"", b"three", metadata=b"about it")
    assert info.name == "snap-000000000000002a.snap"
    assert (info.sequence, info.created_ms) == (42, 1_700_000_000_000)
    assert info.size_bytes == (directory / info.name).stat().st_size
    assert store.infos() == (info,)
    again = opened(directory)
    assert again.infos() == (info,)
    assert again.problems == []
    snapshot = again.newest()
    assert snapshot is not None
    assert (snapshot.sequence, snapshot.metadata) == (42, b"about it")
    assert list(snapshot.chunks()) == [b"one" * 1000, b"", b"three"]
    assert list(snapshot.chunks()) == [b"one" * 1000, b"", b"three"]
    snapshot.close()


def test_an_empty_state_is_a_snapshot_too(directory):
    take(opened(directory), 0)
    assert contents(opened(directory)) == (0, [])


@given(st.integers(0, 2**53), st.binary(max_size=50), st.lists(st.binary(max_size=300), max_size=5))
def test_any_state_comes_back(tmp_path_factory, sequence, metadata, chunks):
    directory = tmp_path_factory.mktemp("any")
    take(opened(directory), sequence, *chunks, metadata=metadata)
    snapshot = opened(directory).newest()
    assert snapshot is not None
    assert (snapshot.sequence, snapshot.metadata, list(snapshot.chunks())) == (sequence, metadata, chunks)
    snapshot.close()


def test_the_two_newest_are_kept_and_the_index_lists_them(directory):
    store = opened(directory)
    for sequence in (3, 5, 9, 12):
        take(store, sequence, b"state %d" % sequence)
    assert [info.sequence for info in store.infos()] == [9, 12]
    assert names(directory) == ["index.json", "snap-0000000000000009.snap", "snap-000000000000000c.snap"]
    index = json.loads((directory / "index.json").read_text())
    assert [entry["sequence"] for entry in index["snapshots"]] == [9, 12]
    assert contents(store) == (12, [b"state 12"])


def test_the_older_of_two_goes_only_after_a_third_is_verified(directory):
    store = opened(directory)
    take(store, 3, b"three")
    take(store, 5, b"five")
    writer = store.begin(9)
    writer.write(b"nine")
    steps = writer.finishing()
    for _ in steps:
        if "snap-0000000000000009.snap" not in names(directory):
            assert [info.sequence for info in store.infos()] == [3, 5]
        assert "snap-0000000000000003.snap" in names(directory)
    assert snapshot_names(directory) == ["snap-0000000000000005.snap", "snap-0000000000000009.snap"]


def test_a_snapshot_at_the_same_sequence_replaces_the_first(directory):
    store = opened(directory)
    take(store, 3, b"three")
    take(store, 5, b"first")
    take(store, 5, b"second")
    assert [info.sequence for info in store.infos()] == [3, 5]
    assert contents(opened(directory)) == (5, [b"second"])


def test_an_aborted_snapshot_leaves_nothing(directory):
    store = opened(directory)
    take(store, 3, b"three")
    before = names(directory)
    writer = store.begin(5)
    writer.write(b"five")
    writer.abort()
    writer.abort()
    assert names(directory) == before
    with pytest.raises(SnapshotFailed, match="finished or given up"):
        writer.write(b"more")


def test_an_interrupted_snapshot_is_removed_at_the_next_start(directory):
    writer = opened(directory).begin(5)
    writer.write(b"five")
    assert names(directory) == ["index.json", "snap-0000000000000005.snap.tmp"]
    store = opened(directory)
    assert names(directory) == ["index.json"]
    assert "left unfinished" in store.problems[0]
    assert store.newest() is None


def test_looking_only_changes_nothing(directory):
    take(opened(directory), 3, b"three")
    opened(directory).begin(5)
    (directory / "index.json").write_text("{")
    before = {name: (directory / name).read_bytes() for name in names(directory)}
    store = opened(directory, read_only=True)
    assert contents(store) == (3, [b"three"])
    assert {name: (directory / name).read_bytes() for name in names(directory)} == before
    assert opened(directory / "none", read_only=True).newest() is None
    assert not (directory / "none").exists()


@pytest.mark.parametrize(
    "text", [None, b"", b"{", b"[]", b'{"snapshots": [1]}', b'{"snapshots": []}', b"\xff", b"[" * 100_000]
)
def test_an_index_that_is_missing_or_wrong_is_written_anew(directory, text):
    store = opened(directory)
    take(store, 3, b"three")
    index = directory / "index.json"
    good = index.read_bytes()
    index.unlink()
    if text is not None:
        index.write_bytes(text)
    again = opened(directory)
    assert contents(again) == (3, [b"three"])
    assert index.read_bytes() == good


def test_a_snapshot_that_vanished_is_reported(directory):
    store = opened(directory)
    take(store, 3, b"three")
    take(store, 5, b"five")
    (directory / "snap-0000000000000005.snap").unlink()
    again = opened(directory)
    assert contents(again) == (3, [b"three"])
    assert "snap-0000000000000005.snap stands in index.json but is missing" in again.problems[0]


def test_each_flipped_bit_and_each_cut_of_a_file_is_found(directory):
    take(opened(directory), 3, b"three", b"x" * 40, metadata=b"m")
    path = directory / "snap-0000000000000003.snap"
    whole = path.read_bytes()
    damaged = [bytearray(whole) for _ in range(len(whole) * 8)]
    for bit, data in enumerate(damaged):
        data[bit // 8] ^= 1 << bit % 8
    for number, data in enumerate([*damaged, *(whole[:cut] for cut in range(len(whole))), whole + b"\0"]):
        path.write_bytes(data)
        store = opened(directory, read_only=True)
        assert store.newest() is None
        assert [error.path for error in store.damage] == [str(path)]
        position = store.damage[0].position
        assert 0 <= position <= len(whole), number
        if number < len(damaged):
            assert position <= number // 8, "it names the beginning of the damaged part"


def test_a_damaged_newest_one_falls_back_to_the_older_and_says_so(directory):
    store = opened(directory)
    take(store, 3, b"three")
    take(store, 5, b"five" * 100)
    path = directory / "snap-0000000000000005.snap"
    data = bytearray(path.read_bytes())
    data[HEADER.size + 25] ^= 1
    path.write_bytes(data)
    store = opened(directory)
    assert [info.sequence for info in store.infos()] == [3, 5], "header and footer are whole"
    assert contents(store) == (3, [b"three"])
    assert store.damage[0].path == str(path)
    assert store.damage[0].position == HEADER.size
    assert str(path) in str(store.damage[0])
    assert [info.sequence for info in store.infos()] == [3]
    # The damaged one is kept until two good ones exist, and does not count as one.
    take(store, 9, b"nine")
    assert [info.sequence for info in store.infos()] == [3, 9]
    assert snapshot_names(directory) == ["snap-0000000000000003.snap", "snap-0000000000000009.snap"]


def test_damage_in_both_is_refused_once_the_log_begins_later(directory):
    store = opened(directory)
    for sequence in (3, 5):
        info = take(store, sequence, b"state")
        path = directory / info.name
        path.write_bytes(path.read_bytes()[:-1])
    again = opened(directory, read_only=True)
    assert again.newest() is None, "a whole log needs no snapshot"
    with pytest.raises(CorruptionError, match=r"snap-0000000000000005\.snap is corrupt at byte \d+"):
        opened(directory, read_only=True).newest(log_begins_at=2)


def test_a_fallback_that_does_not_reach_the_log_is_refused(directory):
    store = opened(directory)
    take(store, 3, b"three")
    info = take(store, 5, b"five")
    (directory / info.name).write_bytes(b"")
    assert contents(opened(directory)) == (3, [b"three"])
    found = opened(directory).newest(log_begins_at=4)
    assert found is not None
    found.close()
    with pytest.raises(CorruptionError, match=info.name):
        opened(directory).newest(log_begins_at=5)


def test_a_file_under_the_name_of_another_is_refused(directory):
    info = take(opened(directory), 3, b"three")
    (directory / info.name).rename(directory / "snap-0000000000000004.snap")
    store = opened(directory, read_only=True)
    assert store.newest() is None
    assert store.damage[0].position == 16


def test_a_later_version_is_not_called_damage(directory):
    directory.mkdir(parents=True)
    encoder = SnapshotEncoder(3, 0, b"")
    header = bytearray(encoder.header)
    header[8] = 2
    header[32:36] = crc32c(0, bytes(header[:32])).to_bytes(4, "little")
    (directory / "snap-0000000000000003.snap").write_bytes(header)
    with pytest.raises(FormatError, match="snapshot version 2"):
        opened(directory)


def test_chunks_of_another_snapshot_are_not_taken_for_ones_of_this(directory):
    one, other = SnapshotEncoder(3, 0, b""), SnapshotEncoder(4, 0, b"")
    directory.mkdir(parents=True)
    mine, foreign = one.chunk(b"mine"), other.chunk(b"thou")
    assert len(mine) == len(foreign)
    (directory / "snap-0000000000000003.snap").write_bytes(one.header + foreign + one.footer())
    store = opened(directory, read_only=True)
    assert store.newest() is None
    assert "chunk 0" in store.damage[0].reason


def test_a_chunk_that_goes_bad_after_opening_is_found(directory):
    info = take(opened(directory), 3, b"three" * 100, b"more")
    snapshot = opened(directory).newest()
    assert snapshot is not None
    path = directory / info.name
    data = bytearray(path.read_bytes())
    data[HEADER.size + 22] ^= 1
    with path.open("r+b") as file:
        file.write(data)
    with pytest.raises(CorruptionError, match="chunk 0"):
        list(snapshot.chunks())
    snapshot.close()


@pytest.mark.parametrize("call", ["create", "pwrite", "sync", "rename"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_failure_gives_up_this_snapshot_only(directory, call, number):
    fs = Failing()
    store = SnapshotStore(fs, str(directory))
    take(store, 3, b"three")
    kept = take(store, 5, b"five")
    before = {name: (directory / name).read_bytes() for name in names(directory)}
    fs.fail = {call: number}
    with pytest.raises(DiskFull if number == errno.ENOSPC else SnapshotFailed):
        take(store, 9, b"nine")
    assert {name: (directory / name).read_bytes() for name in names(directory)} == before
    assert store.infos()[-1] == kept
    fs.fail = {}
    take(store, 9, b"nine")
    assert [info.sequence for info in store.infos()] == [5, 9]
    assert contents(opened(directory)) == (9, [b"nine"])


def test_a_name_that_could_not_be_synced_does_not_count(directory):
    fs = Failing()
    store = SnapshotStore(fs, str(directory))
    take(store, 3, b"three")
    take(store, 5, b"five")
    fs.fail = {"sync_directory": errno.EIO}
    with pytest.raises(SnapshotFailed, match="publishing"):
        take(store, 9, b"nine")
    assert [info.sequence for info in store.infos()] == [3, 5]
    assert "snap-0000000000000003.snap" in names(directory)
    fs.fail = {}
    take(store, 12, b"twelve")
    assert snapshot_names(directory) == ["snap-0000000000000005.snap", "snap-000000000000000c.snap"]


def test_a_failing_index_or_removal_does_not_fail_the_snapshot(directory):
    fs = Failing()
    store = SnapshotStore(fs, str(directory))
    for sequence in (3, 5):
        take(store, sequence, b"state")
    fs.fail = {"rename index": errno.EIO, "unlink": errno.EIO}
    take(store, 9, b"nine")
    assert [info.sequence for info in store.infos()] == [5, 9]
    assert any("index.json could not be written" in problem for problem in store.problems)
    assert any("could not be removed" in problem for problem in store.problems)
    for sequence in range(100, 120):
        take(store, sequence, b"state")
    # One for the index and one for each file that stays; all of them were told again with each snapshot.
    assert len(store.problems) == 1 + len(snapshot_names(directory)) - 2
    fs.fail = {}
    take(store, 0xC00, b"twelve")
    assert snapshot_names(directory) == ["snap-0000000000000077.snap", "snap-0000000000000c00.snap"]
    assert opened(directory).problems == []


def test_what_is_read_back_must_be_what_was_written(directory):
    fs = Failing()
    store = SnapshotStore(fs, str(directory))
    fs.fail = {"garbled read": 1}
    with pytest.raises(SnapshotFailed, match="reading it back"):
        take(store, 9, os.urandom(500))
    assert names(directory) == ["index.json"]
    assert store.infos() == ()


def test_short_writes_are_continued(directory):
    fs = Failing()
    fs.short = 7
    take(SnapshotStore(fs, str(directory)), 9, b"nine" * 50)
    assert contents(opened(directory)) == (9, [b"nine" * 50])


def test_a_long_snapshot_is_synced_every_mebibyte(directory):
    fs = Failing()
    store = SnapshotStore(fs, str(directory))
    writer = store.begin(9)
    fs.calls.clear()
    for _ in range(40):
        writer.write(os.urandom(100_000))
    assert fs.calls.count("sync") == 3
    first = fs.calls.index("sync")
    assert 10 <= first <= 12
    writer.abort()


def test_steps_may_run_in_another_thread(directory):
    store = opened(directory)
    writer = store.begin(9)
    thread = threading.Thread(target=lambda: (writer.write(b"nine"), writer.finish()))
    thread.start()
    thread.join()
    assert contents(store) == (9, [b"nine"])


def test_limits_are_refused_before_anything_is_written(directory):
    store = opened(directory)
    with pytest.raises(ValueError, match="metadata of"):
        store.begin(1, metadata=bytes((1 << 20) + 1))
    writer = store.begin(1)
    with pytest.raises(ValueError, match="a chunk of"):
        writer.write(bytes((64 << 20) + 1))
    writer.write(b"fine")
    assert writer.finish().sequence == 1
