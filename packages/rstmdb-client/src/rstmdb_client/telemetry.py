"""OpenTelemetry spans, one a call: only when the application hands over a tracer (extra `[otel]`).

Nothing of OpenTelemetry is imported here at start, and without a tracer a call does not come by. A span
covers all attempts of a call; names and attributes follow the semantic conventions of database clients.
"""

from typing import Any

from rstmdb_client.calls import Call
from rstmdb_client.errors import ServerError
from rstmdb_client.url import Endpoint

__all__ = ["CallSpan", "default_tracer"]


def default_tracer() -> Any:
    """Return the tracer of the application's global provider.

    Raises:
        ImportError: OpenTelemetry is not installed; `pip install rstmdb-client[otel]`.
    """
    from opentelemetry import trace

    return trace.get_tracer("rstmdb_client")


class CallSpan:
    """The span of one call, as a context manager."""

    def __init__(self, tracer: Any, call: Call[Any], endpoint: Endpoint) -> None:
        from opentelemetry.trace import SpanKind

        attributes: dict[str, Any] = {
            "db.system.name": "rstmdb",
            "db.operation.name": call.op,
            "server.address": endpoint.host,
            "server.port": endpoint.port,
        }
        if call.subject is not None:
            attributes["rstmdb.subject"] = call.subject
        self._span = tracer.start_as_current_span(call.op, kind=SpanKind.CLIENT, attributes=attributes)
        self._current: Any = None

    def __enter__(self) -> "CallSpan":
        self._current = self._span.__enter__()
        return self

    def attempted(self, attempt: int) -> None:
        """Note a further attempt."""
        if attempt > 1:
            self._current.set_attribute("rstmdb.attempts", attempt)

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if error is not None:
            code = error.code if isinstance(error, ServerError) else type(error).__qualname__
            self._current.set_attribute("error.type", code)
        self._span.__exit__(kind, error, traceback)
