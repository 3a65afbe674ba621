"""The property of the server's fuzzer holds for its seeds and for mutations of them, and can fail."""

from __future__ import annotations

import random

import pytest

from rstmdb_server.handlers.machines import MachineOperations
from tests.fuzz.fuzz_server import check, seeds
from tests.wire import request


def test_seeds() -> None:
    for seed in seeds():
        for manner in range(4):
            check(bytes([seed[0] & 0xFC | manner]) + seed[1:])


def mutated(rng: random.Random, data: bytes) -> bytes:
    """Change a few bytes, cut, repeat or splice."""
    text = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        if not text:
            break
        place = rng.randrange(len(text))
        match rng.randrange(6):
            case 0:
                text[place] = rng.randrange(256)
            case 1:
                del text[place : place + rng.randint(1, 8)]
            case 2:
                text[place:place] = rng.choice(
                    [b"null", b"-1", b"1e999", b'"', b"{", b"[]", b"\xff", b"9" * 30, b"\n"]
                )
            case 3:
                text[place:place] = text[place : place + rng.randint(1, 60)]
            case 4:
                other = rng.choice(_SEEDS)
                text[place:] = other[rng.randrange(len(other)) :]
            case _:
                text[place] ^= 1 << rng.randrange(8)
    return bytes(text)[:8192]


_SEEDS = seeds()


def test_mutations() -> None:
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    for number in range(1500):
        data = mutated(rng, rng.choice(_SEEDS))
        try:
            check(data)
        except BaseException as error:
            raise AssertionError(f"seed {seed}, input {number}: {data!r}") from error


def test_a_handler_that_fails_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    from rstmdb_server.handlers import machines

    def broken(*_: object, **__: object) -> bytes:
        raise KeyError("planted")

    monkeypatch.setattr(machines, "list_machines", broken)
    assert MachineOperations is not None
    with pytest.raises(AssertionError, match="INTERNAL_ERROR"):
        check(b"\x00" + request("LIST_MACHINES") + b"\n")
