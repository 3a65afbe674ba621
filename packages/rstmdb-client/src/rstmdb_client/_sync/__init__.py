"""The sync face: generated from `_async`, but for `stream.py`, `link.py` and `primitives.py`."""
