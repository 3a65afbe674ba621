"""Client of rstmdb, async and sync, safe by default."""
