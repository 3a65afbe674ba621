"""Who is on the other end, and what they may do.

```
token --sha256--> digest --compared with every entry, in constant time--> Principal | AuthRefusal
Principal.may(operation), .sees(machine)      <-- the table of permissions.py
AttemptLimiter                                <-- how often a peer may be wrong
```

Pure: clocks are passed in. A reload builds a new `Authenticator`; the sessions that are open ask it through
`renew` whether their token still stands, so that a revoked one ends without dropping anybody else.
"""

import enum
import functools
import hashlib
import hmac
import re
from collections.abc import Iterable

import msgspec

from rstmdb_server.permissions import GRANTS, PERMISSIONS, Need, Permission, Scope
from rstmdb_server.settings import ROLES, AuthSettings, ConfigError, Role, TokenEntry
from rstmdb_server.tokens import parse_secrets, read_secrets

__all__ = [
    "PERMISSIONS",
    "UNRESTRICTED",
    "AttemptLimiter",
    "AuthRefusal",
    "Authenticator",
    "Need",
    "Permission",
    "Principal",
    "RefusalReason",
    "Scope",
    "load_authenticator",
    "parse_secrets",
    "read_secrets",
]


class RefusalReason(enum.StrEnum):
    """The `details.reason` of UNAUTHORIZED and AUTH_FAILED."""

    NOT_AUTHENTICATED = "NOT_AUTHENTICATED"
    UNKNOWN_TOKEN = "UNKNOWN_TOKEN"
    EMPTY_TOKEN = "EMPTY_TOKEN"
    EXPIRED = "TOKEN_EXPIRED"
    REVOKED = "TOKEN_REVOKED"
    FORBIDDEN = "FORBIDDEN"
    MACHINE_SCOPE = "MACHINE_SCOPE"


class Principal(msgspec.Struct, frozen=True):
    """Somebody who was let in.

    Attributes:
        name: The name in audit lines and the scope of BATCH keys.
        roles: What it was given, in the configuration's words.
        machines: Patterns of machine names it sees; empty means every machine.
        expires_ms: Unix milliseconds from which nothing is allowed any more, or None.
        token_hash: By which `Authenticator.renew` finds its entry again.
    """

    name: str
    roles: tuple[Role, ...] = ROLES
    machines: tuple[str, ...] = ()
    expires_ms: int | None = None
    token_hash: str = ""

    @property
    def unrestricted(self) -> bool:
        """Whether it may do everything, for ever: then nothing needs to be asked a request."""
        return "admin" in self.roles and not self.machines and self.expires_ms is None

    @property
    def scoped(self) -> bool:
        """Whether it sees some machines only."""
        return bool(self.machines)

    def may(self, operation: str) -> bool:
        """Return whether its roles allow an operation; what is not in the table is not allowed."""
        return operation in _allowed(self.roles, bool(self.machines))

    def refusal(self, operation: str) -> RefusalReason | None:
        """Return why its roles or its scope forbid an operation, or None."""
        if self.may(operation):
            return None
        in_role = operation in _allowed(self.roles, False)
        return RefusalReason.MACHINE_SCOPE if in_role else RefusalReason.FORBIDDEN

    def sees(self, machine: str) -> bool:
        """Return whether a machine is inside its scope."""
        return not self.machines or _scope_pattern(self.machines).fullmatch(machine) is not None

    def expired(self, now_ms: int) -> bool:
        """Return whether its time is over."""
        return self.expires_ms is not None and now_ms >= self.expires_ms


UNRESTRICTED = Principal("default")
"""Everybody, where authentication is off."""


class AuthRefusal(msgspec.Struct, frozen=True):
    """Why somebody was not let in."""

    reason: RefusalReason


@functools.lru_cache(maxsize=1024)
def _allowed(roles: tuple[Role, ...], scoped: bool) -> frozenset[str]:
    """Return the operations that a set of roles may do: asked once a request, worked out once a set."""
    grants = functools.reduce(lambda bits, role: bits | GRANTS[role], roles, 0)
    return frozenset(
        operation
        for operation, permission in PERMISSIONS.items()
        if permission.need & grants == permission.need and not (scoped and permission.scope is Scope.WHOLE)
    )


@functools.lru_cache(maxsize=1024)
def _scope_pattern(machines: tuple[str, ...]) -> re.Pattern[str]:
    """Compile patterns in which `*` and `?` are the only special characters."""
    parts = [re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".") for pattern in machines]
    return re.compile("|".join(parts), re.DOTALL)


