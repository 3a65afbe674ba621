"""CREATE, APPLY and DELETE: what the model does not look at, such as texts, details and limits."""

import pytest

from rstmdb_core import ApplyEvent, CreateInstance, DeleteInstance, get_instance, instance_position
from rstmdb_core.guard import Guard
from rstmdb_core.instance import Instance

HUGE = 10**4000


def test_create_and_apply_answers(engine):
    assert engine.do(CreateInstance("o", "order", 1, b'{"ready":true}')) == {
        "instance_id": "o",
        "state": "created",
        "wal_offset": 2,
    }
    assert engine.do(ApplyEvent("o", "PAY", b'{"by":"card"}', event_id="e1")) == {
        "applied": True,
        "from_state": "created",
        "to_state": "paid",
        "wal_offset": 3,
        "ctx": {"ready": True, "by": "card"},
        "event_id": "e1",
    }
    assert engine.do(ApplyEvent("o", "SHIP"))["to_state"] == "shipped"
    engine.check()


def test_an_automatic_id_is_the_hosts(engine):
    assert engine.do(CreateInstance(None, "order", 1))["instance_id"] == "auto-1"


def test_an_automatic_id_that_is_taken_is_refused(engine):
    engine.do(CreateInstance("auto-1", "order", 1))
    assert engine.refuse(CreateInstance(None, "order", 1)).code == "INSTANCE_EXISTS"


@pytest.mark.parametrize(
    ("command", "code", "part"),
    [
        (CreateInstance("o", "order", 1), "INSTANCE_EXISTS", "already exists"),
        (CreateInstance("o", "absent", 9), "INSTANCE_EXISTS", "already exists"),
        (CreateInstance("p", "absent", 1), "MACHINE_NOT_FOUND", "not found"),
        (CreateInstance("p", "order", 2), "MACHINE_NOT_FOUND", "not found"),
        (CreateInstance("p", "order", HUGE), "MACHINE_NOT_FOUND", "not found"),
        (CreateInstance("p", "order", -1), "MACHINE_NOT_FOUND", "not found"),
        (CreateInstance("", "order", 1), "BAD_REQUEST", "instance_id"),
        (CreateInstance("é" * 129, "order", 1), "BAD_REQUEST", "instance_id"),
        (CreateInstance("\ud800", "order", 1), "BAD_REQUEST", "instance_id"),
        (CreateInstance("p", "\ud800", 1), "MACHINE_NOT_FOUND", "not found"),
        (CreateInstance("p", "m" * 10_000, 1, b"", "k"), "MACHINE_NOT_FOUND", "not found"),
        (CreateInstance("p", "order", 1, b"[]"), "BAD_REQUEST", "initial_ctx"),
        (CreateInstance("p", "order", 1, b"", "k" * 257), "BAD_REQUEST", "idempotency_key"),
        (CreateInstance("p", "order", 1, b"", ""), "BAD_REQUEST", "idempotency_key"),
        (CreateInstance("p", "order", 1, b"", "k", 0), "BAD_REQUEST", "idempotency_ttl_secs"),
        (ApplyEvent("absent", "PAY"), "INSTANCE_NOT_FOUND", "not found"),
        (ApplyEvent("\ud800", "PAY", b"", None, None, None, "k"), "INSTANCE_NOT_FOUND", "not found"),
        (ApplyEvent("o", "PAY", b'"x"'), "BAD_REQUEST", "payload"),
        (ApplyEvent("o", "PAY", event_id="e" * 257), "BAD_REQUEST", "event_id"),
        (ApplyEvent("o", "PAY", event_id="\udfff"), "BAD_REQUEST", "event_id"),
        (ApplyEvent("o", "PAY", expected_wal_offset=-1), "BAD_REQUEST", "expected_wal_offset"),
        (ApplyEvent("o", "PAY", expected_wal_offset=HUGE), "BAD_REQUEST", "expected_wal_offset"),
        (ApplyEvent("o", "PAY", expected_wal_offset=3), "CONFLICT", "offset 2, expected 3"),
        (ApplyEvent("o", "PAY", expected_state="paid"), "CONFLICT", "'created', expected 'paid'"),
        (ApplyEvent("o", "PAY", expected_state="\ud800"), "CONFLICT", "expected"),
        (ApplyEvent("o", "\ud800"), "INVALID_TRANSITION", "no transition"),
        (ApplyEvent("o", "x" * 10_000), "INVALID_TRANSITION", "no transition"),
        (DeleteInstance("absent"), "INSTANCE_NOT_FOUND", "not found"),
        (DeleteInstance("\ud800", "k"), "INSTANCE_NOT_FOUND", "not found"),
        (DeleteInstance("o", "k" * 300), "BAD_REQUEST", "idempotency_key"),
    ],
)
def test_refusals(engine, command, code, part):
    engine.do(CreateInstance("o", "order", 1))
    refusal = engine.refuse(command)
    assert refusal.code == code
    assert part in refusal.message
    assert len(refusal.message) < 1000


