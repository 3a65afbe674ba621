"""Fencing: one process at a time on a directory (invariant 14)."""

from __future__ import annotations

from rstmdb_storage.errors import LockedError
from tests.simulation.filesystem import Disk, SimulatedFileSystem
from tests.simulation.history import Shadow, Violation
from tests.simulation.host import Host, Settings

__all__ = ["check_fencing"]


def check_fencing() -> None:
    """Start a second process beside a first one, and another after it has ended.

    Raises:
        Violation: Both had the directory, or the second one changed something.
    """
    disk = Disk()
    locks: dict[int, SimulatedFileSystem] = {}
    first = Host(SimulatedFileSystem(disk, locks=locks), Settings(), Shadow())
    first.open()
    first.append(40)
    before = disk.fingerprint()
    second = Host(SimulatedFileSystem(disk, locks=locks), Settings(), first.shadow.copy())
    try:
        second.open()
    except LockedError:
        pass
    else:
        raise Violation("two processes have one directory open (14)")
    if disk.fingerprint() != before:
        raise Violation("a process that was refused has changed something (14)")
    first.append(40)
    epoch = first.log.epoch
    first.fs.crash()
    third = Host(SimulatedFileSystem(disk.after_kill(), locks=locks), Settings(), first.shadow)
    third.open()
    if third.log.epoch <= epoch:
        raise Violation("the epoch was not raised (14)")
