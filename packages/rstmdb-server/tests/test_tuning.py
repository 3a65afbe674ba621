"""What is asked of the interpreter and the C library; each in a process of its own, as it is process-wide."""

import subprocess
import sys

import pytest

KNOT = """
import gc, weakref
from rstmdb_server import tuning

class Knot:
    def __init__(self):
        self.itself = self

def knot():
    return weakref.ref(Knot())

tuning.freeze_memory()
"""


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("freeze", ["freeze_more_memory", "give_back_memory"])
def test_garbage_is_not_frozen(freeze: str) -> None:
    run(
        KNOT
        + f"""
kept, garbage = Knot(), knot()
assert garbage() is not None, "collected by itself: the test shows nothing"
before = gc.get_freeze_count()
tuning.{freeze}()
assert garbage() is None
assert gc.get_freeze_count() > before
assert kept not in gc.get_objects()
"""
    )


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_free_pages_are_given_back() -> None:
    """Blocks of the C library's heap with one in use behind them, which it would keep by itself."""
    printed = run(
        """
from rstmdb_server import tuning
tuning.share_the_heap()
blocks = [bytes(10_000) for _ in range(5_000)]
last = bytes(10_000)
held = tuning.resident_bytes()
del blocks
kept = tuning.resident_bytes()
tuning.give_back_memory()
print(held, kept, tuning.resident_bytes())
"""
    )
    held, kept, left = map(int, printed.split())
    assert kept > held - 5_000_000, "the C library gave it back by itself: the test shows nothing"
    assert left < held - 40_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_threads_share_one_heap() -> None:
    """What a worker has allocated and the loop has freed serves the loop."""
    printed = run(
        """
from concurrent.futures import ThreadPoolExecutor
from rstmdb_server import tuning
tuning.share_the_heap()
with ThreadPoolExecutor(1) as thread:
    pages = thread.submit(lambda: [bytes(10_000) for _ in range(5_000)]).result()
    last = thread.submit(bytes, 10_000).result()
    del pages
    before = tuning.resident_bytes()
    again = [bytes(10_000) for _ in range(5_000)]
    print(tuning.resident_bytes() - before)
"""
    )
    assert int(printed) < 5_000_000


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "fit"),
    [(256, 4096, 1000, 1000), (256, 700, 1000, 508), (700, 700, 500, 500), (100, 100, 10, 1)],
)
def test_as_many_clients_are_served_as_there_is_room_for_beside_the_log(
    soft: int, hard: int, wanted: int, fit: int
) -> None:
    printed = run(
        f"""
import resource
from rstmdb_server import tuning
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
print(tuning.allow_descriptors({wanted}), resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= {fit} + 99)
"""
    )
    assert printed.split() == [str(fit), "True"]