def test_names_of_256_bytes_are_taken(engine):
    name = "é" * 128
    engine.do(CreateInstance(name, "order", 1, b"", "k" * 256))
    engine.do(ApplyEvent(name, "PAY", event_id="e" * 256))
    engine.check()


def test_a_name_with_the_word_clients_watch_for_stays_out_of_messages(engine):
    refusal = engine.refuse(ApplyEvent("my-connection-7", "PAY"))
    assert refusal.message == "instance '…' not found"
    assert refusal.details == {"instance_id": "my-connection-7"}


def test_guard_failed_says_what_was_tried(engine):
    engine.do(CreateInstance("o", "order", 1, b'{"ready":0}'))
    engine.do(ApplyEvent("o", "PAY"))
    refusal = engine.refuse(ApplyEvent("o", "SHIP", b'{"ready":true}'))
    assert refusal.code == "GUARD_FAILED"
    assert refusal.details == {
        "current_state": "paid",
        "event": "SHIP",
        "guards": [{"guard": "ctx.ready", "to": "shipped", "values": {"ctx.ready": 0}}],
    }


def test_invalid_transition_says_what_is_allowed_now(engine):
    engine.do(CreateInstance("o", "order", 1))
    assert engine.refuse(ApplyEvent("o", "SHIP")).details == {
        "current_state": "created",
        "event": "SHIP",
        "allowed_events": ["PAY", "NOTE"],
    }
    engine.do(ApplyEvent("o", "PAY"))
    assert engine.refuse(ApplyEvent("o", "PAY")).details["allowed_events"] == ["NOTE"]


def test_a_refusal_describes_some_of_very_many_guards(make_engine, monkeypatch):
    moves = [{"from": "a", "event": "GO", "to": "a", "guard": f"ctx.n == {n}"} for n in range(1_000)]
    engine = make_engine(machine={"states": ["a"], "initial": "a", "transitions": moves})
    engine.do(CreateInstance("o", "order", 1, b'{"n":-1}'))
    explained = []
    explain = Guard.explain
    monkeypatch.setattr(Guard, "explain", lambda self, ctx: explained.append(self) or explain(self, ctx))
    refusal = engine.refuse(ApplyEvent("o", "GO"))
    assert "any of 1000 guards" in refusal.message
    assert [each["guard"] for each in refusal.details["guards"]] == [f"ctx.n == {n}" for n in range(50)]
    assert len(explained) == 50


def test_guards_are_tried_in_order_and_the_first_that_passes_wins(make_engine):
    engine = make_engine(
        machine={
            "states": ["a", "low", "mid", "rest"],
            "initial": "a",
            "transitions": [
                {"from": "a", "event": "GO", "to": "low", "guard": "ctx.n < 10"},
                {"from": "a", "event": "GO", "to": "mid", "guard": "ctx.n < 100"},
                {"from": "a", "event": "GO", "to": "rest"},
            ],
        }
    )
    for name, ctx, state in (("x", b'{"n":5}', "low"), ("y", b'{"n":50}', "mid"), ("z", b"{}", "rest")):
        engine.do(CreateInstance(name, "order", 1, ctx))
        assert engine.do(ApplyEvent(name, "GO"))["to_state"] == state


def test_the_merged_context_has_a_limit(make_engine):
    engine = make_engine(ctx_bytes_max=100)
    engine.do(CreateInstance("o", "order", 1, b'{"a":"' + b"x" * 80 + b'"}'))
    refusal = engine.refuse(ApplyEvent("o", "PAY", b'{"b":"' + b"y" * 20 + b'"}'))
    assert refusal.code == "BAD_REQUEST"
    assert refusal.details == {"reason": "CONTEXT_TOO_LARGE"}
    engine.do(ApplyEvent("o", "PAY", b'{"a":"' + b"z" * 92 + b'"}'))
    refusal = engine.refuse(ApplyEvent("o", "NOTE", b'{"a":"' + b"z" * 93 + b'"}'))
    assert refusal.details == {"parameter": "payload"}


