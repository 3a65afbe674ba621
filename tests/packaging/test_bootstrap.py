"""What ./rstmdb does before there is anything: which Python it takes, and what it says when there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ("bash", "dirname", "cat", "find", "mkdir", "rm", "flock")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the scripts alone, and spaces in its name."""
    folder = tmp_path / "a check out"
    (folder / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / "rstmdb", folder)
    shutil.copy(ROOT / "scripts" / "bootstrap.sh", folder / "scripts")
    (folder / "pyproject.toml").touch()
    (folder / "packages" / "one").mkdir(parents=True)
    (folder / "packages" / "one" / "pyproject.toml").touch()
    return folder


def programs(tmp_path: Path, **scripts: str) -> str:
    """A PATH with the tools the scripts use and these programs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        if found := shutil.which(tool):
            (folder / tool).symlink_to(found)
    for name, text in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    return str(folder)


def run(checkout: Path, path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [checkout / "rstmdb", "--version"], env={"PATH": path}, capture_output=True, text=True, timeout=30
    )


def test_no_python_is_one_line(checkout: Path, tmp_path: Path) -> None:
    ended = run(checkout, programs(tmp_path))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "rstmdb needs Python 3.11 or newer; set PYTHON to name one\n"


def test_a_python_without_a_way_to_install_anything_says_what_is_missing(
    checkout: Path, tmp_path: Path
) -> None:
    # New enough, and neither ensurepip nor pip: Debian without python3-venv and python3-pip.
    ended = run(checkout, programs(tmp_path, python3='case "$2" in *venv*) exit 1;; esac; exit 0'))
    assert ended.returncode == 1
    assert "apt install python3-venv" in ended.stderr


def test_an_installed_server_starts_without_looking_for_python(checkout: Path, tmp_path: Path) -> None:
    stamp = checkout / ".hatch" / "run" / ".ready"
    server = checkout / ".hatch" / "run" / "bin" / "rstmdb"
    server.parent.mkdir(parents=True)
    server.write_text('#!/bin/sh\necho "started $1 ${PYTHONPATH-without}"\n')
    server.chmod(0o755)
    stamp.write_text(f"{checkout}\n")
    path = programs(tmp_path)
    assert run(checkout, path).stdout == "started --version without\n"

    stamp.write_text("/where/it/was/before\n")
    assert run(checkout, path).returncode == 1, "a folder that was moved is installed again"

    stamp.write_text(f"{checkout}\n")
    os.utime(checkout / "packages" / "one" / "pyproject.toml", (2**31, 2**31))
    assert run(checkout, path).returncode == 1, "so are other dependencies"


def test_the_server_does_not_install_the_tools_of_developers() -> None:
    environments = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["envs"]
    assert environments["run"]["detached"], "or it inherits the dependencies of the default environment"
    assert "dependencies" not in environments["run"]
