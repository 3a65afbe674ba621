"""The fold: in order, or not at all; and the figures of the state."""

import pytest

from rstmdb_core import ApplyEvent, CreateInstance, DeleteInstance, Record, SequenceError, State, apply


def test_a_record_out_of_order_is_refused(engine):
    outcome = engine.decide(CreateInstance("o", "order", 1))
    apply(engine.state, outcome.record)
    with pytest.raises(SequenceError, match="starts at sequence 2, expected 3") as caught:
        apply(engine.state, outcome.record)
    assert (caught.value.expected, caught.value.actual) == (3, 2)
    assert engine.state.instance_count == 1


def test_the_sequence_may_jump_and_the_count_does_not(engine):
    engine.do(CreateInstance("o", "order", 1))
    engine.state.skip_to(1 << 20)
    assert engine.do(ApplyEvent("o", "PAY"))["wal_offset"] == 1 << 20
    assert engine.state.entry_count == 3
    engine.check()


def test_the_sequence_never_goes_back():
    state = State()
    state.skip_to(10)
    with pytest.raises(AssertionError):
        state.skip_to(9)
    with pytest.raises(SequenceError):
        apply(state, Record(1, 0, ()))


def test_figures(engine):
    for number in range(5):
        engine.do(CreateInstance(f"o{number}", "order", 1))
    engine.do(ApplyEvent("o1", "PAY"))
    engine.do(DeleteInstance("o2"))
    for state in (engine.state, engine.loaded(), engine.replayed()):
        assert state.counts_by_state() == {("order", "created"): 3, ("order", "paid"): 1}
        assert state.instance_count == 4
        assert state.machine_version_count == 1
        assert state.machine_of("o1") == "order"
        assert state.machine_of("o2") is None
        assert state.instance("o2") is None
        assert state.entry_count == 8
        assert state.tombstones.count == 1


def test_time_never_goes_back(engine):
    engine.do(CreateInstance("o", "order", 1))
    engine.now = 5
    outcome = engine.decide(ApplyEvent("o", "PAY"))
    assert outcome.record.time_ms == 1_000_000
