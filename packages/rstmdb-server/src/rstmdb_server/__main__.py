"""Run the server: ``python -m rstmdb_server``."""

import sys

from rstmdb_server.app import main

if __name__ == "__main__":
    sys.exit(main())
