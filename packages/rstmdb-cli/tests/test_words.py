"""Words of a line at the prompt."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rstmdb_cli.repl.words import Incomplete, incomplete, split

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=4,
)
documents = st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=3)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", []),
        ("  ", []),
        ("get o-1", ["get", "o-1"]),
        ("\tget\t o-1 ", ["get", "o-1"]),
        ('c m 1 {"a": "} x"}', ["c", "m", "1", '{"a": "} x"}']),
        ('a i E {"a": [1, {"b": "\\""}]}', ["a", "i", "E", '{"a": [1, {"b": "\\""}]}']),
        ("get 'odd id'", ["get", "odd id"]),
        ('get "odd id" x', ["get", "odd id", "x"]),
        ("get o'brien", ["get", "o'brien"]),
        ("get 'a'b", ["get", "'a'b"]),
        ("[1,2]x y", ["[1,2]x", "y"]),
        ("{]} rest", ["{]} rest"]),
    ],
)
def test_split(line: str, words: list[str]) -> None:
    assert split(line) == words


@settings(deadline=None)
@given(documents, st.sampled_from([None, 2]))
def test_json_is_one_word_and_every_cut_is_incomplete(document: object, indent: int | None) -> None:
    text = json.dumps(document, indent=indent)
    assert split(f"apply i E {text} after") == ["apply", "i", "E", text, "after"]
    for end in range(1, len(text), max(1, len(text) // 20)):
        assert incomplete(text[:end])


def test_an_open_quotation_is_incomplete() -> None:
    with pytest.raises(Incomplete):
        split("get 'odd")
    assert not incomplete("get odd'")
