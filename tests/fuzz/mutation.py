"""Small changes of what a client may send: for the runs that no coverage guides."""

from __future__ import annotations

import random

from tests.fuzz.fuzz_server import seeds

_SEEDS = seeds()
_PIECES = (b"null", b"-1", b"1e999", b'"', b"{", b"[]", b"\xff", b"9" * 30, b"\n", b"\\ud800", b"RCPX")


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
                text[place:place] = rng.choice(_PIECES)
            case 3:
                text[place:place] = text[place : place + rng.randint(1, 60)]
            case 4:
                other = rng.choice(_SEEDS)
                text[place:] = other[rng.randrange(len(other)) :]
            case _:
                text[place] ^= 1 << rng.randrange(8)
    return bytes(text)[:8192]
