"""The only place that knows the client library: opening a client, and saying what its errors mean.

client's error          becomes
ConnectionFailed        Connection failed: REASON, and what to try            CONNECTION
RequestTimeout          OPERATION was not answered within N s                 CONNECTION
OutcomeUnknownError     ... it may or may not have happened                   CONNECTION
ServerError             server error: CODE - message, and what to do next     by code
any other               its own text                                          FAILED or USAGE
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rstmdb_cli.context import Settings
from rstmdb_cli.exit_codes import ExitCode
from rstmdb_cli.failures import Failure, server_failure

if TYPE_CHECKING:
    from rstmdb_client import Client, Watch
    from rstmdb_client.errors import RstmdbError
    from rstmdb_client.events import ConnectionEvent
    from rstmdb_client.url import TlsOptions

CONNECT_TIMEOUT_S = 10.0
"""How long making a connection may take: the original gives a reconnect as much."""

CLIENT_NAME = "rstmdb-cli"

WATCH_ATTEMPTS_MAX = 1_000_000
"""A watch goes on until somebody stops it; a server may be away for a night."""

_REPEATABLE = frozenset(
    [
        "COMPACT",
        "DELETE_INSTANCE",
        "EXPLAIN_EVENT",
        "GET_INSTANCE",
        "GET_MACHINE",
        "INFO",
        "LIST_INSTANCES",
        "LIST_MACHINES",
        "PUT_MACHINE",
        "SNAPSHOT_INSTANCE",
        "STATS",
        "UNWATCH",
        "WAL_READ",
        "WAL_STATS",
    ]
)
"""Operations that do no harm when they are executed twice, so that a lost answer is asked for again."""


class Connection:
    """The server, as commands see it: operations by their wire names, plain JSON in and out.

    It connects at the first request, and again whenever the connection was lost; a server that was never
    reached is an error at once.

    Args:
        settings: Where and how.
        notify: Is told, in words for people, when a watch loses its connection and has one again.
    """

    def __init__(self, settings: Settings, *, notify: Callable[[str], None] | None = None) -> None:
        # The library logs every lost connection; here that is the failure's business.
        logging.getLogger("rstmdb_client").addHandler(logging.NullHandler())
        self.settings = settings
        self._notify = notify
        self._client: Client | None = None
        self._watcher: Client | None = None

    def _calls(self) -> "Client":
        if self._client is None:
            from rstmdb_client import Client

            self._client = Client(**client_options(self.settings))
        return self._client

    def _watches(self) -> "Client":
        if self._watcher is None:
            from rstmdb_client import Client
            from rstmdb_client.retry import RetryPolicy

            patient = RetryPolicy(attempts_max=WATCH_ATTEMPTS_MAX, backoff_secs_max=5.0)
            self._watcher = Client(**client_options(self.settings), retry=patient, on_event=self._happened)
        return self._watcher

    def _happened(self, event: "ConnectionEvent") -> None:
        from rstmdb_client.events import Connected, Disconnected

        if self._notify is None:
            return
        if isinstance(event, Disconnected):
            self._notify(f"Connection lost ({event.reason}); connecting again...")
        elif isinstance(event, Connected) and event.reconnected:
            self._notify("Connected again; going on after the last event")

    def open(self) -> None:
        """Connect now.

        Raises:
            rstmdb_client.RstmdbError: There is no connection.
        """
        self._calls().open()

    def call(self, operation: str, params: dict[str, Any]) -> Any:
        """Ask the server; return the operation's result as it came.

        Raises:
            rstmdb_client.RstmdbError: It is refused, or there is no answer.
        """
        return self._calls().call(operation, params, repeatable=operation in _REPEATABLE)

    def ping(self) -> float:
        """Return how long an answer takes, in seconds."""
        return self._calls().ping()

    def watch_instance(self, instance_id: str, **arguments: Any) -> "Watch[dict[str, Any]]":
        """Return a watch of one instance, not begun; the arguments are the client's."""
        return self._watches().watch_instance(instance_id, **arguments)

    def watch_all(self, **arguments: Any) -> "Watch[dict[str, Any]]":
        """Return a watch of all events, not begun; the arguments are the client's."""
        return self._watches().watch_all(**arguments)

    def close(self) -> None:
        """Close every connection; also from another thread, which ends what waits there."""
        for client in (self._client, self._watcher):
            if client is not None:
                client.close()


