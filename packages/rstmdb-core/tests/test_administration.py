"""PUT_MACHINE, FLUSH_ALL and the import."""

import hashlib
import json

import pytest

from rstmdb_core import (
    ApplyEvent,
    CreateInstance,
    DeleteInstance,
    FlushAll,
    Import,
    ImportedKey,
    ImportInstance,
    PutMachine,
    get_instance,
    get_machine,
    list_instances,
    list_machines,
)
from rstmdb_core.limits import MACHINES_MAX

SMALL = b'{"states":["a"],"initial":"a","transitions":[]}'
OTHER = b'{"states":["a","b"],"initial":"a","transitions":[]}'


def test_put_is_idempotent_by_canonical_form(engine):
    first = engine.do(PutMachine("m", 1, SMALL))
    assert first["created"] is True
    assert len(first["stored_checksum"]) == 64
    spaced = b'{ "initial": "a", "extra": 1, "transitions": [ ], "states": [ "a" ], "meta": null }'
    again = engine.do(PutMachine("m", 1, spaced))
    assert again == {**first, "created": False}
    refusal = engine.refuse(PutMachine("m", 1, OTHER))
    assert refusal.code == "MACHINE_VERSION_EXISTS"
    assert refusal.details["stored_checksum"] == first["stored_checksum"]
    assert len(engine.log) == 2


def test_a_checksum_is_verified(engine):
    canonical = hashlib.sha256(SMALL).hexdigest()
    assert engine.do(PutMachine("m", 1, SMALL, canonical))["stored_checksum"] == canonical
    spaced = SMALL + b"  "
    engine.do(PutMachine("m", 2, spaced, hashlib.sha256(spaced).hexdigest().upper()))
    engine.do(PutMachine("m", 3, SMALL, "1a2b3c4d"))  # the original's own form, which it ignored
    refusal = engine.refuse(PutMachine("m", 4, SMALL, "0" * 64))
    assert refusal.details["reason"] == "CHECKSUM_MISMATCH"
    assert refusal.details["actual"] == canonical


def test_faults_of_a_definition_are_all_in_the_details(engine):
    transitions = b'[{"from":"c","event":"e","to":"a","guard":"ctx.a foo"}]'
    text = b'{"states":["a"],"initial":"b","transitions":%b}' % transitions
    refusal = engine.refuse(PutMachine("m", 1, text))
    assert refusal.code == "BAD_REQUEST"
    assert [fault["path"] for fault in refusal.details["faults"]] == [
        "initial",
        "transitions[0].from",
        "transitions[0].guard",
    ]
    assert refusal.details["faults"][2]["position"] == 6


@pytest.mark.parametrize(
    ("name", "version"), [("", 1), ("m" * 257, 1), ("\ud800", 1), ("m", -1), ("m", 2**32), ("m", 10**4000)]
)
def test_names_and_versions_have_limits(engine, name, version):
    assert engine.refuse(PutMachine(name, version, SMALL)).code == "BAD_REQUEST"


def test_versions_of_a_machine_can_be_limited(make_engine):
    engine = make_engine(machine=None, machine_versions_max=2)
    engine.do(PutMachine("m", 1, SMALL))
    engine.do(PutMachine("m", 5, OTHER))
    assert engine.refuse(PutMachine("m", 6, SMALL)).code == "MACHINE_VERSION_LIMIT_EXCEEDED"
    assert engine.refuse(PutMachine("m", 6, b"bad")).code == "MACHINE_VERSION_LIMIT_EXCEEDED"
    assert engine.do(PutMachine("m", 5, OTHER))["created"] is False
    engine.do(PutMachine("n", 1, SMALL))
    assert json.loads(list_machines(engine.state)) == {
        "items": [{"machine": "m", "versions": [1, 5]}, {"machine": "n", "versions": [1]}]
    }


def test_machines_altogether_are_limited(make_engine):
    engine = make_engine(machine=None, machines_max=2)
    engine.do(PutMachine("m", 1, SMALL))
    engine.do(PutMachine("n", 1, SMALL))
    assert engine.refuse(PutMachine("o", 1, SMALL)).details == {"limit": 2}


def test_the_longest_list_of_machines_fits_an_answer():
    # Each character of a name takes at most six bytes as JSON.
    longest = 256 * 6 + len('{"machine":"","versions":[4294967295]},')
    assert MACHINES_MAX * longest < 16 * 1024 * 1024


def test_a_definition_has_a_size(make_engine):
    engine = make_engine(machine=None, definition_bytes_max=len(SMALL))
    engine.do(PutMachine("m", 1, SMALL))
    assert "the limit is" in engine.refuse(PutMachine("m", 2, OTHER)).message
    # A smaller limit later does not make the log unreadable.
    assert engine.replayed(type(engine.settings)(definition_bytes_max=1)).machines["m"][1]


