"""The parser of operators' requests: any bytes are a request or a refusal by status, however they are cut."""

import anyio
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rstmdb_server.http_messages import (
    HEAD_BYTES_MAX,
    MalformedRequestError,
    Request,
    parse_head,
    receive_head,
    skip_body,
)


class Pieces:
    """A stream that gives what it was made of, piece by piece."""

    def __init__(self, pieces):
        self._pieces = list(pieces)

    async def receive(self):
        if not self._pieces:
            raise anyio.EndOfStream
        return self._pieces.pop(0)


PIECES = [
    b"GET", b" ", b"/", b"?a=b", b"HTTP/1.1", b"\r\n", b":", b"Host", b"Content-Length: 5", b"%", b"http://[",
    b"Authorization: Basic ", b"YTpi", b"\xff", b"\x00",
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=200)
    | st.lists(
        st.sampled_from(PIECES),
        max_size=12,
    ).map(b"".join)
)
@example(b"GET / HTTP/1.1")
@example(b"\r\n\r\nGET / HTTP/1.1\r\nAuthorization: Basic \xff")
def test_any_head_is_a_request_or_a_refusal(head):
    refusal = None
    try:
        request, body_bytes, keep = parse_head(head, peer="p")
    except MalformedRequestError as error:
        refusal = error
    if refusal is not None:
        assert 400 <= refusal.status < 500
        return
    assert isinstance(request, Request)
    assert body_bytes >= 0
    assert isinstance(keep, bool)
    assert request.peer == "p"


@pytest.mark.asyncio
@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
async def test_however_it_is_cut(size):
    data = b"POST /a HTTP/1.1\r\nContent-Length: 7\r\n\r\n\r\n\r\nabcGET /b HTTP/1.1\r\n\r\n"
    stream, buffer = Pieces(data[i : i + size] for i in range(0, len(data), size)), bytearray()
    request, body_bytes, _ = parse_head(await receive_head(stream, buffer), peer="p")
    assert (request.path, body_bytes) == ("/a", 7)
    await skip_body(stream, buffer, body_bytes)
    request, _, _ = parse_head(await receive_head(stream, buffer), peer="p")
    assert request.path == "/b"
    with pytest.raises(anyio.EndOfStream):
        await receive_head(stream, buffer)


@pytest.mark.asyncio
async def test_a_head_without_an_end_is_refused_and_not_kept():
    stream, buffer = Pieces([b"x" * 4096] * 1000), bytearray()
    with pytest.raises(MalformedRequestError):
        await receive_head(stream, buffer)
    assert len(buffer) <= HEAD_BYTES_MAX + 4096


@pytest.mark.parametrize(
    ("authorization", "token"),
    [
        ("Bearer abc", "abc"),
        ("bearer  abc ", "abc"),
        ("Basic dXNlcjpwYTpzcw==", "pa:ss"),
        ("Basic bm9jb2xvbg==", ""),
        ("Basic !!!", None),
        ("Digest x", None),
        ("", None),
    ],
)
def test_tokens(authorization, token):
    request, _, _ = parse_head(f"GET / HTTP/1.1\r\nAuthorization: {authorization}".encode(), peer="p")
    assert request.token == token
