"""The fuzzing property holds for its seeds and for random bytes, and can fail."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rstmdb_protocol import MessageDecoder


def load() -> ModuleType:
    path = Path(__file__).with_name("fuzz_decoder.py")
    spec = importlib.util.spec_from_file_location("rstmdb_protocol_fuzz_decoder", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


fuzz = load()


def test_seeds() -> None:
    seeds = fuzz.seeds()
    assert len(seeds) > 300
    assert {seed[0] for seed in seeds} == {0, 1, 2, 3}
    for seed in seeds:
        fuzz.check(seed)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=100))
def test_random_bytes(data: bytes) -> None:
    fuzz.check(data)


def test_a_decoder_that_depends_on_pieces_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    feed = MessageDecoder.feed

    def forgetful(self: MessageDecoder, data: bytes) -> object:
        messages = feed(self, data)
        return messages[:1] if len(data) > 60 else messages

    monkeypatch.setattr(MessageDecoder, "feed", forgetful)
    with pytest.raises(AssertionError, match="change the outcome"):
        fuzz.check(b'\x00{"a":1}\n' + b'{"b":2}\n' * 10)
