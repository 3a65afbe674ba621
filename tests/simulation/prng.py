"""Repeatable chance: everything random in a simulation follows from one seed.

Only `Random.random()` is used, the one sequence that Python promises to keep across versions; `shuffle`,
`choice` and `randrange` may change. Each concern takes its own generator by `fork`, so that switching one
fault off does not shift what the others draw.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, MutableSequence, Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")


class Prng:
    """A generator that gives the same values for the same seed, on every machine and version."""

    def __init__(self, seed: int | str) -> None:
        self.seed = str(seed)
        digest = hashlib.blake2b(self.seed.encode(), digest_size=16).digest()
        self.random = Random(int.from_bytes(digest, "big")).random

    def fork(self, concern: str) -> Prng:
        """Return the generator of one concern; depends on the seed and the name, not on what was drawn."""
        return Prng(f"{self.seed}/{concern}")

    def below(self, limit: int) -> int:
        """Return an integer from 0 to `limit - 1`."""
        return int(self.random() * limit)

    def between(self, low: int, high: int) -> int:
        """Return an integer from `low` to `high`, both included."""
        return low + self.below(high - low + 1)

    def chance(self, probability: float) -> bool:
        """Say yes with this probability."""
        return self.random() < probability

    def pick(self, items: Sequence[T]) -> T:
        """Return one of `items`."""
        return items[self.below(len(items))]

    def weighted(self, weights: Mapping[T, float]) -> T:
        """Return a key with a probability in proportion to its weight."""
        left = self.random() * sum(weights.values())
        for key, weight in weights.items():
            left -= weight
            if left < 0:
                return key
        return next(reversed(list(weights)))

    def shuffle(self, items: MutableSequence[T]) -> None:
        """Put `items` in random order, in place."""
        for last in range(len(items) - 1, 0, -1):
            other = self.below(last + 1)
            items[last], items[other] = items[other], items[last]

    def subset(self, items: Sequence[T], probability: float) -> list[T]:
        """Return those of `items` that are drawn, each with this probability, in their order."""
        return [item for item in items if self.random() < probability]

    def bytes(self, length: int) -> bytes:
        """Return random bytes."""
        return bytes(int(self.random() * 256) for _ in range(length))
