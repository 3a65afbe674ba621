"""The next segment is made off the loop, one at a time, and a disk that fails is not asked again at once."""

from typing import cast

import pytest
import structlog

from rstmdb_server.segment_preparation import PREPARATION_PAUSE_SECONDS, SegmentPreparation
from rstmdb_storage import EmbeddedLog
from tests.in_process import VirtualHost


class Segments:
    """A log that wants a segment until it has one."""

    def __init__(self, *, failures: int = 0) -> None:
        self.failures = failures
        self.runs = 0
        self.wanted = True

    def segment_to_prepare(self) -> "Segments | None":
        return self if self.wanted else None

    def run(self) -> None:
        self.runs += 1

    def finish_preparation(self, job: object) -> None:
        assert job is self
        if self.failures:
            self.failures -= 1
            raise OSError("no space")
        self.wanted = False


@pytest.fixture
def host() -> VirtualHost:
    return VirtualHost()


def preparing(segments: Segments, host: VirtualHost) -> SegmentPreparation:
    return SegmentPreparation(cast("EmbeddedLog", segments), host, log=structlog.get_logger("test"))


def test_one_at_a_time_off_the_loop(host: VirtualHost) -> None:
    segments = Segments()
    preparation = preparing(segments, host)
    for _ in range(3):
        preparation.tick()
    assert segments.runs == 0
    host.settle()
    assert segments.runs == 1
    preparation.tick()
    host.settle()
    assert segments.runs == 1, "the log has one"


def test_a_failure_is_followed_by_a_pause(host: VirtualHost) -> None:
    segments = Segments(failures=1)
    preparation = preparing(segments, host)
    for _ in range(3):
        preparation.tick()
        host.settle()
    assert segments.runs == 1
    host.advance(PREPARATION_PAUSE_SECONDS)
    preparation.tick()
    host.settle()
    assert (segments.runs, segments.wanted) == (2, False)
