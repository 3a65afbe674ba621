"""Progress is for terminals; what the documents tell people to type is understood."""

import io
import re
import shlex
from pathlib import Path

import pytest

from rstmdb_server.app import build_parser
from rstmdb_server.offline import terminal
from rstmdb_server.offline.terminal import Progress

DOCUMENTS = Path(__file__).parents[4] / "docs/how-to"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    return now


def test_nothing_is_shown_elsewhere(clock):
    stream = io.StringIO()
    progress = Progress(stream)
    clock[0] = 100.0
    progress("working")
    progress.clear()
    assert stream.getvalue() == ""


def test_one_line_is_rewritten_now_and_then_and_taken_away(clock):
    stream = Terminal()
    progress = Progress(stream)
    progress("too soon")
    clock[0] = 1.0
    progress("one")
    progress("again too soon")
    clock[0] = 2.0
    progress("two")
    progress.clear()
    progress.clear()
    assert stream.getvalue() == "\r\x1b[Kone\r\x1b[Ktwo\r\x1b[K"


@pytest.mark.parametrize("name", ["backup-and-restore.md", "migrate-from-the-original.md"])
def test_commands_in_the_documents_are_understood(name):
    text = (DOCUMENTS / name).read_text()
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    commands = [line.strip() for block in blocks for line in block.splitlines() if line.strip()]
    commands += re.findall(r"`(rstmdb [^`]+)`", text)
    known = [shlex.split(command)[1:] for command in commands if command.startswith("rstmdb ")]
    whole = [arguments for arguments in known if len(arguments) > 1]
    assert len(whole) >= 4
    for arguments in whole:
        assert build_parser().parse_args(arguments).command == arguments[0]
