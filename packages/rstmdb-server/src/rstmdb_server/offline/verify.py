"""``rstmdb verify DIR``: check every byte of a data directory or a backup, and that it makes sense.

1. every snapshot: all checksums, and that it loads;
2. the log: headers, chain of segments, every frame, and its end as recovery would judge it;
3. the replay: every record is decoded and held against the state before it, from the empty state if the log
   still has its beginning, else from the oldest snapshot;
4. each later snapshot on the way: the replayed state must equal the one it holds;
5. of a backup, every file against its manifest.

Nothing is written or locked, so it may run beside a server: it sees the directory as it was at one moment.
"""

from __future__ import annotations

import argparse
from typing import Any

import msgspec

from rstmdb_core import DumpError, State, digest
from rstmdb_server import exit_codes
from rstmdb_server.offline.contents import UNBOUNDED, Contents, decoded
from rstmdb_server.offline.errors import OfflineError
from rstmdb_server.offline.manifest import FORMAT_TEXT, check_files, read_manifest
from rstmdb_server.offline.replay import apply_checked, differences, load_snapshot
from rstmdb_server.offline.terminal import Progress, say, warn
from rstmdb_storage import CorruptionError, SnapshotInfo
from rstmdb_storage.decision import Verdict
from rstmdb_storage.frame import KIND_EPOCH, KIND_GROUP


class Figures(msgspec.Struct):
    """What a data directory holds.

    Attributes:
        segments: Files of the log.
        frames: Verified frames in them, marks and epochs among them.
        records: Records.
        effects: Effects.
        log_bytes: Bytes of the frames.
        first_sequence: The oldest effect kept, None without one.
        last_sequence: The newest effect, None without one.
        next_sequence: The sequence of the next effect.
        first_epoch: The epoch in which the oldest segment begins.
        last_epoch: The newest epoch.
        clean: Whether the log was closed.
        torn_bytes: Bytes of an unfinished write at the end, which recovery will cut.
        snapshots: Sequences of the good snapshots.
        machines: Machine versions after the replay.
        instances: Instances after the replay.
        idempotency_keys: Keys remembered after the replay.
        digest: Of the state after the replay: equal states have equal digests.
    """

    segments: int = 0
    frames: int = 0
    records: int = 0
    effects: int = 0
    log_bytes: int = 0
    first_sequence: int | None = None
    last_sequence: int | None = None
    next_sequence: int = 1
    first_epoch: int = 0
    last_epoch: int = 0
    clean: bool = False
    torn_bytes: int = 0
    snapshots: list[int] = []
    machines: int = 0
    instances: int = 0
    idempotency_keys: int = 0
    digest: str = ""


class Findings(msgspec.Struct):
    """The outcome of a check.

    Attributes:
        figures: What was found to be good.
        damage: What was found to be damaged, each with file, position and reason.
        state: The state after the replay, unless the log is damaged.
    """

    figures: Figures
    damage: list[str]
    state: State | None = None


def add(commands: Any, name: str) -> None:
    """Add the parser of the command."""
    parser = commands.add_parser(
        name,
        help="check a data directory or a backup, changing nothing",
        description="Checks every frame and snapshot and replays the log, changing nothing. May run beside a "
        "server. Exit code 0: good; 3: damaged, with file, position and reason on stderr; 1: not readable.",
    )
    parser.add_argument("directory", metavar="DIR", help="a data directory or a backup")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object")


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    findings = verify(options.directory, progress=Progress())
    for damage in findings.damage:
        warn(damage)
    figures = msgspec.to_builtins(findings.figures)
    if options.json:
        say(msgspec.json.encode({"good": not findings.damage, **figures}).decode())
    else:
        for name, value in figures.items():
            say(f"{name.replace('_', ' '):<17} {_text(value)}")
        say("damaged" if findings.damage else "good")
    return exit_codes.DATA_DAMAGED if findings.damage else exit_codes.OK


def verify(directory: str, *, progress: Progress | None = None) -> Findings:
    """Check a data directory.

    Raises:
        OfflineError: There is no such directory.
        FormatError: It is not of this format.
        CorruptionError: Its log is damaged so that not even its end can be found.
        OSError: It cannot be read.
    """
    with Contents.open(directory) as contents:
        check = _Check(contents, progress or Progress())
        check.run()
        if contents.files.open(f"{contents.root}/FORMAT").pread(256, 0) == FORMAT_TEXT:
            check.against_manifest()
        return Findings(check.figures, check.damage, check.state)


