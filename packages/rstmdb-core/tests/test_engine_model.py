"""The engine against a model that shares no code with it, over every operation, with restarts.

Each shard runs Hypothesis over strings of bytes from which the driver reads its decisions; the counts of all
shards are printed at the end of the test run (conftest.py).
"""

import random
from collections import Counter

import pytest
from core_model.driver import Driver
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

import rstmdb_core.batch
import rstmdb_core.fold
import rstmdb_core.operations
from rstmdb_core.errors import DumpError
from rstmdb_core.idempotency import BoundedTable, fingerprint
from rstmdb_core.index import OrdinalSet
from rstmdb_core.table import PagedTable
from rstmdb_core.view import Staging

SHARDS = 4
LEAST = {"operations": 25_000, "batches": 1_250, "duplicates": 1_250, "conflicts": 1_250, "restarts": 1_250}
"""What each shard must do, so that together they do 100,000 operations and 5,000 of each of the others."""


@pytest.mark.parametrize("shard", range(SHARDS))
def test_engine_does_what_the_model_does(shard, record_property):
    total = Counter()

    @settings(
        max_examples=140,
        deadline=None,
        database=None,
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            HealthCheck.large_base_example,
        ],
    )
    @given(data=st.binary(min_size=4000, max_size=4000))
    def drive(data):
        total.update(Driver(data).run())

    drive()
    # Hypothesis may find its examples few of a kind; plain chance fills up what is missing.
    chance = random.Random()
    while any(total[name] < least for name, least in LEAST.items()):
        total.update(Driver(chance.randbytes(4000)).run())
    record_property("engine_model", dict(total))
    assert all(total[name] >= least for name, least in LEAST.items())


def _blind_to_payload(monkeypatch):
    monkeypatch.setattr(
        rstmdb_core.operations, "apply_mark", lambda event, payload: fingerprint(event.encode())
    )


def _guards_ignored(monkeypatch):
    monkeypatch.setattr(rstmdb_core.operations, "choose", lambda options, context: options[0])


def _index_keeps_the_old_state(monkeypatch):
    monkeypatch.setattr(OrdinalSet, "remove", lambda self, ordinal: None)


def _pages_not_copied(monkeypatch):
    monkeypatch.setattr(PagedTable, "_own", lambda self, number: self.pages[number])


def _batch_blind_to_itself(monkeypatch):
    def take(self, effect, key):
        self.next_sequence += 1

    monkeypatch.setattr(Staging, "take", take)


def _event_id_kept(monkeypatch):
    right = rstmdb_core.fold.advanced

    def advanced(instance, effect, state, sequence, time_ms):
        after = right(instance, effect, state, sequence, time_ms)
        return after if after.last_event_id else replace(after, last_event_id=instance.last_event_id)

    monkeypatch.setattr(rstmdb_core.fold, "advanced", advanced)


def _keys_never_expire(monkeypatch):
    right = rstmdb_core.operations.key_expiry
    monkeypatch.setattr(
        rstmdb_core.operations, "key_expiry", lambda view, ttl, time: right(view, None, time) + 10**9
    )


def _eviction_by_count_of_calls(monkeypatch):
    """Forget a key now and then, as an eviction outside `apply` would."""
    right = BoundedTable.evict
    calls = []

    def evict(self, time_ms, bytes_max):
        right(self, time_ms, bytes_max)
        calls.append(None)
        if len(calls) % 97 == 0 and self.count:
            self.discard(self.table.oldest().key)

    monkeypatch.setattr(BoundedTable, "evict", evict)


def _replay_applied_twice(monkeypatch):
    monkeypatch.setattr(rstmdb_core.operations, "_remembered", lambda view, scope, mark, time_ms: None)


@pytest.mark.parametrize(
    "plant",
    [
        _blind_to_payload,
        _guards_ignored,
        _index_keeps_the_old_state,
        _pages_not_copied,
        _batch_blind_to_itself,
        _event_id_kept,
        _keys_never_expire,
        _eviction_by_count_of_calls,
        _replay_applied_twice,
    ],
)
def test_planted_fault_is_caught(plant, monkeypatch):
    chance = random.Random(7)
    plant(monkeypatch)
    # Whatever goes wrong first counts: a disagreement, or the engine stumbling over its own state.
    with pytest.raises((AssertionError, KeyError, DumpError)):
        _run_many(chance)


def _run_many(chance):
    for _ in range(40):
        Driver(chance.randbytes(4000)).run()
