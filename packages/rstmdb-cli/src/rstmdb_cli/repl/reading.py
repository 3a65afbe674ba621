r"""Lines of input: from a terminal with completion, history and multi-line JSON, or plainly from a pipe.

    Ctrl-C   drops the line           Ctrl-D   ends the input          Tab   completes
    Enter    runs the line, or begins the next one while JSON or a quotation is open

The history file is the original's (`$HOME/.rstmdb_history`, rustyline's format: a first line `#V2`, then a
line an entry with `\n` for line ends and `\\` for backslashes), so both tools share it. A line that
begins with a space is not kept.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rstmdb_cli.repl.words import incomplete

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import History

HISTORY_ENTRIES_MAX = 10_000
"""Of a longer file the newest entries are read."""


class LineReader:
    """Gives lines until the input ends.

    Args:
        prompt: What stands before a line; asked anew for each.
        words: What Tab offers, when `complete` is not given.
        complete: What Tab offers for the text before the cursor: candidates for its last word.
        history: The history file; none keeps no history.
    """

    def __init__(
        self,
        *,
        prompt: Callable[[], str],
        words: Callable[[], Iterable[str]] | None = None,
        complete: Callable[[str], Iterable[str]] | None = None,
        history: Path | None = None,
    ) -> None:
        self._prompt = prompt
        self._complete = complete or (
            lambda text: words() if words is not None and " " not in text.lstrip() else ()
        )
        self._history = history
        self.interactive = sys.stdin.isatty() and sys.stdout.isatty()
        self._session: PromptSession[str] | None = None

    def __iter__(self) -> Iterator[str]:
        return self._from_terminal() if self.interactive else self._from_pipe()

    def _from_pipe(self) -> Iterator[str]:
        kept = ""
        for line in sys.stdin:
            kept += line
            if not incomplete(kept):
                yield kept.rstrip("\r\n")
                kept = ""
        if kept:
            yield kept.rstrip("\r\n")

    def _from_terminal(self) -> Iterator[str]:
        while True:
            if self._session is None:
                self._session = self._make_session()
            try:
                line = self._session.prompt(self._prompt())
            except KeyboardInterrupt:
                sys.stdout.write("^C\n")
                sys.stdout.flush()
                continue
            except EOFError:
                sys.stdout.write("^D\n")
                sys.stdout.flush()
                return
            yield line

    def ask(self, question: str) -> str:
        """Return one line that is no command: not kept, not completed; empty when the input ends."""
        from prompt_toolkit import prompt

        try:
            return prompt(question)
        except (EOFError, KeyboardInterrupt):
            return ""

    def _make_session(self) -> "PromptSession[str]":
        from prompt_toolkit import PromptSession
        from prompt_toolkit.application import get_app
        from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
        from prompt_toolkit.completion import CompleteEvent, Completer, Completion
        from prompt_toolkit.document import Document
        from prompt_toolkit.filters import Condition
        from prompt_toolkit.history import InMemoryHistory

        complete = self._complete

        class _Completer(Completer):
            def get_completions(
                self, document: Document, complete_event: CompleteEvent
            ) -> Iterator[Completion]:
                text = document.text_before_cursor
                last = "" if not text or text[-1].isspace() else text.split()[-1]
                for candidate in complete(text):
                    if candidate.startswith(last):
                        yield Completion(candidate, start_position=-len(last))

        history: History = InMemoryHistory() if self._history is None else history_file(self._history)
        return PromptSession(
            completer=_Completer(),
            complete_while_typing=False,
            complete_in_thread=True,
            history=history,
            auto_suggest=AutoSuggestFromHistory(),
            multiline=Condition(lambda: incomplete(get_app().current_buffer.text)),
            prompt_continuation=lambda width, number, wrapped: " " * max(0, width - 5) + "...> ",
            enable_history_search=True,
        )


def history_file(path: Path) -> Any:
    """Return prompt-toolkit's view of a history file in rustyline's format."""
    from prompt_toolkit.history import History

    class _RustylineHistory(History):
        def load_history_strings(self) -> Iterable[str]:
            try:
                lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
            except OSError:
                return []
            escaped = lines[:1] == ["#V2"]
            entries = [line for line in lines[1 if escaped else 0 :] if line]
            return [unescape(line) if escaped else line for line in reversed(entries[-HISTORY_ENTRIES_MAX:])]

        def append_string(self, string: str) -> None:
            newest = next(iter(self.get_strings()[-1:]), None)
            if string.startswith(" ") or string == newest:
                return
            super().append_string(string)

        def store_string(self, string: str) -> None:
            try:
                begin = "" if path.exists() and path.stat().st_size else "#V2\n"
                with path.open("a", encoding="utf-8") as file:
                    file.write(begin + escape(string) + "\n")
            except OSError:
                pass  # a home that cannot be written to must not end the prompt

    return _RustylineHistory()


def escape(entry: str) -> str:
    """Return an entry as one line of the file."""
    return entry.replace("\\", "\\\\").replace("\n", "\\n")


def unescape(line: str) -> str:
    """Return the entry that a line of the file stands for."""
    entry = []
    letters = iter(line)
    for letter in letters:
        if letter == "\\":
            letter = next(letters, "\\")
            letter = "\n" if letter == "n" else letter
        entry.append(letter)
    return "".join(entry)
