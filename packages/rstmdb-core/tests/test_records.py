"""Records: bytes that stay readable, and bytes that are none."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rstmdb_core import (
    EventApplied,
    Flushed,
    InstanceCreated,
    InstanceDeleted,
    InstanceImported,
    Key,
    MachinePut,
    Record,
    RecordError,
    decode_record,
    encode_record,
)

RECORD = Record(
    7,
    1_700_000_000_000,
    (
        MachinePut("m", 1, b"{}", "c"),
        InstanceCreated("i", "m", 1, "a", b"{}", "k"),
        EventApplied("i", "m", 1, "e", "a", "b", b"", b"{}", "id", None),
        InstanceDeleted("i", "m", 1, 9, None),
        Flushed(1, 2),
        InstanceImported("i", "m", 1, "a", b"{}", None, 3, 4),
    ),
    (Key(1, "C1:ik", b"f" * 16, 99, b"{}"), Key(2, "A1:ik", b"g" * 16, 99)),
)

GOLDEN = bytes.fromhex(
    "9407cf0000018bcfe5680096"
    "9501a16d01c4027b7da163"
    "9702a169a16d01a161c4027b7da16b"
    "9b03a169a16d01a165a161a162c400c4027b7da26964c0"
    "9604a169a16d0109c0"
    "93050102"
    "9906a169a16d01a161c4027b7dc00304"
    "92"
    "9501a543313a696bc4106666666666666666666666666666666663c4027b7d"
    "9502a541313a696bc4106767676767676767676767676767676763c400"
)


def test_the_bytes_of_a_record_are_these_for_ever():
    assert encode_record(RECORD) == GOLDEN
    assert decode_record(GOLDEN) == RECORD
    assert decode_record(GOLDEN, 7) == RECORD


def test_a_record_of_an_older_version_lacks_the_last_fields():
    effect = [2, "i", "m", 1, "a", b"{}"]
    body = msgspec.msgpack.encode([1, 2, [effect]])
    assert decode_record(body) == Record(1, 2, (InstanceCreated("i", "m", 1, "a", b"{}"),))


def test_a_record_of_a_newer_version_has_more_fields():
    effect = [2, "i", "m", 1, "a", b"{}", None, "new"]
    body = msgspec.msgpack.encode([1, 2, [effect], [], "new"])
    assert decode_record(body) == Record(1, 2, (InstanceCreated("i", "m", 1, "a", b"{}"),))


def test_an_effect_nobody_knows_is_refused():
    with pytest.raises(RecordError):
        decode_record(msgspec.msgpack.encode([1, 2, [[99, "?"]]]))


def test_a_record_with_another_sequence_is_refused():
    with pytest.raises(RecordError, match="holds sequence 7, the log says 8"):
        decode_record(GOLDEN, 8)


@pytest.mark.parametrize("body", [b"", b"\x00", GOLDEN[:-1], GOLDEN[1:], b"\xc1", b"\x91" * 5000])
def test_other_bytes_are_refused(body):
    with pytest.raises(RecordError):
        decode_record(body)


@given(
    st.binary(max_size=60)
    | st.integers(0, len(GOLDEN) - 1).map(lambda at: GOLDEN[:at] + b"\xa1\xff" + GOLDEN[at:])
)
def test_any_bytes_are_a_record_or_refused(body):
    try:
        record = decode_record(body)
    except RecordError:
        return
    assert isinstance(record, Record)
