"""How a connection begins: HELLO, then AUTH when there is a token, one after the other.

Published servers and clients expect nothing between the two answers, so nothing is sent ahead of them.
"""

from typing import Any, Protocol

from rstmdb_client import calls
from rstmdb_client.calls import Call
from rstmdb_client.errors import ConnectionFailed, ProtocolViolation, ServerError
from rstmdb_client.retry import AttemptFailed
from rstmdb_client.session import Session
from rstmdb_client.url import Endpoint, Options

__all__ = ["AsyncExchanger", "greet"]


class AsyncExchanger(Protocol):
    """What can be greeted through."""

    session: Session[Any]

    async def exchange(self, call: Call[Any], deadline: float) -> Any:
        """Send one request and return the JSON text of its result."""


async def greet(through: AsyncExchanger, options: Options, endpoint: Endpoint, deadline: float) -> None:
    """Greet the server and authenticate.

    Raises:
        ConnectionFailed: the connection broke, or the time was up.
        ProtocolViolation: the answers are nonsense.
        ServerError: the server refused.
    """
    try:
        hello = calls.hello(options.client_name)
        through.session.greeted(hello.decode(await through.exchange(hello, deadline)))
        if options.token is not None:
            await through.exchange(calls.authenticate(options.token), deadline)
    except AttemptFailed as failure:
        if isinstance(failure.cause, (ProtocolViolation, ServerError)):
            raise failure.cause from None
        if failure.timed_out:
            raise ConnectionFailed(f"{endpoint}: the server did not answer the greeting in time") from None
        raise ConnectionFailed(f"{endpoint}: {_bare(failure.cause, endpoint)} during the greeting") from None


def _bare(cause: BaseException | None, endpoint: Endpoint) -> str:
    return str(cause).removeprefix(f"{endpoint}: ") if cause else "no answer"
