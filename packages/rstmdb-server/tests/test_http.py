"""The operators' HTTP: every path, limits and time-outs, over real sockets."""

import base64
import contextlib
import json
import re
import socket

import anyio
import httpx
import pytest

from rstmdb_server import http
from rstmdb_server.auth import AttemptLimiter
from rstmdb_server.http import OperatorHttp, Reason
from rstmdb_server.http_messages import HEAD_BYTES_MAX
from rstmdb_server.metrics import Collector, Counters, Gauges

pytestmark = pytest.mark.asyncio


class View:
    """A host's view, with everything settable."""

    def __init__(self):
        self.counters = Counters()
        self.collector = Collector(self.counters, Gauges, version="1.2.3")
        self.reasons = []
        self.death = None
        self.token = None

    def metrics(self):
        return self.collector.render()

    def unready(self):
        return self.reasons

    def dead(self):
        return self.death

    def status(self):
        return {"server_version": "1.2.3"}

    def diagram(self, machine, version):
        return "<svg>order</svg>" if (machine, version) == ("order/ö", 3) else None

    def admits(self, token):
        return self.token is None or token == self.token


@pytest.fixture
def view():
    return View()


@contextlib.asynccontextmanager
async def serving(view):
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    address = sock.getsockname()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(OperatorHttp(view).serve, sock)
        await anyio.wait_all_tasks_blocked()
        yield address
        tasks.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def client_of(view):
    async with serving(view) as (host, port), httpx.AsyncClient(base_url=f"http://{host}:{port}") as client:
        yield client


async def raw(address, data, *, half_close=False):
    """Send bytes and return everything until the server closes."""
    received = b""
    async with await anyio.connect_tcp(*address) as stream:
        await stream.send(data)
        if half_close:
            await stream.send_eof()
        with anyio.fail_after(5), contextlib.suppress(anyio.EndOfStream):
            while True:
                received += await stream.receive()
    return received


@pytest.mark.parametrize("path", ["/health", "/healthz"])
async def test_health_is_ok_as_published(view, path):
    view.reasons = [Reason("recovering", "r")]
    view.death = "poisoned"
    async with client_of(view) as client:
        answer = await client.get(path)
    assert (answer.status_code, answer.text) == (200, "OK")


async def test_metrics_have_the_published_type(view):
    view.counters.connection_opened()
    async with client_of(view) as client:
        answer = await client.get("/metrics?any=query")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "rstmdb_connections_total 1.0" in answer.text


async def test_liveness_fails_only_when_a_restart_is_the_way_out(view):
    async with client_of(view) as client:
        view.reasons = [Reason("disk_low", "full")]
        assert (await client.get("/livez")).status_code == 200
        view.death = "the log has failed"
        answer = await client.get("/livez")
    assert (answer.status_code, answer.text) == (503, "the log has failed")


async def test_readiness_says_why_not(view):
    async with client_of(view) as client:
        assert (await client.get("/readyz")).json() == {"ready": True, "reasons": []}
        view.reasons = [Reason("recovering", "3 of 7 segments"), Reason("draining", "stopping")]
        answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {
        "ready": False,
        "reasons": [
            {"reason": "recovering", "detail": "3 of 7 segments"},
            {"reason": "draining", "detail": "stopping"},
        ],
    }


@pytest.mark.parametrize(
    "path", ["/nothing", "/metrics/", "/METRICS", "//", "/../etc/passwd", "/status_page/page.js"]
)
async def test_everything_else_is_not_found(view, path):
    async with serving(view) as address:
        answer = await raw(address, f"GET {path} HTTP/1.1\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert answer.endswith(b"\r\n\r\nNot Found")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"])
async def test_any_method_is_answered_and_its_body_forgotten(view, method):
    async with client_of(view) as client:
        for _ in range(2):
            answer = await client.request(
                method, "/health", content=b"x" * 40_000 if method != "GET" else b""
            )
            assert answer.text == "OK"


async def test_head_has_no_body(view):
    async with client_of(view) as client:
        answer = await client.head("/health")
        assert (answer.headers["content-length"], answer.content) == ("2", b"")
        assert (await client.get("/health")).text == "OK"


async def test_the_page_loads_only_what_is_its_own(view):
    async with client_of(view) as client:
        page = await client.get("/")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert page.headers["x-content-type-options"] == "nosniff"
        linked = re.findall(r'(?:href|src)="(?!data:)([^"]+)"', page.text)
        assert {"page.css", "page.js", "metrics", "readyz", "status.json"} <= set(linked)
        for path in linked:
            assert (await client.get("/" + path)).status_code == 200
        assert (await client.get("/page.js")).headers["content-type"] == "text/javascript; charset=utf-8"


