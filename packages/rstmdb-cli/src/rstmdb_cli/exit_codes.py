"""What a process of the command line ends with.

Scripts written for the original know three codes, and get them by default; `--exit-codes detailed` (or
`RSTMDB_EXIT_CODES=detailed`) tells the kinds of failure apart.

    code  name            default  meaning
    0     OK              0        done; also a watch that Ctrl-C ended, and a reader that closed the pipe
    1     FAILED          1        anything that has no code of its own
    2     USAGE           2        the command line itself is wrong
    3     CONNECTION      1        no server, a lost one, or no answer in time
    4     AUTHENTICATION  1        the server wants a token, or does not know this one
    5     NOT_FOUND       1        no such machine, version or instance
    6     REFUSED         1        the server understood and said no: guard, transition, conflict, exists
    130   INTERRUPTED     130      Ctrl-C
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """One kind of ending; the table above says which of them need `--exit-codes detailed`."""

    OK = 0
    FAILED = 1
    USAGE = 2
    CONNECTION = 3
    AUTHENTICATION = 4
    NOT_FOUND = 5
    REFUSED = 6
    INTERRUPTED = 130

    def reported(self, *, detailed: bool) -> int:
        """Return the number the process ends with.

        Args:
            detailed: Whether the caller asked for the finer codes.
        """
        if detailed or self in (ExitCode.OK, ExitCode.USAGE, ExitCode.INTERRUPTED):
            return int(self)
        return int(ExitCode.FAILED)
