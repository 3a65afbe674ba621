"""What type checkers see: every public name has a type, and results carry the caller's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1]
PROGRAM = """
from dataclasses import dataclass
from typing import Any, TypedDict, assert_type

import msgspec
import pydantic

from rstmdb_client import (
    Applied, AsyncClient, AsyncWatch, BatchSlot, Client, Created, Deleted, Instance, Pool, Watch, WatchEvent,
)


@dataclass
class Plain:
    total: int


class Typed(TypedDict):
    total: int


class Compact(msgspec.Struct):
    total: int


class Model(pydantic.BaseModel):
    total: int


async def asynchronous(client: AsyncClient) -> None:
    assert_type(await client.get_instance("i"), Instance[dict[str, Any]])
    assert_type((await client.get_instance("i")).ctx, dict[str, Any])
    assert_type((await client.get_instance("i", ctx_type=Plain)).ctx, Plain)
    assert_type((await client.get_instance("i", ctx_type=Typed)).ctx["total"], int)
    assert_type((await client.get_instance("i", ctx_type=Compact)).ctx, Compact)
    assert_type(await client.apply_event("i", "E", ctx_type=Model), Applied[Model])
    assert_type(await client.apply_event("i", "E"), Applied[dict[str, Any]])
    assert_type(await client.create_instance("m", 1), Created)
    assert_type(client.watch_all(ctx_type=Plain), AsyncWatch[Plain])
    async with client.watch_instance("i") as watch:
        assert_type(watch, AsyncWatch[dict[str, Any]])
        async for event in watch:
            assert_type(event, WatchEvent[dict[str, Any]])
    async with client.batch() as batch:
        assert_type(batch.delete_instance("i"), BatchSlot[Deleted])
    async for summary in client.iter_instances():
        assert_type(summary.state, str)
    async with AsyncClient() as entered:
        assert_type(entered, AsyncClient)
    assert_type(await AsyncClient.connect(), AsyncClient)


def synchronous(client: Client, pool: Pool) -> None:
    assert_type(client.get_instance("i", ctx_type=Plain).ctx, Plain)
    assert_type(client.apply_event("i", "E", ctx_type=Model).ctx, Model)
    assert_type(client.apply_event("i", "E").ctx, dict[str, Any])
    assert_type(client.ping(), float)
    for event in client.watch_all(ctx_type=Compact):
        assert_type(event.ctx, Compact | None)
    assert_type(client.watch_instance("i", ctx_type=Plain), Watch[Plain])
    with pool.client() as lent:
        assert_type(lent, Client)
"""


def environment() -> dict[str, str]:
    paths = [PACKAGE / "src", PACKAGE.parent / "rstmdb-protocol" / "src", *map(Path, sys.path)]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {
        **os.environ,
        "PATH": path,
        "PYTHONPATH": os.pathsep.join(str(one) for one in paths if one.is_dir()),
    }


def check(*command: str, cwd: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", *command],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env=environment(),
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_results_carry_the_callers_type(checker: str, tmp_path: Path) -> None:
    pytest.importorskip(checker)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    if checker == "mypy":
        (tmp_path / "mypy.ini").write_text("[mypy]\nstrict = True\n")
        paths = ":".join(str(PACKAGE.parent / name / "src") for name in ("rstmdb-client", "rstmdb-protocol"))
        (tmp_path / "mypy.ini").write_text(f"[mypy]\nstrict = True\nmypy_path = {paths}\n")
        check("mypy", str(program), cwd=tmp_path)
    else:
        check("pyright", str(program), cwd=tmp_path)


def test_every_public_name_has_a_type(tmp_path: Path) -> None:
    pytest.importorskip("pyright")
    check("pyright", "--verifytypes", "rstmdb_client", "--ignoreexternal", cwd=tmp_path)
