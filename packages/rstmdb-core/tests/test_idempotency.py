"""Keys: exactly once, durable, bounded in time and bytes, the same after a replay."""

import gc
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rstmdb_core import ApplyEvent, CreateInstance, DeleteInstance, EngineSettings, digest
from rstmdb_core.idempotency import (
    ENTRY_BYTES,
    EXPIRED_A_RECORD_MAX,
    Applied,
    BoundedTable,
    KeyEntry,
    entry_size,
    fingerprint,
    key_scope,
    scope_owner,
)


def test_a_retry_is_answered_and_not_applied(engine):
    for command in (
        CreateInstance("o", "order", 1, b'{"a":1}', "k"),
        ApplyEvent("o", "PAY", b'{"a":2}', event_id="e", idempotency_key="k"),
        DeleteInstance("o", "k"),
    ):
        first = engine.do(command)
        assert engine.do(command) == {**first, "applied": False}
    assert engine.state.next_sequence == 5
    engine.check()


def test_a_key_is_looked_up_before_anything_else(engine):
    engine.do(CreateInstance("o", "order", 1))
    engine.do(ApplyEvent("o", "PAY", idempotency_key="k"))
    engine.do(DeleteInstance("o"))
    # The instance is gone, the state and the offset are not the expected ones: the answer stays.
    retry = ApplyEvent("o", "PAY", b"", "created", 2, "other", "k")
    answer = engine.do(retry)
    assert (answer["applied"], answer["to_state"], answer["wal_offset"]) == (False, "paid", 3)
    # And after the id was used again.
    engine.do(CreateInstance("o", "order", 1))
    assert engine.do(retry)["wal_offset"] == 3
    engine.check()


@pytest.mark.parametrize(
    "other",
    [
        ApplyEvent("o", "NOTE", b'{"a":1}', idempotency_key="k"),
        ApplyEvent("o", "PAY", b'{"a":2}', idempotency_key="k"),
        ApplyEvent("o", "PAY", b'{"a":1.0}', idempotency_key="k"),
        ApplyEvent("o", "PAY", idempotency_key="k"),
    ],
)
def test_a_key_with_another_request_is_a_conflict(engine, other):
    engine.do(CreateInstance("o", "order", 1))
    engine.do(ApplyEvent("o", "PAY", b'{"a":1}', idempotency_key="k"))
    refusal = engine.refuse(other)
    assert (refusal.code, refusal.details) == ("CONFLICT", {"reason": "IDEMPOTENCY_KEY_REUSED"})


def test_the_order_of_keys_in_a_document_is_not_part_of_the_request(engine):
    engine.do(CreateInstance("o", "order", 1, b'{"x":1,"y":{"b":1,"a":2}}', "k"))
    assert engine.do(CreateInstance("o", "order", 1, b'{"y":{"a":2, "b":1},"x":1}', "k"))["applied"] is False


def test_scopes_do_not_touch_each_other(engine):
    engine.do(CreateInstance("o", "order", 1, b"", "k"))
    engine.do(CreateInstance("p", "order", 1, b"", "k"))
    first = engine.do(CreateInstance(None, "order", 1, b"", "k"))
    assert engine.do(CreateInstance(None, "order", 1, b"", "k")) == {**first, "applied": False}
    assert engine.do(ApplyEvent("o", "PAY", idempotency_key="k"))["applied"] is True
    assert engine.do(ApplyEvent("p", "PAY", idempotency_key="k"))["applied"] is True
    assert engine.do(DeleteInstance("o", "k"))["wal_offset"] == 7


def test_an_owner_and_a_key_cannot_be_mixed_up():
    assert key_scope("A", "ab", "c") != key_scope("A", "a", "bc")
    assert key_scope("A", "1:a", "b") != key_scope("A", "1", "ab")
    assert scope_owner(key_scope("A", "12:3", "x:y")) == "12:3"
    assert fingerprint(b"ab", b"c") != fingerprint(b"a", b"bc")


def test_refusals_store_nothing(engine):
    engine.refuse(ApplyEvent("o", "PAY", idempotency_key="k"))
    engine.do(CreateInstance("o", "order", 1))
    assert engine.do(ApplyEvent("o", "PAY", idempotency_key="k"))["applied"] is True


def test_a_second_delete_with_a_new_key_stores_nothing(engine):
    engine.do(CreateInstance("o", "order", 1))
    engine.do(DeleteInstance("o", "k1"))
    assert engine.decide(DeleteInstance("o", "k2")).record is None


