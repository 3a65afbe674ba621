"""The table of commands that do not serve, and what their failures mean for the shell.

========== =======================================================================
verify     check every byte of a data directory or a backup, changing nothing
dump       print the log as JSON lines
import     take over a data directory of the original server
backup     copy a data directory while a server runs on it
restore    make a data directory out of a backup, as it was at some point
health     say whether a server is ready, for container health checks
dev-certs  make certificates to develop with
========== =======================================================================

Results go to stdout, everything else to stderr; a failure is one line there and an exit code of
:mod:`rstmdb_server.exit_codes`. Each module of a command has ``add`` (its parser) and ``run``.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from rstmdb_core import CoreError
from rstmdb_server import exit_codes
from rstmdb_server.offline import backup, certificates, dump, health, importing, restore, verify
from rstmdb_server.offline.errors import OfflineError
from rstmdb_server.settings import ConfigError
from rstmdb_storage import CorruptionError, FormatError, StorageError

_COMMANDS: dict[str, Any] = {
    "verify": verify,
    "dump": dump,
    "import": importing,
    "backup": backup,
    "restore": restore,
    "health": health,
    "dev-certs": certificates,
}


def add_commands(commands: Any) -> None:
    """Add the parsers of these commands.

    Args:
        commands: What ``ArgumentParser.add_subparsers`` returned.
    """
    for name, module in _COMMANDS.items():
        module.add(commands, name)


def run_command(options: argparse.Namespace) -> int:
    """Run the command that was parsed; returns the exit code."""
    try:
        code: int = _COMMANDS[options.command].run(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the output has seen enough: `rstmdb dump DIR | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return exit_codes.OK
    except KeyboardInterrupt:
        return _failed("interrupted", 130)
    except OfflineError as error:
        return _failed(str(error), error.code)
    except ConfigError as error:
        return _failed(str(error), exit_codes.USAGE)
    except (CorruptionError, FormatError, CoreError) as error:
        return _failed(str(error), exit_codes.DATA_DAMAGED)
    except StorageError as error:
        return _failed(str(error), exit_codes.START_FAILED)
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        return _failed(f"{where}{error.strerror or error}", exit_codes.START_FAILED)
    return code


def _failed(reason: str, code: int) -> int:
    print(f"rstmdb: {' '.join(reason.split())}", file=sys.stderr)  # noqa: T201
    return code
