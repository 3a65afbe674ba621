"""The decoder beyond the vectors: limits that change, bounded memory, linear time."""

import pytest

from rstmdb_protocol import (
    FRAME_PAYLOAD_BYTES_MAX,
    HEADER_BYTES,
    HEADER_EXTENSION_BYTES_MAX,
    Framing,
    FramingFault,
    MessageDecoder,
    encode_frame,
)

SMALL = b'{"type":"request","id":"1","op":"PING"}'


def frame_messages(*payloads: bytes) -> list[tuple[bytes, Framing]]:
    return [(payload, Framing.FRAME) for payload in payloads]


def test_one_whole_frame_leaves_nothing_behind() -> None:
    decoder = MessageDecoder()
    for _ in range(3):
        assert decoder.feed(encode_frame(SMALL)) == frame_messages(SMALL)
        assert decoder.buffered_bytes == 0


def test_payloads_are_bytes_whatever_way_they_came() -> None:
    for chunk in (1, 7, 20, 1000):
        decoder = MessageDecoder()
        stream = encode_frame(SMALL) * 2 + SMALL + b"\n"
        messages = [m for n in range(0, len(stream), chunk) for m in decoder.feed(stream[n : n + chunk])]
        assert [type(payload) for payload, _ in messages] == [bytes] * 3


def test_an_error_is_kept_and_ends_the_stream() -> None:
    decoder = MessageDecoder()
    assert decoder.feed(encode_frame(SMALL) + b"\x00") == frame_messages(SMALL)
    error = decoder.error
    assert error is not None
    assert error.fault is FramingFault.BAD_MAGIC
    assert decoder.buffered_bytes == 0
    assert decoder.feed(encode_frame(SMALL)) == []
    assert decoder.error is error
    assert decoder.buffered_bytes == 0


def test_a_bad_header_is_refused_before_its_body_arrives() -> None:
    header = encode_frame(b"x" * 100)[:HEADER_BYTES]
    decoder = MessageDecoder(payload_bytes_max=99)
    assert decoder.feed(header[:-1]) == []
    assert decoder.error is None
    assert decoder.feed(header[-1:]) == []
    assert decoder.error is not None
    assert "100 bytes" in str(decoder.error)


@pytest.mark.parametrize("tail", [encode_frame(b"y" * 200), b'{"y":"' + b"y" * 192 + b'"}\n'])
def test_the_limit_may_be_raised_between_a_request_and_a_large_one_behind_it(tail: bytes) -> None:
    decoder = MessageDecoder(payload_bytes_max=100)
    assert decoder.feed(encode_frame(SMALL) + tail) == frame_messages(SMALL)
    assert decoder.error is None
    assert decoder.withheld
    decoder.payload_bytes_max = 200
    (message,) = decoder.feed(b"")
    assert len(message[0]) == 200
    assert not decoder.withheld
    assert (decoder.error, decoder.buffered_bytes) == (None, 0)


@pytest.mark.parametrize("tail", [encode_frame(b"y" * 200), b'{"y":"' + b"y" * 192 + b'"}\n', b"{" * 101])
def test_the_verdict_on_a_large_request_falls_with_the_next_call(tail: bytes) -> None:
    decoder = MessageDecoder(payload_bytes_max=100)
    assert decoder.feed(encode_frame(SMALL) + tail) == frame_messages(SMALL)
    assert decoder.error is None
    assert decoder.withheld
    assert decoder.feed(b"") == []
    assert decoder.error is not None
    assert not decoder.withheld


def test_a_payload_that_no_limit_allows_is_refused_at_once() -> None:
    header = encode_frame(b"")[:10] + (FRAME_PAYLOAD_BYTES_MAX + 1).to_bytes(4, "big") + bytes(4)
    decoder = MessageDecoder(payload_bytes_max=100)
    assert decoder.feed(encode_frame(SMALL) + header) == frame_messages(SMALL)
    assert decoder.error is not None
    assert decoder.error.fault is FramingFault.PAYLOAD_TOO_LARGE


def test_memory_is_bounded_by_one_message() -> None:
    limit = 1000
    chunk = b"x" * 64
    extension = encode_frame(b"y" * limit)
    extension = extension[:8] + b"\xff\xff" + extension[10:HEADER_BYTES]
    for head in (extension, b"{", b" "):
        decoder = MessageDecoder(payload_bytes_max=limit)
        decoder.feed(head)
        most = 0
        for _ in range(4 * (limit + HEADER_EXTENSION_BYTES_MAX) // len(chunk)):
            decoder.feed(chunk)
            most = max(most, decoder.buffered_bytes)
            if decoder.error is not None:
                break
        assert decoder.error is not None
        assert most <= HEADER_BYTES + HEADER_EXTENSION_BYTES_MAX + limit + len(chunk)


class CountingBytes(bytearray):
    """A buffer that counts the bytes that are looked at or moved."""

    touched = 0

    def find(self, sub: bytes, start: int = 0, end: int | None = None) -> int:  # type: ignore[override]
        type(self).touched += len(self) - start
        return super().find(sub, start)


@pytest.mark.parametrize("make", [encode_frame, lambda payload: b"{" + payload + b"\n"])
def test_a_large_message_in_small_pieces_is_read_once(make: object, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 1 << 20
    stream = make(b"x" * size)  # type: ignore[operator]
    decoder = MessageDecoder()
    CountingBytes.touched = 0
    buffer = CountingBytes()
    decoder._buffer = buffer
    cuts = 0
    cut = MessageDecoder._cut

    def counting_cut(self: MessageDecoder, data: bytes, messages: list[tuple[bytes, Framing]]) -> int:
        nonlocal cuts
        cuts += 1
        return cut(self, data, messages)

    monkeypatch.setattr(MessageDecoder, "_cut", counting_cut)
    messages = [m for n in range(0, len(stream), 100) for m in decoder.feed(stream[n : n + 100])]
    assert len(messages) == 1
    assert CountingBytes.touched <= 2 * len(stream)
    if messages[0][1] is Framing.FRAME:
        assert cuts <= 3


def test_many_small_messages_in_one_piece() -> None:
    decoder = MessageDecoder()
    stream = (encode_frame(SMALL) + SMALL + b"\n") * 5000
    messages = decoder.feed(stream[:-1])
    assert len(messages) == 9999
    assert decoder.feed(stream[-1:]) == [(SMALL, Framing.LINE)]


def test_the_largest_frame() -> None:
    payload = b"x" * FRAME_PAYLOAD_BYTES_MAX
    stream = encode_frame(payload)
    decoder = MessageDecoder()
    messages = [m for n in range(0, len(stream), 1 << 16) for m in decoder.feed(stream[n : n + (1 << 16)])]
    assert messages == frame_messages(payload)


def test_a_kept_error_does_not_lead_back_to_its_decoder() -> None:
    """Such a cycle held a session of a broken stream, and all it refers to, until a rare collection."""
    decoder = MessageDecoder()
    decoder.feed(b"\x00")
    assert decoder.error is not None
    assert decoder.error.__traceback__ is None
    assert decoder.error.__context__ is None
