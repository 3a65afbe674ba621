"""The checker is under test too: each promise, broken once, is noticed."""

from __future__ import annotations

import pytest

from tests.simulation.history import Entry, Shadow, Violation


def shadow_of(*bodies: bytes, acknowledged: int, safe: int = 0) -> Shadow:
    shadow = Shadow()
    for number, body in enumerate(bodies, start=1):
        shadow.issue(number, 1, body)
    shadow.acknowledge(acknowledged)
    shadow.secure(safe)
    return shadow


def entries(*bodies: bytes) -> list[Entry]:
    return [Entry(number, 1, body) for number, body in enumerate(bodies, start=1)]


def test_what_was_acknowledged_must_be_there_and_more_may_be():
    for found in (entries(b"a", b"b"), entries(b"a", b"b", b"c")):
        shadow = shadow_of(b"a", b"b", b"c", acknowledged=2)
        shadow.judge(found, 4)
        assert shadow.acknowledged == shadow.safe == len(found)
    with pytest.raises(Violation, match="only 1 of 2"):
        shadow_of(b"a", b"b", b"c", acknowledged=2).judge(entries(b"a"), 4)


def test_after_a_power_loss_only_what_is_safe_must_be_there():
    shadow = shadow_of(b"a", b"b", b"c", acknowledged=3, safe=1)
    shadow.die(power_lost=True)
    shadow.judge(entries(b"a"), 4)
    shadow = shadow_of(b"a", b"b", b"c", acknowledged=3, safe=2)
    shadow.die(power_lost=True)
    with pytest.raises(Violation, match="only 1 of 2"):
        shadow.judge(entries(b"a"), 4)


def test_a_kill_takes_nothing_that_was_acknowledged():
    shadow = shadow_of(b"a", b"b", acknowledged=2, safe=0)
    shadow.die(power_lost=False)
    with pytest.raises(Violation, match="only 1 of 2"):
        shadow.judge(entries(b"a"), 4)


@pytest.mark.parametrize(
    "found",
    [
        entries(b"a", b"x"),  # other contents
        entries(b"a", b"b", b"c", b"d"),  # invented
        entries(b"b"),  # the first is missing
        [Entry(1, 1, b"a"), Entry(3, 1, b"c")],  # a hole
        [Entry(1, 2, b"a")],  # another number of effects
        [Entry(2, 1, b"a")],  # another sequence
    ],
)
def test_only_a_beginning_of_what_was_issued_may_be_there(found):
    with pytest.raises(Violation, match="not a beginning"):
        shadow_of(b"a", b"b", b"c", acknowledged=0).judge(found, 9)


def test_a_number_that_was_shown_never_comes_again():
    shadow = shadow_of(b"a", b"b", acknowledged=2, safe=1)
    shadow.die(power_lost=True)
    with pytest.raises(Violation, match="would come again"):
        shadow.copy().judge(entries(b"a"), 2)
    shadow.judge(entries(b"a"), 3)
    with pytest.raises(Violation, match="comes again"):
        shadow.issue(2, 1, b"c")
    shadow.issue(3, 1, b"c")
    with pytest.raises(Violation, match="given out twice"):
        shadow.issue(3, 1, b"d")


def test_history_is_complete_from_where_it_must_be_kept():
    shadow = shadow_of(b"a", b"b", b"c", acknowledged=3)
    shadow.judge_history(1, entries(b"a", b"b", b"c"))
    with pytest.raises(Violation, match="1 was to stay"):
        shadow.judge_history(2, entries(b"a", b"b", b"c")[1:])
    shadow.trimmed = 2
    shadow.judge_history(2, entries(b"a", b"b", b"c")[1:])
    with pytest.raises(Violation, match="reads otherwise"):
        shadow.judge_history(2, entries(b"a", b"b", b"c")[2:])


def test_promises_are_copied_not_shared():
    shadow = shadow_of(b"a", acknowledged=0)
    other = shadow.copy()
    assert other.key() == shadow.key()
    other.acknowledge(1)
    assert other.key() != shadow.key()
    assert shadow.acknowledged == 0
