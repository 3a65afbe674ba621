"""What a serving process asks of the interpreter, the C library and the system.

::

    before it serves     prefer_the_loop, allow_descriptors, share_the_heap, freeze_memory
    while it serves      freeze_more_memory, give_back_memory (``memory_upkeep.py`` decides when)

Each of these is process-wide, so only ``serve.py`` (and a benchmark that measures the same thing) calls them.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource
import sys

DESCRIPTORS_RESERVED = 512
"""Beside those of clients: refused ones, segments, readers of lagging watchers, the operators' address."""

DESCRIPTORS_LEAST = 192
"""Of them, those that cannot be done without."""

SWITCH_INTERVAL_SECONDS = 0.0005
"""How long a worker thread may hold the interpreter against the loop, which serves everybody: short."""

M_ARENA_MAX = -8  # of <malloc.h>


def prefer_the_loop() -> None:
    """Have worker threads give the interpreter back soon."""
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)


def allow_descriptors(connections: int) -> int:
    """Raise the soft limit of open files as far as so many clients need it and the hard limit allows.

    Returns:
        How many clients then fit beside the files of the server: a log that finds no descriptor for its next
        segment can promise nothing any more.
    """
    wanted = connections + DESCRIPTORS_RESERVED
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    if soft == resource.RLIM_INFINITY:
        return connections
    return max(1, min(connections, soft - DESCRIPTORS_LEAST))


def share_the_heap() -> None:
    """Let all threads use one heap; before the first thread is started.

    The C library gives each its own, against contention that threads under the interpreter's lock do not
    have. Pages of the log that a worker reads and the loop frees would be of no use to anybody else.
    """
    with contextlib.suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def freeze_memory() -> None:
    """Take what recovery built out of the collector's sight and stop looking at old objects.

    Instances hold no references that could form cycles; a full collection over a million of them would
    stop the server for a second and find nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 1_000_000)


def freeze_more_memory() -> None:
    """Do the same for what has grown since.

    It is looked through first: what is garbage when it is frozen would stay for ever.
    """
    gc.collect()
    gc.freeze()


def give_back_memory() -> None:
    """Return free memory to the system.

    The collection, beside garbage, empties the interpreter's own lists of free objects; then the C library
    lets go of each page that nothing stands on.
    """
    freeze_more_memory()
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def resident_bytes() -> int:
    """Return how much memory the process has in use, or 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        return 0
