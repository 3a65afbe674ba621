"""Small reckonings: ways through a machine, percentiles, places in JSON, history entries, mixes."""

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rstmdb_cli.commands.bench import _schedule, histogram, parse_mix, percentile, sparkline
from rstmdb_cli.commands.top import duration_text, estimate_ms
from rstmdb_cli.failures import Failure
from rstmdb_cli.importing import Step, shortest_way
from rstmdb_cli.places import place_of
from rstmdb_cli.repl.reading import escape, unescape

MACHINE = {
    "states": ["a", "b", "c", "d"],
    "initial": "a",
    "transitions": [
        {"from": ["a"], "event": "X", "to": "b"},
        {"from": "b", "event": "Y", "to": "c"},
        {"from": ["a", "c"], "event": "Z", "to": "a"},
        {"from": ["a"], "event": "W", "to": "c"},
    ],
}


def test_the_shortest_way_and_the_next_one() -> None:
    direct = Step("a", "W", "c")
    assert shortest_way(MACHINE, "a", set()) == []
    assert shortest_way(MACHINE, "c", set()) == [direct]
    assert shortest_way(MACHINE, "c", {direct}) == [Step("a", "X", "b"), Step("b", "Y", "c")]
    assert shortest_way(MACHINE, "d", set()) is None


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(0.1, 100))
def test_a_percentile_has_that_many_below_it(values: list[float], percent: float) -> None:
    values.sort()
    found = percentile(values, percent)
    assert found in values
    assert sum(value <= found for value in values) >= len(values) * percent / 100 - 1e-9


def test_bucket_percentiles() -> None:
    assert estimate_ms([0, 10, 0, 0], [0.001, 0.01, 0.1], 50) == 10.0
    assert estimate_ms([99, 0, 1, 0], [0.001, 0.01, 0.1], 99) == 1.0
    assert estimate_ms([0, 0, 0, 1], [0.001, 0.01, 0.1], 50) is None


def test_a_mix_is_spread_evenly() -> None:
    order = _schedule({"apply": 3, "get": 1})
    assert Counter(order) == {"apply": 3, "get": 1}
    assert parse_mix(" apply=80, get=20") == {"apply": 80, "get": 20}
    for wrong in ("", "apply", "apply=x", "fly=1", "apply=0", "apply=-1"):
        with pytest.raises(Failure):
            parse_mix(wrong)


def test_plots() -> None:
    assert sparkline([0, 4, 8]) == " ▄█"
    assert sparkline([0, 0]) == "  "
    lines = histogram([0.0004] * 50 + [0.003])
    assert lines[1].split() == ["0.5", "ms", "50", "█" * 50]
    assert len(lines) == 5
    assert histogram([99.0])[1].split()[0] == "more"


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "5 s"), (65, "1 m 5 s"), (7300, "2 h 1 m"), (90000, "1 d 1 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_places() -> None:
    text = '{\n  "a": [1, {"b\\n": "x y"}],\n  "a.b": 2\n}'
    assert place_of(text, "") == (1, 1)
    assert place_of(text, "a") == (2, 8)
    assert place_of(text, "a[1]") == (2, 12)
    assert place_of(text, "a[1].none") == (2, 12)
    assert place_of(text, "a[7]") == (2, 8)
    assert place_of('{"g": "ctx.a >"}', "g", inside=7) == (1, 15)
    assert place_of('{"g": 1, "g": 2}', "g") == (1, 15)


def test_places_in_any_layout_of_a_document() -> None:
    document = {
        "states": ["a", "b"],
        "transitions": [{"from": "a", "guard": "ctx.x"}, {"to": {"deep": [1, 2]}}],
    }
    for indent in (None, 0, 3):
        text = json.dumps(document, indent=indent)
        line, column = place_of(text, "transitions[1].to.deep[1]")
        assert text.split("\n")[line - 1][column - 1] == "2"


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r")))
def test_history_entries_survive_the_file(entry: str) -> None:
    assert "\n" not in escape(entry)
    assert unescape(escape(entry)) == entry


def test_escapes_of_the_original() -> None:
    assert unescape("a\\nb\\\\c") == "a\nb\\c"
    assert unescape("end\\") == "end\\"
