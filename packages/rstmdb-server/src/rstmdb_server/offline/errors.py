"""The one error of the commands that do not serve."""

from __future__ import annotations

from rstmdb_server import exit_codes


class OfflineError(Exception):
    """A command cannot do what it was asked; the text is one line, fit for a person.

    Attributes:
        code: The exit code.
    """

    def __init__(self, message: str, code: int = exit_codes.START_FAILED) -> None:
        super().__init__(message)
        self.code = code
