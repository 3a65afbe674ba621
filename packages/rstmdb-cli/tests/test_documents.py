"""JSON arguments and the place of an error."""

from pathlib import Path

import pytest

from rstmdb_cli.documents import LINE_CHARS_MAX, parse_json, parse_object
from rstmdb_cli.failures import Failure


def test_inline_and_file(tmp_path: Path) -> None:
    assert parse_object('{"a": 1}', name="--ctx") == {"a": 1}
    path = tmp_path / "ctx.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert parse_object(f"@{path}", name="--ctx") == {"a": 1}
    path.write_bytes(b"\xff")
    with pytest.raises(Failure, match="not UTF-8"):
        parse_object(f"@{path}", name="--ctx")


@pytest.mark.parametrize("position", [0, 3, 40, 500, 999])
def test_the_caret_stands_under_the_place_in_a_long_line(position: int) -> None:
    text = "[" + " " * position + "?" + " " * 600 + "]"
    with pytest.raises(Failure) as caught:
        parse_json(text, name="--ctx")
    _, line, caret = caught.value.message.split("\n")
    assert line[caret.index("^")] == "?"
    assert len(line) <= LINE_CHARS_MAX + 2


def test_line_numbers_count_the_lines_before() -> None:
    with pytest.raises(Failure, match=r"line 12, column 2"):
        parse_json("{x", name="f", line_offset=11)


def test_deep_nesting_is_a_message() -> None:
    with pytest.raises(Failure, match="nested too deeply"):
        parse_json("[" * 200_000, name="f")


@pytest.mark.parametrize(
    ("text", "kind"),
    [("[]", "an array"), ('"x"', "a string"), ("1", "a number"), ("true", "true or"), ("null", "null")],
)
def test_only_an_object_will_do(text: str, kind: str) -> None:
    with pytest.raises(Failure, match=kind):
        parse_object(text, name="--ctx")