def test_flush_removes_everything_and_goes_on(engine):
    for name in ("o", "p", "q"):
        engine.do(CreateInstance(name, "order", 1, b"", "k"))
    engine.do(DeleteInstance("q"))
    engine.do(PutMachine("order", 2, SMALL))
    assert engine.do(FlushAll()) == {"flushed": True, "instances_removed": 3, "machines_removed": 2}
    assert engine.refuse(CreateInstance("o", "order", 1)).code == "MACHINE_NOT_FOUND"
    assert engine.refuse(DeleteInstance("q")).code == "INSTANCE_NOT_FOUND"
    assert json.loads(list_instances(engine.state))["total"] == 0
    assert engine.state.idempotency.count == engine.state.idempotency.size_bytes == 0
    engine.do(PutMachine("order", 1, SMALL))
    # A key of a vanished instance does not answer for a later one.
    assert engine.do(CreateInstance("o", "order", 1, b"", "k")) == {
        "instance_id": "o",
        "state": "a",
        "wal_offset": 9,
    }
    assert engine.state.instance("o").ordinal == 3
    engine.check()


def test_flushing_nothing_is_not_logged(make_engine):
    engine = make_engine(machine=None)
    assert engine.do(FlushAll()) == {"flushed": True, "instances_removed": 0, "machines_removed": 0}
    assert engine.log == []


def test_import_takes_instances_as_they_were(engine):
    long_id = "i" * 1_000
    imported = ImportInstance(
        long_id,
        "order",
        1,
        "paid",
        b'{ "ready" : true }',
        "e9",
        5_000,
        6_000,
        keys=(ImportedKey("k", "PAY", b'{"ready":true}', "created", "paid", b'{"ready":true}', "e9"),),
    )
    answer = engine.do(
        Import([PutMachine("n", 1, SMALL), imported, ImportInstance("z", "n", 1, "a", b"", None, 1, 2)])
    )
    assert answer == {"imported": 3}
    instance = engine.state.instance(long_id)
    assert (instance.created_ms, instance.updated_ms, instance.last_offset) == (5_000, 6_000, 3)
    assert json.loads(get_instance(engine.state, long_id)) == {
        "machine": "order",
        "version": 1,
        "state": "paid",
        "ctx": {"ready": True},
        "last_event_id": "e9",
        "last_wal_offset": 3,
    }
    # A retry of the event that the other database applied is answered, not applied again.
    retry = engine.do(ApplyEvent(long_id, "PAY", b'{"ready":true}', idempotency_key="k"))
    assert retry["applied"] is False
    assert retry["wal_offset"] == 3
    assert engine.refuse(ApplyEvent(long_id, "NOTE", idempotency_key="k")).code == "CONFLICT"
    assert engine.do(ApplyEvent(long_id, "SHIP"))["wal_offset"] == 5
    engine.check()


@pytest.mark.parametrize(
    ("items", "code"),
    [
        ([ImportInstance("a", "absent", 1, "x", b"", None, 1, 1)], "MACHINE_NOT_FOUND"),
        ([ImportInstance("a", "order", 1, "x", b"", None, 1, 1)], "BAD_REQUEST"),
        ([ImportInstance("a", "order", 1, "paid", b"[]", None, 1, 1)], "BAD_REQUEST"),
        ([ImportInstance("\ud800", "order", 1, "paid", b"", None, 1, 1)], "BAD_REQUEST"),
        ([ImportInstance("a", "order", 1, "paid", b"", "\ud800", 1, 1)], "BAD_REQUEST"),
        ([PutMachine("m", 1, SMALL), PutMachine("m", 1, SMALL)], "BAD_REQUEST"),
        ([PutMachine("m", 1, b"{}")], "BAD_REQUEST"),
        ([PutMachine("\ud800", 1, SMALL)], "BAD_REQUEST"),
        ([PutMachine("order", 1, SMALL)], "MACHINE_VERSION_EXISTS"),
        ([ImportInstance("a", "order", 1, "paid", b"", None, 1, 1)] * 2, "INSTANCE_EXISTS"),
    ],
)
def test_an_import_that_does_not_fit_is_refused_whole(engine, items, code):
    good = ImportInstance("good", "order", 1, "paid", b"", None, 1, 1)
    assert engine.refuse(Import([good, *items])).code == code


def test_an_import_of_nothing(engine):
    assert engine.do(Import([])) == {"imported": 0}
    assert engine.do(Import([PutMachine("order", 1, get_definition(engine))])) == {"imported": 0}
    assert len(engine.log) == 1


def get_definition(engine):
    return json.dumps(json.loads(get_machine(engine.state, "order", 1))["definition"]).encode()
