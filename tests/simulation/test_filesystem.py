"""The simulation of the file system is itself under test: each line of its fault table, once."""

from __future__ import annotations

import errno

import pytest

from rstmdb_storage.errors import LockedError
from rstmdb_storage.filesystem import FileSystem, OsFileSystem
from tests.simulation.filesystem import (
    SECTOR,
    Crash,
    Disk,
    Fault,
    FaultKind,
    Kind,
    Moment,
    Operation,
    SimulatedFileSystem,
    draw_fault,
    keep_drawn,
    keep_only,
)
from tests.simulation.prng import Prng


def none(place: int) -> bool:
    return False


def everything(place: int) -> bool:
    return True


def durable_file(contents: bytes) -> SimulatedFileSystem:
    """Return a process on a disk that certainly holds `/f`."""
    fs = SimulatedFileSystem()
    file = fs.open("/f", create=True)
    file.pwrite(contents, 0)
    file.sync()
    fs.sync_directory("/")
    return fs


@pytest.fixture(params=["simulated", "real"])
def place(request, tmp_path) -> tuple[FileSystem, str]:
    """Give both file systems, so that the simulated one is held to what the real one does."""
    if request.param == "real":
        return OsFileSystem(), str(tmp_path)
    fs = SimulatedFileSystem()
    fs.make_directory("/tmp/x")
    return fs, "/tmp/x"


def test_both_file_systems_agree(place):
    fs, base = place
    file = fs.open(f"{base}/a", create=True)
    assert file.pwrite(b"hello", 3) == 5
    assert file.size() == 8
    assert file.pread(100, 0) == b"\0\0\0hello"
    assert file.pread(2, 7) == b"o"
    assert file.pread(2, 8) == b""
    file.truncate(4)
    file.truncate(6)
    assert file.pread(10, 0) == b"\0\0\0h\0\0"
    file.preallocate(3)
    assert file.size() == 6
    file.preallocate(1000)
    assert file.size() == 1000
    file.sync()
    with pytest.raises(FileExistsError):
        fs.open(f"{base}/a", create=True)
    with pytest.raises(FileNotFoundError):
        fs.open(f"{base}/b")
    reader = fs.open(f"{base}/a")
    with pytest.raises(OSError, match="Bad file descriptor"):
        reader.pwrite(b"x", 0)
    reader.close()
    reader.close()
    fs.link(f"{base}/a", f"{base}/b")
    with pytest.raises(FileExistsError):
        fs.link(f"{base}/a", f"{base}/b")
    fs.open(f"{base}/c", create=True).close()
    assert fs.list(base) == ["a", "b", "c"]
    fs.rename(f"{base}/a", f"{base}/c")
    assert fs.list(base) == ["b", "c"]
    fs.rename(f"{base}/b", f"{base}/c")
    assert fs.list(base) == ["b", "c"], "two names of one file: nothing happens"
    fs.unlink(f"{base}/c")
    assert file.size() == 1000, "an open file outlives its name"
    with pytest.raises(FileNotFoundError):
        fs.unlink(f"{base}/c")
    with pytest.raises(FileNotFoundError):
        fs.rename(f"{base}/c", f"{base}/d")
    with pytest.raises(FileNotFoundError):
        fs.list(f"{base}/none")
    assert fs.exists(f"{base}/b")
    assert not fs.exists(f"{base}/c")
    fs.make_directory(f"{base}/d/e")
    fs.make_directory(f"{base}/d/e")
    assert fs.exists(f"{base}/d/e")
    fs.sync_directory(base)
    lock = fs.lock(f"{base}/LOCK")
    with pytest.raises(LockedError):
        fs.lock(f"{base}/LOCK")
    lock.release()
    fs.lock(f"{base}/LOCK").release()
    assert fs.free_space(base) > 0
    file.close()


def test_a_kill_keeps_what_was_issued_but_uncertain():
    fs = durable_file(b"old")
    fs.open("/f", write=True).pwrite(b"new", 0)
    fs.open("/g", create=True).pwrite(b"g", 0)
    disk = fs.disk.after_kill()
    assert disk.files() == {"/f": b"new", "/g": b"g"}
    assert disk.after_power_loss(none).files() == {"/f": b"old"}