def test_the_answer_has_a_limit_before_anything_is_committed(make_engine):
    engine = make_engine(answer_bytes_max=150)
    engine.do(CreateInstance("o", "order", 1))
    refusal = engine.refuse(ApplyEvent("o", "PAY", b'{"a":"' + b"x" * 100 + b'"}'))
    assert refusal.details == {"reason": "ANSWER_TOO_LARGE"}


def test_a_payload_of_null_is_logged_as_none_and_an_empty_one_as_such(engine):
    engine.do(CreateInstance("o", "order", 1))
    for payload, logged in ((b"", b""), (b"null", b""), (b"{}", b"{}"), (b'{"a":1}', b'{"a":1}')):
        record = engine.decide(ApplyEvent("o", "PAY", payload)).record
        assert record.effects[0].payload == logged


def test_times_come_from_the_records(engine):
    engine.do(CreateInstance("o", "order", 1))
    engine.now -= 5_000  # a clock that goes back
    engine.do(ApplyEvent("o", "PAY"))
    instance = engine.state.instance("o")
    assert (instance.created_ms, instance.updated_ms) == (1_000_000, 1_000_000)
    engine.now += 9_000
    engine.do(ApplyEvent("o", "NOTE"))
    assert engine.state.instance("o").updated_ms == 1_004_000
    assert engine.replayed().instance("o") == engine.state.instance("o") == engine.loaded().instance("o")


def test_an_event_without_an_id_clears_the_last_one(engine):
    engine.do(CreateInstance("o", "order", 1))
    engine.do(ApplyEvent("o", "PAY", event_id="e"))
    assert b'"last_event_id":"e"' in get_instance(engine.state, "o")
    engine.do(ApplyEvent("o", "NOTE"))
    assert b"last_event_id" not in get_instance(engine.state, "o")
    engine.check()


def test_deleting_is_soft_and_an_id_may_be_used_again(engine):
    engine.do(CreateInstance("o", "order", 1, b'{"old":1}'))
    deleted = engine.do(DeleteInstance("o"))
    assert deleted == {"instance_id": "o", "deleted": True, "wal_offset": 3}
    assert engine.do(DeleteInstance("o")) == deleted
    assert engine.refuse(ApplyEvent("o", "PAY")).code == "INSTANCE_NOT_FOUND"
    assert instance_position(engine.state, "o").code == "INSTANCE_NOT_FOUND"
    engine.do(CreateInstance("o", "order", 1))
    assert engine.state.instance("o").ctx == b"{}"
    assert engine.state.instance("o").ordinal == 1
    assert engine.state.tombstones.count == 0
    engine.check()


def test_a_tombstone_goes_when_the_key_window_has_passed(make_engine):
    engine = make_engine(idempotency_retention_ms=10_000)
    engine.do(CreateInstance("o", "order", 1))
    engine.do(DeleteInstance("o"))
    engine.now += 9_999
    engine.do(DeleteInstance("o"))
    engine.now += 1
    assert engine.refuse(DeleteInstance("o")).code == "INSTANCE_NOT_FOUND"
    engine.now += 5_000
    engine.do(CreateInstance("p", "order", 1))
    assert engine.state.tombstones.count == 0
    engine.check()


def test_ids_can_be_kept_from_being_used_again(make_engine):
    engine = make_engine(allow_instance_recreate=False, idempotency_retention_ms=1_000)
    engine.do(CreateInstance("o", "order", 1))
    engine.do(DeleteInstance("o"))
    engine.now += 10**9
    engine.do(CreateInstance("p", "order", 1))
    refusal = engine.refuse(CreateInstance("o", "order", 1))
    assert refusal.code == "INSTANCE_EXISTS"
    assert "may not be used again" in refusal.message


def test_strings_and_integers_are_shared(engine):
    for name in ("o", "p"):
        engine.do(CreateInstance(name, "order", 1))
        engine.do(ApplyEvent(name, "PAY"))
    for state in (engine.state, engine.replayed(), engine.loaded()):
        one, other = state.instance("o"), state.instance("p")
        assert isinstance(one, Instance)
        assert one.machine is other.machine
        assert one.state is other.state
        assert one.created_ms is one.updated_ms
