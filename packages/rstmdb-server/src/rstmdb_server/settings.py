"""The settings of a server as one frozen value: what can be set, its default, its bounds and its reason.

Owns the shape only. `config.py` makes the value from YAML and environment; nothing else reads either.
Every number carries its unit last in its name, every limit says beside it what it protects.

```
Settings
├── network      where to listen; what one peer may use of the server
├── auth         who may come in
├── storage      where data lives and when it is synced
├── compaction   when a snapshot is taken and log is let go
├── retention    how much history is kept whatever compaction wants
├── idempotency  how long a repeated request is recognised
├── tls          certificates
├── metrics      the operators' HTTP address
└── logging      how much is said, and how
```
"""

from typing import Annotated, Any, Literal, NamedTuple, get_type_hints

import msgspec

Role = Literal["read", "write", "admin"]
ROLES: tuple[Role, ...] = ("read", "write", "admin")

Positive = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
ZeroOrMore = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Seconds = Annotated[int, msgspec.Meta(ge=1, le=10 * 365 * 86_400)]
Megabytes = Annotated[int, msgspec.Meta(ge=0, le=2**30)]


class ConfigError(Exception):
    """Say on one line what is wrong with the configuration: the key, its value, what would be right.

    Attributes:
        problems: Every fault found, one sentence each; the text of the error joins them.
    """

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__(*problems)

    def __str__(self) -> str:
        return "; ".join(self.problems)


class Address(NamedTuple):
    """A host and a port to listen on; port 0 lets the system choose one."""

    host: str
    port: int


class FsyncPolicy(NamedTuple):
    """When a commit is synced, as written in the configuration: a kind and, for two of them, a number."""

    kind: Literal["every_write", "every_n", "every_ms", "never"]
    value: int | None = None

    def __str__(self) -> str:
        return self.kind if self.value is None else f"{self.kind}:{self.value}"


class TokenEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One token that is let in, known by its hash only.

    Attributes:
        hash: SHA-256 of the token, 64 lower-case hexadecimal digits.
        name: The principal in audit lines; unnamed tokens are all "default".
        roles: What it may do; a plain hash may do everything.
        machines: Patterns of machine names it sees, `*` and `?` as wildcards; empty means every machine.
        expires_ms: Unix milliseconds from which it is refused, or None.
    """

    hash: str
    name: str = "default"
    roles: tuple[Role, ...] = ROLES
    machines: tuple[str, ...] = ()
    expires_ms: int | None = None


class NetworkSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where clients connect, and what one of them may use."""

    bind_addr: str = "127.0.0.1:7401"
    idle_timeout_secs: Seconds = 300
    max_connections: Positive = 1000
    # A peer that has not said HELLO (and AUTH, where required) by then only holds a descriptor.
    handshake_timeout_secs: Seconds = 10
    # A pipelining client is stopped from reading further here; it is not refused.
    requests_in_flight_max: Positive = 1024
    # Answers and events waiting for a client that does not read; beyond it, its socket is not read either.
    write_buffer_bytes_max: Annotated[int, msgspec.Meta(ge=64 * 1024, le=2**40)] = 4 * 1024 * 1024
    # A subscription costs a cursor and its filters: this bounds what one session can pile up.
    subscriptions_max: Positive = 1000


class AuthSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Who may come in. The tokens of `secrets_file` are read by `auth.py`, so that a reload can repeat it."""

    required: bool = False
    token_hashes: tuple[TokenEntry, ...] = ()
    secrets_file: str | None = None


class StorageSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where data lives and when it is synced."""

    data_dir: str = "./data"
    wal_segment_size_mb: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 64
    fsync_policy: FsyncPolicy = FsyncPolicy("every_write")
    max_machine_versions: Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)] = 0
    allow_flush_all: bool = False
    allow_instance_recreate: bool = True


class CompactionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """When a snapshot is taken and the log before it let go; a threshold of 0 is off."""

    enabled: bool = True
    events_threshold: ZeroOrMore = 10_000
    size_threshold_mb: Megabytes = 100
    min_interval_secs: Annotated[int, msgspec.Meta(ge=0, le=10 * 365 * 86_400)] = 60


class RetentionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How much history stays readable for watches and WAL_READ: what is inside both bounds.

    The log is let go in whole segments, and never what recovery needs, so there is always somewhat more.
    """

    history_mb: Megabytes = 256
    history_secs: Annotated[int, msgspec.Meta(ge=0, le=10 * 365 * 86_400)] = 86_400


class IdempotencySettings(msgspec.Struct, frozen=True, kw_only=True):
    """How long a repeated request is recognised, and what remembering may cost in memory."""

    retention_secs: Seconds = 86_400
    max_bytes: Annotated[int, msgspec.Meta(ge=1024 * 1024, le=2**40)] = 256 * 1024 * 1024


class TlsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Certificates of the client port; the whole port is TLS or none of it."""

    enabled: bool = False
    cert_path: str | None = None
    key_path: str | None = None
    require_client_cert: bool = False
    client_ca_path: str | None = None


class MetricsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The operators' HTTP address.

    Attributes:
        configured: Whether file or environment named the address (not a key of its own): a taken default
            port is worth a warning, a taken configured one ends the start.
    """

    enabled: bool = True
    bind_addr: str = "127.0.0.1:9090"
    configured: bool = False


class LoggingSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What is written to stderr.

    Attributes:
        level: A level, or a filter in the notation of RUST_LOG (`warn,rstmdb_server.watch=debug`).
        format: "auto" is text on a terminal and JSON lines otherwise.
        slow_operation_ms: Requests that took longer are logged; 0 is off.
        audit: False is off, True writes into the log, a text is the file to append to.
    """

    level: str = "info"
    format: Literal["auto", "text", "json"] = "auto"
    slow_operation_ms: ZeroOrMore = 500
    audit: bool | str = False


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set."""

    network: NetworkSettings = NetworkSettings()
    auth: AuthSettings = AuthSettings()
    storage: StorageSettings = StorageSettings()
    compaction: CompactionSettings = CompactionSettings()
    retention: RetentionSettings = RetentionSettings()
    idempotency: IdempotencySettings = IdempotencySettings()
    tls: TlsSettings = TlsSettings()
    metrics: MetricsSettings = MetricsSettings()
    logging: LoggingSettings = LoggingSettings()


def parse_address(text: str) -> Address:
    """Split `host:port`; the host is a name, an IPv4 address or an IPv6 address in brackets.

    Raises:
        ValueError: If it is not of that form.
    """
    host, colon, port = text.strip().rpartition(":")
    if not colon:
        raise ValueError("no port")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("an IPv6 address needs brackets")
    if not host or any(c.isspace() or c == "/" for c in host):
        raise ValueError("no host")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65_535):
        raise ValueError("the port is not a number up to 65535")
    return Address(host, int(port))


def _keys() -> dict[str, dict[str, Any]]:
    found = {}
    for section, kind in get_type_hints(Settings).items():
        found[section] = get_type_hints(kind, include_extras=True)
    del found["metrics"]["configured"]  # derived, not a key
    return found


KEYS: dict[str, dict[str, Any]] = _keys()
"""The type of every key, by section, as the structs declare it."""