class _Check:
    def __init__(self, contents: Contents, progress: Progress) -> None:
        self.contents = contents
        self.progress = progress
        self.damage = [str(error) for error in contents.snapshots.damage]
        self.state: State | None = None
        self.figures = Figures()

    def run(self) -> None:
        contents, figures = self.contents, self.figures
        found = contents.survey
        figures.segments = len(found.segments)
        figures.next_sequence = found.next_sequence
        figures.clean = found.clean
        figures.first_epoch = found.segments[0].header.epoch if found.segments else 0
        figures.last_epoch = found.epoch
        if found.verdict is Verdict.CUT:
            figures.torn_bytes = found.data_end - found.end
        usable = contents.usable_snapshots()
        good = [info for info in contents.snapshots.infos() if self._reads_well(info, usable)]
        figures.snapshots = [info.sequence for info in good]
        try:
            self.state = self._replay([info for info in usable if info in good])
        except CorruptionError as error:
            self.damage.append(str(error))
        self.progress.clear()
        if self.state is not None:
            figures.machines = self.state.machine_version_count
            figures.instances = self.state.instance_count
            figures.idempotency_keys = self.state.idempotency.count
            figures.digest = digest(self.state)

    def against_manifest(self) -> None:
        """Hold the files of a backup against its manifest."""
        files, root = self.contents.files, self.contents.root
        try:
            check_files(files, root, read_manifest(files, root), self.progress)
        except (CorruptionError, OfflineError) as error:
            self.damage.append(str(error))
        self.progress.clear()

    def _reads_well(self, info: SnapshotInfo, usable: list[SnapshotInfo]) -> bool:
        """Check the bytes of a snapshot; one that the replay will not meet is loaded as well."""
        path = self.contents.snapshots.path(info.name)
        self.progress(f"reading {path}")
        try:
            if info in usable:
                self.contents.snapshots.open(info).close()
            else:
                load_snapshot(self.contents, info)
        except CorruptionError as error:
            self.damage.append(str(error))
            return False
        except DumpError as error:
            self.damage.append(f"{path} is corrupt at byte 0: {error}")
            return False
        return True

    def _load(self, info: SnapshotInfo) -> State | None:
        try:
            return load_snapshot(self.contents, info)
        except CorruptionError as error:
            self.damage.append(str(error))
        except DumpError as error:
            self.damage.append(f"{self.contents.snapshots.path(info.name)} is corrupt at byte 0: {error}")
        self.figures.snapshots.remove(info.sequence)
        return None

    def _replay(self, snapshots: list[SnapshotInfo]) -> State | None:
        """Replay the log over the snapshots, oldest first; return the state at the end."""
        contents, figures = self.contents, self.figures
        state: State | None = None
        if contents.from_the_beginning or not contents.segments:
            state = State(UNBOUNDED)
        while state is None and snapshots:
            state = self._load(snapshots.pop(0))
        # The rule of a server that opens it: also of a log that has its beginning, but not from 1 on, as
        # an import leaves it that did not come to its end.
        reached = max(figures.snapshots, default=0)
        if contents.segments and contents.oldest_sequence > reached + 1:
            oldest = contents.segments[0]
            self.damage.append(
                f"{oldest.path} is corrupt at byte 0: the log begins at {contents.oldest_sequence}, and no "
                f"good snapshot reaches beyond {reached}"
            )
        base = 0 if state is None else state.next_sequence
        for item in contents.frames(progress=self.progress):
            figures.frames += 1
            figures.log_bytes += item.frame.size
            if item.frame.kind != KIND_GROUP:
                if item.frame.kind == KIND_EPOCH:
                    figures.last_epoch = item.frame.epoch
                continue
            for entry in item.records:
                record = decoded(item, entry)
                figures.records += 1
                figures.effects += entry.count
                if figures.first_sequence is None:
                    figures.first_sequence = entry.first_sequence
                figures.last_sequence = entry.first_sequence + entry.count - 1
                if state is None or figures.last_sequence < base:
                    continue
                while snapshots and snapshots[0].sequence < entry.first_sequence:
                    self._compare(state, snapshots.pop(0))
                if snapshots and snapshots[0].sequence < figures.last_sequence:
                    path = contents.snapshots.path(snapshots[0].name)
                    raise CorruptionError(
                        path, 16, f"the snapshot ends inside of the record at {entry.first_sequence}"
                    )
                apply_checked(state, item, record)
        if state is not None:
            for info in snapshots:
                self._compare(state, info)
            state.skip_to(max(state.next_sequence, figures.next_sequence))
        return state

    def _compare(self, state: State, info: SnapshotInfo) -> None:
        """Hold the replayed state against a snapshot of the same sequence."""
        self.progress(f"comparing with {info.name}")
        held = self._load(info)
        if held is None:
            return
        if state.next_sequence <= info.sequence:
            state.skip_to(info.sequence + 1)
        different = differences(state, held)
        if different is not None:
            self.damage.append(
                f"{self.contents.snapshots.path(info.name)} is corrupt at byte 0: its state is not the one "
                f"that the log makes: {different}"
            )
            self.figures.snapshots.remove(info.sequence)


def _text(value: Any) -> str:
    if value is None or value == []:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return " ".join(map(str, value))
    return str(value)
