"""BATCH in both modes."""

import pytest

from rstmdb_core import ApplyEvent, Batch, CreateInstance, DeleteInstance, Refused, digest

SEQUENCE = [
    CreateInstance("o", "order", 1, b'{"ready":true}'),
    ApplyEvent("o", "PAY", b'{"by":"card"}'),
    ApplyEvent("o", "SHIP"),
    DeleteInstance("o"),
    DeleteInstance("o"),
    CreateInstance("o", "order", 1),
]


@pytest.mark.parametrize("atomic", [True, False])
def test_later_operations_see_earlier_ones_and_all_are_one_record(engine, atomic):
    answer = engine.do(Batch(atomic, SEQUENCE))
    assert [item["status"] for item in answer["results"]] == ["ok"] * 6
    assert all(item["error"] is None for item in answer["results"])
    offsets = [item["result"]["wal_offset"] for item in answer["results"]]
    assert offsets == [2, 3, 4, 5, 5, 6]
    assert answer["results"][2]["result"]["ctx"] == {"ready": True, "by": "card"}
    assert len(engine.log) == 2
    assert engine.state.next_sequence == 7
    assert engine.state.entry_count == 6
    engine.check()


def test_an_atomic_failure_changes_nothing_and_says_why(engine):
    before = digest(engine.state)
    refusal = engine.refuse(Batch(True, [*SEQUENCE[:2], ApplyEvent("o", "PAY"), *SEQUENCE[3:]]))
    assert refusal.code == "BAD_REQUEST"
    assert refusal.details["failed_index"] == 2
    assert refusal.details["code"] == "INVALID_TRANSITION"
    assert refusal.details["rolled_back"] is True
    assert refusal.details["reason"] == "no transition for event 'PAY' in state 'paid'"
    assert refusal.details["details"]["allowed_events"] == ["SHIP", "NOTE"]
    assert digest(engine.state) == before


def test_best_effort_answers_each(engine):
    operations = [
        CreateInstance("o", "order", 1),
        ApplyEvent("o", "SHIP"),
        Refused("BAD_REQUEST", "PUT_MACHINE may not stand in a BATCH"),
        ApplyEvent("o", "PAY"),
        ApplyEvent("x", "PAY"),
    ]
    answer = engine.do(Batch(False, operations))
    assert [item["status"] for item in answer["results"]] == ["ok", "error", "error", "ok", "error"]
    codes = [item["error"] and item["error"]["code"] for item in answer["results"]]
    assert codes == [None, "INVALID_TRANSITION", "BAD_REQUEST", None, "INSTANCE_NOT_FOUND"]
    assert all(
        item["result"] is None and item["error"]["retryable"] is False
        for item in answer["results"]
        if item["status"] == "error"
    )
    assert len(engine.log) == 2
    engine.check()


@pytest.mark.parametrize("atomic", [True, False])
def test_an_empty_batch_is_nothing(engine, atomic):
    assert engine.do(Batch(atomic, [], "key")) == {"results": []}
    assert len(engine.log) == 1


def test_a_batch_without_effect_is_not_logged_and_stores_no_key(engine):
    answer = engine.do(Batch(False, [ApplyEvent("absent", "PAY")], "key"))
    assert answer["results"][0]["status"] == "error"
    assert len(engine.log) == 1
    engine.do(CreateInstance("absent", "order", 1))
    assert engine.do(Batch(False, [ApplyEvent("absent", "PAY")], "key"))["results"][0]["status"] == "ok"


def test_too_many_operations(engine):
    assert "limit is 100" in engine.refuse(Batch(False, [DeleteInstance("o")] * 101)).message
    assert len(engine.do(Batch(False, [DeleteInstance("o")] * 100))["results"]) == 100


def test_the_whole_answer_has_a_limit(make_engine):
    engine = make_engine(answer_bytes_max=2_000)
    engine.do(CreateInstance("o", "order", 1, b'{"a":"' + b"x" * 500 + b'"}'))
    engine.do(Batch(False, [ApplyEvent("o", "NOTE")] * 2))
    for count in (3, 20):
        refusal = engine.refuse(Batch(False, [ApplyEvent("o", "NOTE")] * count))
        assert refusal.details == {"reason": "ANSWER_TOO_LARGE"}


@pytest.mark.parametrize("atomic", [True, False])
def test_a_replayed_batch_is_marked_throughout(engine, atomic):
    batch = Batch(atomic, SEQUENCE[:4], "key", principal="alice")
    first = engine.do(batch)
    again = engine.do(batch)
    assert "applied" not in first
    assert again["applied"] is False
    assert all(item["result"]["applied"] is False for item in again["results"])
    assert [item["result"]["wal_offset"] for item in again["results"]] == [2, 3, 4, 5]
    assert len(engine.log) == 2
    engine.check()


def test_the_key_of_a_batch_belongs_to_a_principal_and_a_request(engine):
    engine.do(Batch(True, [CreateInstance("o", "order", 1)], "key", principal="alice"))
    other = Batch(True, [CreateInstance("p", "order", 1)], "key", principal="alice")
    assert engine.refuse(other).details == {"reason": "IDEMPOTENCY_KEY_REUSED"}
    other = Batch(False, [CreateInstance("o", "order", 1)], "key", principal="alice")
    assert engine.refuse(other).code == "CONFLICT"
    engine.do(Batch(True, [CreateInstance("p", "order", 1)], "key", principal="bob"))
    assert engine.refuse(Batch(True, [], "key", principal="\ud800")).code == "BAD_REQUEST"


def test_expectations_ids_of_events_and_inner_keys_are_not_part_of_the_request(engine):
    engine.do(CreateInstance("o", "order", 1))
    engine.do(
        Batch(True, [ApplyEvent("o", "PAY", b'{"a":1,"b":2}', event_id="1", idempotency_key="x")], "key")
    )
    again = [ApplyEvent("o", "PAY", b'{"b":2, "a":1}', expected_state="created", event_id="2")]
    assert engine.do(Batch(True, again, "key"))["applied"] is False
    changed = [ApplyEvent("o", "PAY", b'{"b":2,"a":2}')]
    assert engine.refuse(Batch(True, changed, "key")).code == "CONFLICT"


def test_inner_keys_work_like_outer_ones(engine):
    create = CreateInstance("o", "order", 1, b"", "c")
    pay = ApplyEvent("o", "PAY", idempotency_key="p")
    answer = engine.do(Batch(True, [create, pay, pay, create]))
    assert [item["result"].get("applied") for item in answer["results"]] == [None, True, False, False]
    assert engine.do(pay)["applied"] is False
    assert engine.do(create)["applied"] is False
    assert engine.state.next_sequence == 4
    engine.check()


def test_a_bad_document_inside_is_refused_for_its_item(engine):
    bad = ApplyEvent("o", "PAY", b'{"a":NaN}')
    answer = engine.do(Batch(False, [CreateInstance("o", "order", 1), bad], "key"))
    assert answer["results"][1]["error"]["code"] == "BAD_REQUEST"
    assert engine.do(Batch(False, [CreateInstance("o", "order", 1), bad], "key"))["applied"] is False
    worse = ApplyEvent("o", "PAY", b'{"a":NaN }')
    assert engine.refuse(Batch(False, [CreateInstance("o", "order", 1), worse], "key")).code == "CONFLICT"
