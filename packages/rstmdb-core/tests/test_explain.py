"""EXPLAIN_EVENT: what would happen, from the same code that makes it happen."""

import json

import pytest
from core_model.driver import EVENTS, Driver
from hypothesis import given, settings
from hypothesis import strategies as st

from rstmdb_core import ApplyEvent, CreateInstance, Outcome, decide, digest, explain


def explained(engine, *arguments):
    before = digest(engine.state)
    answer = explain(engine.state, *arguments)
    assert digest(engine.state) == before
    return json.loads(answer) if type(answer) is bytes else answer


@pytest.fixture
def paid(engine):
    engine.do(CreateInstance("o", "order", 1))
    engine.do(ApplyEvent("o", "PAY"))
    return engine


def test_all_events_of_the_state(paid):
    assert explained(paid, "o") == {
        "instance_id": "o",
        "machine": "order",
        "version": 1,
        "state": "paid",
        "last_wal_offset": 3,
        "events": [
            {
                "event": "SHIP",
                "allowed": False,
                "error": {
                    "code": "GUARD_FAILED",
                    "message": "event 'SHIP' in state 'paid' did not pass its guard",
                    "details": {
                        "current_state": "paid",
                        "event": "SHIP",
                        "guards": [{"guard": "ctx.ready", "to": "shipped", "values": {"ctx.ready": None}}],
                    },
                },
                "transitions": [
                    {"to": "shipped", "passes": False, "guard": "ctx.ready", "values": {"ctx.ready": None}}
                ],
            },
            {
                "event": "NOTE",
                "allowed": True,
                "from_state": "paid",
                "to_state": "created",
                "transitions": [{"to": "created", "passes": True}],
            },
        ],
    }


def test_one_event_with_its_payload(paid):
    (event,) = explained(paid, "o", "NOTE", b'{"text":"hi"}')["events"]
    assert event["allowed"] is True
    assert event["ctx"] == {"text": "hi"}
    # The guard sees the context before the payload is merged.
    (event,) = explained(paid, "o", "SHIP", b'{"ready":true}')["events"]
    assert event["error"]["code"] == "GUARD_FAILED"


def test_an_event_that_the_state_does_not_know(paid):
    (event,) = explained(paid, "o", "PAY")["events"]
    assert event["error"]["code"] == "INVALID_TRANSITION"
    assert event["error"]["details"]["allowed_events"] == ["NOTE"]
    assert event["transitions"] == []


def test_what_cannot_be_explained(paid, make_engine):
    assert explained(paid, "x").code == "INSTANCE_NOT_FOUND"
    assert explained(paid, "o", "NOTE", b"[]").code == "BAD_REQUEST"
    small = make_engine(answer_bytes_max=100)
    small.do(CreateInstance("o", "order", 1))
    assert explained(small, "o").details == {"reason": "ANSWER_TOO_LARGE"}


@settings(max_examples=25, deadline=None)
@given(st.binary(min_size=600, max_size=600))
def test_explaining_agrees_with_doing(data):
    driver = Driver(data)
    driver.run()
    for name in list(driver.state.instances):
        answer = json.loads(explain(driver.state, name))
        listed = {event["event"]: event for event in answer["events"]}
        for event in EVENTS:
            done = decide(driver.state, ApplyEvent(name, event), now_ms=0, new_id=str)
            (asked,) = json.loads(explain(driver.state, name, event))["events"]
            assert asked["allowed"] is isinstance(done, Outcome)
            if event in listed:
                assert listed[event]["allowed"] is asked["allowed"]
            if isinstance(done, Outcome):
                result = json.loads(done.answer)
                assert asked["to_state"] == result["to_state"] == listed[event]["to_state"]
                assert asked["ctx"] == result["ctx"]
            else:
                assert asked["error"] == {"code": done.code, "message": done.message, "details": done.details}


@pytest.mark.parametrize("event", [None, "PAY"])
@pytest.mark.parametrize("payload", [b"[1]", b'{"n":1e400}', b"{"])
def test_a_payload_that_no_event_could_carry_is_refused(paid, event, payload):
    refusal = explained(paid, "o", event, payload)
    assert (refusal.code, refusal.details["parameter"]) == ("BAD_REQUEST", "payload")


def test_the_name_of_no_event_is_not_repeated_at_any_length(paid):
    (item,) = explained(paid, "o", "x" * 100_000)["events"]
    assert item["event"] == "x" * 256 + "…"
    assert not item["allowed"]
