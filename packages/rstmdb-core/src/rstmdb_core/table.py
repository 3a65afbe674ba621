"""A table of values by ordinal, in pages, that can be viewed while it changes.

    ordinal = page number * 1024 + slot            page: list of 1024 slots, None = free

Ordinals are given out in order and never used twice, so a table is in creation order by itself. A view
shares the pages; the first change of a shared page copies that page alone (1024 pointers, some
microseconds), so a view of a million values costs the copy of a thousand pointers. A page whose last value
goes is dropped.
"""

from collections.abc import Iterator
from typing import Final, Generic, TypeVar

PAGE_BITS: Final = 10
PAGE_SLOTS: Final = 1 << PAGE_BITS
SLOT_MASK: Final = PAGE_SLOTS - 1

T = TypeVar("T")


class PagedTable(Generic[T]):
    """Values by ordinal.

    Attributes:
        next_ordinal: The ordinal of the next value.
        pages: page number -> slots, in order of page numbers.
        live: page number -> values in that page.
    """

    __slots__ = ("_oldest", "_shared", "_views", "live", "next_ordinal", "pages")

    def __init__(self) -> None:
        self.next_ordinal = 0
        self.pages: dict[int, list[T | None]] = {}
        self.live: dict[int, int] = {}
        self._shared: set[int] = set()
        self._views = 0
        self._oldest = 0

    def __len__(self) -> int:
        return sum(self.live.values())

    def get(self, ordinal: int) -> T | None:
        """Return the value of an ordinal, or None when it is free."""
        page = self.pages.get(ordinal >> PAGE_BITS)
        if page is None:
            return None
        slot = ordinal & SLOT_MASK
        return page[slot] if slot < len(page) else None

    def append(self, value: T) -> None:
        """Store a value at `next_ordinal`."""
        self.restore(self.next_ordinal, value)

    def restore(self, ordinal: int, value: T) -> None:
        """Store a value at an ordinal not below `next_ordinal`, leaving those between free."""
        assert ordinal >= self.next_ordinal, "ordinals are given out in order"
        number = ordinal >> PAGE_BITS
        page = self.pages.get(number)
        if page is None:
            page = self.pages[number] = []
            self.live[number] = 0
        elif number in self._shared:
            page = self._own(number)
        missing = (ordinal & SLOT_MASK) - len(page)
        if missing:
            page.extend([None] * missing)
        page.append(value)
        self.live[number] += 1
        self.next_ordinal = ordinal + 1

    def replace(self, ordinal: int, value: T) -> None:
        """Replace the value of an ordinal in use."""
        number = ordinal >> PAGE_BITS
        page = self._own(number) if number in self._shared else self.pages[number]
        page[ordinal & SLOT_MASK] = value

    def remove(self, ordinal: int) -> None:
        """Free an ordinal in use, for ever."""
        number = ordinal >> PAGE_BITS
        left = self.live[number] - 1
        if left == 0:
            del self.pages[number], self.live[number]
            self._shared.discard(number)
            return
        self.live[number] = left
        page = self._own(number) if number in self._shared else self.pages[number]
        page[ordinal & SLOT_MASK] = None

    def clear(self) -> None:
        """Free every ordinal; the numbering goes on."""
        self.pages = {}
        self.live = {}
        self._shared = set()
        self._oldest = self.next_ordinal

    def oldest(self) -> T:
        """Return the value with the lowest ordinal; the table must not be empty."""
        at = self._oldest
        while True:
            assert at < self.next_ordinal, "an empty table has no oldest value"
            page = self.pages.get(at >> PAGE_BITS)
            if page is None:
                at = ((at >> PAGE_BITS) + 1) << PAGE_BITS
                continue
            slot = at & SLOT_MASK
            value = page[slot] if slot < len(page) else None
            if value is not None:
                # Freed ordinals are never used again, so the search never has to go back.
                self._oldest = at
                return value
            at += 1

    def values(self) -> Iterator[T]:
        """Iterate over the values in order; the table must not change meanwhile."""
        for page in self.pages.values():
            for value in page:
                if value is not None:
                    yield value

    def share(self) -> list[list[T | None]]:
        """Return the pages as they are; they stay so until `unshare`, whatever the table does."""
        self._views += 1
        self._shared = set(self.pages)
        return list(self.pages.values())

    def unshare(self) -> None:
        """Give up one view."""
        self._views -= 1
        if self._views == 0:
            self._shared = set()

    def _own(self, number: int) -> list[T | None]:
        page = self.pages[number] = self.pages[number].copy()
        self._shared.discard(number)
        return page
