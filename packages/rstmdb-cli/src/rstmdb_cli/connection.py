"""The only place that knows the client library: opening a client, and saying what its errors mean.

    client's error          becomes
    ConnectionFailed        Connection failed: REASON, and what to try            CONNECTION
    RequestTimeout          OPERATION was not answered within N s                 CONNECTION
    OutcomeUnknownError     ... it may or may not have happened                   CONNECTION
    ServerError             server error: CODE - message, and what to do next     by code
    any other               its own text                                          FAILED or USAGE
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rstmdb_cli.context import Settings
from rstmdb_cli.exit_codes import ExitCode
from rstmdb_cli.failures import Failure, server_failure

if TYPE_CHECKING:
    from rstmdb_client import Client
    from rstmdb_client.errors import RstmdbError
    from rstmdb_client.url import TlsOptions

CONNECT_TIMEOUT_S = 10.0
"""How long making a connection may take: the original gives a reconnect as much."""

CLIENT_NAME = "rstmdb-cli"


def open_client(settings: Settings, *, patient: bool = False) -> "Client":
    """Return a client that is connected.

    Args:
        settings: Where and how.
        patient: Keep trying when there is no server; a command says so at once instead.

    Raises:
        rstmdb_client.RstmdbError: There is no connection.
    """
    from rstmdb_client import Client

    client = Client(**client_options(settings, patient=patient))
    try:
        client.connect()
    except BaseException:
        client.close()
        raise
    return client


def client_options(settings: Settings, *, patient: bool = False) -> dict[str, object]:
    """Return the settings as keyword arguments of `Client` and `AsyncClient`."""
    from rstmdb_client.retry import RetryPolicy

    timeout_s = settings.timeout_s
    options: dict[str, object] = {
        "token": settings.token,
        "timeout": timeout_s,
        "connect_timeout": min(CONNECT_TIMEOUT_S, timeout_s),
        "client_name": CLIENT_NAME,
        "retry": RetryPolicy() if patient else RetryPolicy(attempts_max=1),
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
def explained(settings: Settings) -> Iterator[None]:
    """Turn the client's errors into failures that say what to do next.

    Raises:
        Failure: Something went wrong inside.
    """
    from rstmdb_client.errors import RstmdbError

    try:
        yield
    except RstmdbError as error:
        raise failure_of(error, settings) from error


def failure_of(error: "RstmdbError", settings: Settings) -> Failure:
    """Return the failure that an error of the client means."""
    from rstmdb_client import errors

    match error:
        case errors.ServerError():
            return server_failure(error.code, error.message, error.details, token_given=settings.token is not None)
        case errors.ConnectionFailed():
            return connection_failure(str(error), settings)
        case errors.ProtocolViolation():
            return Failure(
                f"{settings.place}: {error}",
                hint="is this the port of rstmdb (7401 unless configured), and does the server use TLS (--tls)?",
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
        hint = f"is a server listening on {settings.place}? start one with `rstmdb`, or name another with --server"
    elif "name" in lower or "resolve" in lower or "address" in lower:
        hint = "check the host name in --server, RSTMDB_SERVER or the profile"
    elif "certificate" in lower:
        hint = "trust the server's authority with --ca-cert FILE (or skip verification while developing: --insecure)"
    elif "ssl" in lower or "tls" in lower:
        hint = "does this server use TLS? --tls turns it on; without it, leave --tls and RSTMDB_TLS away"
    else:
        hint = f"is {settings.place} the right server, and does it {'use' if settings.tls else 'not use'} TLS?"
    return Failure(text, hint=hint, code=ExitCode.CONNECTION, label="Connection failed")
