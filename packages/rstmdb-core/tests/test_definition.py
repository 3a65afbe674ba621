"""Definitions: every fault with its place, one canonical form."""

import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rstmdb_core import DefinitionError, parse_definition


def faults(document):
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    with pytest.raises(DefinitionError) as caught:
        parse_definition(text)
    assert str(caught.value)
    return [(fault.path, fault.message) for fault in caught.value.faults]


def move(**changes):
    return {"from": "a", "event": "e", "to": "b"} | changes


def machine(*transitions, **changes):
    return {"states": ["a", "b"], "initial": "a", "transitions": list(transitions)} | changes


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (b"", [("", "definition is not valid JSON (Input data was truncated)")]),
        (b"[]", [("", "definition must be an object")]),
        (b"null", [("", "definition must be an object")]),
        ({}, [("states", "missing"), ("initial", "missing"), ("transitions", "missing")]),
        (machine(states=None), [("states", "missing")]),
        (machine(states="a"), [("states", "must be an array of names")]),
        (
            machine(states=[]),
            [
                ("states", "must name at least one state"),
            ],
        ),
        (
            machine(states=["a", 5, None]),
            [("states[1]", "must be a string"), ("states[2]", "must be a string")],
        ),
        (machine(states=["a", "x" * 257]), [("states[1]", "longer than 256 bytes")]),
        (machine(initial=None), [("initial", "missing")]),
        (machine(initial=5), [("initial", "must be a string")]),
        (machine(initial="z"), [("initial", "state 'z' is not in states")]),
        (machine(transitions=None), [("transitions", "missing")]),
        (machine(transitions={}), [("transitions", "must be an array")]),
        (machine("x", 5), [("transitions[0]", "must be an object"), ("transitions[1]", "must be an object")]),
        (machine(["a", "e", "b"]), [("transitions[0]", "must be an object")]),
        (machine(move(to=None)), [("transitions[0].to", "missing")]),
        (machine(move(to=5)), [("transitions[0].to", "must be a string")]),
        (machine(move(to="z")), [("transitions[0].to", "state 'z' is not in states")]),
        (machine(move(event=None)), [("transitions[0].event", "missing")]),
        (machine(move(event="é" * 129)), [("transitions[0].event", "longer than 256 bytes")]),
        (machine({"from": None, "event": "e", "to": "a"}), [("transitions[0].from", "missing")]),
        (machine(move(**{"from": 5})), [("transitions[0].from", "must be a string or an array of strings")]),
        (machine(move(**{"from": "z"})), [("transitions[0].from", "state 'z' is not in states")]),
        (
            machine(move(**{"from": ["a", 5, "z"]})),
            [
                ("transitions[0].from[1]", "must be a string"),
                ("transitions[0].from[2]", "state 'z' is not in states"),
            ],
        ),
        (machine(move(guard=5)), [("transitions[0].guard", "must be a string")]),
        (machine(move(guard="")), [("transitions[0].guard", "empty guard")]),
        (
            machine(move(guard="ctx.a foo"), move(to="z"), move(**{"from": "q"}), initial="z"),
            [
                ("initial", "state 'z' is not in states"),
                ("transitions[0].guard", "'foo' is neither a field (ctx.…) nor true, false or null"),
                ("transitions[1].to", "state 'z' is not in states"),
                ("transitions[2].from", "state 'q' is not in states"),
            ],
        ),
    ],
)
def test_every_fault_has_its_place(document, expected):
    assert faults(document) == expected


def test_faults_are_counted_to_a_limit():
    assert len(faults(machine(*[move(to="z")] * 5_000))) == 100


def test_places_outside_json_are_one_fault():
    assert faults(b'{"states":["\xff"]}') == [("", "definition is not valid UTF-8")]
    assert "deeper than 56" in faults(b"[" * 100_000)[0][1]


