"""What starting the command costs beside importing typer: CPU time of whole processes, paired, best of some.

`python -m tests.cli.test_startup` prints the figures.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.cli.conftest import COMMAND
from tests.server_process import ServerProcess, running_server

ROUNDS = 12
RATIO_MAX = 1.5


def cpu_seconds(command: list[str], environ: dict[str, str]) -> float:
    """Run a command; return its user and system time, which other load disturbs least."""
    nowhere = subprocess.DEVNULL
    process = subprocess.Popen(command, env=environ, stdout=nowhere, stderr=nowhere)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return usage.ru_utime + usage.ru_stime


def ratio(arguments: list[str], cache: Path, environ: dict[str, str] | None = None) -> float:
    """Return how often `python -c 'import typer'` fits into a command, modules compiled on both sides."""
    chosen = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    chosen |= {"PYTHONPYCACHEPREFIX": str(cache), "HOME": str(cache)} | (environ or {})
    pair = ([sys.executable, "-c", "import typer"], [COMMAND, *arguments])
    times: tuple[list[float], list[float]] = ([], [])
    for command in pair:
        cpu_seconds(command, chosen)  # compiles
    for _ in range(ROUNDS):
        for command, taken in zip(pair, times, strict=True):
            taken.append(cpu_seconds(command, chosen))
    return min(times[1]) / min(times[0])


def test_a_command_without_a_server(tmp_path: Path) -> None:
    assert ratio(["hash-token", "secret"], tmp_path) <= RATIO_MAX


def test_a_command_with_a_server(server: ServerProcess, tmp_path: Path) -> None:
    assert ratio(["ping"], tmp_path, {"RSTMDB_SERVER": server.address}) <= RATIO_MAX


def test_nothing_heavy_is_imported(server: ServerProcess) -> None:
    """One-shot commands need neither rich nor prompt-toolkit nor pydantic, which typer would import."""
    script = (
        "import os, sys\n"
        "from rstmdb_cli import app\n"
        "app.leave = lambda code: print(*sorted({name.partition('.')[0] for name in sys.modules}))\n"
        "try:\n    app.main(sys.argv[1:])\nexcept AssertionError:\n    pass\n"
    )
    arguments = ["apply-event", "-s", server.address, "-i", "none", "-e", "E", "--expected-wal-offset", "5"]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert "INSTANCE_NOT_FOUND" in done.stderr
    imported = set(done.stdout.split())
    assert {"typer", "rstmdb_client"} <= imported
    assert not imported & {"rich", "prompt_toolkit", "pydantic", "yaml", "rstmdb_core", "rstmdb_server"}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory, running_server() as running:
        for shown in (["hash-token", "secret"], ["ping"], ["list-machines"]):
            found = ratio(shown, Path(directory), {"RSTMDB_SERVER": running.address})
            print(f"rstmdb-cli {' '.join(shown):<20} {found:.2f} x python -c 'import typer'")
