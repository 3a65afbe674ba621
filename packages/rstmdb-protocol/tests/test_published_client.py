"""Frames against the codec of the published Python client, which shares nothing with ours."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rstmdb.protocol import Frame
from rstmdb.protocol import crc32c as published_crc32c

from rstmdb_protocol import Framing, MessageDecoder, crc32c, encode_frame


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_the_published_client_reads_our_frames(payload: bytes) -> None:
    frame, rest = Frame.decode(encode_frame(payload) + b"rest")
    assert frame is not None
    assert (frame.payload, frame.use_crc, frame.header_extension, rest) == (payload, True, b"", b"rest")
    assert crc32c(payload) == published_crc32c(payload)


@pytest.mark.parametrize("use_crc", [True, False])
@settings(deadline=None)
@given(payload=st.binary(max_size=300), extension=st.binary(max_size=40))
def test_we_read_frames_of_the_published_client(use_crc: bool, payload: bytes, extension: bytes) -> None:
    data = Frame(payload, use_crc=use_crc, header_extension=extension).encode()
    assert MessageDecoder().feed(data) == [(payload, Framing.FRAME)]
