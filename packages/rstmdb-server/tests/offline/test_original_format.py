"""Where the original's log ends or goes on behind a torn write, and where it is damaged."""

import pytest
from original_writer import record

from rstmdb_server.offline.original_format import OriginalDirectory
from rstmdb_storage import CorruptionError


@pytest.fixture
def source(original):
    made = original()
    made.work(3)
    return made


def read(source):
    directory = OriginalDirectory(str(source.root))
    return list(directory.records()), directory


def create(name):
    return {
        "type": "create_instance",
        "instance_id": name,
        "machine": "order",
        "version": 1,
        "initial_state": "open",
        "initial_ctx": {"n": 1},
    }


def test_offsets_are_those_of_its_wire(source):
    records, directory = read(source)
    assert records[0].offset == 1 << 40
    assert [found.offset & (1 << 40) - 1 for found in records] == [
        position for _, position, _ in source.places
    ]
    assert directory.end_offset == (1 << 40) + source.path.stat().st_size
    assert directory.torn == []


@pytest.mark.parametrize("cut", [1, 3, 4, 10, 23, 24, 25, 60])
def test_a_torn_tail_is_passed_over(source, cut):
    whole, _ = read(source)
    source.append_raw(record(source.sequence + 1, create("torn"))[:cut])
    records, directory = read(source)
    assert records == [type(found)(found.offset, records[0].time_ms, found.entry) for found in whole]
    assert directory.torn == [
        f"{source.path}: {cut} bytes of an unfinished write at {sum(source.places[-1][1:])}, its end"
    ]


@pytest.mark.parametrize("cut", [1, 4, 10, 23, 24, 40, 100])
@pytest.mark.parametrize("more", [1, 3])
def test_records_behind_a_torn_write_were_acknowledged(source, cut, more):
    """The original appends behind torn bytes with the sequence of the torn record."""
    source.append_raw(record(source.sequence + 1, create("torn"))[:cut])
    for number in range(more):
        source.create(f"after-{number}", {"text": "x" * 200})
    records, directory = read(source)
    assert [found.entry.instance_id for found in records[-more:]] == [
        f"after-{number}" for number in range(more)
    ]
    assert len(directory.torn) == 1


def test_a_torn_tail_of_a_sealed_segment(source, original):
    source.append_raw(record(source.sequence + 1, create("torn"))[:50])
    source.segment += 1
    source.create("after", {})
    records, directory = read(source)
    assert records[-1].entry.instance_id == "after"
    assert len(directory.torn) == 1


def test_zeros_end_a_segment(source):
    whole, _ = read(source)
    source.append_raw(bytes(5000))
    records, directory = read(source)
    assert len(records) == len(whole)
    assert directory.torn == []


def test_an_empty_predecessor_may_remain(original):
    source = original()
    source.segment = 2
    source.work(2)
    assert len(read(source)[0]) > 4


def test_other_files_are_ignored(source):
    (source.root / "wal" / "notes.txt").write_text("x")
    (source.root / "wal" / "00000000000000zz.wal").write_text("x")
    assert read(source)[0]


def flip(source, index, offset, bit=0):
    path, position, _ = source.places[index]
    data = bytearray(path.read_bytes())
    data[position + offset] ^= 1 << bit
    path.write_bytes(data)
    return path, position


@pytest.mark.parametrize("index", [0, 3, -1])
@pytest.mark.parametrize("offset", [0, 4, 9, 10, 11, 12, 16, 22, 30, 60], ids=lambda offset: f"byte{offset}")
def test_a_flipped_bit_is_damage_with_its_place(source, index, offset):
    path, position = flip(source, index, offset)
    if index == -1 and offset in (16, 22):
        # Only a higher sequence of the very last record looks like a gap, which the format allows.
        assert read(source)[1].gaps > 0
        return
    with pytest.raises(CorruptionError) as caught:
        read(source)
    assert caught.value.path == str(path)
    next_position = position + source.places[index][2]
    assert caught.value.position in (position, next_position)


def test_a_header_that_is_not_that_of_its_record(source):
    path, position, _ = source.places[1]
    data = bytearray(path.read_bytes())
    data[position + 4] = 3
    path.write_bytes(data)
    with pytest.raises(CorruptionError, match="the header says 'apply_event', the record 'put_machine'"):
        read(source)


def test_a_record_that_is_no_entry(source):
    source.append_raw(record(source.sequence + 1, {"type": "delete_instance"}))
    with pytest.raises(CorruptionError, match="holds no entry"):
        read(source)


def test_a_missing_segment(original):
    source = original(segment_bytes=500)
    source.work(5)
    (source.root / "wal" / f"{2:016x}.wal").unlink()
    with pytest.raises(CorruptionError, match="segment 0000000000000002 before it is missing"):
        read(source)


def test_gaps_are_counted_and_steps_back_refused(source):
    source.sequence += 5
    source.create("later", {})
    assert read(source)[1].gaps == 5
    source.sequence -= 3
    source.create("back", {})
    with pytest.raises(CorruptionError, match="follows on"):
        read(source)


def test_checkpoints_and_noops_say_nothing(source):
    before = len(read(source)[0])
    source.append_raw(record(source.sequence + 1, {"type": "checkpoint", "timestamp": 5}, kind=6))
    source.append_raw(b"WLOG\xff\0\0\0" + bytes(4) + bytes(4) + (source.sequence + 2).to_bytes(8, "big"))
    records, _ = read(source)
    assert len(records) == before + 1


def test_snapshots_that_cannot_be_read_are_told(source):
    source.snapshot("order-0", 1 << 40)
    source.snapshot("order-1", 1 << 40)
    path = source.root / "snapshots" / "snap-order-0.snap"
    path.write_bytes(path.read_bytes().replace(b"paid", b"PAID"))
    directory = OriginalDirectory(str(source.root))
    assert [found.instance_id for found in directory.snapshots()] == ["order-1"]
    assert directory.snapshot_faults == [f"{path}: its checksum does not match"]


def test_a_cut_at_every_byte_loses_only_what_was_cut(original):
    source = original()
    source.work(1)
    whole = source.path.read_bytes()
    entries = [found.entry for found in read(source)[0]]
    ends = [position + size for _, position, size in source.places]
    for cut in range(len(whole)):
        source.path.write_bytes(whole[:cut])
        records, _ = read(source)
        assert [found.entry for found in records] == entries[: sum(end <= cut for end in ends)], cut


def test_a_flipped_bit_at_every_byte_is_refused_or_changes_nothing(original):
    """Flags, zeros and sequence of a header have no checksum: a flip there may go unnoticed, no more."""
    source = original()
    source.work(1)
    whole = source.path.read_bytes()
    entries = [found.entry for found in read(source)[0]]
    refused = 0
    for position in range(len(whole)):
        data = bytearray(whole)
        data[position] ^= 1 << position % 8
        source.path.write_bytes(data)
        try:
            records, _ = read(source)
        except CorruptionError:
            refused += 1
        else:
            assert [found.entry for found in records] == entries, position
    assert refused > 0.95 * len(whole) - 11 * len(entries)
