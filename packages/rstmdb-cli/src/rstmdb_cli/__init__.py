"""Command line of rstmdb: the command `rstmdb-cli`, its interactive prompt and its drawing of machines."""

from rstmdb_cli.exit_codes import ExitCode

__all__ = ["ExitCode", "__version__"]

__version__ = "0.1.0"
