"""Which instances a machine has and which are in a state, in creation order.

    machine -> Group{ all: OrdinalSet, states: {state -> OrdinalSet} }
    OrdinalSet: page number -> bits of 256 ordinals, and the page numbers in order (sorted_numbers.py)

A set of ordinals as small bitmaps: entering or leaving costs one dictionary entry and one 256-bit integer,
wherever the ordinal lies; counts and ranks are `int.bit_count`. Sorted arrays were four times as slow for
the one thing that happens on every event: an instance moves from one state to another.
"""

from collections.abc import Iterable, Iterator
from heapq import merge
from itertools import islice
from typing import Final

from rstmdb_core.sorted_numbers import SortedNumbers

_BITS: Final = 8
_MASK: Final = (1 << _BITS) - 1
_ONE: Final = tuple(1 << bit for bit in range(1 << _BITS))


class OrdinalSet:
    """A set of ordinals in order.

    Attributes:
        name: What the set is of (a state or a machine): one string object for all its instances.
        count: Ordinals in it.
    """

    __slots__ = ("_numbers", "_pages", "count", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0
        self._pages: dict[int, int] = {}
        self._numbers = SortedNumbers()

    def add(self, ordinal: int) -> None:
        """Add an ordinal that is not in the set."""
        number = ordinal >> _BITS
        pages = self._pages
        bits = pages.get(number)
        if bits is None:
            pages[number] = _ONE[ordinal & _MASK]
            self._numbers.add(number)
        else:
            pages[number] = bits | _ONE[ordinal & _MASK]
        self.count += 1

    def remove(self, ordinal: int) -> None:
        """Remove an ordinal that is in the set."""
        number = ordinal >> _BITS
        bits = self._pages[number] ^ _ONE[ordinal & _MASK]
        if bits:
            self._pages[number] = bits
        else:
            del self._pages[number]
            self._numbers.remove(number)
        self.count -= 1

    def move(self, ordinal: int, to: "OrdinalSet") -> None:
        """Move an ordinal that is in this set to one that it is not in."""
        number = ordinal >> _BITS
        bit = _ONE[ordinal & _MASK]
        bits = self._pages[number] ^ bit
        there = to._pages.get(number)
        if bits and there is not None:
            # Both pages stay: nearly always so, and once for every event.
            self._pages[number] = bits
            to._pages[number] = there | bit
            self.count -= 1
            to.count += 1
        else:
            self.remove(ordinal)
            to.add(ordinal)

    def after(self, ordinal: int) -> Iterator[int]:
        """Iterate over the ordinals greater than `ordinal` (-1 for all), in order."""
        first = ordinal + 1
        number = first >> _BITS
        pages = self._pages
        for here in self._numbers.begin_at(number):
            bits = pages[here]
            if here == number:
                bits &= -_ONE[first & _MASK]
            yield from _ordinals(here, bits)

    def from_rank(self, rank: int) -> Iterator[int]:
        """Iterate over the ordinals in order, leaving out the first `rank`."""
        return _from_rank(self._pages, self._numbers, rank)


class Group:
    """The instances of one machine, all versions."""

    __slots__ = ("all", "states")

    def __init__(self, machine: str) -> None:
        self.all = OrdinalSet(machine)
        self.states: dict[str, OrdinalSet] = {}

    def state(self, name: str) -> OrdinalSet:
        """Return the set of a state, made when it is first needed."""
        found = self.states.get(name)
        if found is None:
            found = self.states[name] = OrdinalSet(name)
        return found


class InstanceIndex:
    """The groups of every machine.

    Attributes:
        groups: machine -> its instances.
    """

    __slots__ = ("groups",)

    def __init__(self) -> None:
        self.groups: dict[str, Group] = {}

    def group(self, machine: str) -> Group:
        """Return the group of a machine, made when it is first needed."""
        found = self.groups.get(machine)
        if found is None:
            found = self.groups[machine] = Group(machine)
        return found

    def add(self, machine: str, state: str, ordinal: int) -> None:
        """Add a new instance."""
        group = self.group(machine)
        group.all.add(ordinal)
        group.state(state).add(ordinal)

    def remove(self, machine: str, state: str, ordinal: int) -> None:
        """Remove an instance."""
        group = self.groups[machine]
        group.all.remove(ordinal)
        group.states[state].remove(ordinal)

    def sets(self, machine: str | None, state: str | None) -> list[OrdinalSet]:
        """Return the sets whose union is the instances of a machine and in a state (not both None)."""
        if machine is not None:
            group = self.groups.get(machine)
            if group is None:
                return []
            if state is None:
                return [group.all]
            groups = [group]
        else:
            groups = list(self.groups.values())
        assert state is not None
        return [found for group in groups if (found := group.states.get(state)) is not None and found.count]


def ordinals_after(sets: list[OrdinalSet], ordinal: int) -> Iterator[int]:
    """Iterate over the union of disjoint sets in order, after an ordinal."""
    if len(sets) == 1:
        return sets[0].after(ordinal)
    return merge(*(each.after(ordinal) for each in sets))


def ordinals_from_rank(sets: list[OrdinalSet], rank: int) -> Iterator[int]:
    """Iterate over the union of disjoint sets in order, leaving out the first `rank`."""
    if len(sets) == 1:
        return sets[0].from_rank(rank)
    if rank == 0:
        return ordinals_after(sets, -1)
    # Page by page: ordinal by ordinal a million took a fifth of a second.
    union: dict[int, int] = {}
    get = union.get
    for each in sets:
        for number, bits in each._pages.items():
            union[number] = get(number, 0) | bits
    return _from_rank(union, sorted(union), rank)


def _from_rank(pages: dict[int, int], numbers: Iterable[int], rank: int) -> Iterator[int]:
    for number in numbers:
        bits = pages[number]
        here = bits.bit_count()
        if rank >= here:
            rank -= here
            continue
        yield from islice(_ordinals(number, bits), rank, None)
        rank = 0


def _ordinals(number: int, bits: int) -> Iterator[int]:
    base = number << _BITS
    while bits:
        low = bits & -bits
        yield base + low.bit_length() - 1
        bits ^= low
