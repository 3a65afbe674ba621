"""A table of values by ordinal, in pages, that can be viewed while it changes.

    ordinal = page number * 1024 + slot
    page      whole: list of 1024 slots, None = free
              packed: the values alone, and beside them the slot of each

Ordinals are given out in order and never used twice, so a table is in creation order by itself. A view
shares the pages; the first change of a shared page copies that page alone (1024 pointers, some
microseconds), so a view of a million values costs the copy of a thousand pointers.

A page whose last value goes is dropped, and one that can only get emptier is packed when a quarter is left:
what is kept for long among much that is not would otherwise hold a page of eight kilobytes each.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterator
from typing import Final, Generic, TypeVar

from rstmdb_core.sorted_numbers import SortedNumbers

PAGE_BITS: Final = 10
PAGE_SLOTS: Final = 1 << PAGE_BITS
SLOT_MASK: Final = PAGE_SLOTS - 1
PACKED_VALUES_MAX: Final = PAGE_SLOTS // 4

T = TypeVar("T")


class PagedTable(Generic[T]):
    """Values by ordinal.

    Attributes:
        next_ordinal: The ordinal of the next value.
        pages: page number -> page, in order of page numbers.
    """

    __slots__ = (
        "_live",
        "_newest",
        "_numbers",
        "_oldest",
        "_owned",
        "_slots",
        "_views",
        "next_ordinal",
        "pages",
    )

    def __init__(self) -> None:
        self.next_ordinal = 0
        self.pages: dict[int, list[T | None]] = {}
        self._live: dict[int, int] = {}  # values in each whole page
        self._slots: dict[int, array[int]] = {}  # of each packed page
        self._numbers = SortedNumbers()
        self._newest = 0  # the only page that still grows
        self._oldest = 0
        self._views = 0
        self._owned: set[int] = set()  # pages that no view shares, while there is a view

    def __len__(self) -> int:
        return sum(self._live.values()) + sum(map(len, self._slots.values()))

    def get(self, ordinal: int) -> T | None:
        """Return the value of an ordinal, or None when it is free."""
        number, slot = ordinal >> PAGE_BITS, ordinal & SLOT_MASK
        page = self.pages.get(number)
        if page is None:
            return None
        slots = self._slots.get(number)
        if slots is None:
            return page[slot] if slot < len(page) else None
        at = bisect_left(slots, slot)
        return page[at] if at < len(slots) and slots[at] == slot else None

    def append(self, value: T) -> None:
        """Store a value at `next_ordinal`."""
        self.restore(self.next_ordinal, value)

    def restore(self, ordinal: int, value: T) -> None:
        """Store a value at an ordinal not below `next_ordinal`, leaving those between free."""
        assert ordinal >= self.next_ordinal, "ordinals are given out in order"
        number = ordinal >> PAGE_BITS
        page = self.pages.get(number)
        if page is None:
            page = self._new_page(number)
        elif self._views and number not in self._owned:
            page = self._own(number)
        missing = (ordinal & SLOT_MASK) - len(page)
        if missing:
            page.extend([None] * missing)
        page.append(value)
        self._live[number] += 1
        self.next_ordinal = ordinal + 1

    def replace(self, ordinal: int, value: T) -> None:
        """Replace the value of an ordinal in use."""
        number = ordinal >> PAGE_BITS
        page = self.pages[number]
        if self._views and number not in self._owned:
            page = self._own(number)
        slots = self._slots.get(number)
        if slots is None:
            page[ordinal & SLOT_MASK] = value
        else:
            page[bisect_left(slots, ordinal & SLOT_MASK)] = value

    def remove(self, ordinal: int) -> None:
        """Free an ordinal in use, for ever."""
        number, slot = ordinal >> PAGE_BITS, ordinal & SLOT_MASK
        slots = self._slots.get(number)
        left = (self._live[number] if slots is None else len(slots)) - 1
        if left == 0:
            del self.pages[number]
            del (self._live if slots is None else self._slots)[number]
            self._numbers.remove(number)
            return
        page = self.pages[number]
        if self._views and number not in self._owned:
            page = self._own(number)
        if slots is not None:
            at = bisect_left(slots, slot)
            del page[at], slots[at]
            return
        page[slot] = None
        self._live[number] = left
        if left <= PACKED_VALUES_MAX and number != self._newest:
            self._pack(number)

    def clear(self) -> None:
        """Free every ordinal; the numbering goes on."""
        self.pages = {}
        self._live = {}
        self._slots = {}
        self._numbers = SortedNumbers()
        self._oldest = self.next_ordinal

    def oldest(self) -> T:
        """Return the value with the lowest ordinal; the table must not be empty."""
        number = self._numbers.first()
        page = self.pages[number]
        # Freed ordinals are never used again, so the search never has to go back.
        at = 0 if number in self._slots else max(self._oldest - (number << PAGE_BITS), 0)
        while (value := page[at]) is None:
            at += 1
        self._oldest = (number << PAGE_BITS) + at
        return value

    def values(self) -> Iterator[T]:
        """Iterate over the values in order; the table must not change meanwhile."""
        return self.values_after(-1)

    def values_after(self, ordinal: int) -> Iterator[T]:
        """Iterate in order over the values behind an ordinal; the table must not change meanwhile."""
        first, slot = (ordinal + 1) >> PAGE_BITS, (ordinal + 1) & SLOT_MASK
        for number in self._numbers.begin_at(first):
            page = self.pages[number]
            if slot and number == first:
                slots = self._slots.get(number)
                page = page[slot if slots is None else bisect_left(slots, slot) :]
            for value in page:
                if value is not None:
                    yield value

    def values_from_rank(self, rank: int) -> Iterator[T]:
        """Iterate over the values in order, leaving out the first `rank`."""
        for number in self._numbers:
            slots = self._slots.get(number)
            live = self._live[number] if slots is None else len(slots)
            if rank >= live:
                rank -= live
                continue
            for value in self.pages[number]:
                if value is None:
                    continue
                if rank:
                    rank -= 1
                    continue
                yield value

    def share(self) -> list[list[T | None]]:
        """Return the pages as they are; they stay so until `unshare`, whatever the table does."""
        self._views += 1
        self._owned = set()
        return list(self.pages.values())

    def unshare(self) -> None:
        """Give up one view."""
        self._views -= 1
        if self._views == 0:
            self._owned = set()

    def _own(self, number: int) -> list[T | None]:
        page = self.pages[number] = self.pages[number].copy()
        self._owned.add(number)
        return page

    def _new_page(self, number: int) -> list[T | None]:
        before = self._newest
        if before != number:
            self._newest = number
            if self._live.get(before, PAGE_SLOTS) <= PACKED_VALUES_MAX:
                self._pack(before)
        page: list[T | None] = []
        self.pages[number] = page
        self._live[number] = 0
        self._numbers.add(number)
        if self._views:
            self._owned.add(number)
        return page

    def _pack(self, number: int) -> None:
        page = self.pages[number]
        self._slots[number] = array("H", [slot for slot, value in enumerate(page) if value is not None])
        self.pages[number] = [value for value in page if value is not None]
        del self._live[number]
        if self._views:
            self._owned.add(number)
