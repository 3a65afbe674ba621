"""What README and the description of the data directory say is so."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest

from rstmdb_storage import frame, segment
from rstmdb_storage.decision import DECISIONS, Behind, Place

PACKAGE = Path(__file__).parents[1]
DATA_DIRECTORY = PACKAGE.parents[1] / "docs" / "internals" / "data-directory.md"


def test_the_example_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (PACKAGE / "README.md").read_text(), re.DOTALL)
    exec(compile(example.replace("/var/lib/example", f"{tmp_path}/example"), "README.md", "exec"), {})
    assert capsys.readouterr().out == "1 1 b'first record'\n2 3 b'second record'\n"


@pytest.fixture
def described() -> str:
    if not DATA_DIRECTORY.exists():
        pytest.skip("docs/ is in the repository, not in the source distribution")
    return DATA_DIRECTORY.read_text()


def test_the_described_decisions_are_those_taken(described: str) -> None:
    rows = re.findall(
        r"^\| (?:zeros|a .*?) \| (.*) \|$", described.split("## What a crash may leave")[1], re.MULTILINE
    )
    assert len(rows) == len(Place)
    words = {"end": "**the end**", "cut": "cut", "refuse": "refuse"}
    for place, row in zip(Place, rows, strict=True):
        expected = [words[DECISIONS[True, place, Behind.ZEROS].value]]
        expected += [words[DECISIONS[False, place, behind].value] for behind in Behind]
        assert row.split(" | ") == expected


def test_the_described_places_are_those_of_the_layouts(described: str) -> None:
    for title, layout, size in (
        ("## Segments", segment._FIELDS, segment.SEGMENT_HEADER_BYTES),
        ("## Frames", frame.FRAME_HEADER, frame.FRAME_HEADER_BYTES),
    ):
        table = described.split(title)[1].split("\n\n")[2]
        fields = [
            (int(at), int(width)) for at, width in re.findall(r"^\| (\d+) \| (\d+) \|", table, re.MULTILINE)
        ]
        # Each field begins where the one before ends, and all of them are the layout, give or take its check.
        assert all(at + width == following for (at, width), (following, _) in pairwise(fields))
        assert fields[-1][0] + fields[-1][1] == size
        widths = [int(code[:-1]) if code.endswith("s") else {"B": 1, "H": 2, "I": 4, "Q": 8}[code]
                  for code in re.findall(r"\d+s|[BHIQ]", layout.format)]  # fmt: skip
        assert [width for _, width in fields][: len(widths)] == widths