def test_a_power_loss_keeps_any_subset_of_sectors():
    fs = durable_file(b"." * 3 * SECTOR)
    fs.open("/f", write=True).pwrite(b"abc" * SECTOR, 0)
    assert [effect[1] for effect in fs.disk.effects()] == [Kind.SECTOR] * 3
    contents = fs.disk.after_power_loss(keep_only([0, 2])).contents("/f")
    written = b"abc" * SECTOR
    assert contents == written[:SECTOR] + b"." * SECTOR + written[2 * SECTOR :]


def test_a_sector_that_was_written_twice_may_show_its_first_form():
    fs = durable_file(b"." * SECTOR)
    file = fs.open("/f", write=True)
    file.pwrite(b"1", 0)
    file.pwrite(b"2", 1)
    assert fs.disk.after_power_loss(keep_only([0])).contents("/f")[:3] == b"1.."
    assert fs.disk.after_power_loss(everything).contents("/f")[:3] == b"12."


def test_a_sector_may_be_torn_where_disks_promise_that_it_is_not():
    fs = durable_file(b"." * 2 * SECTOR)
    fs.open("/f", write=True).pwrite(b"x" * 2 * SECTOR, 0)
    contents = fs.disk.after_power_loss(everything, torn=(1, 8)).contents("/f")
    assert contents == b"x" * (SECTOR + 8) + b"." * (SECTOR - 8)


def test_a_length_may_grow_before_its_data_and_data_does_not_show_without_it():
    fs = durable_file(b"")
    fs.open("/f", write=True).pwrite(b"data", 0)
    assert [effect[1] for effect in fs.disk.effects()] == [Kind.SIZE, Kind.SECTOR]
    assert fs.disk.after_power_loss(keep_only([0])).contents("/f") == b"\0\0\0\0"
    assert fs.disk.after_power_loss(keep_only([1])).contents("/f") == b""


def test_truncation_and_preallocation_are_uncertain_too():
    fs = durable_file(b"x" * 10)
    file = fs.open("/f", write=True)
    file.truncate(4)
    file.preallocate(8)
    assert fs.disk.after_power_loss(none).contents("/f") == b"x" * 10
    assert fs.disk.after_power_loss(keep_only([0])).contents("/f") == b"xxxx"
    file.sync()
    assert fs.disk.after_power_loss(none).contents("/f") == b"xxxx\0\0\0\0"


def test_names_are_lost_unless_their_directory_was_synced():
    fs = durable_file(b"old")
    file = fs.open("/g", create=True)
    file.pwrite(b"new", 0)
    file.sync()
    assert fs.disk.after_power_loss(none).files() == {"/f": b"old"}
    fs.rename("/g", "/f")
    assert fs.disk.after_power_loss(none).files() == {"/f": b"old"}
    assert fs.disk.after_power_loss(everything).files() == {"/f": b"new"}
    fs.sync_directory("/")
    assert fs.disk.after_power_loss(none).files() == {"/f": b"new"}
    fs.unlink("/f")
    assert fs.disk.after_kill().after_power_loss(none).files() == {"/f": b"new"}


def test_a_durable_name_may_lead_to_an_empty_file():
    fs = SimulatedFileSystem()
    fs.open("/g", create=True).pwrite(b"new", 0)
    fs.sync_directory("/")
    assert fs.disk.after_power_loss(none).files() == {"/g": b""}


def test_a_lost_directory_takes_everything_in_it():
    fs = SimulatedFileSystem()
    fs.make_directory("/a/b")
    file = fs.open("/a/b/f", create=True)
    file.sync()
    fs.sync_directory("/a/b")
    fs.sync_directory("/a")
    assert fs.disk.after_power_loss(none).files() == {}
    fs.sync_directory("/")
    assert fs.disk.after_power_loss(none).files() == {"/a/b/f": b""}


