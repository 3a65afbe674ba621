"""A file system in memory that knows what a crash may leave behind.

Two things live here. `Disk` is what exists outside any process: files, names, and for each of them what is
certain and what is only in the page cache. `SimulatedFileSystem` is one process's view of a disk: open files,
locks, the count of operations, and faults. A process ends by `Crash`; its disk then goes on in one of two
ways::

                     ┌─ after_kill ──────────────▶ everything issued is visible, still unsynced
    Disk ── Crash ───┤
                     └─ after_power_loss(keep) ──▶ what was synced, and of the rest what `keep` says

What is not certain is a list of *effects* in the order in which they were issued:

=========  =====================================================================================
effect     meaning
=========  =====================================================================================
`SECTOR`   the whole contents of one 512-byte sector, as the page cache held it after a write
`SIZE`     a new length; growing shows zeros until the sectors come too, so a length may survive
           without its data (and data without its length does not show)
`ENTRY`    names of one directory that appear, vanish or change together (create, link, rename,
           unlink, make_directory)
=========  =====================================================================================

`File.sync` makes all effects of a file certain; `sync_directory` those of a directory. They say nothing of
each other: a synced file whose name was never synced is gone, a synced name may lead to an empty file.

After a failed sync the kernel may call the dirty pages clean: `SyncFault.DROP` makes them stay readable, also
after a kill, until power is lost, and the next sync reports success without writing them.
"""

from __future__ import annotations

import enum
import errno
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, NoReturn

from rstmdb_storage.errors import LockedError
from tests.simulation.prng import Prng

SECTOR: Final = 512

Keep = Callable[[int], bool]


class Crash(BaseException):
    """The simulated process has ended; whatever it still tries has no effect.

    Not an `Exception`: the code under test must not catch it.
    """


class Kind(enum.IntEnum):
    """What an uncertain effect changes."""

    SECTOR = 0
    SIZE = 1
    ENTRY = 2


class Moment(enum.Enum):
    """Where, around one operation, an observer looks or a process stops."""

    BEFORE = "before"
    DURING = "during"
    AFTER = "after"


class FaultKind(enum.Enum):
    """What may go wrong with one operation."""

    ERROR = "error"  # OSError(EIO), nothing happens
    FULL = "full"  # OSError(ENOSPC), nothing happens
    SHORT_WRITE = "short write"  # some of the bytes land, and the count says so
    TORN_WRITE = "torn write"  # some of the bytes land, then OSError(EIO)
    SYNC_KEEP = "failed sync, still dirty"  # OSError(EIO); another sync may succeed
    SYNC_DROP = "failed sync, called clean"  # OSError(EIO); readable until power is lost, never written


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        kind: What goes wrong.
        amount: For the two kinds of unfinished writes: how many bytes land.
    """

    kind: FaultKind
    amount: int = 0


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation that changes something, or tries to.

    Attributes:
        number: Counted from 0 in each process.
        name: The call: `create`, `pwrite`, `truncate`, `preallocate`, `sync`, `rename`, `link`, `unlink`,
            `make_directory`, `sync_directory`, `lock`.
        path: What it is about.
        offset: For writes, where.
        size: For writes, truncations and preallocations, how many bytes.
    """

    number: int
    name: str
    path: str
    offset: int = 0
    size: int = 0


Effect = tuple[int, Kind, int, int, object]  # order, kind, inode or directory, sector or size, contents


@dataclass(slots=True, eq=False)
class Inode:
    """One file: what is certain, what the page cache shows, and the effects between the two."""

    number: int
    durable: bytes = b""
    cached: bytearray = field(default_factory=bytearray)
    pending: list[Effect] = field(default_factory=list)
    allocated: int = 0
    links: int = 0
    handles: int = 0

    def copy(self) -> Inode:
        """Return an equal one without open handles."""
        allocated = self.allocated if self.links else 0
        return Inode(
            self.number, self.durable, bytearray(self.cached), list(self.pending), allocated, self.links
        )


