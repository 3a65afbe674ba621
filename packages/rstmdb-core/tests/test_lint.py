"""Advice for authors."""

import json

import pytest

from rstmdb_core import lint_definition


def findings(*transitions, states=("a", "b", "c"), initial="a"):
    text = json.dumps({"states": list(states), "initial": initial, "transitions": list(transitions)}).encode()
    return {(finding.rule, finding.path) for finding in lint_definition(text)}


def move(source, target, event="e", guard=None):
    return {"from": source, "event": event, "to": target} | ({} if guard is None else {"guard": guard})


CHAIN = (move("a", "b"), move("b", "c"))


def test_a_plain_machine_has_only_its_end():
    assert findings(*CHAIN) == {("dead-end", "states[2]")}


def test_faults_come_alone():
    assert {finding.rule for finding in lint_definition(b'{"states":["a","a"]}')} == {"invalid"}
    assert lint_definition(b"no")[0].severity == "error"


@pytest.mark.parametrize(
    ("transitions", "finding"),
    [
        ([move("a", "b")], ("unreachable-state", "states[2]")),
        ([move("a", "b"), move("b", "c", guard="ctx.x && !ctx.x")], ("unreachable-state", "states[2]")),
        ([move("a", "b"), move("a", "c"), move("b", "a")], ("unreachable-state", "states[2]")),
        (
            [move("a", "b"), move("b", "b"), move("a", "c", "f"), move("b", "a", "g")],
            ("dead-end", "states[2]"),
        ),
        ([*CHAIN, move("c", "c")], ("dead-end", "states[2]")),
        ([*CHAIN, move("a", "c")], ("shadowed", "transitions[2]")),
        ([move("a", "b", guard="ctx.x == ctx.y")], ("invalid", "transitions[0].guard")),
        ([move("a", "b", guard="ctx.x != 5 || ctx.x == 5"), move("a", "c")], ("shadowed", "transitions[1]")),
        ([move("a", "b", guard="ctx.x > 5 && ctx.x < 5")], ("constant-guard", "transitions[0].guard")),
        (
            [move("a", "b", guard="ctx.x && ctx.y"), move("a", "c", guard="ctx.y && (ctx.x)")],
            ("repeated-guard", "transitions[1].guard"),
        ),
        ([move("a", "b", guard="ctx.x.")], ("odd-field", "transitions[0].guard")),
        ([*CHAIN, move([], "a")], ("no-source", "transitions[2].from")),
        ([*CHAIN, move(["a", "a"], "a", "f")], ("duplicate-source", "transitions[2].from")),
    ],
)
def test_findings(transitions, finding):
    assert finding in findings(*transitions)


def test_a_trap():
    found = findings(
        move("a", "end"),
        move("a", "x", "f"),
        move("x", "y"),
        move("y", "x"),
        states=("a", "end", "x", "y"),
    )
    assert found == {("dead-end", "states[1]"), ("trap", "states[2]"), ("trap", "states[3]")}
    # A machine that is meant to go on for ever has no ends, so nothing is a trap.
    assert findings(move("a", "b"), move("b", "a"), states=("a", "b")) == set()


def test_a_state_named_twice():
    assert ("duplicate-state", "states[1]") in findings(move("a", "b"), states=("a", "a", "b"))


def test_guards_of_other_events_and_states_do_not_matter():
    found = findings(
        move("a", "b", "e", "ctx.x"),
        move("a", "b", "f", "ctx.x"),
        move("b", "c", "e", "ctx.x"),
        move("a", "c", "e", "ctx.y"),
    )
    assert found == {("dead-end", "states[2]")}


def test_severities_and_texts():
    text = json.dumps(
        {"states": ["a", "b"], "initial": "a", "transitions": [move("a", "a"), move("a", "b")]}
    ).encode()
    found = {finding.rule: finding for finding in lint_definition(text)}
    assert found["shadowed"].severity == "warning"
    assert (
        found["shadowed"].message == "never tried in state 'a' for event 'e': transitions[0] is always taken"
    )
    assert found["unreachable-state"].severity == "warning"
    assert found["dead-end"].severity == "information"


def test_large_definitions_are_linted_in_time():
    many = [move("a", "b", "e", f"ctx.x == {number} && ctx.y > {number}") for number in range(3_000)]
    assert findings(*many, move("b", "c")) == {("dead-end", "states[2]")}