class Authenticator:
    """The tokens that are let in, as one reading of configuration and secrets file."""

    def __init__(self, entries: Iterable[TokenEntry], required: bool) -> None:
        self.required = required
        # The same hash twice: the later entry counts, so that a secrets file can narrow what the file says.
        self._entries = {entry.hash: entry for entry in entries}
        self._digests = [(bytes.fromhex(entry.hash), entry) for entry in self._entries.values()]

    @property
    def anonymous(self) -> Principal | None:
        """Who a session is before AUTH: everybody where authentication is off, else nobody."""
        return None if self.required else UNRESTRICTED

    def authenticate(self, token: str, now_ms: int) -> Principal | AuthRefusal:
        """Find out whose token this is.

        Every entry is compared whatever the others said, so the time taken tells nothing about them.

        Args:
            token: As sent.
            now_ms: Unix milliseconds.
        """
        if not token:
            return AuthRefusal(RefusalReason.EMPTY_TOKEN)
        if not self.required:
            return UNRESTRICTED
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        found: TokenEntry | None = None
        for known, entry in self._digests:
            if hmac.compare_digest(digest, known):
                found = entry
        if found is None:
            return AuthRefusal(RefusalReason.UNKNOWN_TOKEN)
        return _admit(found, now_ms)

    def renew(self, principal: Principal, now_ms: int) -> Principal | AuthRefusal:
        """Return what a principal of an earlier reading is now: the same, changed, expired or revoked."""
        if not self.required:
            return UNRESTRICTED
        entry = self._entries.get(principal.token_hash)
        if entry is None:
            return AuthRefusal(RefusalReason.REVOKED)
        return _admit(entry, now_ms)


def _admit(entry: TokenEntry, now_ms: int) -> Principal | AuthRefusal:
    if entry.expires_ms is not None and now_ms >= entry.expires_ms:
        return AuthRefusal(RefusalReason.EXPIRED)
    return Principal(entry.name, entry.roles, entry.machines, entry.expires_ms, entry.hash)


def load_authenticator(settings: AuthSettings) -> Authenticator:
    """Read the secrets file and put it together with the configured hashes.

    Raises:
        ConfigError: If the file cannot be read or is wrong, or authentication is required and nobody could
            ever authenticate.
    """
    entries = settings.token_hashes
    if settings.secrets_file is not None:
        entries += read_secrets(settings.secrets_file)
    if settings.required and not entries:
        raise ConfigError(
            "auth.required is true but neither auth.token_hashes nor auth.secrets_file has a hash"
        )
    return Authenticator(entries, settings.required)


class AttemptLimiter:
    """Slow and limit wrong tokens, by peer and over all.

    A wrong token costs its peer one of `PEER_BURST` attempts, which come back one a second. With none left
    the peer's tokens are not even looked at. The same holds over all peers, except that a peer that was never
    wrong is always admitted: trying tokens from many addresses must not lock out those who know theirs.
    """

    PEER_BURST = 20
    PEER_PER_SECOND = 1.0
    ALL_BURST = 500
    ALL_PER_SECOND = 50.0
    PEERS_MAX = 10_000  # about 2 MB; the one that was wrong longest ago is forgotten first
    DELAY_FIRST_MS = 50
    DELAY_MAX_MS = 2_000

    __slots__ = ("_all", "_peers")

    def __init__(self) -> None:
        # Wrong attempts not yet forgiven, and when that was counted.
        self._peers: dict[str, tuple[float, int]] = {}
        self._all: tuple[float, int] = (0.0, 0)

    def admits(self, peer: str, now_ms: int) -> bool:
        """Return whether a token of this peer may be looked at; if not, the answer is RATE_LIMITED."""
        if peer not in self._peers:
            return True
        wrong = _forgiven(self._peers[peer], now_ms, self.PEER_PER_SECOND)
        if wrong <= 0:
            del self._peers[peer]
            return True
        wrong_all = _forgiven(self._all, now_ms, self.ALL_PER_SECOND)
        return wrong + 1 <= self.PEER_BURST and wrong_all + 1 <= self.ALL_BURST

    def failed(self, peer: str, now_ms: int) -> int:
        """Count a wrong token.

        Args:
            peer: The address without the port.
            now_ms: Milliseconds of a clock that does not go back.

        Returns:
            Milliseconds to hold the answer back, doubling with each failure.
        """
        wrong = _forgiven(self._peers.pop(peer, (0.0, now_ms)), now_ms, self.PEER_PER_SECOND) + 1
        while len(self._peers) >= self.PEERS_MAX:
            del self._peers[next(iter(self._peers))]
        self._peers[peer] = (wrong, now_ms)
        self._all = (_forgiven(self._all, now_ms, self.ALL_PER_SECOND) + 1, now_ms)
        return min(self.DELAY_FIRST_MS << min(int(wrong) - 1, 10), self.DELAY_MAX_MS)

    @property
    def peers_remembered(self) -> int:
        """How many peers have unforgiven attempts."""
        return len(self._peers)


def _forgiven(count: tuple[float, int], now_ms: int, per_second: float) -> float:
    wrong, since_ms = count
    return max(0.0, wrong - max(0, now_ms - since_ms) * per_second / 1000)
