"""The interactive prompt: `words` and `reading` are input, `session` the loop, `table` the commands."""
