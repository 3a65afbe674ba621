"""Sorted numbers against a sorted list."""

from bisect import insort
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from rstmdb_core.sorted_numbers import CHUNK_NUMBERS_MAX, SortedNumbers


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("arrr"), st.integers(0, 60)), max_size=80))
def test_a_few_numbers(steps):
    numbers, model = SortedNumbers(), []
    for step, number in steps:
        if number in model:
            numbers.remove(number)
            model.remove(number)
        elif step == "a" or number > 30:
            numbers.add(number)
            insort(model, number)
        assert list(numbers) == model
        assert list(numbers.begin_at(number)) == [each for each in model if each >= number]
        assert not model or numbers.first() == model[0]


@settings(max_examples=20, deadline=None)
@given(st.integers(), st.sampled_from([0.2, 0.5, 0.9]), st.sampled_from([500, 5_000]))
def test_many_numbers_that_come_and_go(seed, kept, span):
    random = Random(seed)
    numbers, model = SortedNumbers(), set()
    for _ in range(20):
        for number in random.sample(range(span), span // 3):
            if number not in model:
                numbers.add(number)
                model.add(number)
        for number in random.sample(sorted(model), int(len(model) * (1 - kept))):
            numbers.remove(number)
            model.discard(number)
        assert list(numbers) == sorted(model)
        at = random.randrange(-1, span + 1)
        assert list(numbers.begin_at(at)) == sorted(number for number in model if number >= at)


def test_chunks_do_not_outnumber_what_they_hold():
    numbers = SortedNumbers()
    for number in range(100 * CHUNK_NUMBERS_MAX):
        numbers.add(number)
    for number in range(100 * CHUNK_NUMBERS_MAX):
        if number % 1_000:
            numbers.remove(number)
    assert list(numbers) == list(range(0, 100 * CHUNK_NUMBERS_MAX, 1_000))
    assert len(numbers._chunks) <= 3
    assert list(SortedNumbers()) == list(SortedNumbers().begin_at(5)) == []
