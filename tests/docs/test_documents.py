"""The documents: the README's quick start runs and prints what it shows, and no link leads nowhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server_process import ServerProcess, running_server

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
BIN = Path(sys.executable).parent
SHOWN = [ROOT / name for name in ("README.md", "CONTRIBUTING.md")]
DOCUMENTS = sorted([*SHOWN, *(ROOT / "docs").rglob("*.md"), *(ROOT / "packages").glob("*/*.md")])


def blocks(text: str) -> list[tuple[str, str]]:
    """Return the code blocks of a document: (language, content)."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_quick_start_prints_what_the_readme_shows(tmp_path: Path) -> None:
    section = README.read_text().split("## Quick start")[1].split("### From Python")[0]
    (_, commands), (_, shown), (_, watch) = blocks(section)
    commands = commands.split("\n", 1)[1]  # the line about PATH is about a checkout, not about this test
    with running_server() as server:
        assert run_as_shown(commands, server, tmp_path) == shown
        assert '"event":"PAY"' in run_as_shown(f"{watch.strip()} | head -1", server, tmp_path)


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq, which the tutorial pipes into, is not installed")
def test_the_tutorial_prints_what_it_shows(tmp_path: Path) -> None:
    found = blocks((ROOT / "docs" / "tutorials" / "approvals.md").read_text())
    with running_server() as server:
        for (language, commands), (_, shown) in zip(found[::2], found[1::2], strict=True):
            assert language == "bash"
            assert run_as_shown(commands, server, tmp_path) == shown, commands


def run_as_shown(commands: str, server: ServerProcess, folder: Path) -> str:
    """Run commands of a document in a shell; returns what a terminal would have shown."""
    environ = {
        **{k: v for k, v in os.environ.items() if not k.startswith("RSTMDB_")},
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "RSTMDB_SERVER": server.address,
        "HOME": str(folder),
        "NO_COLOR": "1",
    }
    done = subprocess.run(
        ["bash", "-c", f"{{ {commands}\n}} 2>&1"],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=folder,
    )
    return done.stdout


def test_the_python_example_of_the_readme() -> None:
    section = README.read_text().split("### From Python")[1]
    code = next(content for language, content in blocks(section) if language == "python")
    with running_server() as server:
        setup = (
            "from rstmdb_client import Client\n"
            f"with Client('rstmdb://{server.address}') as c:\n"
            "    c.put_machine('order', 1, {'states': ['created', 'paid'], 'initial': 'created',"
            " 'transitions': [{'from': 'created', 'event': 'PAY', 'to': 'paid'}]})\n"
        )
        script = setup + code.replace("localhost:7401", server.address)
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == ("paid\n", "")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text()):
        if "://" not in target and not target.startswith("mailto:"):
            assert (document.parent / target).exists(), f"{document.relative_to(ROOT)} links to {target}"
