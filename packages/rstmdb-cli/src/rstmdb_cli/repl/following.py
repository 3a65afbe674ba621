"""Watches at the prompt: a thread each, whose events appear above the line that is being typed."""

import threading
from collections.abc import Callable
from typing import Any

from rstmdb_cli.commands.watch import event_fields, event_line
from rstmdb_cli.connection import Connection
from rstmdb_cli.context import Settings
from rstmdb_cli.output import Output


class Follower:
    """One watch in the background.

    Args:
        settings: Where to connect; every watch has a connection of its own.
        output: Where events appear.
        start: Makes the watch from a client.
        about: What is watched, for people.
    """

    def __init__(
        self, settings: Settings, output: Output, *, start: Callable[[Any], Any], about: str
    ) -> None:
        self._output = output
        self.about = about
        self._closing = False
        self._client = Connection(settings, notify=output.line)
        try:
            self._watch = start(self._client)
            self._watch.__enter__()
        except BaseException:
            self._client.close()
            raise
        self.subscription_id: str = self._watch.header.subscription_id
        self._thread = threading.Thread(target=self._follow, daemon=True, name=f"watch {about}")
        self._thread.start()

    def _follow(self) -> None:
        try:
            for event in self._watch:
                self._output.line(self._output.styled(event_line(event_fields(event)), "cyan"))
                self._output.stdout.flush()
        except Exception as error:
            if not self._closing:
                self._output.line(f"watch {self.subscription_id} ended: {error}")
        else:
            if not self._closing:
                self._output.line(f"watch {self.subscription_id} was ended by the server")

    @property
    def running(self) -> bool:
        """Whether events can still come."""
        return self._thread.is_alive()

    def close(self) -> None:
        """End the watch."""
        self._closing = True
        self._client.close()
        self._thread.join(timeout=5)
