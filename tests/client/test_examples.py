"""Every example runs, and does what it says."""

import importlib
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from rstmdb_client.testing import RstmdbServer

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name: str) -> Any:
    return importlib.import_module(f"examples.{name}")


def test_order_processing(rstmdb_server: RstmdbServer) -> None:
    assert load("order_processing").main(rstmdb_server.url) == ["created", "paid", "shipped"]


def test_approval_workflow(rstmdb_server: RstmdbServer) -> None:
    state, expense = load("approval_workflow").main(rstmdb_server.url)
    assert (state, expense.reviewer, expense.amount) == ("approved", "ann", 120.5)


def test_device_management(rstmdb_server: RstmdbServer) -> None:
    alarms = anyio.run(load("device_management").main, rstmdb_server.url, 300)
    assert alarms == {"device-0", "device-100", "device-200"}


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_game_sessions(rstmdb_server: RstmdbServer, backend: str) -> None:
    board = anyio.run(load("game_sessions").main, rstmdb_server.url, backend=backend)
    assert {name: board[f"field_{name}"] for name in (0, 4, 8, 1, 2, 3)} == {
        0: "x",
        4: "x",
        8: "x",
        1: "o",
        2: "o",
        3: "o",
    }


def test_saga_coordinator(rstmdb_server: RstmdbServer) -> None:
    end, called = load("saga_coordinator").main(rstmdb_server.url)
    assert end == "undone"
    assert called == ["book flight", "book hotel", "cancel hotel", "cancel flight"]


def test_cqrs_projection(rstmdb_server: RstmdbServer, tmp_path: Path) -> None:
    path = str(tmp_path / "orders.sqlite")
    assert load("cqrs_projection").main(rstmdb_server.url, path) == {"created": 2, "paid": 2, "shipped": 2}
    assert load("cqrs_projection").main(rstmdb_server.url, path) == {"created": 4, "paid": 4, "shipped": 4}


def test_audit_log(rstmdb_server: RstmdbServer, capsys: pytest.CaptureFixture[str]) -> None:
    history = load("audit_log").main(rstmdb_server.url)
    assert [change["type"] for change in history] == ["create_instance"] + ["apply_event"] * 3
    assert "ann" in capsys.readouterr().out


def test_fastapi_service(rstmdb_server: RstmdbServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSTMDB_URL", rstmdb_server.url)
    app = load("fastapi_service").app

    async def requests() -> None:
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://example") as web,
        ):
            ticket = (await web.post("/tickets", json={"title": "it burns"})).json()["id"]
            assert (await web.get(f"/tickets/{ticket}")).json()["state"] == "open"
            assert (await web.post(f"/tickets/{ticket}/close")).status_code == 409
            once = {"Idempotency-Key": "k"}
            first = await web.post(f"/tickets/{ticket}/assign", json={"assignee": "ann"}, headers=once)
            assert first.json() == {"id": ticket, "state": "assigned", "applied": True}
            again = await web.post(f"/tickets/{ticket}/assign", json={"assignee": "ann"}, headers=once)
            assert again.json()["applied"] is False
            assert (await web.get(f"/tickets/{ticket}")).json()["assignee"] == "ann"
            assert (await web.get("/tickets/nobody")).status_code == 404

    anyio.run(requests)


def test_no_example_is_forgotten() -> None:
    names = {path.stem for path in EXAMPLES.glob("*.py")} - {"__init__"}
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert names <= tested
    assert all(f"[{name}.py]({name}.py)" in (EXAMPLES / "README.md").read_text() for name in names)
