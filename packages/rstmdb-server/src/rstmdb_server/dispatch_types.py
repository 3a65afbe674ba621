"""The type of a handler, apart from the table that binds them all."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from rstmdb_core import Refusal
from rstmdb_server.answers import Deferred
from rstmdb_server.session import Session

Handler = Callable[[Session, msgspec.Raw], bytes | Refusal | Deferred]
"""Takes the session and the raw ``params``; gives the result's JSON text, a refusal, or an answer to come."""
