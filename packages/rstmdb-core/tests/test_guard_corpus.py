"""The corpus of guards, which is package data so that other SDKs can run it too."""

import json
from importlib.resources import files

import pytest
from core_model.guards import NotAGuardError, evaluate

from rstmdb_core import GuardSyntaxError, compile_guard, parse_definition
from rstmdb_core.errors import DefinitionError

CASES = json.loads((files("rstmdb_core") / "corpus" / "guards.json").read_bytes())["cases"]


def test_corpus_is_large_and_its_ids_are_unique():
    assert len(CASES) >= 300
    assert len({case["id"] for case in CASES}) == len(CASES)
    groups = {case["group"] for case in CASES}
    assert {"trailing", "precedence", "length", "limit", "space", "string", "number", "field"} <= groups
    assert sum(case["valid"] for case in CASES) >= 150
    assert sum(not case["valid"] for case in CASES) >= 150


@pytest.mark.parametrize("group", sorted({case["group"] for case in CASES}))
def test_guards_do_what_the_corpus_says(group):
    for case in CASES:
        if case["group"] != group:
            continue
        if not case["valid"]:
            with pytest.raises(GuardSyntaxError) as caught:
                compile_guard(case["guard"])
            assert 0 <= caught.value.position <= len(case["guard"]), case["id"]
            continue
        guard = compile_guard(case["guard"])
        for evaluation in case["evaluations"]:
            assert guard(evaluation["ctx"]) is evaluation["result"], (case["id"], evaluation)


def test_the_model_agrees_with_the_corpus():
    for case in CASES:
        if not case["valid"]:
            with pytest.raises(NotAGuardError):
                evaluate(case["guard"], {})
            continue
        for evaluation in case["evaluations"]:
            assert evaluate(case["guard"], evaluation["ctx"]) is evaluation["result"], case["id"]


def test_a_definition_refuses_what_the_corpus_refuses():
    for case in CASES:
        text = json.dumps(
            {
                "states": ["a"],
                "initial": "a",
                "transitions": [{"from": "a", "event": "e", "to": "a", "guard": case["guard"]}],
            }
        ).encode()
        if case["valid"]:
            parsed = parse_definition(text).transitions[0].guard
            assert parsed is not None
            assert parsed.text == case["guard"]
            continue
        with pytest.raises(DefinitionError) as caught:
            parse_definition(text)
        (fault,) = caught.value.faults
        assert fault.path == "transitions[0].guard", case["id"]
        assert fault.position is not None, case["id"]