async def test_status_is_the_views_and_why_not(view):
    view.reasons = [Reason("draining", "stopping")]
    async with client_of(view) as client:
        answer = (await client.get("/status.json")).json()
    assert answer == {"unready": [{"reason": "draining", "detail": "stopping"}], "server_version": "1.2.3"}


async def test_diagrams_are_found_by_machine_and_version(view):
    async with client_of(view) as client:
        answer = await client.get("/machine.svg", params={"machine": "order/ö", "version": "3"})
        assert answer.headers["content-type"] == "image/svg+xml; charset=utf-8"
        assert answer.text == "<svg>order</svg>"
        machine = {"machine": "order/ö"}
        for version in ("4", "-3", "", "9" * 5000, "3.0", "٣"):
            assert (
                await client.get("/machine.svg", params=machine | {"version": version})
            ).status_code == 404
        for query in (machine, {"version": "3"}, {}):
            assert (await client.get("/machine.svg", params=query)).status_code == 404


async def test_a_token_is_asked_for_where_names_are_shown(view):
    view.token = "s3cret:ö"
    async with client_of(view) as client:
        for path in ("/", "/status.json", "/machine.svg?machine=order%2F%C3%B6&version=3"):
            answer = await client.get(path)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Basic ")
            assert (await client.get(path, headers={"Authorization": b"Bearer wrong"})).status_code == 401
            basic = base64.b64encode("anybody:s3cret:ö".encode()).decode()
            assert (await client.get(path, headers={"Authorization": f"Basic {basic}"})).status_code == 200
        for broken in ("Basic ?", "Basic /w==", "Basic", "Digest x", ""):
            assert (await client.get("/", headers={"Authorization": broken})).status_code == 401
        for path in ("/metrics", "/livez", "/readyz", "/health"):
            assert (await client.get(path)).status_code == 200


async def test_a_bearer_token_is_taken(view):
    view.token = "plain"
    async with client_of(view) as client:
        assert (await client.get("/", headers={"Authorization": "bearer plain"})).status_code == 200


async def test_tokens_are_not_to_be_guessed(view, monkeypatch):
    monkeypatch.setattr(AttemptLimiter, "PEER_PER_SECOND", 0.0)  # however slow this machine is
    view.token = "right"
    async with client_of(view) as client:
        codes = []
        for number in range(AttemptLimiter.PEER_BURST + 1):
            answer = await client.get("/status.json", headers={"Authorization": f"Bearer guess{number}"})
            codes.append(answer.status_code)
        assert set(codes[:-1]) == {401}
        assert codes[-1] == 429
        right = {"Authorization": "Bearer right"}
        assert (await client.get("/status.json", headers=right)).status_code == 429, "not even looked at"
        assert (await client.get("/metrics")).status_code == 200


async def test_a_fault_in_a_figure_is_an_answer_and_the_server_goes_on(view, capfd):
    view.metrics = lambda: 1 / 0
    async with client_of(view) as client:
        assert (await client.get("/metrics")).status_code == 500
        assert (await client.get("/health")).status_code == 200


async def test_a_connection_is_kept_and_requests_may_be_pipelined_and_cut_anywhere(view):
    one = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    async with serving(view) as address, await anyio.connect_tcp(*address) as stream:
        for byte in one + one[:10]:
            await stream.send(bytes([byte]))
        await stream.send(one[10:] + b"GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n")
        received = b""
        with anyio.fail_after(5), contextlib.suppress(anyio.EndOfStream):
            while True:
                received += await stream.receive()
    assert received.count(b"HTTP/1.1 200 OK") == 3
    assert received.count(b"Connection: keep-alive") == 2
    assert received.count(b"Connection: close") == 1


async def test_http_1_0_closes(view):
    async with serving(view) as address:
        answer = await raw(address, b"GET /health HTTP/1.0\r\n\r\n")
    assert answer.endswith(b"\r\n\r\nOK")