def test_canonical_form():
    text = b""" { "meta" : {"z": 1, "a": {"y": 2, "x": 3}}, "transitions": [
        {"to": "b", "event": "e", "from": "a", "color": "red"},
        {"guard": null, "from": ["a", "b", "a"], "event": "f", "to": "a"},
        {"guard": " ctx.x > 5 ", "from": [], "event": "g", "to": "a"}],
        "initial": "a", "unknown": [1], "states": ["a", "b", "a"] } """
    definition = parse_definition(text)
    assert definition.canonical == (
        b'{"states":["a","b","a"],"initial":"a","transitions":['
        b'{"from":["a"],"event":"e","to":"b"},{"from":["a","b","a"],"event":"f","to":"a"},'
        b'{"from":[],"event":"g","to":"a","guard":" ctx.x > 5 "}],"meta":{"a":{"x":3,"y":2},"z":1}}'
    )
    assert definition.checksum == hashlib.sha256(definition.canonical).hexdigest()
    assert parse_definition(definition.canonical).canonical == definition.canonical
    assert definition.table == {
        "a": {"e": (definition.transitions[0],), "f": (definition.transitions[1],)},
        "b": {"f": (definition.transitions[1],)},
    }


def test_transitions_of_one_event_keep_their_order():
    definition = parse_definition(
        json.dumps(machine(move(guard="ctx.a"), move(to="a", guard="ctx.b"), move())).encode()
    )
    assert [option.to for option in definition.table["a"]["e"]] == ["b", "a", "b"]


@pytest.mark.parametrize(
    "meta", [None, False, 0, "", [], {}, "text", [1, {"b": 1, "a": 2}], 1e22, 2**64 - 1, 2**80]
)
def test_any_meta_is_kept(meta):
    definition = parse_definition(json.dumps(machine(meta=meta)).encode())
    document = json.loads(definition.canonical)
    assert document.get("meta") == meta
    assert ("meta" in document) is (meta is not None)
    assert parse_definition(definition.canonical).canonical == definition.canonical


def test_the_canonical_form_has_a_limit():
    text = json.dumps(machine()).encode()
    size = len(parse_definition(text).canonical)
    parse_definition(text, bytes_max=size)
    with pytest.raises(DefinitionError, match=f"takes {size} bytes, the limit is {size - 1}"):
        parse_definition(text, bytes_max=size - 1)


@pytest.mark.parametrize(
    "document",
    [
        machine(*[move(guard=f"ctx.x{number} > 1 || ctx.y") for number in range(60_000)]),
        machine(meta=[0] * 1_500_000),
        machine(states=[[]] * 1_500_000),
    ],
)
def test_what_is_much_too_large_is_refused_before_it_is_compiled(document, monkeypatch):
    """A minute went by until the guards of fifteen megabytes were compiled; then the size was looked at."""

    def compiled(text):
        raise AssertionError(f"compiled {text}")

    text = json.dumps(document).encode()
    with monkeypatch.context() as patch:
        patch.setattr("rstmdb_core.definition.compile_guard", compiled)
        ((path, message),) = faults(text)
    assert path == ""
    assert "the limit of 1048576 bytes" in message


def test_a_definition_may_be_sent_with_much_space():
    document = machine(*[move(event=f"e{number}", guard="ctx.a") for number in range(2_000)])
    text = json.dumps(document, indent=60).encode()
    assert len(text) > 1536 * 1024
    assert parse_definition(text).canonical == parse_definition(json.dumps(document).encode()).canonical


names = st.sampled_from(["a", "b", "é", "", 'q"'])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
documents = st.fixed_dictionaries(
    {
        "states": st.lists(names, min_size=1, max_size=5) | json_values,
        "initial": names | json_values,
        "transitions": st.lists(
            st.fixed_dictionaries(
                {"from": st.lists(names, max_size=3) | names, "event": names, "to": names},
                optional={
                    "guard": st.sampled_from([None, "ctx.a", "ctx.a > 5", "bad"]),
                    "other": json_values,
                },
            )
            | json_values,
            max_size=4,
        ),
    },
    optional={"meta": json_values},
)


@settings(max_examples=600, deadline=None)
@given(documents)
def test_any_document_is_parsed_to_a_fixed_point_or_refused(document):
    try:
        definition = parse_definition(json.dumps(document).encode("utf-8", "replace"))
    except DefinitionError:
        return
    again = parse_definition(definition.canonical)
    assert again.canonical == definition.canonical
    assert again.checksum == definition.checksum
    assert again.states == definition.states == tuple(document["states"])
