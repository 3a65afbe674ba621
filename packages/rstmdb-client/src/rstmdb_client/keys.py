"""Idempotency keys that the client makes up by itself: `<32 random hex digits>-<counter>`.

The random part is drawn once a process, so a key costs a counter and not a system call. A forked child
draws its own: otherwise parent and child would use the same keys for different writes, and the server would
swallow one of the two.
"""

import itertools
import os
from enum import Enum
from typing import Final

__all__ = ["AUTO", "AUTOMATIC_KEY_TTL_SECS", "Auto", "new_key"]

AUTOMATIC_KEY_TTL_SECS: Final = 600
"""How long the server is asked to keep an automatic key: far longer than any call goes on trying."""


class Auto(Enum):
    """The type of `AUTO`."""

    AUTO = "AUTO"

    def __repr__(self) -> str:
        return "AUTO"


AUTO: Final = Auto.AUTO
"""Ask the client to make up an idempotency key for this write."""

_counter = itertools.count(1)
_prefix = os.urandom(16).hex()


def new_key() -> str:
    """Return a key that nobody has used before."""
    return f"{_prefix}-{next(_counter)}"


def _reseed() -> None:
    global _prefix
    _prefix = os.urandom(16).hex()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reseed)
