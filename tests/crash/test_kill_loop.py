"""Ten kills in a row, at least, in every test run; ``hatch run crash`` does hundreds under every policy."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.kill_loop import run_kill_loop

ON_DISK = Path(__file__).parent  # the checkout is on a real disk, which /tmp may not be

COMPACTING = """
compaction:
  events_threshold: 200
  min_interval_secs: 0
retention:
  history_mb: 0
storage:
  wal_segment_size_mb: 1
"""


@pytest.mark.timeout(180)
def test_ten_kills_with_the_default_configuration() -> None:
    report = run_kill_loop(kills=10, seed=1, directory=ON_DISK)
    print(report)
    assert report.kills == 10
    assert report.writes > 100


@pytest.mark.timeout(180)
@pytest.mark.parametrize("policy", ["every_n:50", "every_ms:20", "never"])
def test_kills_lose_nothing_under_relaxed_policies_while_compacting(policy: str, tmp_path: Path) -> None:
    config = tmp_path / "rstmdb.yaml"
    config.write_text(COMPACTING)
    report = run_kill_loop(
        kills=4,
        seed=2,
        environ={"RSTMDB_CONFIG": str(config), "RSTMDB_FSYNC_POLICY": policy},
        directory=ON_DISK,
    )
    print(policy, report)
    assert report.snapshots > 0
