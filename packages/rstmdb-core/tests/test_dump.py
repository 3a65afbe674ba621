"""Dumps: consistent while the state goes on, whole or refused, and quick to slice."""

import msgspec
import pytest

from rstmdb_core import (
    ApplyEvent,
    Batch,
    CreateInstance,
    DeleteInstance,
    DumpError,
    FlushAll,
    digest,
    dump,
    load,
)
from rstmdb_core.dump import CHUNK_BYTES


@pytest.fixture
def busy(engine):
    for number in range(3_000):
        ctx = b'{"ready":true,"text":"%b"}' % (b"x" * (number % 400))
        engine.do(CreateInstance(f"o{number}", "order", 1, ctx, "k" if number % 4 == 0 else None))
        if number % 3 == 0:
            engine.do(
                ApplyEvent(f"o{number}", "PAY", b'{"n":1}', idempotency_key="k" if number % 2 else None)
            )
        if number % 7 == 0:
            engine.do(DeleteInstance(f"o{number}"))
        engine.now += 1
    return engine


def test_a_view_stays_while_the_state_goes_on(busy):
    then = digest(busy.state)
    view = dump(busy.state)
    chunks = view.chunks()
    taken = [next(chunks) for _ in range(3)]
    for number in range(0, 3_000, 5):
        if busy.state.instance(f"o{number}") is not None:
            busy.do(DeleteInstance(f"o{number}", "d"))
        busy.do(CreateInstance(f"n{number}", "order", 1, b"", "k"))
    busy.do(FlushAll())
    taken += chunks
    view.close()
    view.close()
    restored = load(taken)
    assert digest(restored) == then
    assert digest(busy.state) != then
    busy.check()


def test_pages_are_copied_once_and_only_while_a_view_is_open(busy):
    page = busy.state.table.pages[0]
    with dump(busy.state) as view:
        busy.do(ApplyEvent("o1", "PAY"))
        copy = busy.state.table.pages[0]
        assert copy is not page
        busy.do(ApplyEvent("o2", "PAY"))
        assert busy.state.table.pages[0] is copy
        assert load(list(view.chunks())).instance("o1").state == "created"
    busy.do(ApplyEvent("o4", "PAY"))
    assert busy.state.table.pages[0] is copy


def test_two_views_at_once(busy):
    one = dump(busy.state)
    first = digest(busy.state)
    busy.do(ApplyEvent("o1", "PAY"))
    other = dump(busy.state)
    second = digest(busy.state)
    busy.do(ApplyEvent("o1", "NOTE"))
    one_loaded = load(list(one.chunks()))
    one.close()
    busy.do(ApplyEvent("o1", "PAY"))
    assert digest(one_loaded) == first
    assert digest(load(list(other.chunks()))) == second
    other.close()


def test_a_loaded_state_goes_on_like_the_live_one(busy):
    loaded = busy.loaded()
    twin = type(busy)(machine=None)
    twin.state, twin.now = loaded, busy.now
    for engine in (busy, twin):
        engine.do(
            Batch(True, [CreateInstance("new", "order", 1), ApplyEvent("o1", "PAY", idempotency_key="z")])
        )
        engine.do(DeleteInstance("o2"))
        engine.now += 10**8
    # What has expired goes a few at a time: the same ones in both, at every step.
    while loaded.idempotency.count:
        before = loaded.idempotency.count
        for engine in (busy, twin):
            engine.do(ApplyEvent("o1", "NOTE"))
        assert loaded.idempotency.count < before
        assert digest(busy.state) == digest(loaded)
    assert busy.state.counts_by_state() == loaded.counts_by_state()


def test_chunks_are_of_even_size(busy):
    with dump(busy.state) as view:
        chunks = list(view.chunks())
        assert view.instance_count == busy.state.instance_count
        assert view.next_sequence == busy.state.next_sequence
    assert len(chunks) > 5
    assert max(map(len, chunks)) < 2 * CHUNK_BYTES


def test_a_large_context_ends_its_chunk(engine):
    for number in range(4):
        engine.do(CreateInstance(f"o{number}", "order", 1, b'{"a":"%b"}' % (b"x" * 1_000_000)))
    with dump(engine.state) as view:
        chunks = list(view.chunks())
    assert len(chunks) == 7
    assert digest(load(chunks)) == digest(engine.state)


def test_an_empty_state(make_engine):
    engine = make_engine(machine=None)
    engine.check()


def damaged(chunks):
    encode = msgspec.msgpack.encode
    head = msgspec.msgpack.decode(chunks[0])
    yield "nothing", []
    yield "no end", chunks[:-1]
    yield "no head", chunks[1:]
    yield "more than the end", [*chunks, chunks[-1]]
    yield "a chunk missing", [*chunks[:3], *chunks[4:]]
    yield "a chunk twice", [*chunks[:3], chunks[2], *chunks[3:]]
    yield "two chunks swapped", [*chunks[:2], chunks[3], chunks[2], *chunks[4:]]
    yield "another format", [encode(["state", 99, *head[2:]]), *chunks[1:]]
    yield "no bytes", [b"", *chunks]
    yield "other bytes", [chunks[0], b"\xff" * 10, *chunks[1:]]
    yield "not an array", [chunks[0], encode("machines"), *chunks[1:]]
    yield "an unknown kind", [chunks[0], encode(["other", []]), *chunks[1:]]
    yield "a short head", [encode(["state", 1, 5]), *chunks[1:]]
    yield "ordinals beyond the head", [encode([*head[:5], 1, 1, 1]), *chunks[1:]]
    yield "a bad definition", [chunks[0], encode(["machines", [["order", 1, b"{}"]]]), *chunks[2:]]
    yield "an unknown machine", [chunks[0], *chunks[2:]]
    yield "cut bytes", [*chunks[:2], chunks[2][:-7], *chunks[3:]]


def test_a_damaged_dump_is_refused(busy):
    with dump(busy.state) as view:
        chunks = list(view.chunks())
    assert digest(load(chunks)) == digest(busy.state)
    for name, bad in damaged(chunks):
        with pytest.raises(DumpError):
            pytest.fail(f"{name}: {load(bad)}")
