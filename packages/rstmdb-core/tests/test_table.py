"""The paged table against a dictionary, with views."""

import gc
import tracemalloc
from itertools import islice

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rstmdb_core.table import PAGE_SLOTS, PagedTable


class Tables(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.table = PagedTable()
        self.model = {}
        self.views = []
        self.value = 0

    def _next(self):
        self.value += 1
        return f"value {self.value}"

    @rule(count=st.sampled_from([1, 2, 700, 1500]))
    def append(self, count):
        for _ in range(count):
            value = self._next()
            self.model[self.table.next_ordinal] = value
            self.table.append(value)

    @rule(gap=st.sampled_from([1, 5, 1023, 1024, 5000]))
    def restore(self, gap):
        ordinal = self.table.next_ordinal + gap
        self.model[ordinal] = value = self._next()
        self.table.restore(ordinal, value)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def replace(self, data):
        ordinal = data.draw(st.sampled_from(sorted(self.model)))
        self.model[ordinal] = value = self._next()
        self.table.replace(ordinal, value)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), count=st.sampled_from([1, 1, 600]))
    def remove(self, data, count):
        ordinals = sorted(self.model)
        first = data.draw(st.integers(0, len(ordinals) - 1))
        for ordinal in ordinals[first : first + count]:
            del self.model[ordinal]
            self.table.remove(ordinal)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), kept=st.sampled_from([1, 3, 300]))
    def thin_out(self, data, kept):
        ordinals = sorted(self.model)
        stay = set(data.draw(st.permutations(ordinals))[:kept])
        for ordinal in ordinals:
            if ordinal not in stay:
                del self.model[ordinal]
                self.table.remove(ordinal)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def look(self, data):
        ordinals = sorted(self.model)
        ordinal = data.draw(st.one_of(st.sampled_from(ordinals), st.integers(-1, self.table.next_ordinal)))
        assert self.table.get(ordinal) == self.model.get(ordinal)
        assert list(self.table.values_after(ordinal)) == [self.model[at] for at in ordinals if at > ordinal]
        rank = data.draw(st.integers(0, len(ordinals) + 1))
        assert list(self.table.values_from_rank(rank)) == [self.model[at] for at in ordinals[rank:]]

    @precondition(lambda self: self.model)
    @rule()
    def oldest(self):
        assert self.table.oldest() == self.model[min(self.model)]

    @rule()
    def clear(self):
        self.table.clear()
        self.model = {}

    @rule()
    def view(self):
        self.views.append((self.table.share(), [self.model[ordinal] for ordinal in sorted(self.model)]))

    @precondition(lambda self: self.views)
    @rule(data=st.data())
    def close(self, data):
        pages, expected = self.views.pop(data.draw(st.integers(0, len(self.views) - 1)))
        assert [value for page in pages for value in page if value is not None] == expected
        self.table.unshare()

    @invariant()
    def same(self):
        assert list(self.table.values()) == [self.model[ordinal] for ordinal in sorted(self.model)]
        assert len(self.table) == len(self.model)
        for ordinal in (0, PAGE_SLOTS, self.table.next_ordinal - 1, self.table.next_ordinal):
            assert self.table.get(ordinal) == self.model.get(ordinal)


TestTables = Tables.TestCase
TestTables.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_what_is_kept_among_much_that_is_not_takes_no_pages():
    """One value in a thousand held a page of eight kilobytes each."""
    table = PagedTable()

    def turn_over(times):
        for number in range(times):
            table.append("kept" if number % PAGE_SLOTS == 500 else "gone")
            if number % PAGE_SLOTS != 500:
                table.remove(table.next_ordinal - 1)

    turn_over(10 * PAGE_SLOTS)
    gc.collect()
    tracemalloc.start()
    try:
        turn_over(200 * PAGE_SLOTS)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(table) == 210
    assert taken / 200 < 1_000


def test_a_gap_of_a_billion_ordinals_is_not_walked():
    table = PagedTable()
    table.append("first")
    for number in range(5):
        table.restore(10**12 + number, number)
    # A walk of its billion pages would take a minute and more, not a moment.
    assert list(islice(table.values_after(0), 3)) == [0, 1, 2]
    table.remove(0)
    assert table.oldest() == 0
