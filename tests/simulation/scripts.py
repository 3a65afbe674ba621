"""The short histories that the explorer walks: each a few operations, chosen for what goes wrong around them.

A script drives a `Story`: one directory through several processes. `kill` and `power_loss` are part of some
scripts, as many faults need a crash, an append and another crash; the explorer adds its own at every place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rstmdb_storage.commit import FsyncPolicy
from rstmdb_storage.compaction import Retention
from tests.simulation.filesystem import Disk, Fault, Moment, Operation, SimulatedFileSystem
from tests.simulation.history import Shadow, Violation
from tests.simulation.host import Host, Settings

__all__ = ["SCRIPTS", "Script", "Story"]

Watcher = Callable[[SimulatedFileSystem, Shadow, Operation, Moment], None]
FaultFor = Callable[[Operation], Fault | None]


class Story:
    """One data directory and the processes that use it, one after the other.

    Attributes:
        host: The process of the moment.
        shadow: What was promised so far.
        operations: How many file operations the earlier processes made.
    """

    def __init__(
        self, settings: Settings, *, watcher: Watcher | None = None, fault_for: FaultFor | None = None
    ) -> None:
        self.settings = settings
        self.shadow = Shadow()
        self.operations: list[Operation] = []
        self._watcher = watcher
        self._fault_for = fault_for
        self._now = 1000.0
        self._start(Disk(capacity=settings.capacity))

    @property
    def disk(self) -> Disk:
        """The disk of the moment."""
        return self._fs.disk

    def _start(self, disk: Disk) -> None:
        watcher, shadow, fault_for = self._watcher, self.shadow, self._fault_for

        def observe(operation: Operation, moment: Moment) -> None:
            assert watcher is not None
            watcher(fs, shadow, operation, moment)

        def note(operation: Operation) -> Fault | None:
            number = len(self.operations)
            self.operations.append(operation)
            if fault_for is None:
                return None
            return fault_for(
                Operation(number, operation.name, operation.path, operation.offset, operation.size)
            )

        fs = SimulatedFileSystem(disk, observer=None if watcher is None else observe, fault_for=note)
        self._fs = fs
        self.host = Host(fs, self.settings, shadow)
        self.host.now = self._now
        self.host.open()

    def kill(self) -> None:
        """End the process, and start the next one on what the page cache holds."""
        self._now = self.host.now
        self._fs.crash()
        self.shadow.die(power_lost=False)
        self._start(self.disk.after_kill())

    def power_loss(self, keep: Callable[[int], bool] = lambda place: False) -> None:
        """Cut the power, and start the next process on what survived."""
        self._now = self.host.now
        self._fs.crash()
        self.shadow.die(power_lost=True)
        self._start(self.disk.after_power_loss(keep))

    def reopen(self) -> None:
        """Close cleanly and start again."""
        self.host.close()
        self.kill()

    def fill_disk(self, free: int = 0) -> None:
        """Let only so many bytes be free."""
        self.disk.capacity = self.disk.used() + free

    def empty_disk(self) -> None:
        """Let space come back."""
        self.disk.capacity = None


@dataclass(frozen=True)
class Script:
    """One script.

    Attributes:
        name: What the reports call it.
        play: What happens.
        settings: How the host is configured.
        fast: Whether it belongs to the short run.
    """

    name: str
    play: Callable[[Story], None]
    settings: Settings
    fast: bool = False

    def __str__(self) -> str:
        return self.name


def first_open(story: Story) -> None:
    """The directory is made, and one record written."""
    story.host.append(40)


def group_of_three(story: Story) -> None:
    """Three records in one commit, then two, with different numbers of effects."""
    story.host.append(40, 700, 30)
    story.host.append(20, 20, lengths=(3, 1))
    story.host.append(90)


def overlapping_commits(story: Story) -> None:
    """Records come in while a commit is in flight, across a rotation too."""
    story.host.overlap(40, 700, 90, 600, 600)


def rotate(story: Story) -> None:
    """Groups that do not fit go to the next segment."""
    for _ in range(5):
        story.host.append(350)


def rotate_prepared(story: Story) -> None:
    """As before, with the next segment prepared ahead."""
    for _ in range(4):
        story.host.append(400)
        story.host.prepare()


def batch_across_a_rotation(story: Story) -> None:
    """One record of many effects, larger than what is left, and a group larger than a segment."""
    story.host.append(500)
    story.host.append(600, lengths=(7,))
    story.host.append(1500, 1500)
    story.host.append(10)


def zeros_inside(story: Story) -> None:
    """Records of zeros look like sectors that were never written."""
    story.host.append(1100, filler=b"\0")
    story.host.append(600, filler=b"\0")


def idle_mark(story: Story) -> None:
    """A second of rest lets a mark be written."""
    story.host.append(100)
    story.host.tick(1.0)
    story.host.tick(1.0)
    story.host.append(100)
    story.host.tick(2.0)


def mark_near_the_end(story: Story) -> None:
    """The mark takes room that the next record would just have filled."""
    story.host.append(300)
    story.host.tick(1.0)
    story.host.append(464)


def close_and_reopen(story: Story) -> None:
    """A clean end, twice."""
    story.host.append(60)
    story.reopen()
    story.host.append(60)
    story.reopen()


def kill_and_go_on(story: Story) -> None:
    """A kill leaves what may not be synced; the next process goes on behind it."""
    story.host.append(600)
    story.kill()
    story.host.append(30, 30)
    story.kill()
    story.host.append(30)


def power_losses(story: Story) -> None:
    """Appending after two power losses."""
    story.host.append(60)
    story.power_loss()
    story.host.append(60)
    story.power_loss()
    story.host.append(60)


def torn_and_again(story: Story) -> None:
    """A torn commit is cut, the next one goes to its place, and is not mixed with what was there."""
    host = story.host
    host.append(60)
    for size in (900, 700):
        first = host.log.append(b"lost" * (size // 4), 1)
        story.shadow.issue(first, 1, b"lost" * (size // 4))
        commit = host.log.begin_commit(host.now)
        assert commit is not None
        commit.run()
        story.power_loss(lambda place: place % 2 == 1)
        host = story.host
        host.append(40)


def crash_loop(story: Story) -> None:
    """Starting over and over without writing anything uses the space kept for it."""
    story.host.append(800)
    for _ in range(3):
        story.kill()
    story.host.append(50)


def many_restarts(story: Story) -> None:
    """More restarts than there is space for in one segment."""
    story.host.append(60)
    for _ in range(20):
        story.kill()
    story.host.append(50)


def snapshot_once(story: Story) -> None:
    """One snapshot and what follows it."""
    story.host.append(80, 80)
    story.host.snapshot()
    story.host.append(80)


def snapshot_of_nothing(story: Story) -> None:
    """A snapshot before the first record, and one of the same state again."""
    story.host.snapshot()
    story.host.append(50)
    story.host.snapshot()
    story.host.snapshot()


def snapshots_and_compaction(story: Story) -> None:
    """Three snapshots with rotations between them, compacting after each."""
    for _ in range(3):
        story.host.append(700)
        story.host.append(600)
        story.host.snapshot()
        story.host.compact()
    story.host.append(50)


def compact_restart_compact(story: Story) -> None:
    """Compaction, restart, compaction, restart."""
    for _ in range(2):
        for _ in range(2):
            story.host.append(800)
            story.host.snapshot()
        story.host.compact()
        story.kill()
    story.host.append(50)


def keep_history(story: Story) -> None:
    """Retention keeps what recovery would not need."""
    for _ in range(4):
        story.host.append(800)
        story.host.snapshot()
    if story.host.compact() == 0:
        raise Violation("nothing was compacted, so this script shows nothing")
    story.reopen()
    story.host.compact()


def relaxed(story: Story) -> None:
    """Commits under a relaxed policy, with rest, rotation and a restart between them."""
    host = story.host
    host.append(40)
    host.append(400, 40)
    host.tick(0.05)
    host.append(600)
    host.tick(0.06)
    host.append(600)
    story.kill()
    story.host.append(40)
    story.host.tick(0.2)


def relaxed_power_loss(story: Story) -> None:
    """What was shown and lost leaves its numbers behind."""
    story.host.append(40)
    story.host.append(40)
    story.power_loss()
    story.host.append(40)
    story.power_loss()
    story.host.append(40)


def relaxed_snapshots(story: Story) -> None:
    """A snapshot rests on what is synced, whatever the policy."""
    for _ in range(2):
        story.host.append(500)
        story.host.append(500)
        story.host.snapshot()
    story.host.compact()
    story.host.append(40)


def relaxed_close(story: Story) -> None:
    """A clean end syncs under any policy."""
    story.host.append(40)
    story.host.append(40)
    story.reopen()
    story.host.append(40)


def disk_full(story: Story) -> None:
    """Writes are refused, reads go on, and service resumes when space returns."""
    host = story.host
    host.append(500)
    story.fill_disk()
    for _ in range(3):
        host.append(500)
        host.check_history()
    if not host.refusals:
        raise Violation("a full disk was never noticed (11)")
    story.empty_disk()
    refused = host.refusals
    host.append(500)
    host.append(500)
    if host.refusals != refused:
        raise Violation("space came back, and writes are still refused (11)")


def restart_on_a_full_disk(story: Story) -> None:
    """A full disk does not keep the server from starting, and loses nothing."""
    story.host.append(500)
    story.fill_disk()
    story.host.append(500)
    story.host.append(500)
    for _ in range(3):
        story.kill()
        story.host.append(300)
    story.empty_disk()
    story.host.append(300)


def compact_on_a_full_disk(story: Story) -> None:
    """The reserve lets a snapshot and a compaction make room."""
    host = story.host
    for _ in range(2):
        host.append(800)
        host.snapshot()
    host.append(800)
    story.fill_disk()
    for _ in range(4):
        host.append(800)
    refused = host.refusals
    if not refused:
        raise Violation("a full disk was never noticed (11)")
    host.log.release_reserve()
    if not host.snapshot():
        raise Violation("the reserve did not let a snapshot be written (11)")
    if not host.compact():
        raise Violation("the reserve did not let the log be compacted (11)")
    host.append(300)
    story.kill()


def snapshot_on_a_full_disk(story: Story) -> None:
    """A snapshot that fails holds compaction back and harms nothing."""
    host = story.host
    for _ in range(2):
        host.append(800)
        host.snapshot()
    host.append(800)
    story.fill_disk(free=60)
    if host.snapshot():
        raise Violation("a snapshot was written to a full disk, so this script shows nothing")
    host.compact()
    story.empty_disk()
    host.snapshot()
    host.compact()


EVERY_WRITE = Settings()
NEVER = Settings(policy=FsyncPolicy.never())
EVERY_TWO = Settings(policy=FsyncPolicy.every_n(2))
EVERY_FOUR = Settings(policy=FsyncPolicy.every_n(4))
EVERY_MS = Settings(policy=FsyncPolicy.every_ms(100))
RESERVE = Settings(reserve_bytes=4096)
KEEPING = Settings(retention=Retention(bytes=900, seconds=None))

SCRIPTS: tuple[Script, ...] = (
    Script("first open", first_open, EVERY_WRITE, fast=True),
    Script("group of three", group_of_three, EVERY_WRITE, fast=True),
    Script("overlapping commits", overlapping_commits, EVERY_WRITE, fast=True),
    Script("every 2, overlapping commits", overlapping_commits, EVERY_TWO),
    Script("rotate", rotate, EVERY_WRITE, fast=True),
    Script("rotate, prepared", rotate_prepared, EVERY_WRITE),
    Script("batch across a rotation", batch_across_a_rotation, EVERY_WRITE),
    Script("zeros inside", zeros_inside, EVERY_WRITE),
    Script("idle mark", idle_mark, EVERY_WRITE),
    Script("mark near the end of a segment", mark_near_the_end, EVERY_WRITE),
    Script("close and reopen", close_and_reopen, EVERY_WRITE),
    Script("kill and go on", kill_and_go_on, EVERY_WRITE, fast=True),
    Script("power losses", power_losses, EVERY_WRITE),
    Script("torn and again", torn_and_again, EVERY_WRITE, fast=True),
    Script("crash loop", crash_loop, EVERY_WRITE),
    Script("many restarts", many_restarts, EVERY_WRITE),
    Script("snapshot", snapshot_once, EVERY_WRITE, fast=True),
    Script("snapshot of nothing", snapshot_of_nothing, EVERY_WRITE),
    Script("snapshots and compaction", snapshots_and_compaction, EVERY_WRITE),
    Script("compact, restart, compact", compact_restart_compact, EVERY_WRITE),
    Script("keep history", keep_history, KEEPING),
    Script("every 2, relaxed", relaxed, EVERY_TWO),
    Script("every 4, relaxed", relaxed, EVERY_FOUR),
    Script("every 100 ms, relaxed", relaxed, EVERY_MS, fast=True),
    Script("never, relaxed", relaxed, NEVER, fast=True),
    Script("never, power loss", relaxed_power_loss, NEVER, fast=True),
    Script("every 4, power loss", relaxed_power_loss, EVERY_FOUR),
    Script("never, snapshots", relaxed_snapshots, NEVER),
    Script("never, close", relaxed_close, NEVER),
    Script("disk full", disk_full, EVERY_WRITE),
    Script("restart on a full disk", restart_on_a_full_disk, RESERVE),
    Script("compact on a full disk", compact_on_a_full_disk, Settings(reserve_bytes=8192)),
    Script("snapshot on a full disk", snapshot_on_a_full_disk, EVERY_WRITE),
)
