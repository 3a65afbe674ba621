"""Data of every format that was ever released opens, whole, and goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from rstmdb_core import digest
from tests.upgrade.golden import DATA, Caller, open_server, write

GOLDEN = sorted(path.name for path in DATA.iterdir())


@pytest.mark.parametrize("name", GOLDEN)
def test_a_golden_directory_opens_and_goes_on(name: str, tmp_path: Path) -> None:
    shutil.copytree(DATA / name, tmp_path / name)
    expected = json.loads((tmp_path / name / "expected.json").read_text())
    server = open_server(tmp_path / name / "data")
    assert digest(server.database.state) == expected["digest"]
    assert server.database.state.next_sequence == expected["next_sequence"]
    assert server.database.recovered.snapshot is not None
    assert server.database.recovered.records > 0
    caller = Caller(server)
    for op, params, answer in expected["replays"]:
        assert caller.call(op, **params) == {**answer, "applied": False}
    applied = caller.call("APPLY_EVENT", instance_id="order-20", event="SHIP")
    assert applied["wal_offset"] == expected["next_sequence"]
    server.database.close()
    again = open_server(tmp_path / name / "data")
    assert Caller(again).call("GET_INSTANCE", instance_id="order-20")["state"] == "shipped"
    again.database.close()


def test_the_newest_golden_directory_is_what_this_version_writes(tmp_path: Path) -> None:
    """When this fails the format has changed: keep the old directory and write a new one beside it."""
    write(tmp_path)
    newest = json.loads((DATA / GOLDEN[-1] / "expected.json").read_text())
    written = json.loads((tmp_path / "expected.json").read_text())
    assert written == newest
    for path in sorted((tmp_path / "data" / "wal").glob("*.wal")):
        kept = DATA / GOLDEN[-1] / "data" / "wal" / path.name
        assert path.read_bytes() == kept.read_bytes(), path.name