def test_a_failed_sync_that_calls_pages_clean_shows_them_until_power_is_lost():
    fs = durable_file(b"old")
    fail = {fs.operation_count + 1: Fault(FaultKind.SYNC_DROP)}
    fs._fault_for = lambda operation: fail.get(operation.number)
    file = fs.open("/f", write=True)
    file.pwrite(b"newer", 0)
    with pytest.raises(OSError, match="Input/output error"):
        file.sync()
    file.sync()  # reports success, as kernels do
    again = SimulatedFileSystem(fs.disk.after_kill())
    assert again.disk.contents("/f") == b"newer"
    again.open("/f").sync()
    assert again.disk.after_power_loss(everything).contents("/f") == b"old\0\0"
    again.open("/f", write=True).pwrite(b"newer", 0)
    again.open("/f").sync()
    assert again.disk.after_power_loss(none).contents("/f") == b"newer", "writing it again repairs it"


def test_a_failed_sync_that_keeps_pages_dirty_can_be_repeated():
    fs = durable_file(b"old")
    fail = {fs.operation_count + 1: Fault(FaultKind.SYNC_KEEP)}
    fs._fault_for = lambda operation: fail.get(operation.number)
    file = fs.open("/f", write=True)
    file.pwrite(b"new", 0)
    with pytest.raises(OSError, match="Input/output error"):
        file.sync()
    assert fs.disk.after_power_loss(none).contents("/f") == b"old"
    file.sync()
    assert fs.disk.after_power_loss(none).contents("/f") == b"new"


@pytest.mark.parametrize("kind", [FaultKind.SHORT_WRITE, FaultKind.TORN_WRITE])
def test_some_of_the_bytes_land(kind):
    fs = SimulatedFileSystem(
        fault_for=lambda operation: Fault(kind, 2) if operation.name == "pwrite" else None
    )
    file = fs.open("/f", create=True)
    if kind is FaultKind.SHORT_WRITE:
        assert file.pwrite(b"abcd", 0) == 2
    else:
        with pytest.raises(OSError, match="Input/output error"):
            file.pwrite(b"abcd", 0)
    assert fs.disk.contents("/f") == b"ab"


def test_a_disk_fills_up_and_empties():
    fs = SimulatedFileSystem(Disk(capacity=1000))
    file = fs.open("/f", create=True)
    file.preallocate(900)
    assert fs.free_space("/") == 100
    assert file.pwrite(b"x" * 900, 0) == 900, "reserved space is there"
    other = fs.open("/g", create=True)
    assert other.pwrite(b"x" * 150, 0) == 100, "what fits lands"
    with pytest.raises(OSError, match="No space left") as failure:
        other.pwrite(b"x", 100)
    assert failure.value.errno == errno.ENOSPC
    for attempt in (
        lambda: fs.open("/h", create=True),
        lambda: fs.rename("/g", "/h"),
        lambda: fs.link("/g", "/h"),
        lambda: fs.make_directory("/d"),
        lambda: other.preallocate(101),
    ):
        with pytest.raises(OSError, match="No space left"):
            attempt()
    file.close()
    fs.unlink("/f")
    assert fs.free_space("/") == 900
    fs.rename("/g", "/h")


def test_space_of_a_nameless_open_file_comes_back_when_it_is_closed_or_the_process_ends():
    fs = SimulatedFileSystem(Disk(capacity=100))
    file = fs.open("/f", create=True)
    file.pwrite(b"x" * 60, 0)
    fs.unlink("/f")
    assert fs.free_space("/") == 40
    assert fs.disk.after_kill().used() == 0
    file.close()
    assert fs.free_space("/") == 100


@pytest.mark.parametrize(
    ("moment", "expected"), [(Moment.BEFORE, 0), (Moment.DURING, SECTOR - 100), (Moment.AFTER, 600)]
)
def test_a_process_stops_before_in_the_middle_and_after(moment, expected):
    fs = SimulatedFileSystem(stop_at=(2, moment))
    file = fs.open("/f", create=True)
    file.pwrite(b"y" * 100, 0)
    with pytest.raises(Crash):
        file.pwrite(b"x" * 600, 100)
    assert fs.disk.contents("/f") == b"y" * 100 + b"x" * expected
    for attempt in (
        lambda: file.pwrite(b"z", 0),
        lambda: file.pread(1, 0),
        lambda: fs.unlink("/f"),
        lambda: fs.exists("/f"),
        lambda: fs.lock("/L"),
    ):
        with pytest.raises(Crash):
            attempt()
    file.close()
    assert len(fs.disk.contents("/f")) == 100 + expected


