"""HTTP/1.1 for operators, on its own address: metrics, health and a read-only status page.

```
/metrics                      Prometheus text            /            the status page
/livez                        200, or 503 and why        /status.json what it shows
/readyz                       200 or 503, JSON reasons   /machine.svg?machine=..&version=..   a diagram
/health, /healthz             200 OK, as published       anything else: 404 Not Found
```

Any method is answered (HEAD without a body), only the path counts. Nothing here writes. The address is
meant for the inside: metrics and health ask for no token, as published; the status page and what it loads
show names and definitions, so they ask for one (HTTP Basic, the token as password, or Bearer) when the
server itself does.

All peers together get `CONNECTIONS_MAX` connections, each `HEAD_BYTES_MAX` of request, and seconds, not
minutes: a stuck scraper must not cost the server anything.
"""

import socket
import time
from collections.abc import Callable
from http import HTTPStatus
from importlib.resources import files
from typing import Any, Protocol

import anyio
import anyio.abc
import msgspec

from rstmdb_server.auth import AttemptLimiter
from rstmdb_server.http_messages import (
    MalformedRequestError,
    Request,
    Response,
    parse_head,
    receive_head,
    skip_body,
)
from rstmdb_server.logs import get_logger
from rstmdb_server.metrics import CONTENT_TYPE

CONNECTIONS_MAX = 64
REQUESTS_PER_CONNECTION_MAX = 1000
HEAD_SECONDS = 10.0
IDLE_SECONDS = 60.0  # above the usual scrape interval, so that Prometheus keeps its connection
SEND_SECONDS = 10.0
LINGER_SECONDS = 1.0
ACCEPT_PAUSE_SECONDS = 0.1

# The page's script and style are its own; nothing else may run or load, should a name ever carry markup.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Reason(msgspec.Struct, frozen=True):
    """One cause for not being ready.

    Attributes:
        reason: A word for machines: recovering, draining, disk_low, poisoned.
        detail: A sentence for people.
    """

    reason: str
    detail: str


class OperatorView(Protocol):
    """What the host shows its operator. Every method is called on the loop and must be quick."""

    def metrics(self) -> bytes:
        """Return the text of one scrape."""
        ...

    def unready(self) -> list[Reason]:
        """Return why the server cannot serve now; nothing means ready."""
        ...

    def dead(self) -> str | None:
        """Return why only a restart can help, or None."""
        ...

    def status(self) -> dict[str, Any]:
        """Return what the status page shows; see `status_page/page.js` for what it reads."""
        ...

    def diagram(self, machine: str, version: int) -> str | None:
        """Return a machine as SVG, or None if there is no such machine."""
        ...

    def admits(self, token: str | None) -> bool:
        """Return whether the holder of `token` may see the status page."""
        ...


