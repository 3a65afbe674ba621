"""Every limit of the wire, with its reason.

Limits that only the engine can judge (length of names, size of a context) live with the engine; a lower layer
that refused them first would also refuse reading what an import brought in.
"""

from typing import Final

FRAME_PAYLOAD_BYTES_MAX: Final = 16 * 1024 * 1024
"""Largest payload of a frame in bytes, both directions. Published clients refuse more."""

HANDSHAKE_PAYLOAD_BYTES_MAX: Final = 64 * 1024
"""Largest payload in bytes that a stranger may make a server buffer, before authentication."""

LINE_BYTES_MAX: Final = FRAME_PAYLOAD_BYTES_MAX
"""Longest JSON line in bytes without its line feed. The documented limit, equal to that of a frame."""

HEADER_EXTENSION_BYTES_MAX: Final = 0xFFFF
"""Longest header extension in bytes: its length field has 16 bits."""

REQUEST_ID_BYTES_MAX: Final = 256
"""Longest request id in bytes of UTF-8. Published clients send decimal counters."""

BATCH_OPERATIONS_MAX: Final = 100
"""Most operations in one BATCH; one batch is one atomic log record."""

LIST_INSTANCES_LIMIT_DEFAULT: Final = 100
"""Page size of LIST_INSTANCES when the request names none."""

LIST_INSTANCES_LIMIT_MAX: Final = 1_000
"""Largest page of LIST_INSTANCES; a larger limit is clamped, never refused."""

WAL_READ_LIMIT_MAX: Final = 10_000
"""Most records in a page of WAL_READ; Studio's history asks for as many. Larger limits are clamped."""

WAL_READ_BYTES_MAX: Final = 8 * 1024 * 1024
"""Most bytes in a page of WAL_READ, so that each page fits into a frame."""

OFFSET_MAX: Final = 2**63 - 1
"""Largest offset that is accepted in a request. Real ones stay below 2**53 (exact in a double)."""

VERSION_MAX: Final = 2**32 - 1
"""Largest version of a machine, and largest limit and offset of a page: unsigned 32 bits."""

PROTOCOL_VERSION_MAX: Final = 2**16 - 1
"""Largest protocol version that HELLO can name: unsigned 16 bits. Only version 1 exists."""

RECOVERY_TOKENS_MAX: Final = 2**18
"""Most JSON tokens that are looked at to find the id of a malformed request.

Enough for an id behind a context of a megabyte; a hostile request costs a bounded fraction of a second.
"""
