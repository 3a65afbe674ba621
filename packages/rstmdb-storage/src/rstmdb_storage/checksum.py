"""The checksum of every format of this package: CRC32C, the Castagnoli polynomial.

`crc32c(crc, data)` carries a checksum on over more bytes; one that begins there carries on from 0. So
`crc32c(crc32c(0, a), b)` is that of `a` and `b` together, which the formats use to tie one part to another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import google_crc32c

__all__ = ["crc32c"]

# The C function itself: the public wrapper of the package adds a call per frame and accepts no more.
crc32c: Final[Callable[[int, bytes], int]] = google_crc32c.extend
