"""Reading: pages that neither skip nor repeat what stayed in place."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rstmdb_core import (
    ApplyEvent,
    CreateInstance,
    DeleteInstance,
    Import,
    ImportInstance,
    Position,
    PutMachine,
    Refusal,
    get_instance,
    get_machine,
    instance_position,
    list_instances,
    list_machines,
)
from rstmdb_core.limits import PAGE_INSTANCES_MAX

SMALL = b'{"states":["created"],"initial":"created","transitions":[]}'


def page(engine, **where):
    answer = list_instances(engine.state, **where)
    assert type(answer) is bytes, answer
    return json.loads(answer)


def ids(answer):
    return [item["id"] for item in answer["instances"]]


@pytest.fixture
def filled(engine):
    engine.do(PutMachine("other", 1, SMALL))
    for number in range(30):
        engine.do(CreateInstance(f"o{number}", "other" if number % 5 == 0 else "order", 1))
        if number % 3 == 1 and number % 5:
            engine.do(ApplyEvent(f"o{number}", "PAY"))
        engine.now += 1
    return engine


def test_one_instance(engine):
    engine.do(CreateInstance("o", "order", 1, b'{"a":[1, 2]}'))
    assert get_instance(engine.state, "o") == (
        b'{"machine":"order","version":1,"state":"created","ctx":{"a":[1,2]},"last_wal_offset":2}'
    )
    assert instance_position(engine.state, "o") == Position("created", 2)
    for missing in (get_instance(engine.state, "x"), instance_position(engine.state, "x")):
        assert missing == Refusal("INSTANCE_NOT_FOUND", "instance 'x' not found", {"instance_id": "x"})


def test_names_are_escaped(make_engine):
    engine = make_engine(machine={"states": ['s"\\\n'], "initial": 's"\\\n', "transitions": []})
    engine.do(CreateInstance('i"\\\x00é', "order", 1))
    assert json.loads(get_instance(engine.state, 'i"\\\x00é'))["state"] == 's"\\\n'
    assert ids(page(engine)) == ['i"\\\x00é']


def test_a_machine(engine):
    answer = json.loads(get_machine(engine.state, "order", 1))
    assert answer["definition"]["transitions"][0] == {"from": ["created"], "event": "PAY", "to": "paid"}
    assert len(answer["checksum"]) == 64
    for name, version in (("order", 2), ("x", 1), ("order", 10**4000)):
        missing = get_machine(engine.state, name, version)
        assert missing.code == "MACHINE_NOT_FOUND"
        assert "not found" in missing.message
        json.dumps(missing.details)


def test_machines_in_order(engine):
    for name, version in (("b", 3), ("a", 2), ("b", 1), ("é", 1)):
        engine.do(PutMachine(name, version, SMALL))
    assert json.loads(list_machines(engine.state))["items"] == [
        {"machine": "a", "versions": [2]},
        {"machine": "b", "versions": [1, 3]},
        {"machine": "order", "versions": [1]},
        {"machine": "é", "versions": [1]},
    ]
    assert [item["machine"] for item in json.loads(list_machines(engine.state, machines={"b"}))["items"]] == [
        "b"
    ]


def test_rows_have_the_fields_of_the_wire(filled):
    first = page(filled, limit=1)
    assert first == {
        "instances": [
            {
                "id": "o0",
                "machine": "other",
                "version": 1,
                "state": "created",
                "created_at": 1_000_000,
                "updated_at": 1_000_000,
                "last_wal_offset": 3,
            }
        ],
        "total": 30,
        "has_more": True,
        "next_cursor": first["next_cursor"],
    }


@pytest.mark.parametrize(
    ("where", "total"),
    [
        ({}, 30),
        ({"machine": "order"}, 24),
        ({"machine": "other", "state_name": "created"}, 6),
        ({"state_name": "paid"}, 8),
        ({"machine": "order", "state_name": "paid"}, 8),
        ({"machine": "other", "state_name": "paid"}, 0),
        ({"machine": "absent"}, 0),
        ({"state_name": "absent"}, 0),
        ({"machines": {"order"}}, 24),
        ({"machines": ["order", "other", "order"]}, 30),
        ({"machines": set()}, 0),
        ({"machines": {"other"}, "machine": "order"}, 0),
        ({"machines": {"other"}, "state_name": "created"}, 6),
    ],
)
def test_pages_by_offset_and_by_cursor_are_the_same_list(filled, where, total):
    everything = page(filled, limit=1000, **where)
    assert everything["total"] == total == len(everything["instances"])
    assert everything["has_more"] is False
    assert "next_cursor" not in everything
    assert ids(everything) == sorted(ids(everything), key=lambda name: int(name[1:]))
    for limit in (1, 4, 29):
        by_offset, by_cursor, cursor = [], [], None
        while len(by_offset) < total:
            one = page(filled, limit=limit, offset=len(by_offset), **where)
            other = page(filled, limit=limit, cursor=cursor, **where)
            cursor = other.get("next_cursor")
            assert one == other
            by_offset += ids(one)
            by_cursor += ids(other)
            assert one["has_more"] is (len(by_offset) < total)
        assert by_offset == by_cursor == ids(everything)


def test_limits_are_clamped_and_never_refused(filled):
    assert len(page(filled)["instances"]) == 30
    assert page(filled, limit=0) == {"instances": [], "total": 30, "has_more": True}
    assert page(filled, limit=0, offset=30)["has_more"] is False
    assert page(filled, limit=-5)["instances"] == []
    assert len(page(filled, limit=10**30)["instances"]) == 30
    assert page(filled, offset=10**30)["instances"] == []
    assert page(filled, offset=10**30, state_name="created")["instances"] == []
    assert ids(page(filled, offset=-3, limit=1)) == ["o0"]
    for number in range(PAGE_INSTANCES_MAX):
        filled.do(CreateInstance(f"p{number}", "order", 1))
    assert len(page(filled, limit=5_000)["instances"]) == PAGE_INSTANCES_MAX
    assert len(page(filled)["instances"]) == 100


@pytest.mark.parametrize(
    "cursor", ["", "x", "c", "c-1", "cxyz", "c" + "f" * 40, "c 1", "c1_0", "cé", "1", "c+1"]
)
def test_a_cursor_of_somebody_else_is_refused(filled, cursor):
    assert list_instances(filled.state, cursor=cursor).code == "BAD_REQUEST"


def test_a_cursor_excludes_an_offset(filled):
    assert list_instances(filled.state, cursor="c0", offset=1).code == "BAD_REQUEST"
    assert ids(page(filled, cursor="c0", offset=0, limit=1)) == ["o1"]


def test_a_page_ends_where_an_answer_must(make_engine):
    engine = make_engine(answer_bytes_max=20_000)
    engine.do(
        Import(
            [ImportInstance(f"{number}" * 3_000, "order", 1, "paid", b"", None, 1, 1) for number in range(9)]
        )
    )
    found, cursor = [], None
    while True:
        answer = page(engine, cursor=cursor)
        assert 1 <= len(answer["instances"]) < 9
        assert answer["total"] == 9
        found += ids(answer)
        cursor = answer.get("next_cursor")
        if cursor is None:
            break
    assert found == [f"{number}" * 3_000 for number in range(9)]


def test_cursors_survive_a_restart(filled):
    cursor = page(filled, limit=10)["next_cursor"]
    expected = page(filled, cursor=cursor)
    for state in (filled.loaded(), filled.replayed()):
        assert json.loads(list_instances(state, cursor=cursor)) == expected


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["create", "delete", "move"]), st.integers(0, 60)), max_size=80))
def test_what_stayed_in_place_is_seen_exactly_once(steps):
    from core_model.embedded import Embedded

    engine = Embedded()
    for number in range(40):
        engine.do(CreateInstance(f"o{number}", "order", 1))
    touched = set()
    found, cursor = [], None
    work = iter(steps)
    while True:
        answer = page(engine, machine="order", state_name="created", limit=3, cursor=cursor)
        found += ids(answer)
        cursor = answer.get("next_cursor")
        if cursor is None:
            break
        for _ in range(6):
            kind, number = next(work, (None, None))
            if kind is None:
                break
            name = f"o{number}"
            touched.add(name)
            exists = engine.state.instance(name) is not None
            if kind == "create" and not exists:
                engine.do(CreateInstance(name, "order", 1))
            elif kind == "delete" and exists:
                engine.do(DeleteInstance(name))
            elif kind == "move" and exists:
                engine.do(
                    ApplyEvent(name, "PAY" if engine.state.instance(name).state == "created" else "NOTE")
                )
    stayed = [f"o{number}" for number in range(40) if f"o{number}" not in touched]
    assert [name for name in found if name in stayed] == stayed
