"""The fuzz targets on seeds and random bytes, so that they do not rot between the long runs."""

import random

import pytest

pytest.importorskip("atheris", reason="atheris has no build for this Python")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["fuzz_guards", "fuzz_definitions"])
def test_targets_take_seeds_and_noise(name):
    module = pytest.importorskip(name)
    chance = random.Random(1)
    for seed in module.SEEDS:
        module.one_input(seed)
        for _ in range(150):
            damaged = bytearray(seed)
            for _ in range(chance.randrange(1, 4)):
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
            module.one_input(bytes(damaged))
    assert module.counts["refused"] > 0
