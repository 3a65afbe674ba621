"""Numbers in ascending order, in short lists.

    _chunks   [[3, 7, 8], [20, 21], ...]     up to 512 numbers each, all in order
    _lasts    [8, 21, ...]                   the last number of each

In one sorted list everything behind a number moves when that number goes: eight megabytes among a million.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator
from itertools import chain, islice
from typing import Final

CHUNK_NUMBERS_MAX: Final = 512
_CHUNK_NUMBERS_FEW: Final = CHUNK_NUMBERS_MAX // 8


class SortedNumbers:
    """A set of integers in order."""

    __slots__ = ("_chunks", "_lasts")

    def __init__(self) -> None:
        self._chunks: list[list[int]] = []
        self._lasts: list[int] = []

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable(self._chunks)

    def first(self) -> int:
        """Return the lowest number; there must be one."""
        return self._chunks[0][0]

    def begin_at(self, number: int) -> Iterator[int]:
        """Iterate over the numbers from `number` on."""
        at = bisect_left(self._lasts, number)
        if at == len(self._lasts):
            return iter(())
        chunk = self._chunks[at]
        here = islice(chunk, bisect_left(chunk, number), None)
        return chain(here, chain.from_iterable(islice(self._chunks, at + 1, None)))

    def add(self, number: int) -> None:
        """Add a number that is not in the set."""
        lasts, chunks = self._lasts, self._chunks
        if not lasts or number > lasts[-1]:
            if not lasts or len(chunks[-1]) >= CHUNK_NUMBERS_MAX:
                chunks.append([number])
                lasts.append(number)
            else:
                chunks[-1].append(number)
                lasts[-1] = number
            return
        at = bisect_left(lasts, number)
        chunk = chunks[at]
        insort(chunk, number)
        if len(chunk) > CHUNK_NUMBERS_MAX:
            half = CHUNK_NUMBERS_MAX // 2
            chunks.insert(at, chunk[:half])
            lasts.insert(at, chunk[half - 1])
            del chunk[:half]

    def remove(self, number: int) -> None:
        """Remove a number that is in the set."""
        lasts, chunks = self._lasts, self._chunks
        at = bisect_left(lasts, number)
        chunk = chunks[at]
        del chunk[bisect_left(chunk, number)]
        if not chunk:
            del chunks[at], lasts[at]
            return
        lasts[at] = chunk[-1]
        # Few move in with others, so that chunks do not outnumber what they hold.
        if len(chunk) < _CHUNK_NUMBERS_FEW and not (at and self._join(at - 1)) and at + 1 < len(chunks):
            self._join(at)

    def _join(self, at: int) -> bool:
        """Make one chunk of two neighbours, if that leaves room for more."""
        lasts, chunks = self._lasts, self._chunks
        if len(chunks[at]) + len(chunks[at + 1]) > CHUNK_NUMBERS_MAX // 2:
            return False
        chunks[at] += chunks.pop(at + 1)
        del lasts[at]
        return True
