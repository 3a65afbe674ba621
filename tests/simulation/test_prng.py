from __future__ import annotations

from tests.simulation.prng import Prng


def test_the_same_seed_gives_the_same_values_for_ever():
    # Written down once: a change of these values would make every recorded seed worthless.
    prng = Prng(7)
    assert [prng.below(1000) for _ in range(6)] == [425, 551, 524, 892, 657, 127]


def test_a_fork_depends_on_its_name_and_not_on_what_was_drawn():
    one, other = Prng(3), Prng(3)
    other.random()
    assert one.fork("disk").bytes(8) == other.fork("disk").bytes(8)
    assert one.fork("disk").bytes(8) != one.fork("net").bytes(8)


def test_draws_stay_in_their_bounds_and_reach_them():
    prng = Prng("bounds")
    assert {prng.below(3) for _ in range(200)} == {0, 1, 2}
    assert {prng.between(2, 4) for _ in range(200)} == {2, 3, 4}
    assert {prng.pick("ab") for _ in range(100)} == {"a", "b"}
    assert not prng.chance(0)
    assert prng.chance(1)
    assert {prng.weighted({"never": 0, "always": 2}) for _ in range(100)} == {"always"}
    items = list(range(20))
    prng.shuffle(items)
    assert items != sorted(items)
    assert sorted(items) == list(range(20))
    assert prng.subset(items, 0) == []
    assert prng.subset(items, 1) == items