@pytest.mark.parametrize(("ttl", "life_ms"), [(None, 60_000), (5, 5_000), (600, 60_000)])
def test_a_key_lives_as_long_as_was_said(make_engine, ttl, life_ms):
    engine = make_engine(idempotency_retention_ms=60_000)
    engine.do(CreateInstance("o", "order", 1))
    command = ApplyEvent("o", "NOTE", idempotency_key="k", idempotency_ttl_secs=ttl)
    engine.do(command)
    engine.now += life_ms - 1
    assert engine.do(command)["applied"] is False
    engine.now += 1
    assert engine.do(command)["applied"] is True
    engine.check()


def test_expired_keys_are_forgotten_by_a_later_record(make_engine):
    engine = make_engine(idempotency_retention_ms=10_000)
    engine.do(CreateInstance("o", "order", 1))
    for number in range(50):
        engine.do(ApplyEvent("o", "NOTE", idempotency_key=f"k{number}"))
        engine.now += 10
    engine.now += 20_000
    assert engine.state.idempotency.count == 50
    engine.do(ApplyEvent("o", "NOTE"))
    assert engine.state.idempotency.count == engine.state.idempotency.size_bytes == 0
    engine.check()


def test_bytes_are_bounded_and_the_oldest_go_first(make_engine):
    engine = make_engine(idempotency_bytes_max=5_000)
    engine.do(CreateInstance("o", "order", 1))
    for number in range(100):
        engine.do(ApplyEvent("o", "NOTE", b'{"a":"%b"}' % (b"x" * number), idempotency_key=f"k{number}"))
        assert engine.state.idempotency.size_bytes <= 5_000
        engine.check()
    kept = engine.state.idempotency.count
    assert 5 <= kept <= 5_000 // ENTRY_BYTES
    assert (
        engine.do(ApplyEvent("o", "NOTE", b'{"a":"%b"}' % (b"x" * 99), idempotency_key="k99"))["applied"]
        is False
    )
    oldest = 99 - kept
    assert engine.do(ApplyEvent("o", "NOTE", idempotency_key=f"k{oldest}"))["applied"] is True


def test_an_answer_larger_than_the_budget_is_not_kept(make_engine):
    engine = make_engine(idempotency_bytes_max=1_000)
    engine.do(CreateInstance("o", "order", 1))
    engine.do(ApplyEvent("o", "NOTE", b'{"a":"%b"}' % (b"x" * 2_000), idempotency_key="k"))
    assert engine.state.idempotency.count == 0
    engine.check()


def test_other_settings_never_make_a_log_unreadable(make_engine):
    engine = make_engine()
    for number in range(200):
        engine.do(CreateInstance(f"o{number}", "order", 1, b'{"a":1}', "k"))
        if number % 3 == 0:
            engine.do(DeleteInstance(f"o{number}", "k"))
        engine.now += 700
    for changed in (
        EngineSettings(idempotency_bytes_max=1_000, idempotency_retention_ms=1, tombstone_bytes_max=500),
        EngineSettings(machines_max=0, definition_bytes_max=1, ctx_bytes_max=1, answer_bytes_max=1),
        EngineSettings(allow_instance_recreate=False, batch_operations_max=0),
    ):
        replica = engine.replayed(changed)
        assert replica.instances == engine.state.instances
        assert digest(replica) == digest(engine.replayed(changed))
        assert engine.loaded(changed).instances == engine.state.instances


def test_tombstones_are_bounded(make_engine):
    engine = make_engine(tombstone_bytes_max=3_000)
    for number in range(50):
        engine.do(CreateInstance(f"o{number}", "order", 1))
        engine.do(DeleteInstance(f"o{number}"))
    assert 5 <= engine.state.tombstones.count <= 10
    assert engine.refuse(DeleteInstance("o0")).code == "INSTANCE_NOT_FOUND"
    engine.do(DeleteInstance("o49"))
    engine.check()


def test_an_answer_shares_the_context_of_its_instance(engine):
    engine.do(CreateInstance("o", "order", 1))
    engine.do(ApplyEvent("o", "NOTE", b'{"a":1}', idempotency_key="k"))
    for state in (engine.state, engine.replayed(), engine.loaded()):
        entry = state.idempotency.get(key_scope("A", "o", "k"))
        assert isinstance(entry.answer, Applied)
        assert entry.answer.ctx is state.instance("o").ctx


