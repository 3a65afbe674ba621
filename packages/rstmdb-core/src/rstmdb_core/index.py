"""Which instances a machine has and which are in a state, in creation order.

    machine -> Group{ all: OrdinalSet, states: {state -> OrdinalSet} }
    OrdinalSet: page number -> bits of 256 ordinals, and the page numbers in order

A set of ordinals as small bitmaps: entering or leaving costs one dictionary entry and one 256-bit integer,
wherever the ordinal lies; counts and ranks are `int.bit_count`. Sorted arrays were four times as slow for
the one thing that happens on every event: an instance moves from one state to another.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator
from heapq import merge
from itertools import islice
from typing import Final

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
        self._numbers: list[int] = []

    def add(self, ordinal: int) -> None:
        """Add an ordinal that is not in the set."""
        number = ordinal >> _BITS
        pages = self._pages
        bits = pages.get(number)
        if bits is None:
            pages[number] = _ONE[ordinal & _MASK]
            numbers = self._numbers
            if not numbers or number > numbers[-1]:
                numbers.append(number)
            else:
                insort(numbers, number)
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
            del self._numbers[bisect_left(self._numbers, number)]
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
        numbers, pages = self._numbers, self._pages
        for at in range(bisect_left(numbers, number), len(numbers)):
            here = numbers[at]
            bits = pages[here]
            if here == number:
                bits &= -_ONE[first & _MASK]
            yield from _ordinals(here, bits)

    def from_rank(self, rank: int) -> Iterator[int]:
        """Iterate over the ordinals in order, leaving out the first `rank`."""
        pages = self._pages
        for at, number in enumerate(self._numbers):
            bits = pages[number]
            here = bits.bit_count()
            if rank >= here:
                rank -= here
                continue
            yield from islice(_ordinals(number, bits), rank, None)
            for later in self._numbers[at + 1 :]:
                yield from _ordinals(later, pages[later])
            return


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
    return islice(merge(*(each.after(-1) for each in sets)), rank, None)


def _ordinals(number: int, bits: int) -> Iterator[int]:
    base = number << _BITS
    while bits:
        low = bits & -bits
        yield base + low.bit_length() - 1
        bits ^= low
