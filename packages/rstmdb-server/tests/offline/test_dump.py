"""dump: effects as JSON lines."""

import json

import pytest

from rstmdb_server import exit_codes


@pytest.fixture
def worked(database):
    database.work(12)
    return database


def lines(rstmdb):
    return [json.loads(line) for line in rstmdb.out.splitlines()]


def test_every_effect_in_order(worked, rstmdb):
    assert rstmdb("dump", worked.path) == exit_codes.OK
    effects = lines(rstmdb)
    assert [effect["sequence"] for effect in effects] == list(range(1, max(worked.shadow) + 1))
    assert all(effect["offset"] == effect["sequence"] for effect in effects)
    assert effects[0]["entry"]["type"] == "put_machine"
    assert effects[1]["entry"]["initial_ctx"] == {"total": 1, "text": ""}
    assert effects[2]["entry"]["ctx"] == {"total": 1, "text": "", "by": "card"}
    assert effects[2]["entry"]["event_id"] == "e0"
    for sequence, time_ms in worked.times.items():
        assert effects[sequence - 1]["time"] == effects[sequence - 1]["entry"]["timestamp"] == time_ms


def test_a_page(worked, rstmdb):
    assert rstmdb("dump", worked.path, "--from", 10, "--limit", 3) == exit_codes.OK
    assert [effect["sequence"] for effect in lines(rstmdb)] == [10, 11, 12]
    assert rstmdb("dump", worked.path, "--limit", 0) == exit_codes.OK
    assert rstmdb.out == ""


def test_the_page_may_begin_inside_of_a_batch(worked, rstmdb):
    batch_end = next(end for end in worked.shadow if end - 1 not in worked.shadow and end > 1)
    assert rstmdb("dump", worked.path, "--from", batch_end, "--limit", 1) == exit_codes.OK
    assert lines(rstmdb)[0]["sequence"] == batch_end


def test_one_instance(worked, rstmdb):
    assert rstmdb("dump", worked.path, "--instance", "order-3") == exit_codes.OK
    assert [effect["entry"]["type"] for effect in lines(rstmdb)] == [
        "create_instance",
        "apply_event",
        "apply_event",
        "apply_event",
        "delete_instance",
    ]


def test_history_that_is_gone_is_told(worked, rstmdb):
    worked.snapshot()
    worked.work(40, start=12)
    worked.snapshot()
    worked.work(1, start=90)
    worked.snapshot()
    assert worked.trim() > 0
    assert rstmdb("dump", worked.path, "--from", 1) == exit_codes.START_FAILED
    assert "sequence 1 is gone: the log begins at" in rstmdb.err
    assert rstmdb("dump", worked.path) == exit_codes.OK
    assert lines(rstmdb)[0]["sequence"] > 1


@pytest.mark.parametrize("arguments", [["--from", "x"], ["--limit", "-1"]])
def test_wrong_numbers(worked, rstmdb, arguments):
    assert rstmdb("dump", worked.path, *arguments) == exit_codes.USAGE
