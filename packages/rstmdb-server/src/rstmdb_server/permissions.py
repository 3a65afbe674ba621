"""Which role may do which operation, and how a scope of machines narrows it: one table.

The session asks this table before it dispatches anything, docs/reference/authorization.md prints it, and
tests walk it operation by operation. An operation that is not in it does not exist for the gate.

Roles contain each other, read < write < admin: the answer of a write carries the context, so a token that
writes but must not read could not be given an answer.
"""

import enum

import msgspec


class Need(enum.IntEnum):
    """What an operation asks of the caller, as bits that the roles of a principal grant."""

    EXEMPT = 0
    READ = 1
    WRITE = 2
    ADMIN = 4


class Scope(enum.Enum):
    """How an operation treats a principal that sees some machines only."""

    FREE = "not narrowed"
    NAMED = "refused unless the named machine is seen"
    # As if it did not exist: a scoped token cannot probe for ids.
    INSTANCE = "an instance of a machine that is not seen is not found"
    FILTERED = "answers with what is seen, leaves out the rest"
    EACH = "each operation inside by its own rule"
    WHOLE = "refused to every scoped principal"


class Permission(msgspec.Struct, frozen=True):
    """One line of the table."""

    need: Need
    scope: Scope


PERMISSIONS: dict[str, Permission] = {
    "HELLO": Permission(Need.EXEMPT, Scope.FREE),
    "AUTH": Permission(Need.EXEMPT, Scope.FREE),
    "PING": Permission(Need.EXEMPT, Scope.FREE),
    "BYE": Permission(Need.EXEMPT, Scope.FREE),
    "INFO": Permission(Need.READ, Scope.FREE),
    "GET_MACHINE": Permission(Need.READ, Scope.NAMED),
    "LIST_MACHINES": Permission(Need.READ, Scope.FILTERED),
    "GET_INSTANCE": Permission(Need.READ, Scope.INSTANCE),
    "LIST_INSTANCES": Permission(Need.READ, Scope.FILTERED),
    "EXPLAIN_EVENT": Permission(Need.READ, Scope.INSTANCE),
    "WATCH_INSTANCE": Permission(Need.READ, Scope.INSTANCE),
    "WATCH_ALL": Permission(Need.READ, Scope.FILTERED),
    "UNWATCH": Permission(Need.READ, Scope.FREE),
    "WAL_READ": Permission(Need.READ, Scope.FILTERED),
    "WAL_STATS": Permission(Need.READ, Scope.FREE),
    "STATS": Permission(Need.READ, Scope.FILTERED),
    "CREATE_INSTANCE": Permission(Need.WRITE, Scope.NAMED),
    "APPLY_EVENT": Permission(Need.WRITE, Scope.INSTANCE),
    "DELETE_INSTANCE": Permission(Need.WRITE, Scope.INSTANCE),
    "BATCH": Permission(Need.WRITE, Scope.EACH),
    # A definition decides what every instance of a machine may do, and it can never be taken back.
    "PUT_MACHINE": Permission(Need.ADMIN, Scope.NAMED),
    # A snapshot costs the disk of everybody, however small the instance that is named.
    "SNAPSHOT_INSTANCE": Permission(Need.ADMIN, Scope.INSTANCE),
    "COMPACT": Permission(Need.ADMIN, Scope.WHOLE),
    "FLUSH_ALL": Permission(Need.ADMIN, Scope.WHOLE),
}

GRANTS: dict[str, int] = {
    "read": Need.READ,
    "write": Need.READ | Need.WRITE,
    "admin": Need.READ | Need.WRITE | Need.ADMIN,
}
"""The bits each role grants."""


def render_table() -> str:
    """Return the table in Markdown, as docs/reference/authorization.md carries it."""
    lines = [
        "| operation | role | for a token with `machines` |",
        "|---|---|---|",
    ]
    for operation, permission in PERMISSIONS.items():
        role = "none, also before AUTH" if permission.need is Need.EXEMPT else permission.need.name.lower()
        lines.append(f"| {operation} | {role} | {permission.scope.value} |")
    return "\n".join(lines) + "\n"