async def test_half_closing_peers_are_answered(view):
    async with serving(view) as address:
        answer = await raw(address, b"GET /health HTTP/1.1\r\n\r\n", half_close=True)
    assert answer.endswith(b"OK")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"RCPX\x00\x01\x00\x01\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nName : x\r\n\r\n", 400),
        (b"GET http://[ HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: 1e3\r\n\r\n", 400),
        (b"GET /?" + b"&a=1" * 100 + b" HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * HEAD_BYTES_MAX + b"\r\n\r\n", 431),
        (b"x" * (HEAD_BYTES_MAX + 100_000), 431),
    ],
)
async def test_what_is_not_http_gets_one_answer_and_the_end(view, request_bytes, status):
    async with serving(view) as address:
        answer = await raw(address, request_bytes)
        assert answer.startswith(f"HTTP/1.1 {status} ".encode())
        assert b"Connection: close" in answer
        assert (await raw(address, b"GET /health HTTP/1.0\r\n\r\n")).endswith(b"OK")


@pytest.mark.parametrize("framing", [b"Transfer-Encoding: chunked", b"Content-Length: 999999"])
async def test_a_body_too_long_or_chunked_is_answered_unread(view, framing):
    async with serving(view) as address:
        answer = await raw(address, b"POST /health HTTP/1.1\r\n" + framing + b"\r\n\r\n" + b"x" * 200_000)
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b"Connection: close" in answer


async def test_a_peer_that_never_finishes_its_request_is_left(view, monkeypatch):
    monkeypatch.setattr(http, "HEAD_SECONDS", 0.05)
    async with serving(view) as address:
        assert await raw(address, b"GET /health HTTP/1.1\r\n") == b""


async def test_an_idle_connection_is_closed(view, monkeypatch):
    monkeypatch.setattr(http, "IDLE_SECONDS", 0.05)
    async with serving(view) as address:
        assert (await raw(address, b"GET /health HTTP/1.1\r\n\r\n")).endswith(b"OK")


async def test_a_peer_that_does_not_read_is_left(view, monkeypatch):
    monkeypatch.setattr(http, "SEND_SECONDS", 0.05)
    monkeypatch.setattr(http, "LINGER_SECONDS", 0.05)
    view.metrics = lambda: b"x" * 30_000_000
    async with serving(view) as address, await anyio.connect_tcp(*address) as stream:
        await stream.send(b"GET /metrics HTTP/1.1\r\n\r\n")
        # Until it is left, its place is taken; the server's answer to others says when.
        assert (await raw(address, b"GET /health HTTP/1.0\r\n\r\n")).endswith(b"OK")
        received = 0
        with anyio.fail_after(5), contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError):
            await anyio.sleep(0.2)  # the peer's own pace: it does not read for longer than the server waits
            while True:
                received += len(await stream.receive())
    assert received < 30_000_000


async def test_connections_are_limited_and_come_back(view, monkeypatch):
    monkeypatch.setattr(http, "CONNECTIONS_MAX", 3)
    async with serving(view) as address:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(3):
                stream = await stack.enter_async_context(await anyio.connect_tcp(*address))
                await stream.send(b"GET /health HTTP/1.1\r\n\r\n")
                assert (await stream.receive()).endswith(b"OK")
            assert (await raw(address, b"GET /health HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 503 ")
        with anyio.fail_after(5):
            while not (await raw(address, b"GET /health HTTP/1.0\r\n\r\n")).endswith(b"OK"):
                await anyio.lowlevel.checkpoint()


async def test_peers_that_vanish_are_no_fault(view, capfd):
    async with serving(view) as address:
        for data in (b"", b"GET", b"GET /metrics HTTP/1.1\r\n\r\n"):
            stream = await anyio.connect_tcp(*address)
            stream.extra(anyio.abc.SocketAttribute.raw_socket).setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00"
            )
            if data:
                await stream.send(data)
            await stream.aclose()
        assert (await raw(address, b"GET /health HTTP/1.0\r\n\r\n")).endswith(b"OK")
    assert "failed" not in capfd.readouterr().err


async def test_running_out_of_descriptors_is_survived(view, monkeypatch):
    """`accept` fails a few times, as it does with EMFILE; the server is there afterwards."""
    original = anyio.abc.SocketListener.from_socket
    failures = [OSError(24, "Too many open files")] * 3
    monkeypatch.setattr(http, "ACCEPT_PAUSE_SECONDS", 0.001)

    async def from_socket(sock):
        listener = await original(sock)
        accept = listener.accept

        async def failing_accept():
            if failures:
                raise failures.pop()
            return await accept()

        listener.accept = failing_accept
        return listener

    monkeypatch.setattr(anyio.abc.SocketListener, "from_socket", staticmethod(from_socket))
    async with client_of(view) as client:
        assert (await client.get("/health")).text == "OK"
    assert not failures


async def test_json_is_json(view):
    async with client_of(view) as client:
        assert json.loads((await client.get("/readyz")).content)["ready"] is True
