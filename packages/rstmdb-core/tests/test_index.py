"""The index against plain sets."""

import time
from itertools import islice

from hypothesis import given, settings
from hypothesis import strategies as st

from rstmdb_core.index import InstanceIndex, OrdinalSet, ordinals_after, ordinals_from_rank

ordinals = st.sets(
    st.one_of(st.integers(0, 40), st.integers(250, 260), st.integers(0, 5_000), st.just(10**12)), max_size=120
)


def filled(members):
    found = OrdinalSet("x")
    for ordinal in members:
        found.add(ordinal)
    return found


@settings(max_examples=300, deadline=None)
@given(ordinals, st.data())
def test_a_set_in_order(members, data):
    found = filled(data.draw(st.permutations(sorted(members))))
    gone = data.draw(st.sets(st.sampled_from(sorted(members)))) if members else set()
    for ordinal in gone:
        found.remove(ordinal)
    left = sorted(members - gone)
    assert found.count == len(left)
    assert list(found.after(-1)) == left
    at = data.draw(st.integers(-1, 5_001))
    assert list(found.after(at)) == [ordinal for ordinal in left if ordinal > at]
    rank = data.draw(st.integers(0, len(left) + 2))
    assert list(found.from_rank(rank)) == left[rank:]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 600)), unique_by=lambda each: each[1]), st.data())
def test_a_union_in_order(placed, data):
    sets = [filled([ordinal for number, ordinal in placed if number == each]) for each in range(4)]
    everything = sorted(ordinal for _, ordinal in placed)
    at = data.draw(st.integers(-1, 601))
    rank = data.draw(st.integers(0, len(everything) + 1))
    assert list(ordinals_after(sets, at)) == [ordinal for ordinal in everything if ordinal > at]
    assert list(ordinals_from_rank(sets, rank)) == everything[rank:]
    assert list(ordinals_after([], -1)) == list(ordinals_from_rank([], 0)) == []


def test_a_page_does_not_touch_what_lies_before():
    found = filled(range(0, 1_000_000, 3))
    assert list(islice(found.after(899_999), 3)) == [900_000 + 3 * each for each in range(3)]


def test_the_way_to_a_rank_in_a_union_is_counted_not_walked():
    """A list by state alone, from an offset of a million on, stopped the server for a fifth of a second."""
    sets = [filled(range(first, 400_000, 2)) for first in range(2)]

    def seconds(sets, rank):
        def once():
            began = time.process_time()
            assert len(list(ordinals_from_rank(sets, rank))) == 5
            return time.process_time() - began

        return min(once() for _ in range(5))

    # Walked, it took four hundred times as long as in one set that is counted.
    assert seconds(sets, 399_995) < 40 * seconds(sets[:1], 199_995)


def test_sets_by_machine_and_state():
    index = InstanceIndex()
    index.add("m", "a", 0)
    index.add("m", "b", 1)
    index.add("n", "a", 2)
    assert [each.count for each in index.sets("m", None)] == [2]
    assert [each.count for each in index.sets("m", "a")] == [1]
    assert [each.count for each in index.sets(None, "a")] == [1, 1]
    assert index.sets("absent", "a") == index.sets("absent", None) == index.sets(None, "absent") == []
    index.remove("n", "a", 2)
    assert [list(each.after(-1)) for each in index.sets(None, "a")] == [[0]]
