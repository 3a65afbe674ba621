"""What a serving process asks of the interpreter and the system, once, before it serves.

Each of these is process-wide, so only ``serve.py`` (and a benchmark that measures the same thing) calls them.
"""

from __future__ import annotations

import contextlib
import gc
import resource
import sys

DESCRIPTORS_RESERVED = 512
"""Beside those of clients: refused ones, segments, readers of lagging watchers, the operators' address."""

SWITCH_INTERVAL_SECONDS = 0.0005
"""How long a worker thread may hold the interpreter against the loop, which serves everybody: short."""


def prefer_the_loop() -> None:
    """Have worker threads give the interpreter back soon."""
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)


def allow_descriptors(connections: int) -> None:
    """Raise the soft limit of open files as far as so many clients need it and the hard limit allows."""
    wanted = connections + DESCRIPTORS_RESERVED
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def freeze_memory() -> None:
    """Take what recovery built out of the collector's sight and stop looking at old objects.

    Instances hold no references that could form cycles; a full collection over a million of them would
    stop the server for a second and find nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 1_000_000)


def freeze_more_memory() -> None:
    """Do the same for what has grown since, without looking through it first."""
    gc.freeze()