@dataclass(slots=True, eq=False)
class Directory:
    """One directory. A name leads to the number of a file or, for a directory, to minus its number."""

    number: int
    durable: dict[str, int] = field(default_factory=dict)
    cached: dict[str, int] = field(default_factory=dict)
    pending: list[Effect] = field(default_factory=list)

    def copy(self) -> Directory:
        """Return an equal one."""
        return Directory(self.number, dict(self.durable), dict(self.cached), list(self.pending))


class Disk:
    """Files and directories, and what of them is certain.

    Attributes:
        capacity: Bytes of file contents that fit; `None` for as many as wanted. At zero free bytes names
            cannot be made either.
    """

    __slots__ = ("_next_number", "_order", "capacity", "directories", "inodes")

    ROOT: Final = 1

    def __init__(self, *, capacity: int | None = None) -> None:
        self.capacity = capacity
        self.inodes: dict[int, Inode] = {}
        self.directories: dict[int, Directory] = {self.ROOT: Directory(self.ROOT)}
        self._next_number = self.ROOT + 1
        self._order = 0

    # What may happen to it

    def after_kill(self) -> Disk:
        """Return the disk as the next process finds it when this one has just ended.

        The page cache lives on, so all that was issued is visible; nothing of it is certain.
        """
        disk = Disk(capacity=self.capacity)
        named: set[int] = set()
        for directory in self.directories.values():
            named.update(directory.durable.values(), directory.cached.values())
            for effect in directory.pending:
                named.update(number for _, number in effect[4])  # type: ignore[attr-defined]
        disk.inodes = {number: inode.copy() for number, inode in self.inodes.items() if number in named}
        disk.directories = {number: directory.copy() for number, directory in self.directories.items()}
        disk._next_number = self._next_number
        disk._order = self._order
        return disk

    def effects(self) -> list[Effect]:
        """Return all uncertain effects, in the order in which they were issued."""
        found: list[Effect] = []
        for inode in self.inodes.values():
            found += inode.pending
        for directory in self.directories.values():
            found += directory.pending
        found.sort()
        return found

    def after_power_loss(self, keep: Keep, *, torn: tuple[int, int] | None = None) -> Disk:
        """Return the disk as it is found after a power loss.

        Args:
            keep: Says for each uncertain effect, by its place in `effects()`, whether it survived.
            torn: A place, and how many bytes of that sector are new; the rest is what was there before.
                Disks promise that this does not happen.
        """
        contents: dict[int, bytearray] = {}
        entries: dict[int, dict[str, int]] = {}
        for place, (_, kind, number, value, data) in enumerate(self.effects()):
            if not keep(place):
                continue
            if kind is Kind.ENTRY:
                names = entries.get(number)
                if names is None:
                    names = entries[number] = dict(self.directories[number].durable)
                _apply_entry(names, data)
                continue
            image = contents.get(number)
            if image is None:
                image = contents[number] = bytearray(self.inodes[number].durable)
            if kind is Kind.SIZE:
                _resize(image, value)
            elif torn is not None and torn[0] == place:
                contents_before = bytes(image[value * SECTOR : (value + 1) * SECTOR])
                _place_sector(image, value, data[: torn[1]] + contents_before[torn[1] :])  # type: ignore[index]
            else:
                _place_sector(image, value, data)
        disk = Disk(capacity=self.capacity)
        disk._next_number = self._next_number
        disk._order = self._order
        self._restore(disk, self.ROOT, contents, entries)
        return disk

    def _restore(
        self,
        disk: Disk,
        number: int,
        contents: dict[int, bytearray],
        entries: dict[int, dict[str, int]],
    ) -> None:
        """Build a directory of the disk after a power loss, and all that it leads to."""
        names = entries.get(number)
        if names is None:
            names = dict(self.directories[number].durable)
        disk.directories[number] = Directory(number, names, dict(names))
        for target in names.values():
            if target < 0:
                self._restore(disk, -target, contents, entries)
            elif target in disk.inodes:
                disk.inodes[target].links += 1
            else:
                image = contents.get(target)
                durable = self.inodes[target].durable if image is None else bytes(image)
                disk.inodes[target] = Inode(target, durable, bytearray(durable), [], len(durable), 1)

    def flip_bit(self, path: str, bit: int) -> None:
        """Turn one bit of a file over, in the page cache and where it is certain."""
        inode = self.inodes[self._find(path)]
        position, shift = divmod(bit, 8)
        inode.cached[position] ^= 1 << shift
        if position < len(inode.durable):
            durable = bytearray(inode.durable)
            durable[position] ^= 1 << shift
            inode.durable = bytes(durable)

    # What is seen from outside any process

    def contents(self, path: str) -> bytes:
        """Return what a reader of the file would see."""
        return bytes(self.inodes[self._find(path)].cached)

    def files(self) -> dict[str, bytes]:
        """Return each file that a reader would find, by path."""
        found: dict[str, bytes] = {}

        def visit(number: int, prefix: str) -> None:
            for name, target in sorted(self.directories[number].cached.items()):
                if target < 0:
                    visit(-target, f"{prefix}{name}/")
                else:
                    found[prefix + name] = bytes(self.inodes[target].cached)

        visit(self.ROOT, "/")
        return found

    def used(self) -> int:
        """Return the bytes that are taken."""
        return sum(inode.allocated for inode in self.inodes.values())

    def fingerprint(self) -> int:
        """Return a number that two disks share when all that may ever be seen of them is the same.

        Only for use within one run: it is built on `hash`.
        """
        parts: list[object] = [self.capacity]
        parts += [effect[1:] for effect in self.effects()]
        for number in sorted(self.directories):
            directory = self.directories[number]
            parts.append((number, *sorted(directory.durable.items())))
            parts += sorted(directory.cached.items())
        for number in sorted(self.inodes):
            inode = self.inodes[number]
            parts.append((number, inode.links, inode.durable, bytes(inode.cached)))
        return hash(tuple(parts))

    # Changes, called by the view of a process

    def _find(self, path: str) -> int:
        number = self._lookup(path)
        if number is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return number

    def _lookup(self, path: str) -> int | None:
        """Return what a path leads to: a file's number, minus a directory's, or nothing."""
        number = -self.ROOT
        for part in path.split("/"):
            if part in ("", "."):
                continue
            if number > 0:
                return None
            found = self.directories[-number].cached.get(part)
            if found is None:
                return None
            number = found
        return number

    def _directory_of(self, path: str) -> tuple[Directory, str]:
        parent, _, name = path.rstrip("/").rpartition("/")
        number = self._find(parent)
        if number > 0:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), parent)
        return self.directories[-number], name

    def _new_number(self) -> int:
        number = self._next_number
        self._next_number += 1
        return number

    def _change_names(self, directory: Directory, changes: tuple[tuple[str, int], ...]) -> None:
        """Change names of a directory as one effect; 0 removes a name."""
        _apply_entry(directory.cached, changes)
        self._order += 1
        directory.pending.append((self._order, Kind.ENTRY, directory.number, 0, changes))

    def _forget_if_unused(self, inode: Inode) -> None:
        if not inode.links and not inode.handles:
            inode.allocated = 0

    def _write(self, inode: Inode, data: bytes, offset: int) -> None:
        cached = inode.cached
        end = offset + len(data)
        if end > len(cached):
            _resize(cached, end)
            self._order += 1
            inode.pending.append((self._order, Kind.SIZE, inode.number, end, b""))
        cached[offset:end] = data
        pending = inode.pending
        for sector in range(offset // SECTOR, (end + SECTOR - 1) // SECTOR):
            self._order += 1
            contents = bytes(cached[sector * SECTOR : (sector + 1) * SECTOR])
            pending.append((self._order, Kind.SECTOR, inode.number, sector, contents))
        inode.allocated = max(inode.allocated, end)

    def _set_size(self, inode: Inode, size: int) -> None:
        if size == len(inode.cached):
            return
        _resize(inode.cached, size)
        self._order += 1
        inode.pending.append((self._order, Kind.SIZE, inode.number, size, b""))
        inode.allocated = min(inode.allocated, size)

    def _sync(self, inode: Inode) -> None:
        if inode.pending:
            image = bytearray(inode.durable)
            for _, kind, _, value, data in inode.pending:
                if kind is Kind.SIZE:
                    _resize(image, value)
                else:
                    _place_sector(image, value, data)
            inode.durable = bytes(image)
            inode.pending.clear()

    def _sync_directory(self, directory: Directory) -> None:
        for _, _, _, _, changes in directory.pending:
            _apply_entry(directory.durable, changes)
        directory.pending.clear()


class SimulatedFile:
    """An open file of a simulated process."""

    __slots__ = ("_fs", "_inode", "_open", "_path", "_write")

    def __init__(self, fs: SimulatedFileSystem, inode: Inode, path: str, write: bool) -> None:
        self._fs = fs
        self._inode = inode
        self._path = path
        self._write = write
        self._open = True
        inode.handles += 1

    def pread(self, size: int, offset: int) -> bytes:
        """See `rstmdb_storage.filesystem.File.pread`."""
        self._fs._read_from(self._path, self._open)
        return bytes(self._inode.cached[offset : offset + size])

    def pwrite(self, data: bytes, offset: int) -> int:
        """See `rstmdb_storage.filesystem.File.pwrite`."""
        self._check(writing=True)
        return self._fs._pwrite(self._inode, self._path, bytes(data), offset)

    def truncate(self, size: int) -> None:
        """See `rstmdb_storage.filesystem.File.truncate`."""
        self._check(writing=True)
        with self._fs._operation("truncate", self._path, size=size):
            self._fs.disk._set_size(self._inode, size)

    def preallocate(self, size: int) -> None:
        """See `rstmdb_storage.filesystem.File.preallocate`."""
        self._check(writing=True)
        with self._fs._operation("preallocate", self._path, size=size):
            inode = self._inode
            if size > inode.allocated:
                if size - inode.allocated > self._fs.free_space(self._path):
                    _fail(errno.ENOSPC, self._path)
                inode.allocated = size
            if size > len(inode.cached):
                self._fs.disk._set_size(inode, size)

    def sync(self) -> None:
        """See `rstmdb_storage.filesystem.File.sync`."""
        self._check(writing=False)
        with self._fs._operation("sync", self._path, inode=self._inode):
            self._fs.disk._sync(self._inode)

    def size(self) -> int:
        """See `rstmdb_storage.filesystem.File.size`."""
        self._fs._read_from(self._path, self._open)
        return len(self._inode.cached)

    def close(self) -> None:
        """See `rstmdb_storage.filesystem.File.close`."""
        if self._open:
            self._open = False
            self._fs._open_files -= 1
            self._inode.handles -= 1
            if not self._fs.crashed:
                self._fs.disk._forget_if_unused(self._inode)

    def _check(self, *, writing: bool) -> None:
        if self._fs.crashed:
            raise Crash
        if not self._open or (writing and not self._write):
            _fail(errno.EBADF, self._path)


class SimulatedLock:
    """A lock of a simulated process; gone when the process is."""

    __slots__ = ("_fs", "_number")

    def __init__(self, fs: SimulatedFileSystem, number: int) -> None:
        self._fs = fs
        self._number = number

    def release(self) -> None:
        """See `rstmdb_storage.filesystem.Lock.release`."""
        if self._fs.locks.get(self._number) is self._fs:
            del self._fs.locks[self._number]


class _Operation:
    """The frame around one operation: counting, observers, faults, the crash."""

    __slots__ = ("_fs", "_operation")

    def __init__(self, fs: SimulatedFileSystem, operation: Operation) -> None:
        self._fs = fs
        self._operation = operation

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if kind is None:
            self._fs._pass(self._operation, Moment.AFTER)


class SimulatedFileSystem:
    """One process's view of a simulated disk; implements `rstmdb_storage.filesystem.FileSystem`.

    Attributes:
        disk: The disk; shared with any other process that uses it.
        operation_count: Operations begun so far that change something; reads are not counted.
        trace: What was done, in order.
        crashed: Whether the process has ended.
        virtual_ns: Time that the operations took, by `latency_ns`.
    """

    def __init__(
        self,
        disk: Disk | None = None,
        *,
        stop_at: tuple[int, Moment] | None = None,
        fault_for: Callable[[Operation], Fault | None] | None = None,
        read_fault_for: Callable[[str], bool] | None = None,
        observer: Callable[[Operation, Moment], None] | None = None,
        latency_ns: Callable[[Operation], int] | None = None,
        locks: dict[int, SimulatedFileSystem] | None = None,
    ) -> None:
        """Start a process on a disk.

        Args:
            disk: A new, empty one when left out.
            stop_at: Crash before, in the middle of (a write of more than one sector) or after the operation
                of this number.
            fault_for: Asked for each operation; the fault to inject.
            read_fault_for: Asked for each read, with its path; whether it fails.
            observer: Called before, in the middle of (a write, at each sector) and after each operation, to
                look at `disk`.
            latency_ns: How long an operation takes on a slow disk, added to `virtual_ns`.
            locks: The locks of this machine, when several processes share the disk.
        """
        self.disk = Disk() if disk is None else disk
        self.operation_count = 0
        self.trace: list[Operation] = []
        self.crashed = False
        self.virtual_ns = 0
        self.locks: dict[int, SimulatedFileSystem] = {} if locks is None else locks
        self._stop_at = stop_at
        self._fault_for = fault_for
        self._read_fault_for = read_fault_for
        self._observer = observer
        self._latency_ns = latency_ns
        self._open_files = 0

    # The protocol

    def open(self, path: str, *, write: bool = False, create: bool = False) -> SimulatedFile:
        """See `rstmdb_storage.filesystem.FileSystem.open`."""
        if not create:
            self._read_from(path, True)
            number = self.disk._find(path)
            if number < 0:
                _fail(errno.EISDIR, path)
            self._open_files += 1
            return SimulatedFile(self, self.disk.inodes[number], path, write)
        with self._operation("create", path):
            directory, name = self.disk._directory_of(path)
            if name in directory.cached:
                _fail(errno.EEXIST, path)
            self._need_space_for_a_name(path)
            inode = Inode(self.disk._new_number(), links=1)
            self.disk.inodes[inode.number] = inode
            self.disk._change_names(directory, ((name, inode.number),))
        self._open_files += 1
        return SimulatedFile(self, inode, path, True)

    def list(self, directory: str) -> list[str]:
        """See `rstmdb_storage.filesystem.FileSystem.list`."""
        self._read_from(directory, True)
        number = self.disk._find(directory)
        if number > 0:
            _fail(errno.ENOTDIR, directory)
        return sorted(self.disk.directories[-number].cached)

    def exists(self, path: str) -> bool:
        """See `rstmdb_storage.filesystem.FileSystem.exists`."""
        if self.crashed:
            raise Crash
        return self.disk._lookup(path) is not None

    def make_directory(self, path: str) -> None:
        """See `rstmdb_storage.filesystem.FileSystem.make_directory`."""
        built = ""
        for part in path.split("/"):
            if not part:
                continue
            built += "/" + part
            if self.disk._lookup(built) is not None:
                continue
            with self._operation("make_directory", built):
                directory, name = self.disk._directory_of(built)
                self._need_space_for_a_name(built)
                made = Directory(self.disk._new_number())
                self.disk.directories[made.number] = made
                self.disk._change_names(directory, ((name, -made.number),))

    def rename(self, source: str, target: str) -> None:
        """See `rstmdb_storage.filesystem.FileSystem.rename`; within one directory only."""
        with self._operation("rename", source):
            disk = self.disk
            directory, name = disk._directory_of(source)
            target_directory, target_name = disk._directory_of(target)
            number = directory.cached.get(name)
            if number is None:
                _fail(errno.ENOENT, source)
            assert target_directory is directory, "a rename between directories is not simulated"
            replaced = directory.cached.get(target_name)
            if replaced == number:
                return
            self._need_space_for_a_name(target)
            disk._change_names(directory, ((name, 0), (target_name, number)))
            if replaced is not None:
                inode = disk.inodes[replaced]
                inode.links -= 1
                disk._forget_if_unused(inode)

    def link(self, source: str, target: str) -> None:
        """See `rstmdb_storage.filesystem.FileSystem.link`."""
        with self._operation("link", target):
            number = self.disk._find(source)
            directory, name = self.disk._directory_of(target)
            if name in directory.cached:
                _fail(errno.EEXIST, target)
            self._need_space_for_a_name(target)
            self.disk._change_names(directory, ((name, number),))
            self.disk.inodes[number].links += 1

    def unlink(self, path: str) -> None:
        """See `rstmdb_storage.filesystem.FileSystem.unlink`."""
        with self._operation("unlink", path):
            directory, name = self.disk._directory_of(path)
            number = directory.cached.get(name)
            if number is None:
                _fail(errno.ENOENT, path)
            self.disk._change_names(directory, ((name, 0),))
            inode = self.disk.inodes[number]
            inode.links -= 1
            self.disk._forget_if_unused(inode)

    def sync_directory(self, path: str) -> None:
        """See `rstmdb_storage.filesystem.FileSystem.sync_directory`."""
        with self._operation("sync_directory", path):
            number = self.disk._find(path)
            self.disk._sync_directory(self.disk.directories[-number])

    def lock(self, path: str) -> SimulatedLock:
        """See `rstmdb_storage.filesystem.FileSystem.lock`."""
        with self._operation("lock", path):
            number = self.disk._lookup(path)
            if number is None:
                directory, name = self.disk._directory_of(path)
                inode = Inode(self.disk._new_number(), links=1)
                self.disk.inodes[inode.number] = inode
                self.disk._change_names(directory, ((name, inode.number),))
                number = inode.number
            holder = self.locks.get(number)
            if holder is not None and not holder.crashed:
                raise LockedError(path, "another simulated process")
            self.locks[number] = self
            return SimulatedLock(self, number)

    def free_space(self, path: str) -> int:
        """See `rstmdb_storage.filesystem.FileSystem.free_space`."""
        if self.crashed:
            raise Crash
        capacity = self.disk.capacity
        return 1 << 50 if capacity is None else max(0, capacity - self.disk.used())

    # The end of the process

    @property
    def open_files(self) -> int:
        """How many files the process has open."""
        return self._open_files

    def crash(self) -> None:
        """End the process now: every later call raises `Crash`, and changes nothing."""
        self.crashed = True
        self.locks = {number: holder for number, holder in self.locks.items() if holder is not self}

    def stop_watching(self) -> None:
        """Let the observer look no longer."""
        self._observer = None

    # How an operation runs

    def _operation(
        self, name: str, path: str, *, size: int = 0, offset: int = 0, inode: Inode | None = None
    ) -> _Operation:
        operation, fault = self._begin(name, path, size, offset)
        if fault is not None:
            self._inject(fault, path, inode)
        return _Operation(self, operation)

    def _begin(self, name: str, path: str, size: int, offset: int) -> tuple[Operation, Fault | None]:
        if self.crashed:
            raise Crash
        operation = Operation(self.operation_count, name, path, offset, size)
        self.operation_count += 1
        self._pass(operation, Moment.BEFORE)
        self.trace.append(operation)
        if self._latency_ns is not None:
            self.virtual_ns += self._latency_ns(operation)
        return operation, None if self._fault_for is None else self._fault_for(operation)

    def _pass(self, operation: Operation, moment: Moment) -> None:
        """Let the observer look, and stop here if this is the place."""
        if self._observer is not None:
            self._observer(operation, moment)
        if self._stop_at is not None and self._stop_at == (operation.number, moment):
            self.crash()
            raise Crash

    def _inject(self, fault: Fault, path: str, inode: Inode | None) -> NoReturn:
        if fault.kind is FaultKind.FULL:
            _fail(errno.ENOSPC, path)
        if fault.kind is FaultKind.SYNC_DROP and inode is not None:
            # The new length is metadata, which stays in the journal's care.
            inode.pending = [effect for effect in inode.pending if effect[1] is Kind.SIZE]
        _fail(errno.EIO, path)

    def _pwrite(self, inode: Inode, path: str, data: bytes, offset: int) -> int:
        operation, fault = self._begin("pwrite", path, len(data), offset)
        room = len(data)
        if fault is not None:
            if fault.kind not in (FaultKind.SHORT_WRITE, FaultKind.TORN_WRITE):
                self._inject(fault, path, inode)
            least = 1 if fault.kind is FaultKind.SHORT_WRITE else 0
            room = min(room, max(fault.amount, least))
        if self.disk.capacity is not None:
            needed = offset + room - max(inode.allocated, offset)
            if needed > 0:
                room -= max(0, needed - self.free_space(path))
                if room <= 0 < len(data):
                    _fail(errno.ENOSPC, path)
        taken = data if room == len(data) else data[:room]
        for landed in self._interruptions(operation, len(taken)):
            before = (bytes(inode.cached), list(inode.pending), self.disk._order, inode.allocated)
            self.disk._write(inode, taken[:landed], offset)
            self._pass(operation, Moment.DURING)
            inode.cached = bytearray(before[0])
            inode.pending, self.disk._order, inode.allocated = before[1], before[2], before[3]
        if taken:
            self.disk._write(inode, taken, offset)
        self._pass(operation, Moment.AFTER)
        if fault is not None and fault.kind is FaultKind.TORN_WRITE:
            _fail(errno.EIO, path)
        return len(taken)

    def _interruptions(self, operation: Operation, size: int) -> range:
        """Return after how many bytes a write may be cut off by the end of the process.

        The kernel looks for a signal between two pages; sectors are finer, and cost nothing more.
        """
        stop = self._stop_at
        if self._observer is None and (stop is None or stop != (operation.number, Moment.DURING)):
            return range(0)
        return range(SECTOR - operation.offset % SECTOR, size, SECTOR)

    def _read_from(self, path: str, is_open: bool) -> None:
        if self.crashed:
            raise Crash
        if not is_open:
            _fail(errno.EBADF, path)
        if self._read_fault_for is not None and self._read_fault_for(path):
            _fail(errno.EIO, path)

    def _need_space_for_a_name(self, path: str) -> None:
        if self.disk.capacity is not None and self.free_space(path) == 0:
            _fail(errno.ENOSPC, path)


def keep_drawn(prng: Prng, probability: float, count: int) -> Keep:
    """Return the survivors of a power loss as chance has it."""
    drawn = set(prng.subset(range(count), probability))
    return drawn.__contains__


def keep_only(places: Iterable[int]) -> Keep:
    """Return the survivors of a power loss by their places."""
    return frozenset(places).__contains__


def draw_fault(prng: Prng, operation: Operation, probabilities: dict[FaultKind, float]) -> Fault | None:
    """Draw a fault that fits an operation, for runs with random faults.

    Args:
        prng: The generator.
        operation: The operation.
        probabilities: How likely each kind is at each operation that it fits.
    """
    for kind, probability in probabilities.items():
        if operation.name in _FITTING[kind] and prng.chance(probability):
            landed = prng.below(max(operation.size, 1))
            if kind in (FaultKind.SHORT_WRITE, FaultKind.TORN_WRITE):
                # What lands of a write are whole sectors.
                landed = max(0, landed - (operation.offset + landed) % SECTOR)
                if kind is FaultKind.SHORT_WRITE and not landed:
                    continue
            return Fault(kind, landed)
    return None


_FITTING: dict[FaultKind, frozenset[str]] = {
    FaultKind.ERROR: frozenset({"create", "pwrite", "truncate", "preallocate", "rename", "sync_directory"}),
    FaultKind.FULL: frozenset({"create", "pwrite", "preallocate", "rename", "link", "make_directory"}),
    FaultKind.SHORT_WRITE: frozenset({"pwrite"}),
    FaultKind.TORN_WRITE: frozenset({"pwrite"}),
    FaultKind.SYNC_KEEP: frozenset({"sync"}),
    FaultKind.SYNC_DROP: frozenset({"sync"}),
}


def _apply_entry(names: dict[str, int], changes: object) -> None:
    for name, number in changes:  # type: ignore[attr-defined]
        if number:
            names[name] = number
        else:
            names.pop(name, None)


def _resize(image: bytearray, size: int) -> None:
    if size < len(image):
        del image[size:]
    else:
        image.extend(bytes(size - len(image)))


def _place_sector(image: bytearray, sector: int, data: object) -> None:
    """Put a sector where it belongs, as far as the length lets it show."""
    start = sector * SECTOR
    room = len(image) - start
    if room > 0:
        contents: bytes = data  # type: ignore[assignment]
        image[start : start + min(room, len(contents))] = contents[:room]


def _fail(number: int, path: str) -> NoReturn:
    raise OSError(number, os.strerror(number), path)
