"""The paged table against a dictionary, with views."""

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
