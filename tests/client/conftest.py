"""Lets the tests here use the cases of the client package against a real server."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "packages" / "rstmdb-client" / "tests"))
