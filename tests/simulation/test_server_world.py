"""The whole server from seeds: some in every test run, and proof that it would notice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from rstmdb_core import idempotency
from rstmdb_server import subscription as subscriptions
from rstmdb_server.outbox import Outbox
from rstmdb_server.subscription import Subscription
from rstmdb_server.watch import WatchHub
from tests.simulation.server_world import Figures, run_seeds

SEEDS = 150


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """The server tells of every failed sync that is injected; nobody wants to read it."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    yield
    structlog.configure(**before)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", [1, 10_001])
def test_seeds(first: int, record_property: Callable[[str, object], None]) -> None:
    figures = run_seeds(first, SEEDS, Figures())
    record_property("server_world", str(figures))
    assert not figures.findings, figures.findings
    assert figures.acknowledged > 100 * SEEDS
    assert figures.kills > SEEDS
    assert figures.power_losses > SEEDS / 10
    assert figures.failed_syncs > SEEDS / 10
    assert figures.events > figures.acknowledged / 2


def test_a_seed_gives_the_same_world_twice() -> None:
    runs = [run_seeds(77, 1, Figures()) for _ in range(2)]
    for run in runs:
        run.seconds = 0.0
    assert runs[0] == runs[1]


def _answers_before_their_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    flush = Outbox._flush

    def early(self: Outbox, session: Any, durable: int, *rest: Any) -> None:
        flush(self, session, durable + 1, *rest)

    monkeypatch.setattr(Outbox, "_flush", early)


def _events_before_their_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = Outbox.answer

    def eager(self: Outbox, *args: Any) -> None:
        answer(self, *args)
        database = self._database
        while database.unpublished:
            self._hub.publish([database.unpublished.popleft()], database.appended_sequence)

    monkeypatch.setattr(Outbox, "answer", eager)


def _hand_over_loses_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    go_live = WatchHub._go_live

    def skipping(self: WatchHub, subscription: Subscription) -> None:
        if subscription.phase is subscriptions.Phase.LAGGING:
            subscription.cursor += 1
        go_live(self, subscription)

    monkeypatch.setattr(WatchHub, "_go_live", skipping)


def _keys_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency.BoundedTable, "put", lambda _self, _entry: None)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "plant",
    [_answers_before_their_sync, _events_before_their_sync, _hand_over_loses_an_event, _keys_are_forgotten],
)
def test_a_planted_fault_is_caught(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    for seed in range(1, 101):
        if run_seeds(seed, 1, Figures()).findings:
            return
    raise AssertionError("a hundred seeds did not notice")
