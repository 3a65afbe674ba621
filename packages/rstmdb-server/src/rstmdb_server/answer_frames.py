"""From the outcome of a request to the bytes of its answer: framed, counted, never larger than a frame."""

from __future__ import annotations

from rstmdb_core import Refusal
from rstmdb_protocol import (
    RETRYABLE,
    Framing,
    FramingError,
    encode_error,
    encode_ok,
    frame_for,
)
from rstmdb_server.answers import bad_request
from rstmdb_server.counters import Counters

ERROR_MESSAGE_CHARACTERS_MAX = 2048
"""A refusal quotes what the client sent; a name of megabytes is not worth sending back."""


class AnswerFrames:
    """Makes answers.

    Args:
        counters: Where errors are counted, by their code.
    """

    __slots__ = ("_counters",)

    def __init__(self, counters: Counters) -> None:
        self._counters = counters

    def ok(self, request_id: str, framing: Framing, result: bytes) -> bytes:
        """Return the bytes of a result, or of the refusal that takes its place if no frame can hold it."""
        payload = encode_ok(request_id, result)
        try:
            return frame_for(payload, framing)
        except FramingError:
            refusal = bad_request(f"the answer would take {len(payload)} bytes, over the limit of one frame")
            return self.error(request_id, framing, refusal)

    def error(self, request_id: str, framing: Framing, refusal: Refusal) -> bytes:
        """Return the bytes of a refusal, and count it."""
        self._counters.error(refusal.code)
        message = refusal.message
        if len(message) > ERROR_MESSAGE_CHARACTERS_MAX:
            message = message[:ERROR_MESSAGE_CHARACTERS_MAX] + "..."
        payload = encode_error(
            request_id,
            refusal.code,
            message,
            retryable=_retryable(refusal),
            details=refusal.details,
        )
        return frame_for(payload, framing)


def _retryable(refusal: Refusal) -> bool:
    details = refusal.details
    if details is not None and details.get("outcome") == "unknown":
        return False  # nobody knows whether it happened: never to be repeated blindly
    return refusal.code in RETRYABLE