def test_observers_see_each_moment_and_looking_changes_nothing():
    seen: list[tuple[str, str, int]] = []

    def look(operation: Operation, moment: Moment) -> None:
        seen.append((operation.name, moment.value, len(fs.disk.files().get("/f", b"-"))))

    fs = SimulatedFileSystem(observer=look)
    plain = SimulatedFileSystem()
    for each in (fs, plain):
        file = each.open("/f", create=True)
        file.pwrite(bytes(1100), 0)
        file.sync()
    assert seen == [
        ("create", "before", 1),
        ("create", "after", 0),
        ("pwrite", "before", 0),
        ("pwrite", "during", 512),
        ("pwrite", "during", 1024),
        ("pwrite", "after", 1100),
        ("sync", "before", 1100),
        ("sync", "after", 1100),
    ]
    assert fs.disk.fingerprint() == plain.disk.fingerprint()
    assert [operation.name for operation in plain.trace] == ["create", "pwrite", "sync"]


def test_fingerprints_differ_when_anything_does():
    fs = durable_file(b"abc")
    prints = {fs.disk.fingerprint()}
    file = fs.open("/f", write=True)
    file.pwrite(b"abd", 0)
    prints.add(fs.disk.fingerprint())
    file.sync()
    prints.add(fs.disk.fingerprint())
    fs.open("/g", create=True)
    prints.add(fs.disk.fingerprint())
    fs.sync_directory("/")
    prints.add(fs.disk.fingerprint())
    fs.disk.flip_bit("/f", 3)
    prints.add(fs.disk.fingerprint())
    assert len(prints) == 6


def test_a_flipped_bit_is_there_for_good():
    fs = durable_file(b"\0\0")
    fs.disk.flip_bit("/f", 9)
    assert fs.disk.contents("/f") == b"\0\2"
    assert fs.disk.after_power_loss(none).contents("/f") == b"\0\2"


def test_a_lock_ends_with_its_process():
    disk = Disk()
    locks: dict[int, SimulatedFileSystem] = {}
    one = SimulatedFileSystem(disk, locks=locks)
    other = SimulatedFileSystem(disk, locks=locks)
    one.lock("/LOCK")
    with pytest.raises(LockedError, match="/LOCK is held by"):
        other.lock("/LOCK")
    one.crash()
    other.lock("/LOCK")


def test_a_slow_disk_takes_virtual_time():
    fs = SimulatedFileSystem(latency_ns=lambda operation: 5_000 if operation.name == "sync" else 7)
    file = fs.open("/f", create=True)
    file.sync()
    assert fs.virtual_ns == 5_007


def test_reads_can_fail():
    fs = durable_file(b"x")
    fs._read_fault_for = lambda path: path == "/f"
    with pytest.raises(OSError, match="Input/output error"):
        fs.open("/f")


def test_chance_is_repeatable():
    def run(seed: int) -> tuple[bytes, int]:
        prng = Prng(seed)
        faults = prng.fork("faults")
        probabilities = {FaultKind.SHORT_WRITE: 0.5, FaultKind.ERROR: 0.1}
        fs = SimulatedFileSystem(fault_for=lambda operation: draw_fault(faults, operation, probabilities))
        refused = 0
        for number in range(40):
            try:
                fs.open(f"/{number}", create=True).pwrite(bytes(2000), 0)
            except OSError:
                refused += 1
        effects = fs.disk.effects()
        lost = fs.disk.after_power_loss(keep_drawn(prng.fork("power"), 0.5, len(effects)))
        return b"".join(lost.files().values()), refused

    assert run(1) == run(1)
    assert run(1) != run(2)
    assert run(1)[1] > 0
