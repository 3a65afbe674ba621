"""Reads the conformance vectors, which codecs in any language can test themselves with.

The vectors are the JSON files in `vectors/`; `vectors/README.md` says what each holds and what a codec must
do with it. This module is all that a Python test needs of them.
"""

from importlib.resources import files
from typing import Any, Final

import msgspec

VECTOR_SETS: Final = ("errors", "frames", "lines", "messages", "params", "requests")
"""Names of the files."""


def load_vectors(name: str) -> dict[str, Any]:
    """Return one set of vectors.

    Args:
        name: One of `VECTOR_SETS`.

    Raises:
        FileNotFoundError: There is no such set.
    """
    text = files("rstmdb_protocol").joinpath("vectors", f"{name}.json").read_bytes()
    vectors: dict[str, Any] = msgspec.json.decode(text)
    return vectors


def expand_bytes(value: Any) -> bytes:
    """Return the bytes that a vector describes.

    Args:
        value: A string (its UTF-8), `{"hex": …}`, `{"repeat": …, "times": n}` or a list of these in order.

    Raises:
        ValueError: It is none of these.
    """
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, list):
        return b"".join(map(expand_bytes, value))
    if isinstance(value, dict) and value.keys() == {"hex"}:
        return bytes.fromhex(value["hex"])
    if isinstance(value, dict) and value.keys() == {"repeat", "times"}:
        return expand_bytes(value["repeat"]) * int(value["times"])
    raise ValueError(f"no bytes: {value!r:.100}")
