"""Frames beyond the vectors."""

import struct

import pytest

from rstmdb_protocol import (
    FRAME_PAYLOAD_BYTES_MAX,
    HEADER_BYTES,
    FrameFlags,
    FramingError,
    FramingFault,
    crc32c,
    decode_header,
    encode_frame,
    verify_checksum,
)


def test_what_is_sent_carries_a_checksum_and_nothing_else() -> None:
    payload = b'{"a":1}'
    magic, version, flags, extension, length, checksum = struct.unpack(
        ">4sHHHII", encode_frame(payload)[:HEADER_BYTES]
    )
    assert (magic, version, extension, length) == (b"RCPX", 1, 0, len(payload))
    assert FrameFlags(flags) is FrameFlags.CRC_PRESENT
    assert checksum == crc32c(payload)


def test_header_round_trip_at_a_position() -> None:
    frame = encode_frame(b"payload")
    header = decode_header(b"xx" + frame, 2, payload_bytes_max=7)
    assert (header.payload_bytes, header.extension_bytes) == (7, 0)
    assert header.frame_bytes == len(frame)
    verify_checksum(header, b"payload")
    with pytest.raises(FramingError) as caught:
        verify_checksum(header, b"Payload")
    assert caught.value.fault is FramingFault.CHECKSUM_MISMATCH
    verify_checksum(header._replace(flags=0), b"Payload")


def test_a_payload_that_fits_no_frame_is_refused() -> None:
    assert len(encode_frame(bytes(FRAME_PAYLOAD_BYTES_MAX))) == HEADER_BYTES + FRAME_PAYLOAD_BYTES_MAX
    with pytest.raises(FramingError) as caught:
        encode_frame(bytes(FRAME_PAYLOAD_BYTES_MAX + 1))
    assert caught.value.fault is FramingFault.PAYLOAD_TOO_LARGE
    assert str(FRAME_PAYLOAD_BYTES_MAX) in str(caught.value)


@pytest.mark.parametrize("bit", range(4, 16))
def test_each_reserved_flag_is_refused(bit: int) -> None:
    frame = bytearray(encode_frame(b""))
    frame[6:8] = (1 | 1 << bit).to_bytes(2, "big")
    with pytest.raises(FramingError) as caught:
        decode_header(frame, payload_bytes_max=0)
    assert caught.value.fault is FramingFault.RESERVED_FLAGS
