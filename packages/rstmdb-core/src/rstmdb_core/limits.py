"""Every limit of the engine, with its reason.

Limits that users may move are fields of `EngineSettings` (state.py); these are their defaults and the fixed
ones. Nothing here may make replay fail: limits are checked in `decide`, never in `apply`.
"""

from typing import Final

NAME_BYTES_MAX: Final = 256
"""Ids, names, events and keys, in UTF-8 bytes: they are index keys and appear in each answer."""

CONTEXT_BYTES_MAX: Final = 1024 * 1024
"""One context or payload, as compact JSON: an answer and an event carry both and must fit a frame."""

DOCUMENT_DEPTH_MAX: Final = 56
"""Nesting of a context: a published client refuses a message deeper than 64, envelope included."""

ANSWER_BYTES_MAX: Final = 16 * 1024 * 1024 - 64 * 1024
"""One answer: a frame of 16 MiB less room for the envelope. Checked before anything is committed."""

BATCH_OPERATIONS_MAX: Final = 100
"""Operations of one BATCH: it holds the loop while it is decided."""

GUARD_LENGTH_MAX: Final = 4096
"""Characters of one guard: it is evaluated on every event of its transition."""

GUARD_NESTING_MAX: Final = 64
"""Parentheses and negations inside each other: parser and evaluator recurse this deep and no deeper."""

DEFINITION_BYTES_MAX: Final = 1024 * 1024
"""One machine definition, as canonical JSON: GET_MACHINE returns it whole, recovery compiles it."""

DEFINITION_FAULTS_MAX: Final = 100
"""Faults reported for one definition: all of them, unless somebody sends a million."""

MACHINES_MAX: Final = 10_000
"""Machine versions altogether: LIST_MACHINES has no pages and must fit an answer."""

PAGE_INSTANCES_MAX: Final = 1_000
"""Instances a page of LIST_INSTANCES; larger requests are clamped."""

PAGE_INSTANCES_DEFAULT: Final = 100
"""Instances a page when the request names no limit."""

IDEMPOTENCY_RETENTION_MS: Final = 24 * 60 * 60 * 1000
"""How long a key is remembered, by the time of the records."""

IDEMPOTENCY_BYTES_MAX: Final = 256 * 1024 * 1024
"""Memory of all keys with their answers; the oldest go first."""

TOMBSTONE_BYTES_MAX: Final = 64 * 1024 * 1024
"""Memory of the tombstones of deleted instances; the oldest go first."""

DETAILS_ITEMS_MAX: Final = 50
"""Guards or events listed in the details of one refusal."""

DETAILS_TEXT_MAX: Final = 256
"""Characters of one value quoted in a message or in details."""

VERSION_MAX: Final = 2**32 - 1
"""Machine versions are unsigned 32-bit integers on the wire."""

OFFSET_MAX: Final = 2**53 - 1
"""Integers above this one are not exact in the clients that read JSON numbers as doubles."""
