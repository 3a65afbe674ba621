"""Both ends of a connection without I/O: bytes in, messages out, and the bytes to write in return.

    client   OPEN      requests are written, answers matched to them by id
             CLOSING   BYE was written: no further request
             CLOSED    end of stream or a protocol error; what is still pending gets no answer

    server   HANDSHAKE the peer is a stranger: small payloads only
             OPEN      after `open`: payloads up to a full frame
             CLOSED    end of stream or a protocol error

Neither end touches a socket or a clock: the caller reads, writes, waits and gives up.
"""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from rstmdb_protocol.decoder import Framing, MessageDecoder
from rstmdb_protocol.errors import LocalError, MessageError, ProtocolError
from rstmdb_protocol.limits import (
    FRAME_PAYLOAD_BYTES_MAX,
    HANDSHAKE_PAYLOAD_BYTES_MAX,
    REQUEST_ID_BYTES_MAX,
)
from rstmdb_protocol.messages import (
    End,
    Event,
    Response,
    Unknown,
    decode_message,
    encode_error,
    encode_ok,
    frame_for,
)
from rstmdb_protocol.parameters import Params
from rstmdb_protocol.requests import MalformedRequest, Request, decode_request, encode_request

_encode = msgspec.json.Encoder().encode


class ClientState(Enum):
    """Where a client is in its life; see the module docstring."""

    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class Outgoing(NamedTuple):
    """A request that is to be written.

    Attributes:
        request_id: The id that its answer will carry.
        data: The bytes to write.
    """

    request_id: str
    data: bytes


class ClientConnection:
    """The client's end.

    Attributes:
        framing: How requests are framed. The server answers each in the framing in which it arrived.
        state: Where the connection is in its life.
        error: Why it is CLOSED, or None when the stream just ended.
    """

    def __init__(self, *, framing: Framing = Framing.FRAME) -> None:
        self.framing = framing
        self.state: ClientState = ClientState.OPEN
        self.error: ProtocolError | None = None
        self._decoder = MessageDecoder(payload_bytes_max=FRAME_PAYLOAD_BYTES_MAX)
        self._pending: dict[str, str] = {}
        self._last_id = 0

    @property
    def pending(self) -> Mapping[str, str]:
        """Requests without an answer, oldest first: their ids and operations."""
        return MappingProxyType(self._pending)

    def send_request(
        self,
        op: str,
        params: Params | Mapping[str, Any] | None = None,
        *,
        request_id: str | None = None,
    ) -> Outgoing:
        """Make a request; write its `data` to the server.

        Args:
            op: Name of the operation.
            params: Its parameters; None leaves them out.
            request_id: An id of the caller's choice; by default the next of a counter.

        Raises:
            LocalError: The connection is not open, the id is too long or in use, or the parameters have no
                JSON form.
            FramingError: The request does not fit into a frame. Nothing was recorded.
        """
        if self.state is not ClientState.OPEN:
            raise LocalError(f"cannot send {op}: the connection is {self.state.value}")
        if request_id is None:
            self._last_id += 1
            request_id = str(self._last_id)
        elif len(request_id.encode(errors="replace")) > REQUEST_ID_BYTES_MAX:
            raise LocalError(f"request id is longer than {REQUEST_ID_BYTES_MAX} bytes")
        if request_id in self._pending:
            raise LocalError(f"request id {request_id!r} is in use")
        try:
            payload = encode_request(request_id, op, b"" if params is None else _encode(params))
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise LocalError(f"{op} has no JSON form: {error}") from error
        data = frame_for(payload, self.framing)
        self._pending[request_id] = op
        if op == "BYE":
            self.state = ClientState.CLOSING
        return Outgoing(request_id, data)

    def forget(self, request_id: str) -> bool:
        """Stop waiting for an answer; when it comes after all, it is dropped.

        Returns:
            Whether the request was pending.
        """
        return self._pending.pop(request_id, None) is not None

    def receive_data(self, data: bytes) -> list[Response | Event | End | Unknown]:
        """Take bytes from the server; return what they complete, in order.

        Answers that nobody waits for are left out. Never raises: at a protocol error the state becomes
        CLOSED, `error` is set, and the messages before it are returned. Bytes that come later are dropped.
        """
        if self.state is ClientState.CLOSED:
            return []
        messages: list[Response | Event | End | Unknown] = []
        for payload, _ in self._decoder.feed(data):
            try:
                message = decode_message(payload)
            except MessageError as error:
                self._close(error)
                return messages
            if type(message) is Response and self._pending.pop(message.id, None) is None:
                continue
            messages.append(message)
        if self._decoder.error is not None:
            self._close(self._decoder.error)
        return messages

    def receive_eof(self) -> None:
        """Note that the server will send nothing more. `pending` keeps what was not answered."""
        self.state = ClientState.CLOSED

    def _close(self, error: ProtocolError) -> None:
        self.state = ClientState.CLOSED
        self.error = error


