from __future__ import annotations

import pytest

from rstmdb_storage import CommitPolicy, FsyncMode, FsyncPolicy


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("every_write", FsyncPolicy.every_write()),
        ("everywrite", FsyncPolicy.every_write()),
        ("!every_write", FsyncPolicy.every_write()),
        ("never", FsyncPolicy.never()),
        ("every_n:100", FsyncPolicy.every_n(100)),
        ("every_ms: 250", FsyncPolicy.every_ms(250)),
        ("!every_ms 100", FsyncPolicy.every_ms(100)),
        ({"every_n": 7}, FsyncPolicy.every_n(7)),
        ({"every_ms": 7}, FsyncPolicy.every_ms(7)),
    ],
)
def test_every_spelling_is_read(value: str, expected: FsyncPolicy) -> None:
    assert FsyncPolicy.parse(value) == expected


@pytest.mark.parametrize(
    "value",
    ["", "sometimes", "every_n", "every_n:", "every_n:x", "every_n:0", "every_ms:-1", {"every_n": "7"},
     {"every_n": 0}, {"every_n": True}, {"never": 1}, {"every_n": 1, "every_ms": 2}, {}, 7, None],
)  # fmt: skip
def test_everything_else_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="every_"):
        FsyncPolicy.parse(value)  # type: ignore[arg-type]


def test_a_policy_reads_back_from_its_text() -> None:
    for policy in (
        FsyncPolicy.every_write(),
        FsyncPolicy.never(),
        FsyncPolicy.every_n(5),
        FsyncPolicy.every_ms(6),
    ):
        assert FsyncPolicy.parse(str(policy)) == policy
        assert policy.relaxed == (policy.mode is not FsyncMode.EVERY_WRITE)
    with pytest.raises(ValueError, match="takes no number"):
        FsyncPolicy(FsyncMode.NEVER, 3)


def test_commits_are_inline_while_syncs_are_quick() -> None:
    policy = CommitPolicy()
    assert policy.inline(0.0)
    for at in range(100):
        policy.observed(0.0049, float(at))
        assert policy.inline(float(at))


def test_one_slow_sync_among_quick_ones_leaves_commits_in_the_loop() -> None:
    policy = CommitPolicy(slow_sync_seconds=0.005)
    for at in range(100):
        policy.observed(0.035 if at % 30 == 0 else 0.0001, at * 0.01)
        assert policy.inline(at * 0.01)


def test_slow_syncs_in_a_row_move_commits_to_a_thread_until_it_has_been_calm() -> None:
    policy = CommitPolicy(slow_sync_seconds=0.005, calm_seconds=5.0)
    policy.observed(0.03, 10.0)
    assert policy.inline(10.0)
    policy.observed(0.03, 10.1)
    assert not policy.inline(10.1)
    for number in range(20):
        policy.observed(0.0001, 10.2 + number * 0.01)
    assert not policy.inline(15.0)
    assert policy.inline(15.6)


def test_a_very_slow_sync_alone_moves_commits_to_a_thread() -> None:
    policy = CommitPolicy(slow_sync_seconds=0.005, calm_seconds=0.5)
    policy.observed(1.0, 10.0)
    assert not policy.inline(10.0)
    policy.observed(0.0001, 10.1)
    assert not policy.inline(10.5)


def test_a_host_may_keep_every_commit_in_a_thread() -> None:
    policy = CommitPolicy()
    policy.inline_allowed = False
    assert not policy.inline(0.0)
    policy.inline_allowed = True
    assert policy.inline(0.0)


def test_a_turn_ends_by_time_or_by_size() -> None:
    policy = CommitPolicy()
    assert not policy.turn_over(began=1.0, now=1.0019, pending_bytes=262_143)
    assert policy.turn_over(began=1.0, now=1.0, pending_bytes=262_144)
    assert policy.turn_over(began=1.0, now=1.0021, pending_bytes=1)
