"""Formats of values."""

import io
import json

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rstmdb_cli.output import Format, Output, colour_wanted, human_bytes, pretty, yaml_text

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@settings(deadline=None)
@example({"\x7f": "\x85\u2028\u2029\ufeff\ufffe \x9f", "": "- a", "no": "012"})
@given(st.dictionaries(st.text(), values, max_size=3))
def test_yaml_reads_back(document: dict[str, object]) -> None:
    assert yaml.safe_load(yaml_text(document)) == document


@settings(deadline=None)
@given(st.dictionaries(st.text(), values, max_size=3))
def test_pretty_is_what_python_prints_too(document: dict[str, object]) -> None:
    assert json.loads(pretty(document)) == document


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KB"),
        (1536, "1.50 KB"),
        (1024**2, "1.00 MB"),
        (64 * 1024**2, "64.00 MB"),
        (5 * 1024**3, "5.00 GB"),
        (2048 * 1024**3, "2048.00 GB"),
    ],
)
def test_human_bytes(size: int, text: str) -> None:
    assert human_bytes(size) == text


def test_a_table_aligns_wide_letters_and_is_not_cut() -> None:
    stream = io.StringIO()
    output = Output(chosen=Format.TABLE, stdout=stream)
    output.rows([{"id": "日本", "n": 1}, {"id": "x" * 300, "n": 20}], ["id", "n"])
    lines = stream.getvalue().splitlines()
    assert lines[0].split() == ["ID", "N"]
    assert lines[2].startswith("x" * 300)
    assert lines[1].split() == ["日本", "1"]
    assert len(lines) == 3


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert colour_wanted(_Terminal())
    assert not colour_wanted(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not colour_wanted(_Terminal())
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not colour_wanted(_Terminal())
