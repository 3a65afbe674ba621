"""The reference page says what the command does."""

from rstmdb_cli.exit_codes import ExitCode
from tests.cli.reference import PATH, written


def test_the_reference_is_not_stale() -> None:
    text = PATH.read_text(encoding="utf-8")
    assert written(text) == text, "run python -m tests.cli.reference"


def test_every_exit_code_is_documented() -> None:
    text = PATH.read_text(encoding="utf-8")
    for code in ExitCode:
        assert f"| {int(code)} | {code.name} |" in text