def test_many_keys_that_expire_together_go_a_few_a_record(make_engine):
    engine = make_engine()
    engine.do(CreateInstance("o", "order", 1))
    for number in range(1_000):
        engine.do(ApplyEvent("o", "NOTE", idempotency_key=f"k{number}", idempotency_ttl_secs=1))
    engine.now += 10_000
    # One that is still there has expired all the same.
    assert engine.do(ApplyEvent("o", "NOTE", b'{"n":1}', idempotency_key="k999"))["applied"]
    records = 0
    while (count := engine.state.idempotency.count) > 1:
        engine.do(ApplyEvent("o", "NOTE"))
        records += 1
        assert 0 < count - engine.state.idempotency.count <= EXPIRED_A_RECORD_MAX
    assert records == 1_000 // EXPIRED_A_RECORD_MAX
    engine.check()


@pytest.mark.parametrize("churn", ["budget", "replaced", "discarded"])
def test_what_has_gone_before_its_time_takes_no_memory(churn):
    """For a day, the table once kept the place of every entry that the budget had pushed out."""
    table = BoundedTable()

    def turn_over(times):
        for number in range(times):
            ordinal = table.table.next_ordinal
            name = ordinal if churn == "budget" else number % 100
            # Lives of a day, and a second more every now and then: many buckets come and go.
            table.put(entry(name, 86_400_000 + ordinal * 50, ordinal))
            table.evict(0, 1_000)
            if churn == "discarded":
                table.discard(f"k{name}")

    turn_over(5_000)
    gc.collect()
    tracemalloc.start()
    try:
        turn_over(100_000)
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert table.count <= 100
    # A hundred entries are made anew all the time; each is some 300 bytes.
    assert kept < 150_000


def entry(key, expires_ms, ordinal):
    return KeyEntry(f"k{key}", b"", b"", expires_ms, 10, ordinal)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 8), st.integers(0, 40_000), st.sampled_from([0, 0, 10, 900, 5_000, 10**8])),
        max_size=60,
    ),
    st.integers(0, 80),
)
def test_the_table_keeps_what_a_list_would(steps, bytes_max):
    table = BoundedTable()
    kept = []
    now = 0
    for key, life, wait in steps:
        now += wait
        new = entry(key, now + life, table.table.next_ordinal)
        table.put(new)
        table.evict(now, bytes_max)
        kept = [old for old in kept if old.key != new.key] + [new]
        # Time is looked at in buckets: what expired in the current one may stay a little longer.
        kept = [old for old in kept if old.expires_ms >> 10 >= now >> 10]
        kept = kept[len(kept) - min(len(kept), bytes_max // 10) :]
        assert list(table.values()) == kept
        assert table.count == len(kept)
        assert table.size_bytes == 10 * len(kept)
        assert all(table.get(old.key) is old for old in kept)
    table.clear()
    assert table.count == table.size_bytes == 0


@pytest.mark.parametrize("shape", ["plain", "event ids", "wide texts", "few among many"])
def test_keys_take_what_is_charged_for_them(shape):
    """Event ids were not charged, wide characters as one byte, and a lonely key held a page of its own."""

    def filled(times):
        table = BoundedTable()
        for number in range(times):
            scope = f"A5:{number:05}k{number}" if shape != "wide texts" else f"A2:🜂{'x' * 240}{number}"
            event_id = f"{number:0250}" if shape == "event ids" else None
            answer = Applied("a", "b", b"{}", 2**40 + number, event_id)
            ordinal = number * 2_000 if shape == "few among many" else number
            expires_ms = 2**40 + number * 3
            table.put(
                KeyEntry(
                    scope, bytes([number % 256] * 16), answer, expires_ms, entry_size(scope, answer), ordinal
                )
            )
        return table

    filled(100)
    gc.collect()
    tracemalloc.start()
    try:
        table = filled(5_000)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The odd page and bucket weighs more than the average that an entry is charged with.
    assert taken < table.size_bytes * (1.05 if shape != "few among many" else 1.7), taken / table.count


def test_a_smaller_budget_counts_from_the_start(make_engine):
    engine = make_engine()
    for number in range(300):
        engine.do(CreateInstance(f"o{number}", "order", 1, idempotency_key="k"))
        engine.do(DeleteInstance(f"o{number}"))
    loaded = engine.loaded(EngineSettings(idempotency_bytes_max=6_000, tombstone_bytes_max=5_000))
    assert 5 <= loaded.idempotency.count <= 12
    assert 5 <= loaded.tombstones.count <= 13
    assert engine.loaded().idempotency.count == 300
