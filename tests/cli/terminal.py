"""A real terminal for tests: a tmux server of its own, keys in, the screen as a person sees it out."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import threading
import time
from pathlib import Path

WAIT_SECONDS = 20.0


class Terminal:
    """A command in a terminal of 100 columns and 40 rows.

    Args:
        directory: Where tmux keeps its socket.
        command: What runs.
        environ: Its whole environment.
    """

    def __init__(self, directory: Path, command: list[str], environ: dict[str, str]) -> None:
        tmux = shutil.which("tmux")
        assert tmux is not None
        self._tmux = [tmux, "-S", str(directory / "tmux.sock"), "-f", "/dev/null"]
        assignments = [f"{name}={value}" for name, value in environ.items() if name not in ("TERM", "TMUX")]
        line = shlex.join(
            ["env", "-i", "TERM=screen-256color", "COLUMNS=100", "LINES=40", *assignments, *command]
        )
        # The pane outlives the command, so that its last words can be read.
        shown = f'{line}; code=$?; echo; echo "[ended with $code]"; read -r _'
        self._run("new-session", "-d", "-x", "100", "-y", "40", shown)

    def _run(self, *arguments: str) -> str:
        return subprocess.run(
            [*self._tmux, *arguments],
            check=True,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=20,
        ).stdout

    def type(self, text: str) -> None:
        """Type letters."""
        self._run("send-keys", "-l", text)

    def press(self, *keys: str) -> None:
        """Press keys by tmux's names: Enter, Tab, Up, C-c, C-d."""
        self._run("send-keys", *keys)

    def enter(self, text: str) -> None:
        """Type a line and press Enter."""
        self.type(text)
        self.press("Enter")

    @property
    def text(self) -> str:
        """Everything shown so far, without blanks at the ends of lines."""
        shown = self._run("capture-pane", "-p", "-S", "-")
        return "\n".join(line.rstrip() for line in shown.rstrip().split("\n"))

    def wait_for(self, expected: str, *, count: int = 1) -> str:
        """Return the text as soon as something stands there so many times."""
        waiting = threading.Event()
        until = time.monotonic() + WAIT_SECONDS
        while (text := self.text).count(expected) < count:
            assert time.monotonic() < until, f"no {expected!r} in:\n{text}"
            waiting.wait(0.03)
        return text

    def wait_for_end(self, expected: str) -> str:
        """Return the text as soon as it ends with something: with a prompt, and what is typed there.

        What a command prints, and an event, is drawn before the prompt below it. And what is typed before a
        prompt is there goes to a terminal that is not the prompt's yet: it is echoed once more, and Ctrl-D is
        no key but the end of the input.
        """
        waiting = threading.Event()
        until = time.monotonic() + WAIT_SECONDS
        while not (text := self.text).endswith(expected):
            assert time.monotonic() < until, f"no {expected!r} at the end of:\n{text}"
            waiting.wait(0.03)
        return text

    def close(self) -> None:
        """End whatever runs there."""
        subprocess.run([*self._tmux, "kill-server"], check=False, capture_output=True, timeout=20)
