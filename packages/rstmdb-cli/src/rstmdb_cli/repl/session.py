r"""The interactive prompt: reads a line, runs it, goes on whatever happens.

    own commands (`table.OWN`)      ping, create, apply, ... with the original's aliases and output
    backslash commands              \timing  \watch SECONDS  \q  \?
    watches                         watch ID, watch-all, unwatch: events appear above the line being typed
    everything else                 the command of `rstmdb-cli` with that name, on this connection

A lost connection is made again by itself at the next command. What changes the database is never sent twice.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from rstmdb_cli.connection import Connection, explained
from rstmdb_cli.context import Invocation
from rstmdb_cli.failures import Failure
from rstmdb_cli.parsing import show_failure
from rstmdb_cli.repl.candidates import Candidates
from rstmdb_cli.repl.following import Follower
from rstmdb_cli.repl.reading import LineReader
from rstmdb_cli.repl.table import ALIASES, OWN, Own, Usage
from rstmdb_cli.repl.words import Incomplete, split

if TYPE_CHECKING:
    from typer.core import TyperGroup

RECONNECT_PAUSE_S = 0.1
RECONNECT_TIMEOUT_S = 10.0
"""As the original has them."""

_ASKED = {"delete": "Delete instance {0}?", "d": "Delete instance {0}?"}

HELP_TAIL = """\
  watch ID                                Follow an instance; events appear while you type
  watch-all [--machines a,b] ...          Follow all events, or some
  unwatch [SUBSCRIPTION]                  End a watch, or all
  reconnect (rc)                          Connect anew
  \\timing                                 Show how long commands take, or stop that
  \\watch SECONDS                          Repeat the last command until Ctrl-C
  help [COMMAND] (?)                      This list, or one command
  quit, exit (q)                          Leave (also Ctrl-D)"""


class Session:
    """One session at the prompt.

    Args:
        cli: The invocation that started it.
        group: All commands of `rstmdb-cli`.
    """

    def __init__(self, cli: Invocation, group: "TyperGroup") -> None:
        self.cli = cli
        self.group = group
        self.connection = Connection(cli.settings)
        self.candidates = Candidates(cli.settings, group)
        self.followers: list[Follower] = []
        self.timing = False
        self.last_line: str | None = None
        self.reader = LineReader(
            prompt=lambda: "rstmdb> ",
            complete=self.candidates.complete,
            history=history_path(cli.environment),
        )

    def run(self) -> None:
        """Connect, and run lines until the input ends.

        Raises:
            Failure: There is no server.
        """
        out = self.cli.output
        place = self.cli.settings.place
        out.line("rstmdb CLI")
        out.line(f"Connecting to {place}...")
        out.stdout.flush()
        with explained(self.cli.settings):
            self.connection.open()
        out.line("Connected!")
        out.line("Type 'help' for available commands.")
        out.line()
        out.stdout.flush()
        try:
            with self._patched():
                for line in self.reader:
                    if not self.run_line(line):
                        break
                    out.stdout.flush()
        finally:
            for follower in self.followers:
                follower.close()
            self.candidates.close()
            self.connection.close()

    def _patched(self) -> Any:
        """Let threads write above the line that is being typed."""
        if not self.reader.interactive:
            return nullcontext()
        from prompt_toolkit.patch_stdout import patch_stdout

        return patch_stdout(raw=True)

    def run_line(self, line: str) -> bool:
        """Run one line; return whether to go on."""
        if not line.strip():
            return True
        out = self.cli.output
        started = time.perf_counter()
        try:
            words = split(line)
            if words[0].lower() in ("quit", "exit", "q", "\\q"):
                out.line("Disconnected.")
                return False
            if words[0].lower() == "\\watch":
                self._repeat(words[1:])
            else:
                self.run_words(words)
                if not words[0].startswith("\\"):
                    self.last_line = line
        except Incomplete:
            out.line("Error: the JSON or the quotation does not end")
        except KeyboardInterrupt:
            out.line("^C")
        except Failure as failure:
            self._show(failure)
        if self.timing:
            out.line(f"Time: {(time.perf_counter() - started) * 1000:.3f} ms")
        out.line()
        return True

    def _show(self, failure: Failure) -> None:
        """Print a failure where the person looks, and say how to connect anew where that may help."""
        text = str(failure).lower()
        if failure.label == "Connection failed" or any(
            lost in text for lost in ("connection", "not connected", "channel closed")
        ):
            failure.hint = (f"{failure.hint}; " if failure.hint else "") + "type 'reconnect' to try again"
        show_failure(failure)

    def run_words(self, words: list[str]) -> None:
        """Run a command that is split into words.

        Raises:
            Failure: It failed.
        """
        name, arguments = words[0].lower(), words[1:]
        out = self.cli.output
        special: dict[str, Callable[[list[str]], None]] = {
            "help": self._help,
            "?": self._help,
            "\\?": self._help,
            "reconnect": self._reconnect,
            "rc": self._reconnect,
            "watch": self._watch_instance,
            "watch-instance": self._watch_instance,
            "watch-all": self._watch_all,
            "unwatch": self._unwatch,
            "\\timing": self._toggle_timing,
        }
        own = OWN.get(ALIASES.get(name, name))
        if name in special:
            special[name](arguments)
        elif own is not None and not any(word.startswith("-") for word in arguments):
            self._run_own(name, own, arguments)
        elif name in self.group.list_commands(typer.Context(self.group)) and name not in (
            "repl",
            "completion",
        ):
            self._run_command(name, arguments)
        elif own is not None:
            out.line(f"Usage: {own.usage}")
        else:
            out.line(f"Unknown command: {words[0]}. Type 'help' for help.")

    def _run_own(self, name: str, own: Own, arguments: list[str]) -> None:
        question = _ASKED.get(name)
        if question and len(arguments) == 1 and not self._agreed(question.format(*arguments)):
            self.cli.output.line("Not done.")
            return
        subject = arguments[0] if arguments and own.completes[:1] == ("instance",) else None
        try:
            with explained(self.cli.settings, subject=subject):
                own.run(self.connection, self.cli.output, arguments)
        except Usage:
            self.cli.output.line(f"Usage: {own.usage}")
        if own.changes:
            self.candidates.forget()

    def _agreed(self, question: str) -> bool:
        if not self.reader.interactive:
            return True
        return self.reader.ask(f"{question} [y/N] ").strip().lower() in ("y", "yes")

    def _run_command(self, name: str, arguments: list[str]) -> None:
        """Run a command of `rstmdb-cli` as if typed in a shell, on this connection."""
        inner = Invocation(flags=self.cli.flags, environment=self.cli.environment)
        inner.borrowed = self.connection
        inner.interactive = True
        command: Any = self.group.get_command(typer.Context(self.group), name)
        root = typer.Context(self.group, info_name="rstmdb-cli", obj=inner)
        try:
            with command.make_context(name, list(arguments), parent=root) as context:
                command.invoke(context)
        except (typer.Exit, typer.Abort):
            pass
        except Exception as error:
            if not hasattr(
                error, "format_message"
            ):  # typer's own errors about usage have it, others are not ours
                raise
            self.cli.output.line(f"Error: {error.format_message()}")
        self.candidates.forget()

    def _help(self, arguments: list[str]) -> None:
        out = self.cli.output
        if arguments:
            name = arguments[0].lower()
            own = OWN.get(ALIASES.get(name, name))
            if own is not None:
                out.line(f"Usage: {own.usage}")
                out.line(f"  {own.help}")
                if own.aliases:
                    out.line(f"  Also: {', '.join(own.aliases)}")
            elif name in self.group.list_commands(typer.Context(self.group)):
                self._run_command(name, ["--help"])
            else:
                out.line(f"Unknown command: {arguments[0]}. Type 'help' for help.")
            return
        out.line("Commands:")
        for own in OWN.values():
            aliases = f" ({', '.join(own.aliases)})" if own.aliases else ""
            out.line(f"  {own.usage + aliases:<39} {own.help}")
        out.line(HELP_TAIL)
        more = [name for name in self.group.list_commands(typer.Context(self.group)) if name not in OWN]
        out.line("Also, as in a shell: " + ", ".join(n for n in more if n not in _NOT_HERE))

    def _reconnect(self, arguments: list[str]) -> None:
        out = self.cli.output
        self.connection.close()
        time.sleep(RECONNECT_PAUSE_S)
        settings = self.cli.settings._replace(timeout_s=min(self.cli.settings.timeout_s, RECONNECT_TIMEOUT_S))
        self.connection = Connection(self.cli.settings)
        trial = Connection(settings)
        try:
            with explained(settings):
                trial.open()
                self.connection.open()
        except Failure as failure:
            if "within" in failure.message or "in time" in failure.message:
                out.line("Reconnect timed out (10s)")
            else:
                out.line(f"Reconnect failed: {failure.message}")
            return
        finally:
            trial.close()
        out.line("Reconnected!")

    def _watch_instance(self, arguments: list[str]) -> None:
        self._follow("watch-instance", arguments)

    def _watch_all(self, arguments: list[str]) -> None:
        self._follow("watch-all", arguments)

    def _follow(self, name: str, arguments: list[str]) -> None:
        """Start a watch in the background, with the options of the command of that name."""
        from rstmdb_cli.commands.watch import comma_list

        command: Any = self.group.get_command(typer.Context(self.group), name)
        root = typer.Context(self.group, info_name="rstmdb-cli", obj=self.cli)
        try:
            params = command.make_context(name, list(arguments), parent=root).params
        except typer.Exit:
            return  # --help
        except Exception as error:
            if not hasattr(error, "format_message"):
                raise
            self.cli.output.line(f"Error: {error.format_message()}")
            return
        lists = {
            key: comma_list(params.get(key)) for key in ("machines", "from_states", "to_states", "events")
        }
        start = params.get("from_offset")
        chosen: dict[str, Any] = {"include_ctx": False, "include": comma_list(params.get("include"))}
        if start is not None:
            chosen |= {"from_oldest": True} if start == 0 else {"from_offset": start}
        if name == "watch-all":
            about = "all events"
            chosen |= lists

            def begin(connection: Connection) -> Any:
                return connection.watch_all(**chosen)
        else:
            about = f"instance {params['instance_id']}"

            def begin(connection: Connection) -> Any:
                return connection.watch_instance(params["instance_id"], **chosen)

        with explained(self.cli.settings, subject=params.get("instance_id")):
            follower = Follower(self.cli.settings, self.cli.output, start=begin, about=about)
        self.followers.append(follower)
        self.cli.output.line(f"Watching {about} (sub_id: {follower.subscription_id}); end it with 'unwatch'")

    def _unwatch(self, arguments: list[str]) -> None:
        self.followers = [follower for follower in self.followers if follower.running]
        wanted = [
            follower
            for follower in self.followers
            if not arguments or follower.subscription_id == arguments[0]
        ]
        if arguments and not wanted:
            self._run_command("unwatch", arguments)
            return
        if not wanted:
            self.cli.output.line("No watches")
        for follower in wanted:
            follower.close()
            self.followers.remove(follower)
            self.cli.output.line(f"Removed subscription {follower.subscription_id} ({follower.about})")

    def _toggle_timing(self, arguments: list[str]) -> None:
        self.timing = {"on": True, "off": False}.get(arguments[0] if arguments else "", not self.timing)
        self.cli.output.line(f"Timing is {'on' if self.timing else 'off'}.")

    def _repeat(self, arguments: list[str]) -> None:
        out = self.cli.output
        try:
            seconds = float(arguments[0]) if arguments else 2.0
        except ValueError:
            raise Failure(f"\\watch wants seconds, not {arguments[0]!r}") from None
        if self.last_line is None:
            raise Failure("there is no command to repeat yet")
        waiting = threading.Event()
        while True:
            out.line(f"{time.strftime('%H:%M:%S')} (every {seconds:g}s)  {self.last_line.strip()}")
            self.run_words(split(self.last_line))
            out.line()
            out.stdout.flush()
            waiting.wait(seconds)


_NOT_HERE = frozenset(["repl", "completion", "watch-instance", "watch-all", "unwatch"])


def history_path(environment: Any) -> Path:
    """Return the original's history file: in the home directory, or here when there is no home."""
    home = environment.get("HOME") or (os.path.expanduser("~") if sys.platform == "win32" else "")
    return Path(home, ".rstmdb_history") if home else Path(".rstmdb_history")