class OperatorHttp:
    """The HTTP server; any number of connections over one view.

    Args:
        view: What is shown.
    """

    def __init__(self, view: OperatorView) -> None:
        self._view = view
        self._log = get_logger("rstmdb_server.http")
        self._connections = 0
        self._attempts = AttemptLimiter()
        self._routes: dict[str, Callable[[Request], Response]] = {
            "/metrics": self._metrics,
            "/livez": self._livez,
            "/readyz": self._readyz,
            "/health": lambda _: _text(HTTPStatus.OK, "OK"),
            "/healthz": lambda _: _text(HTTPStatus.OK, "OK"),
            "/": self._page,
            "/status.json": self._status,
            "/machine.svg": self._diagram,
            "/page.js": lambda _: _asset("page.js", "text/javascript; charset=utf-8"),
            "/page.css": lambda _: _asset("page.css", "text/css; charset=utf-8"),
        }

    async def serve(self, listening: socket.socket) -> None:
        """Serve on a bound socket, which becomes this server's, until cancelled."""
        listening.listen(CONNECTIONS_MAX)
        async with (
            await anyio.abc.SocketListener.from_socket(listening) as listener,
            anyio.create_task_group() as connections,
        ):
            while True:
                try:
                    stream = await listener.accept()
                except OSError as error:
                    # Out of descriptors, or the peer is gone already: others may come when some are free.
                    self._log.debug("accepting an operator failed", error=str(error))
                    await anyio.sleep(ACCEPT_PAUSE_SECONDS)
                else:
                    connections.start_soon(self._connection, stream)

    async def _connection(self, stream: anyio.abc.SocketStream) -> None:
        self._connections += 1
        try:
            async with stream:
                if self._connections > CONNECTIONS_MAX:
                    busy = _text(HTTPStatus.SERVICE_UNAVAILABLE, "Busy")
                    await self._send(stream, busy, head=False, last=True)
                else:
                    await self._conversation(stream)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, TimeoutError):
            pass  # the peer went away or took too long: nobody is left to be told
        except Exception:
            self._log.exception("operators' connection failed")
        finally:
            self._connections -= 1

    async def _conversation(self, stream: anyio.abc.SocketStream) -> None:
        buffer = bytearray()
        peer = str(stream.extra(anyio.abc.SocketAttribute.remote_address, ("unknown",))[0])
        for number in range(REQUESTS_PER_CONNECTION_MAX):
            try:
                with anyio.fail_after(HEAD_SECONDS if number == 0 else IDLE_SECONDS):
                    head = await receive_head(stream, buffer)
                    request, body_bytes, keep = parse_head(head, peer=peer)
                    await skip_body(stream, buffer, body_bytes)
            except MalformedRequestError as error:
                await self._send(stream, _text(error.status, error.status.phrase), head=False, last=True)
                return
            last = not keep or number == REQUESTS_PER_CONNECTION_MAX - 1
            await self._send(stream, self._answer(request), head=request.method == "HEAD", last=last)
            if last:
                return

    def _answer(self, request: Request) -> Response:
        route = self._routes.get(request.path)
        if route is None:
            return _text(HTTPStatus.NOT_FOUND, "Not Found")
        try:
            return route(request)
        except Exception:
            # A fault in a figure must not take the server down, nor its other figures.
            self._log.exception("operators' page failed", path=request.path)
            return _text(HTTPStatus.INTERNAL_SERVER_ERROR, "Internal Server Error")

    async def _send(
        self, stream: anyio.abc.SocketStream, response: Response, *, head: bool, last: bool
    ) -> None:
        lines = [
            f"HTTP/1.1 {response.status.value} {response.status.phrase}",
            f"Content-Type: {response.content_type}",
            f"Content-Length: {len(response.body)}",
            "Cache-Control: no-store",
            "X-Content-Type-Options: nosniff",
            *(f"{name}: {value}" for name, value in response.headers),
            f"Connection: {'close' if last else 'keep-alive'}",
        ]
        text = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        with anyio.fail_after(SEND_SECONDS):
            await stream.send(text if head else text + response.body)
            if last:
                await stream.send_eof()
        if last:
            # Closing with unread bytes would reset the connection and take the answer with it.
            with anyio.move_on_after(LINGER_SECONDS):
                while True:
                    await stream.receive()

    # -- the routes -------------------------------------------------------------------------------------

    def _metrics(self, _request: Request) -> Response:
        return Response(HTTPStatus.OK, CONTENT_TYPE, self._view.metrics())

    def _livez(self, _request: Request) -> Response:
        reason = self._view.dead()
        if reason is None:
            return _text(HTTPStatus.OK, "OK")
        return _text(HTTPStatus.SERVICE_UNAVAILABLE, reason)

    def _readyz(self, _request: Request) -> Response:
        reasons = self._view.unready()
        status = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
        return _json(status, {"ready": not reasons, "reasons": reasons})

    def _page(self, request: Request) -> Response:
        return self._denied(request) or _asset("page.html", "text/html; charset=utf-8")

    def _status(self, request: Request) -> Response:
        return self._denied(request) or _json(
            HTTPStatus.OK, {"unready": self._view.unready(), **self._view.status()}
        )

    def _diagram(self, request: Request) -> Response:
        denied = self._denied(request)
        if denied is not None:
            return denied
        machine = request.query.get("machine", [""])[-1]
        version = request.query.get("version", [""])[-1]
        if not (version.isascii() and version.isdigit() and len(version) <= 10):
            return _text(HTTPStatus.NOT_FOUND, "Not Found")
        drawing = self._view.diagram(machine, int(version))
        if drawing is None:
            return _text(HTTPStatus.NOT_FOUND, "Not Found")
        policy = ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
        return Response(HTTPStatus.OK, "image/svg+xml; charset=utf-8", drawing.encode(), (policy,))

    def _denied(self, request: Request) -> Response | None:
        if request.token is None:
            if self._view.admits(None):
                return None
        else:
            # Tokens are not to be guessed here either.
            now_ms = int(time.monotonic() * 1000)
            if not self._attempts.admits(request.peer, now_ms):
                return _text(HTTPStatus.TOO_MANY_REQUESTS, "Too Many Requests")
            if self._view.admits(request.token):
                return None
            self._attempts.failed(request.peer, now_ms)
        challenge = (
            "WWW-Authenticate",
            'Basic realm="rstmdb: any name, a token as password", charset="UTF-8"',
        )
        refused = _text(HTTPStatus.UNAUTHORIZED, "Unauthorized")
        return refused._replace(headers=(challenge,))


def _text(status: HTTPStatus, text: str) -> Response:
    return Response(status, "text/plain; charset=utf-8", text.encode())


def _json(status: HTTPStatus, value: Any) -> Response:
    return Response(status, "application/json", msgspec.json.encode(value))


def _asset(name: str, content_type: str) -> Response:
    body = files("rstmdb_server").joinpath("status_page", name).read_bytes()
    return Response(HTTPStatus.OK, content_type, body, (("Content-Security-Policy", PAGE_POLICY),))
