"""Each wheel, installed alone in an empty environment, imports; its metadata is what it should be."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = sorted(path.name for path in (ROOT / "packages").iterdir() if (path / "pyproject.toml").exists())


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build all six into one folder, as an index would serve them."""
    folder = tmp_path_factory.mktemp("wheels")
    for package in PACKAGES:
        subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
            cwd=ROOT / "packages" / package,
            check=True,
            capture_output=True,
        )
    return folder


def test_there_are_six_packages(wheels: Path) -> None:
    assert len(PACKAGES) == 6
    assert len(list(wheels.glob("*.whl"))) == 6


@pytest.mark.parametrize("package", PACKAGES)
def test_wheel_is_complete(wheels: Path, package: str) -> None:
    module = package.replace("-", "_")
    (wheel,) = wheels.glob(f"{module}-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert f"{module}/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not any(name.startswith("tests/") for name in names)
    sources = {
        str(path.relative_to(ROOT / "packages" / package / "src"))
        for path in (ROOT / "packages" / package / "src").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert sources <= set(names), sources - set(names)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("package", PACKAGES)
def test_wheel_installs_alone_and_imports(wheels: Path, package: str, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--find-links", str(wheels), package],
        check=True,
        capture_output=True,
        text=True,
    )
    module = package.replace("-", "_")
    listed = subprocess.run(
        [python, "-c", f"import {module}, importlib.metadata as m; print(m.version('{package}'))"],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    project = tomllib.loads((ROOT / "packages" / package / "pyproject.toml").read_text())["project"]
    assert listed.stdout.strip() == project["version"]
    installed = subprocess.run(
        [python, "-m", "pip", "list", "--format=freeze"], check=True, capture_output=True, text=True
    ).stdout
    ours = {
        line.split("==")[0].replace("_", "-") for line in installed.splitlines() if line.startswith("rstmdb")
    }
    assert ours == ALLOWED[package]
    for command in project.get("scripts", {}):
        done = subprocess.run(
            [tmp_path / "env" / "bin" / command, "--help"], capture_output=True, text=True, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr


ALLOWED = {
    "rstmdb-protocol": {"rstmdb-protocol"},
    "rstmdb-core": {"rstmdb-core"},
    "rstmdb-storage": {"rstmdb-storage"},
    "rstmdb-server": {"rstmdb-server", "rstmdb-protocol", "rstmdb-core", "rstmdb-storage"},
    "rstmdb-client": {"rstmdb-client", "rstmdb-protocol"},
    "rstmdb-cli": {"rstmdb-cli", "rstmdb-client", "rstmdb-protocol"},
}