def client_options(settings: Settings) -> dict[str, Any]:
    """Return the settings as keyword arguments of `Client` and `AsyncClient`."""
    options: dict[str, Any] = {
        "token": settings.token,
        "timeout": settings.timeout_s,
        "connect_timeout": min(CONNECT_TIMEOUT_S, settings.timeout_s),
        "client_name": CLIENT_NAME,
    }
    if settings.tls:
        options["tls"] = tls_options(settings)
    if settings.url is not None:
        options["url"] = settings.url
    else:
        options["host"] = settings.host
        options["port"] = settings.port
    return options


def tls_options(settings: Settings) -> "TlsOptions":
    """Return the TLS settings as the client wants them."""
    from rstmdb_client.url import TlsOptions

    return TlsOptions(
        ca=settings.ca_cert,
        cert=settings.client_cert,
        key=settings.client_key,
        server_name=settings.server_name,
        insecure=settings.insecure,
    )


@contextmanager
def explained(settings: Settings, *, subject: str | None = None) -> Iterator[None]:
    """Turn the client's errors into failures that say what to do next.

    Args:
        settings: Where the requests go.
        subject: The instance they are about, for hints.

    Raises:
        Failure: Something went wrong inside.
    """
    from rstmdb_client.errors import RstmdbError

    try:
        yield
    except RstmdbError as error:
        raise failure_of(error, settings, subject=subject) from error


def failure_of(error: "RstmdbError", settings: Settings, *, subject: str | None = None) -> Failure:
    """Return the failure that an error of the client means."""
    from rstmdb_client import errors

    match error:
        case errors.ServerError():
            return server_failure(
                error.code,
                error.message,
                error.details,
                token_given=settings.token is not None or (settings.url is not None and "@" in settings.url),
                subject=subject,
            )
        case errors.ConnectionFailed():
            return connection_failure(str(error), settings)
        case errors.ProtocolViolation():
            return Failure(
                f"{settings.place}: {error}",
                hint="is this the port of rstmdb (7401 unless configured), and does it use TLS (--tls)?",
                code=ExitCode.CONNECTION,
                label="Connection failed",
            )
        case errors.RequestTimeout():
            return Failure(
                f"{settings.place}: {error}",
                hint="--timeout SECONDS waits longer",
                code=ExitCode.CONNECTION,
            )
        case errors.OutcomeUnknownError():
            return Failure(
                str(error),
                hint="look before you repeat it; with the same --idempotency-key a repetition is safe",
                code=ExitCode.CONNECTION,
            )
        case errors.WatchInterrupted():
            return Failure(str(error), code=ExitCode.CONNECTION)
        case errors.UsageError():
            return Failure(str(error), code=ExitCode.USAGE)
        case _:
            return Failure(str(error))


def connection_failure(reason: str, settings: Settings) -> Failure:
    """Return the failure for a server that cannot be reached: where, why, and what to try."""
    text = reason if settings.place in reason else f"{settings.place}: {reason}"
    lower = reason.lower()
    if "refused" in lower:
        hint = (
            f"is a server listening on {settings.place}? start one with `rstmdb`, "
            "or name another with --server"
        )
    elif "mismatch" in lower and "certificate" in lower:
        hint = "the certificate is for another name: --server-name NAME says which one to expect"
    elif "certificate" in lower:
        hint = (
            "trust the server's authority with --ca-cert FILE (while developing, --insecure checks nothing)"
        )
    elif "name" in lower or "resolve" in lower or "address" in lower:
        hint = "check the host name in --server, RSTMDB_SERVER or the profile"
    elif "ssl" in lower or "tls" in lower:
        hint = "does this server use TLS? --tls turns it on; without it, leave --tls and RSTMDB_TLS away"
    else:
        hint = (
            f"is {settings.place} the right server, and does it {'use' if settings.tls else 'not use'} TLS?"
        )
    return Failure(text, hint=hint, code=ExitCode.CONNECTION, label="Connection failed")
