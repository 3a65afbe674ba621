"""State machine and guard engine of rstmdb, without I/O."""
