"""The rstmdb server: durable state machines over TCP."""
