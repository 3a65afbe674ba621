"""One connection without its I/O: requests out, answers matched, events sorted out.

```
NEW   --greeted(hello)-------------> READY
NEW   --receive(nonsense), lose()--> LOST
READY --receive(nonsense), lose()--> LOST
```

Requests are numbered from 1; the number is the id on the wire. Whoever waits for an answer is a *token* to
this module: it is handed back with the answer, and nothing here knows what it is. A request whose caller
went away is forgotten; its answer, when it comes, has a number that was given out and is dropped. An answer
to a number never given out is nonsense, and nonsense is final: the stream cannot be trusted any more.
"""

from typing import Any, Generic, TypeVar

import msgspec

from rstmdb_client import results
from rstmdb_client.calls import DURABLE_KEYS, Call
from rstmdb_client.errors import (
    ProtocolViolation,
    RequestTooLarge,
    ServerError,
    UnsupportedByServer,
    server_error,
)
from rstmdb_protocol import MessageDecoder, MessageError, decode_message, encode_frame
from rstmdb_protocol.limits import FRAME_PAYLOAD_BYTES_MAX
from rstmdb_protocol.messages import End, Event, Response

__all__ = ["Outcome", "Session"]

T = TypeVar("T")

Outcome = msgspec.Raw | ServerError
"""What an answer brings: the JSON text of the result, or the refusal."""

_NULL = msgspec.Raw(b"null")


class Session(Generic[T]):
    """The state of one connection.

    Attributes:
        features: what both sides can do; empty until greeted.
        durable_keys: the server keeps idempotency keys durably.
        server: name and version, as the server says.
        error: why the peer cannot be trusted any more, or None.
        messages: how many whole messages have arrived: a peer that sends half of one may have stalled.
    """

    __slots__ = (
        "_decoder",
        "_pending",
        "_sent",
        "durable_keys",
        "error",
        "events",
        "features",
        "messages",
        "server",
    )

    def __init__(self) -> None:
        self._decoder = MessageDecoder()
        self._pending: dict[str, T] = {}
        self._sent = 0
        self.features: frozenset[str] = frozenset()
        self.durable_keys: bool = False
        self.server: str = ""
        self.error: ProtocolViolation | None = None
        self.events: list[Event | End] = []
        self.messages: int = 0

    @property
    def pending(self) -> int:
        """How many requests wait for their answers."""
        return len(self._pending)

    def greeted(self, hello: results.Hello) -> None:
        """Take over what HELLO agreed on.

        Raises:
            ProtocolViolation: the server agreed to something that was not asked for.
        """
        if hello.protocol_version != 1 or hello.wire_mode not in ("binary_json", None):
            self.error = ProtocolViolation(
                f"HELLO agreed on version {hello.protocol_version} and mode {hello.wire_mode!r}"
            )
            raise self.error
        self.features = frozenset(hello.features or ())
        self.durable_keys = DURABLE_KEYS in self.features
        self.server = f"{hello.server_name or 'unknown'} {hello.server_version or ''}".rstrip()

    def require(self, call: Call[Any]) -> None:
        """Refuse a call that the server would misunderstand.

        Raises:
            UnsupportedByServer: the server did not offer a feature the call needs.
        """
        for need in call.needs:
            if need.feature not in self.features:
                raise UnsupportedByServer(need.feature, need.reason)

    def request(self, call: Call[Any], token: T) -> tuple[str, bytes]:
        """Number a call and return its id and the bytes to send.

        Raises:
            UnsupportedByServer: the server did not offer a feature the call needs.
            RequestTooLarge: the request does not fit into a frame.
        """
        if call.needs:
            self.require(call)
        params = call.params if call.key is None else call.request_params(durable_keys=self.durable_keys)
        number = self._sent + 1
        request_id = str(number)
        payload = b'{"type":"request","id":"%d","op":"%b","params":%b}' % (number, call.op.encode(), params)
        if len(payload) > FRAME_PAYLOAD_BYTES_MAX:
            raise RequestTooLarge(_largest_member(params), len(payload), FRAME_PAYLOAD_BYTES_MAX)
        self._sent = number
        self._pending[request_id] = token
        return request_id, encode_frame(payload)

    def abandon(self, request_id: str) -> None:
        """Forget a request whose caller no longer waits."""
        self._pending.pop(request_id, None)

    def receive(self, data: bytes) -> list[tuple[T, Outcome]]:
        """Take bytes of the peer and return the answers they complete, in order.

        Events are appended to `events`. When the peer talks nonsense `error` is set, and what came before it
        is still returned.
        """
        answers: list[tuple[T, Outcome]] = []
        if self.error is not None:
            return answers
        decoder = self._decoder
        payloads = decoder.feed(data)
        self.messages += len(payloads)
        for payload, _ in payloads:
            try:
                message = decode_message(payload)
            except MessageError as error:
                self.error = ProtocolViolation(str(error))
                return answers
            if type(message) is Response:
                token = self._pending.pop(message.id, None)
                if token is None:
                    if not self._was_sent(message.id):
                        self.error = ProtocolViolation(f"an answer to {message.id!r}, which was not asked")
                        return answers
                elif message.status == "ok":
                    answers.append((token, message.result if len(message.result) else _NULL))
                else:
                    answers.append((token, _refusal(message)))
            elif type(message) is Event or type(message) is End:
                self.events.append(message)
        if decoder.error is not None:
            self.error = ProtocolViolation(str(decoder.error))
        return answers

    def _was_sent(self, request_id: str) -> bool:
        return request_id.isascii() and request_id.isdigit() and 0 < int(request_id[:20]) <= self._sent

    def waiting(self) -> list[tuple[str, T]]:
        """Return who waits for which request."""
        return list(self._pending.items())

    def lose(self) -> list[T]:
        """End the session and return whoever still waits."""
        waiting = list(self._pending.values())
        self._pending.clear()
        return waiting


def _refusal(message: Response) -> ServerError:
    error = message.error
    assert error is not None, "decode_message lets no refusal without its error through"
    return server_error(error.code, error.message, retryable=error.retryable, details=error.details)


def _largest_member(params: bytes) -> str:
    """Name the member of the parameters that takes most room."""
    members = msgspec.json.decode(params, type=dict[str, msgspec.Raw])
    return max(members, key=lambda name: len(members[name]), default="params")
