"""Exit codes of the command ``rstmdb``."""

OK = 0
START_FAILED = 1
"""The server could not start: a taken port, an unwritable directory, another server on it."""

USAGE = 2
"""Wrong arguments or configuration."""

DATA_DAMAGED = 3
"""Data that was once synced is damaged, or the directory is of a format this version does not read."""

IO_FAILED = 74
"""A write or sync failed while serving (EX_IOERR); what was acknowledged is safe, restart to go on."""
