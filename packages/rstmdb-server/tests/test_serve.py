"""Reloading a serving process: however it ends, the service manager hears that it is over."""

import asyncio
from typing import Any

import pytest
import structlog

from rstmdb_server.serve import ServerProcess
from rstmdb_server.settings import ConfigError, Settings

pytestmark = pytest.mark.asyncio


class Manager:
    """What the service manager was told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def reloading(self) -> None:
        self.said.append("RELOADING")

    def ready(self, status: str = "") -> None:
        self.said.append("READY")


def reloadable(take_over: Any) -> tuple[ServerProcess, Manager]:
    process, manager = ServerProcess(Settings(), config_path=None), Manager()
    process._log = structlog.get_logger("test")
    process._notify = manager  # type: ignore[assignment]
    process._take_over = take_over  # type: ignore[method-assign]
    return process, manager


@pytest.mark.parametrize(
    "error", [None, ConfigError("wrong"), OSError("no descriptors"), RuntimeError("a mistake")]
)
async def test_a_reload_ends_in_ready(error: Exception | None) -> None:
    async def take_over() -> None:
        if error is not None:
            raise error

    process, manager = reloadable(take_over)
    process._listening.set()
    await process._reload()
    await process._reload()
    assert manager.said == ["RELOADING", "READY"] * 2


async def test_reloads_come_one_after_the_other() -> None:
    inside: list[int] = []

    async def take_over() -> None:
        inside.append(1)
        assert len(inside) == 1
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        inside.pop()

    process, manager = reloadable(take_over)
    process._listening.set()
    await asyncio.gather(*(process._reload() for _ in range(5)))
    assert manager.said == ["RELOADING", "READY"] * 5


async def test_a_reload_during_recovery_is_done_when_there_is_something_to_reload() -> None:
    done = asyncio.Event()

    async def take_over() -> None:
        done.set()

    process, manager = reloadable(take_over)
    reload = asyncio.ensure_future(process._reload())
    for _ in range(5):
        await asyncio.sleep(0)
    assert manager.said == []
    process._listening.set()
    await reload
    assert done.is_set()


async def test_a_server_that_stops_does_not_reload() -> None:
    async def take_over() -> None:
        raise AssertionError("too late")

    process, manager = reloadable(take_over)
    process._listening.set()
    process._stop.set()
    await process._reload()
    assert manager.said == []
