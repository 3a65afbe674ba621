"""How one token entry is written, in the configuration and in the secrets file.

```
plain       64 hexadecimal digits                                        (may do everything)
map (YAML)  {hash: ..., name: ci, roles: [read], machines: [order*], expires: 2027-01-31}
line        <hash> [name=ci] [roles=read,write] [machines=order*,cart] [expires=2027-01-31T12:00:00Z]
```

Upper-case digits are the same hash. A date without a time is its first instant, a time without an offset is
UTC. Faults never quote the entry: somebody pastes the token itself sooner or later.
"""

import difflib
import re
from datetime import UTC, datetime
from typing import Any

from rstmdb_server.settings import ROLES, ConfigError, Role, TokenEntry

_HASH = re.compile(r"[0-9a-f]{64}")
_FIELDS = ("hash", "name", "roles", "machines", "expires")
_NAME_CHARACTERS_MAX = 256


def parse_token_map(entry: dict[Any, Any]) -> TokenEntry:
    """Read the map form.

    Raises:
        ValueError: Saying which member is wrong.
    """
    for key in entry:
        if key not in _FIELDS:
            near = difflib.get_close_matches(str(key), _FIELDS, n=1)
            hint = f", did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"unknown key {key!r} in a token entry{hint}")
    roles = _names(entry.get("roles"), "roles")
    machines = _names(entry.get("machines"), "machines")
    name = entry.get("name")
    if name is not None and not (isinstance(name, str) and 0 < len(name) <= _NAME_CHARACTERS_MAX):
        raise ValueError(f"name of a token entry: {name!r} is not a text")
    return TokenEntry(
        hash=_hash(entry.get("hash")),
        name=name or "default",
        roles=_roles(roles) if roles is not None else ROLES,
        machines=machines or (),
        expires_ms=None if entry.get("expires") is None else _instant(entry["expires"]),
    )


def parse_token_text(text: Any) -> TokenEntry:
    """Read the plain form or the line form.

    Raises:
        ValueError: Saying which part is wrong.
    """
    words = text.split() if isinstance(text, str) else []
    if not words:
        raise ValueError("a token entry is neither a hash nor a map")
    entry: dict[str, Any] = {"hash": words[0]}
    for word in words[1:]:
        key, equals, value = word.partition("=")
        if not equals or key in entry:
            raise ValueError(f"after the hash a token entry has key=value, each once (word {len(entry) + 1})")
        entry[key] = value.split(",") if key in ("roles", "machines") else value
    return parse_token_map(entry)


def parse_secrets(text: str, *, name: str) -> tuple[TokenEntry, ...]:
    """Read a secrets file: an entry a line, blank lines and lines that start with `#` skipped.

    Raises:
        ConfigError: Naming the file and the line.
    """
    entries = []
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            try:
                entries.append(parse_token_text(stripped))
            except ValueError as error:
                raise ConfigError(f"secrets file {name!r}, line {number}: {error}") from None
    return tuple(entries)


def read_secrets(path: str) -> tuple[TokenEntry, ...]:
    """Read the entries of a secrets file.

    Raises:
        ConfigError: If it cannot be read or a line is not an entry.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
    except OSError as error:
        raise ConfigError(f"auth.secrets_file {path!r} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"auth.secrets_file {path!r} is not text") from None
    return parse_secrets(text, name=path)


def _hash(value: Any) -> str:
    digits = value.lower() if isinstance(value, str) else ""
    if not _HASH.fullmatch(digits):
        raise ValueError(
            "a token hash is 64 hexadecimal digits, the SHA-256 of the token (rstmdb-cli hash-token)"
        )
    return digits


def _names(value: Any, what: str) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not (isinstance(value, list) and value and all(isinstance(item, str) and item for item in value)):
        raise ValueError(f"{what} of a token entry is not a list of names")
    return tuple(value)


def _roles(names: tuple[str, ...]) -> tuple[Role, ...]:
    for name in names:
        if name not in ROLES:
            near = difflib.get_close_matches(name, ROLES, n=1)
            hint = f", did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"role {name!r} is not one of {', '.join(ROLES)}{hint}")
    return tuple(role for role in ROLES if role in names)


def _instant(value: Any) -> int:
    try:
        instant = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise ValueError(f"expires of a token entry: {value!r} is not a date or a date and time") from None
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=UTC)
    return round(instant.timestamp() * 1000)
