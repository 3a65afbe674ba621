"""The async face: written by hand. `tools/generate_sync.py` makes `_sync` from part of it."""
