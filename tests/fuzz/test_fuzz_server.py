"""The property of the server's fuzzer holds for its seeds and for mutations of them, and can fail."""

from __future__ import annotations

import random

import pytest

from rstmdb_server.handlers import machines
from tests.fuzz.fuzz_peers import run
from tests.fuzz.fuzz_server import check, seeds
from tests.fuzz.mutation import mutated
from tests.server_process import running_server
from tests.wire import request


def test_seeds() -> None:
    for seed in seeds():
        for manner in range(4):
            check(bytes([seed[0] & 0xFC | manner]) + seed[1:])


def test_mutations() -> None:
    seed = random.SystemRandom().randrange(2**32)
    rng = random.Random(seed)
    choice = seeds()
    for number in range(1500):
        data = mutated(rng, rng.choice(choice))
        try:
            check(data)
        except BaseException as error:
            raise AssertionError(f"seed {seed}, input {number}: {data!r}") from error


def test_many_wrong_tokens_are_waited_for() -> None:
    wrong = request("AUTH", {"method": "bearer", "token": "wrong"}) + b"\n"
    for _ in range(3):
        check(b"\x02" + wrong * 40)


def test_a_handler_that_fails_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> bytes:
        raise KeyError("planted")

    monkeypatch.setattr(machines, "list_machines", broken)
    with pytest.raises(AssertionError, match="INTERNAL_ERROR"):
        check(b"\x00" + request("LIST_MACHINES") + b"\n")


def test_hostile_peers_beside_a_well_behaved_client() -> None:
    """No error for the client; the ratio of latencies is judged by the long run, on a quiet machine."""
    with running_server() as server:
        outcome = run(server, 6.0, random.SystemRandom().randrange(2**32))
        assert server.stop() == 0
        assert "Traceback" not in server.output, server.output
        assert "operation failed" not in server.output, server.output
    print(outcome)
    assert outcome.attacks > 100
    assert outcome.p99_beside < 5 * outcome.p99_alone + 0.02
