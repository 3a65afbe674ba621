"""Wire codec of rstmdb: frames, messages and operations, without I/O."""
