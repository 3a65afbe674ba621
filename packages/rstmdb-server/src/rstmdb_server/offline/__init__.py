"""The commands of ``rstmdb`` that do not serve; see :mod:`rstmdb_server.offline.commands`."""

from rstmdb_server.offline.commands import add_commands, run_command

__all__ = ["add_commands", "run_command"]
