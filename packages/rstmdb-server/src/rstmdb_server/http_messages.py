"""The little of HTTP/1.1 that the operators' server needs: requests off a stream, answers into bytes.

```
request  = method SP target SP "HTTP/1." digit CRLF *( name ":" value CRLF ) CRLF [ body ]
```

A body is skipped, never read into anything. What is not HTTP, or too much of it, is refused by status.
"""

import base64
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

import anyio.abc

HEAD_BYTES_MAX = 16 * 1024
BODY_BYTES_MAX = 64 * 1024  # read and forgotten; a longer one ends the connection instead


class Request(NamedTuple):
    """The part of a request that counts."""

    method: str
    path: str
    query: dict[str, list[str]]
    token: str | None
    peer: str


class Response(NamedTuple):
    """What is sent; the rest of the head is the same for all."""

    status: HTTPStatus
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


class MalformedRequestError(Exception):
    """The peer does not speak HTTP, or too much of it."""

    def __init__(self, status: HTTPStatus) -> None:
        self.status = status


async def receive_head(stream: anyio.abc.SocketStream, buffer: bytearray) -> bytes:
    """Take everything up to the empty line off the buffer."""
    searched = 0
    while (end := buffer.find(b"\r\n\r\n", searched)) < 0:
        if len(buffer) > HEAD_BYTES_MAX:
            raise MalformedRequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        searched = max(0, len(buffer) - 3)
        buffer += await stream.receive()
    if end > HEAD_BYTES_MAX:
        raise MalformedRequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
    head = bytes(buffer[:end])
    del buffer[: end + 4]
    return head


def parse_head(head: bytes, *, peer: str) -> tuple[Request, int, bool]:
    """Return the request, the length of its body, and whether the connection stays open after it."""
    first, *lines = head.decode("latin-1").lstrip("\r\n").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise MalformedRequestError(HTTPStatus.BAD_REQUEST)
    fields: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or name != name.strip():
            raise MalformedRequestError(HTTPStatus.BAD_REQUEST)
        fields[name.lower()] = value.strip()
    try:
        # A target with a host before its path is what proxies send; "//x" has none, it is a path.
        target = urlsplit(words[1] if not words[1].startswith("/") else "http://x" + words[1])
        query = parse_qs(target.query, max_num_fields=16)
    except ValueError:
        raise MalformedRequestError(HTTPStatus.BAD_REQUEST) from None
    length = fields.get("content-length", "0")
    if not (length.isascii() and length.isdigit() and len(length) <= 10):
        raise MalformedRequestError(HTTPStatus.BAD_REQUEST)
    wishes = fields.get("connection", "").lower()
    keep = "close" not in wishes if words[2] != "HTTP/1.0" else "keep-alive" in wishes
    if "transfer-encoding" in fields or int(length) > BODY_BYTES_MAX:
        length, keep = "0", False  # answered all the same; what follows is not read
    token = _token(fields.get("authorization", ""))
    return Request(words[0], target.path or "/", query, token, peer), int(length), keep


def _token(authorization: str) -> str | None:
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
    except ValueError:  # not base64, not ASCII, not UTF-8
        return None


async def skip_body(stream: anyio.abc.SocketStream, buffer: bytearray, size: int) -> None:
    """Take a body of `size` bytes off the buffer and the stream."""
    while len(buffer) < size:
        size -= len(buffer)
        buffer.clear()
        buffer += await stream.receive()
    del buffer[:size]
