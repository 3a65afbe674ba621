"""What one invocation knows: where the server is, who asks, how to answer.

Every setting is looked up in this order, and the first that speaks wins:

    flag on the command line  >  environment variable  >  profile  >  default

`Invocation` is what every command gets as `ctx.obj`. It reads the profile, the token file and the client
library only when a command connects, so that `hash-token`, `--help` or `graph FILE` stay quick and work
anywhere.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from rstmdb_cli.exit_codes import ExitCode
from rstmdb_cli.failures import Failure
from rstmdb_cli.output import Format, Output

if TYPE_CHECKING:
    from rstmdb_cli.connection import Connection

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 7401
DEFAULT_TIMEOUT_S = 30.0
"""How long one request may take. The original waits for ever; a script should not."""

_ENVIRONMENT = {
    "server": "RSTMDB_SERVER",
    "url": "RSTMDB_URL",
    "token": "RSTMDB_TOKEN",
    "token_file": "RSTMDB_TOKEN_FILE",
    "tls": "RSTMDB_TLS",
    "ca_cert": "RSTMDB_CA_CERT",
    "client_cert": "RSTMDB_CLIENT_CERT",
    "client_key": "RSTMDB_CLIENT_KEY",
    "insecure": "RSTMDB_INSECURE",
    "server_name": "RSTMDB_SERVER_NAME",
    "timeout": "RSTMDB_TIMEOUT",
}


class Settings(NamedTuple):
    """Where to connect and how; resolved."""

    url: str | None
    host: str
    port: int
    token: str | None
    tls: bool
    ca_cert: str | None
    client_cert: str | None
    client_key: str | None
    insecure: bool
    server_name: str | None
    timeout_s: float

    @property
    def place(self) -> str:
        """The server as a message names it; never with a token."""
        if self.url is not None:
            scheme, _, rest = self.url.partition("://")
            authority, _, _ = rest.partition("/")
            return f"{scheme}://{authority.rpartition('@')[2].partition('?')[0]}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class Invocation:
    """One run of a command, or one session at the prompt.

    Args:
        flags: The global options given on the command line, by name; absent means not given.
        environment: Usually `os.environ`.
    """

    def __init__(
        self, *, flags: dict[str, Any] | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self.flags = dict(flags or {})
        self.environment = os.environ if environment is None else environment
        self.output = Output()
        self.detailed_exit_codes = False
        self.verbose = False
        self.interactive = False
        self.borrowed: Connection | None = None
        self._settings: Settings | None = None
        self._apply_flags()

    def override(self, flags: Mapping[str, Any]) -> None:
        """Take global options that stood after the command's name.

        Raises:
            Failure: They contradict each other.
        """
        self.flags.update(flags)
        self._settings = None
        self._apply_flags()

    def _apply_flags(self) -> None:
        chosen = self.flags.get("output")
        if self.flags.get("json"):
            if chosen not in (None, Format.JSON, "json"):
                raise Failure("--json and --output exclude each other", code=ExitCode.USAGE)
            chosen = Format.JSON
        self.output.chosen = None if chosen is None else Format(chosen)
        codes = self.flags.get("exit_codes") or self.environment.get("RSTMDB_EXIT_CODES") or "simple"
        if codes not in ("simple", "detailed"):
            raise Failure(f"RSTMDB_EXIT_CODES must be simple or detailed, not {codes!r}", code=ExitCode.USAGE)
        self.detailed_exit_codes = codes == "detailed"
        self.verbose = bool(self.flags.get("verbose"))
        self._boolean_from_environment("tls")
        self._boolean_from_environment("insecure")

    def _boolean_from_environment(self, name: str) -> bool | None:
        text = self.environment.get(_ENVIRONMENT[name])
        if text is None:
            return None
        if text not in ("true", "false"):
            raise Failure(
                f"invalid value {text!r} for {_ENVIRONMENT[name]}: it must be true or false",
                code=ExitCode.USAGE,
            )
        return text == "true"

    @property
    def settings(self) -> Settings:
        """Where to connect and how, resolved at the first use.

        Raises:
            Failure: A setting is wrong, or two exclude each other.
        """
        if self._settings is None:
            self._settings = self._resolve()
        return self._settings

    def _resolve(self) -> Settings:
        profile_name = self.flags.get("profile") or self.environment.get("RSTMDB_PROFILE")
        from rstmdb_cli.profiles import config_path, load_profile

        profile = load_profile(profile_name) if profile_name or config_path().exists() else {}

        def first(*names: str) -> tuple[str, Any] | tuple[None, None]:
            """Return the first of several settings that exclude each other, by source before name."""
            for source in (self.flags, self._environment_values(), profile):
                given = [(name, source[name]) for name in names if source.get(name) is not None]
                if len(given) > 1 and source is self.flags:
                    options = " and ".join("--" + name.replace("_", "-") for name, _ in given)
                    raise Failure(f"{options} exclude each other", code=ExitCode.USAGE)
                if given:
                    return given[0]
            return None, None

        def one(name: str) -> Any:
            return first(name)[1]

        where, address = first("server", "url")
        host, port = parse_address(str(address)) if where == "server" else (DEFAULT_HOST, DEFAULT_PORT)
        settings = Settings(
            url=address if where == "url" else None,
            host=host,
            port=port,
            token=self._token(*first("token", "token_file")),
            tls=bool(one("tls") or one("ca_cert") or one("client_cert") or one("insecure")),
            ca_cert=one("ca_cert"),
            client_cert=one("client_cert"),
            client_key=one("client_key"),
            insecure=bool(one("insecure")),
            server_name=one("server_name"),
            timeout_s=one("timeout") or DEFAULT_TIMEOUT_S,
        )
        if settings.tls and (settings.client_cert is None) != (settings.client_key is None):
            raise Failure("--client-cert and --client-key must be used together")
        return settings

    def _environment_values(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, variable in _ENVIRONMENT.items():
            text = self.environment.get(variable)
            if text is None or text == "":
                continue
            if name in ("tls", "insecure"):
                values[name] = self._boolean_from_environment(name) or None
            elif name == "timeout":
                try:
                    values[name] = float(text)
                except ValueError:
                    raise Failure(
                        f"invalid value {text!r} for {variable}: it must be seconds", code=ExitCode.USAGE
                    ) from None
            else:
                values[name] = text
        return values

    @staticmethod
    def _token(kind: str | None, value: Any) -> str | None:
        if kind != "token_file":
            return value if isinstance(value, str) else None
        from rstmdb_cli.documents import read_file

        token = read_file(value).strip()
        if not token or "\n" in token:
            raise Failure(f"{value} must hold one line, the token", code=ExitCode.AUTHENTICATION)
        return token

    @contextmanager
    def client(self, *, subject: str | None = None) -> Iterator["Connection"]:
        """Give a connected client: the prompt's own, or a new one that is closed afterwards.

        Args:
            subject: The instance that the requests are about, for hints.

        Raises:
            Failure: No connection, or whatever the body's requests failed with, explained.
        """
        from rstmdb_cli.connection import Connection, explained

        with explained(self.settings, subject=subject):
            if self.borrowed is not None:
                yield self.borrowed
                return
            if self.verbose:
                self.output.note(
                    f"connecting to {self.settings.place}{' with TLS' if self.settings.tls else ''}"
                )
            client = Connection(self.settings, notify=self.output.note)
            try:
                yield client
            finally:
                client.close()

    def confirm(self, question: str, *, assume_yes: bool) -> None:
        """Ask before something is destroyed; scripts (no terminal) are not asked.

        Raises:
            Failure: The person said no.
        """
        if assume_yes or not (sys.stdin.isatty() and sys.stderr.isatty()):
            return
        self.output.stdout.flush()
        sys.stderr.write(f"{question} [y/N] ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise Failure("not done", label="Cancelled", code=ExitCode.FAILED)


def parse_address(text: str) -> tuple[str, int]:
    """Split `HOST`, `HOST:PORT`, `[IPv6]` or `[IPv6]:PORT`; the port is 7401 unless given.

    Raises:
        Failure: It is none of these.
    """
    host, port_text = text, ""
    if text.startswith("["):
        host, bracket, port_text = text[1:].partition("]")
        if not bracket or (port_text and not port_text.startswith(":")):
            raise _bad_address(text)
        port_text = port_text[1:]
    elif text.count(":") == 1:
        host, _, port_text = text.partition(":")
        if not port_text:
            raise _bad_address(text)
    if "://" in text or not host or any(letter.isspace() for letter in host):
        raise _bad_address(text)
    if not port_text:
        return host, DEFAULT_PORT
    if not (port_text.isascii() and port_text.isdigit() and 0 < int(port_text) < 65536):
        raise _bad_address(text)
    return host, int(port_text)


def _bad_address(text: str) -> Failure:
    return Failure(
        f"invalid value {text!r} for --server: it must be HOST:PORT",
        hint="for example 127.0.0.1:7401, db.example.com or [::1]:7401; --url takes rstmdb://HOST:PORT",
        code=ExitCode.USAGE,
    )
