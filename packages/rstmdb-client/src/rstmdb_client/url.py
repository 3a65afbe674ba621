"""Where to connect and how: the URL, keyword arguments and `RSTMDB_URL` become one frozen `Options`.

```
rstmdb://TOKEN@host:7401,host2:7401?timeout=30&connect_timeout=10        plain TCP
rstmdbs://TOKEN@db.example.com?tls_ca=/etc/ca.pem&tls_cert=c.pem&tls_key=k.pem    TLS
```

The token is percent-encoded where it has reserved characters. Several hosts are several ways to the same
database: they are tried in order. A keyword argument wins over the URL. Tokens never show in `repr`.
"""

import os
import ssl
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, unquote

import msgspec

from rstmdb_client.errors import InvalidURL
from rstmdb_client.events import ConnectionEvent
from rstmdb_client.retry import RetryPolicy

__all__ = ["DEFAULT_PORT", "Endpoint", "Options", "TlsOptions", "parse_url", "resolve_options"]

DEFAULT_PORT = 7401
DEFAULT_HOST = "127.0.0.1"
URL_VARIABLE = "RSTMDB_URL"


class Endpoint(msgspec.Struct, frozen=True):
    """One address of the server."""

    host: str
    port: int = DEFAULT_PORT

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class TlsOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a TLS connection is made.

    Attributes:
        ca: path of a PEM file with the authorities to trust instead of the system's.
        cert: path of a PEM file with the client's certificate chain.
        key: path of the PEM file with the client's key; may be in `cert`.
        server_name: the name the server's certificate must have, when it is not the host.
        insecure: True to check nothing; for development only.
        context: a ready `ssl.SSLContext`, used instead of all of the above but `server_name`.
    """

    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    server_name: str | None = None
    insecure: bool = False
    context: ssl.SSLContext | None = None

    def make_context(self) -> ssl.SSLContext:
        """Make the context these options describe.

        Raises:
            InvalidURL: a file cannot be read or does not hold what it should.
        """
        if self.context is not None:
            return self.context
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.cert is not None:
                context.load_cert_chain(self.cert, self.key)
        except (OSError, ssl.SSLError) as error:
            raise InvalidURL(f"TLS files cannot be used: {error}") from error
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a client needs to know to connect and call."""

    endpoints: tuple[Endpoint, ...]
    token: str | None = None
    tls: TlsOptions | None = None
    timeout: float = 30.0
    connect_timeout: float = 10.0
    client_name: str | None = None
    retry: RetryPolicy = RetryPolicy()
    on_event: Callable[[ConnectionEvent], None] | None = None
    tracer: Any = None

    def __repr__(self) -> str:
        hosts = ",".join(map(str, self.endpoints))
        scheme = "rstmdb" if self.tls is None else "rstmdbs"
        secret = "***@" if self.token else ""
        return f"<{scheme}://{secret}{hosts}>"


def parse_url(url: str) -> dict[str, Any]:
    """Split a connection URL into the keyword arguments it stands for.

    Raises:
        InvalidURL: it is not a URL of this database, or has options that nothing knows.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in ("rstmdb", "rstmdbs"):
        raise InvalidURL("it must begin with rstmdb:// or rstmdbs://")
    rest, _, query = rest.partition("?")
    authority, _, path = rest.partition("/")
    if path:
        raise InvalidURL("it has a path; there is nothing to choose there")
    userinfo, at, hosts = authority.rpartition("@")
    found: dict[str, Any] = {"endpoints": parse_hosts(hosts)}
    if at:
        found["token"] = _unquote(userinfo.removeprefix(":"))
    tls: dict[str, Any] = {}
    for name, value in _query_items(query):
        if name.startswith("tls_") and name[4:] in ("ca", "cert", "key", "server_name"):
            tls[name[4:]] = value
        elif name == "tls_insecure":
            tls["insecure"] = _flag(name, value)
        elif name in ("timeout", "connect_timeout"):
            found[name] = _seconds(name, value)
        elif name == "client_name":
            found[name] = value
        else:
            raise InvalidURL(f"unknown option {name!r}")
    if scheme == "rstmdbs":
        found["tls"] = TlsOptions(**tls)
    elif tls:
        raise InvalidURL("TLS options need rstmdbs://")
    return found


def parse_hosts(text: str) -> tuple[Endpoint, ...]:
    """Read `host`, `host:port`, `[v6]:port`, or several separated by commas."""
    return tuple(_endpoint(part) for part in text.split(","))


def _endpoint(text: str) -> Endpoint:
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise InvalidURL("an IPv6 address is written [address]:port")
        port = port[1:] if port else ""
        has_port = bool(port)
    else:
        host, colon, port = text.partition(":")
        has_port = bool(colon)
    if not host:
        raise InvalidURL("a host is missing")
    if not has_port:
        return Endpoint(_unquote(host))
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise InvalidURL(f"{port!r} is not a port")
    return Endpoint(_unquote(host), int(port))


def _query_items(query: str) -> list[tuple[str, str]]:
    if not query:
        return []
    try:
        return parse_qsl(query, keep_blank_values=True, strict_parsing=True, errors="strict")
    except ValueError as error:
        raise InvalidURL("the options after '?' cannot be read") from error


def _unquote(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError as error:
        raise InvalidURL("percent-encoded bytes are not UTF-8") from error


def _seconds(name: str, value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 1e9:
        raise InvalidURL(f"{name} must be a positive number of seconds")
    return seconds


def _flag(name: str, value: str) -> bool:
    if value.lower() in ("1", "true", "yes", ""):
        return True
    if value.lower() in ("0", "false", "no"):
        return False
    raise InvalidURL(f"{name} must be true or false")


def resolve_options(
    url: str | None,
    *,
    host: str | None,
    port: int | None,
    token: str | None,
    tls: bool | TlsOptions | ssl.SSLContext | None,
    timeout: float | None,
    connect_timeout: float | None,
    client_name: str | None,
    retry: RetryPolicy | None,
    on_event: Callable[[ConnectionEvent], None] | None,
    tracer: Any,
) -> Options:
    """Merge defaults, the environment, the URL and keyword arguments; the latter win.

    Raises:
        InvalidURL: an option cannot be used, or a URL and a host are given together.
    """
    if url is not None and (host is not None or port is not None):
        raise InvalidURL("give a URL or a host, not both")
    if url is None and host is None and port is None:
        url = os.environ.get(URL_VARIABLE)
    found: dict[str, Any] = {}
    if url is not None:
        found = parse_url(url)
    else:
        if port is not None and not 0 < port < 65536:
            raise InvalidURL(f"{port!r} is not a port")
        found["endpoints"] = (Endpoint(host or DEFAULT_HOST, port or DEFAULT_PORT),)
    if isinstance(tls, bool):
        if tls and found.get("tls") is None:
            found["tls"] = TlsOptions()
        elif not tls:
            found["tls"] = None
    elif isinstance(tls, ssl.SSLContext):
        found["tls"] = TlsOptions(context=tls)
    elif tls is not None:
        found["tls"] = tls
    given = {
        "token": token,
        "timeout": timeout,
        "connect_timeout": connect_timeout,
        "client_name": client_name,
        "retry": retry,
        "on_event": on_event,
        "tracer": tracer,
    }
    found.update({name: value for name, value in given.items() if value is not None})
    for name in ("timeout", "connect_timeout"):
        if name in found:
            _seconds(name, str(found[name]))
    if found.get("token") == "":
        del found["token"]
    return Options(**found)
