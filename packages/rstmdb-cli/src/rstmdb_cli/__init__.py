"""Command line of rstmdb."""