class ServerState(Enum):
    """Where a server's connection is in its life; see the module docstring."""

    HANDSHAKE = "handshake"
    OPEN = "open"
    CLOSED = "closed"


class Incoming(NamedTuple):
    """A request as it arrived.

    Attributes:
        message: The request; or what is known of a malformed one, whose id is not None.
        framing: How it was framed, and so how its answer is.
    """

    message: Request | MalformedRequest
    framing: Framing


class ServerConnection:
    """The server's end.

    Attributes:
        state: Where the connection is in its life.
        error: Why it is CLOSED, or None when the stream just ended.
    """

    def __init__(self) -> None:
        self.state: ServerState = ServerState.HANDSHAKE
        self.error: ProtocolError | None = None
        self._decoder = MessageDecoder(payload_bytes_max=HANDSHAKE_PAYLOAD_BYTES_MAX)

    @property
    def buffered_bytes(self) -> int:
        """Bytes received that belong to a message not yet returned."""
        return self._decoder.buffered_bytes

    @property
    def withheld(self) -> bool:
        """Whether the last call left a message over the limit to the next one."""
        return self._decoder.withheld

    def open(self) -> list[Incoming]:
        """Trust the peer with full-size payloads, after authentication or a first valid request.

        Returns:
            Requests that had arrived but were too large for a stranger; treat them as just received.
        """
        if self.state is not ServerState.HANDSHAKE:
            return []
        self.state = ServerState.OPEN
        self._decoder.payload_bytes_max = FRAME_PAYLOAD_BYTES_MAX
        return self.receive_data(b"")

    def receive_data(self, data: bytes) -> list[Incoming]:
        """Take bytes from the client; return the requests they complete, in order.

        A malformed request whose id could be recovered is returned for the caller to refuse. One without an
        id ends the connection, since nobody could be answered. Never raises: then the state becomes CLOSED,
        `error` is set, and the requests before it are returned.

        A payload too large for a stranger that follows other requests is judged by the next call: when
        `withheld` is True, call `open` or else `receive_data(b"")` after handling the requests.
        """
        if self.state is ServerState.CLOSED:
            return []
        requests: list[Incoming] = []
        for payload, framing in self._decoder.feed(data):
            message = decode_request(payload)
            if type(message) is MalformedRequest and message.id is None:
                self._close(MessageError(message.message))
                return requests
            requests.append(Incoming(message, framing))
        if self._decoder.error is not None:
            self._close(self._decoder.error)
        return requests

    def receive_eof(self) -> None:
        """Note that the client will send nothing more."""
        self.state = ServerState.CLOSED

    def ok(self, request: Incoming, result: Struct | Mapping[str, Any] | bytes) -> bytes:
        """Return the bytes of a successful answer.

        Args:
            request: What is answered.
            result: A result struct, a mapping, or JSON text of an object without a raw line feed.

        Raises:
            FramingError: The answer does not fit into a frame; refuse the request instead.
        """
        text = result if isinstance(result, bytes) else _encode(result)
        return frame_for(encode_ok(_id_of(request), text), request.framing)

    def refuse(
        self,
        request: Incoming,
        code: str,
        message: str,
        *,
        retryable: bool | None = None,
        details: dict[str, Any] | None = None,
    ) -> bytes:
        """Return the bytes of a refusal; see `messages.encode_error`."""
        payload = encode_error(_id_of(request), code, message, retryable=retryable, details=details)
        return frame_for(payload, request.framing)

    def _close(self, error: ProtocolError) -> None:
        self.state = ServerState.CLOSED
        self.error = error


def _id_of(request: Incoming) -> str:
    if request.message.id is None:
        raise LocalError("a request without an id cannot be answered")
    return request.message.id
