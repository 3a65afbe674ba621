"""Answers as bytes: counted by code, cut where they quote too much, and never larger than a frame."""

import json
from typing import Any

import pytest

from rstmdb_core import Refusal
from rstmdb_protocol import FRAME_PAYLOAD_BYTES_MAX, Framing, MessageDecoder
from rstmdb_server.answer_frames import ERROR_MESSAGE_CHARACTERS_MAX, AnswerFrames
from rstmdb_server.answers import disk_full, sync_failed
from rstmdb_server.counters import Counters


@pytest.fixture
def counters() -> Counters:
    return Counters()


@pytest.fixture
def frames(counters: Counters) -> AnswerFrames:
    return AnswerFrames(counters)


def read(data: bytes) -> dict[str, Any]:
    ((payload, _),) = MessageDecoder(payload_bytes_max=FRAME_PAYLOAD_BYTES_MAX).feed(data)
    message: dict[str, Any] = json.loads(payload)
    return message


@pytest.mark.parametrize("framing", list(Framing))
def test_a_result_goes_out_in_the_framing_of_its_request(frames: AnswerFrames, framing: Framing) -> None:
    data = frames.ok("7", framing, b'{"pong":true}')
    assert read(data) == {"type": "response", "id": "7", "status": "ok", "result": {"pong": True}}
    assert data.endswith(b"\n") is (framing is Framing.LINE)


def test_a_result_that_no_frame_holds_is_a_refusal(frames: AnswerFrames, counters: Counters) -> None:
    answer = read(frames.ok("7", Framing.FRAME, b'"' + b"x" * FRAME_PAYLOAD_BYTES_MAX + b'"'))
    assert (answer["id"], answer["error"]["code"]) == ("7", "BAD_REQUEST")
    assert counters.errors == {"BAD_REQUEST": 1}


def test_a_name_of_megabytes_is_not_sent_back(frames: AnswerFrames) -> None:
    refusal = Refusal(code="BAD_REQUEST", message="x" * 5_000_000, details=None)
    assert len(frames.error("7", Framing.FRAME, refusal)) < ERROR_MESSAGE_CHARACTERS_MAX + 200


@pytest.mark.parametrize(
    ("refusal", "retryable"),
    [
        (disk_full("no room"), True),  # nothing happened
        (sync_failed("the disk is gone"), False),  # nobody knows whether it happened
        (Refusal(code="RATE_LIMITED", message="later", details=None), True),
        (Refusal(code="INVALID_TRANSITION", message="no", details=None), False),
    ],
)
def test_what_may_be_repeated_says_so(frames: AnswerFrames, refusal: Refusal, retryable: bool) -> None:
    assert read(frames.error("7", Framing.FRAME, refusal))["error"]["retryable"] is retryable
