"""`python -m rstmdb_cli` is `rstmdb-cli`."""

from rstmdb_cli.app import main

if __name__ == "__main__":
    main()
