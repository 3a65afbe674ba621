"""Write-ahead log, snapshots and compaction of rstmdb."""
