"""Servers that are slow, mad, or gone; what the application hears of it; TLS; tokens; traces."""

import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trustme
from behaviour.async_cases import ORDER
from client_doubles.database import ModelDatabase, Refused
from client_doubles.replay import replaying
from client_doubles.server import ModelServer, serving
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from rstmdb_client import (
    AsyncClient,
    AuthenticationFailed,
    Client,
    Connected,
    ConnectFailed,
    ConnectionEvent,
    ConnectionFailed,
    Disconnected,
    DiskFull,
    HistoryCompacted,
    InstanceNotFound,
    MemoryPositionStore,
    OutcomeUnknownError,
    ProtocolViolation,
    RetryPolicy,
    ServerError,
    TlsOptions,
    Unauthorized,
)

HELLO = {
    "request": {"op": "HELLO"},
    "answer": '{"type":"response","id":"%d","status":"ok","result":{"protocol_version":1,"features":[]}}',
}
PONG = {
    "request": {"op": "PING"},
    "answer": '{"type":"response","id":"%d","status":"ok","result":{"pong":true}}',
}
SOON = RetryPolicy(attempts_max=4, backoff_secs=0.001, backoff_secs_max=0.001)


def run(face: str, url: str, step: Callable[[Any], Any], **options: Any) -> Any:
    if face == "sync":
        client = Client(url, **options)
        try:
            return step(client)
        finally:
            client.close()

    async def main() -> Any:
        client = AsyncClient(url, **options)
        try:
            return await step(client)
        finally:
            await client.close()

    return anyio.run(main, backend=face)


FACES = pytest.mark.parametrize("face", ["asyncio", "trio", "sync"])


@FACES
@pytest.mark.parametrize(
    "nonsense", [b"HTTP/1.1 400 no\r\n\r\n", b"RCPX\x00\x09" + bytes(12), b"{}\n", b"\x15\x03"]
)
def test_something_else_listens(face: str, nonsense: bytes) -> None:
    greeting = [{"request": {"op": "HELLO"}, "answer": nonsense, "then": "close"}]
    with replaying(greeting) as peer, pytest.raises((ProtocolViolation, ConnectionFailed)):
        run(face, peer.url, lambda client: client.ping(), timeout=3.0)


@FACES
def test_after_nonsense_the_next_attempt_works(face: str) -> None:
    mad = {"request": {"op": "PING"}, "answer": b"nonsense"}
    with replaying([HELLO, mad], [HELLO, PONG]) as peer:
        assert run(face, peer.url, lambda client: client.ping(), retry=SOON) > 0


@FACES
def test_results_of_another_shape(face: str) -> None:
    odd = {
        "request": {"op": "GET_INSTANCE"},
        "answer": '{"type":"response","id":"%d","status":"ok","result":[1]}',
    }
    with replaying([HELLO, odd]) as peer, pytest.raises(ProtocolViolation):
        run(face, peer.url, lambda client: client.get_instance("x"))


@FACES
def test_a_silent_greeting_ends_in_time(face: str) -> None:
    with serving() as server:
        server.mute = True
        with pytest.raises(ConnectionFailed, match="in time"):
            run(face, server.url, lambda client: client.ping(), connect_timeout=0.05)


@FACES
def test_tokens(face: str) -> None:
    with serving(token="s3cret") as server:
        assert run(face, server.url, lambda client: client.info(), token="s3cret").server_name == "rstmdb"
        with pytest.raises(AuthenticationFailed):
            run(face, server.url, lambda client: client.info(), token="wrong")
        with pytest.raises(Unauthorized):
            run(face, server.url, lambda client: client.info())


@FACES
def test_tls(face: str, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate = authority.issue_cert("db.example")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    mine = authority.issue_cert("client.example")
    mine.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    mine.private_key_pem.write_to_path(tmp_path / "key.pem")
    files = f"tls_ca={tmp_path}/ca.pem&tls_cert={tmp_path}/cert.pem&tls_key={tmp_path}/key.pem"
    with serving(context=context) as server:
        address = f"127.0.0.1:{server.port}"
        url = f"rstmdbs://{address}?{files}&tls_server_name=db.example"
        assert run(face, url, lambda client: client.info()).server_name == "rstmdb"
        with pytest.raises(ConnectionFailed):
            run(face, f"rstmdbs://{address}?{files}", lambda client: client.info(), timeout=3.0)
        with pytest.raises(ConnectionFailed):
            run(
                face,
                f"rstmdbs://{address}?tls_server_name=db.example",
                lambda client: client.info(),
                timeout=3.0,
            )
        insecure = TlsOptions(cert=f"{tmp_path}/cert.pem", key=f"{tmp_path}/key.pem", insecure=True)
        assert run(face, f"rstmdb://{address}", lambda client: client.info(), tls=insecure).features

        if face == "sync":
            with Client(url) as client, client.watch_all() as watch:
                server.execute("PUT_MACHINE", machine="order", version=1, definition=ORDER)
                server.execute("CREATE_INSTANCE", machine="order", version=1, instance_id="o")
                server.execute("APPLY_EVENT", instance_id="o", event="PAY")
                event = watch.next(5)
                assert event is not None
                assert event.instance_id == "o"


@FACES
def test_the_application_hears_of_connections(face: str, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[ConnectionEvent] = []

    def listen(event: ConnectionEvent) -> None:
        heard.append(event)
        raise RuntimeError("a listener that fails")

    with serving(token="s3cret") as server, caplog.at_level(logging.DEBUG, "rstmdb_client"):
        options = {"token": "s3cret", "on_event": listen, "retry": SOON}
        if face == "sync":
            with Client(server.url, **options) as client:
                server.drop_connections()
                client.ping()
        else:

            async def main() -> None:
                async with AsyncClient(server.url, **options) as client:
                    server.drop_connections()
                    await client.ping()

            anyio.run(main, backend=face)
    kinds = [type(event).__name__ for event in heard]
    assert kinds == ["Connected", "Disconnected", "Connected", "Closed"]
    connected = [event for event in heard if isinstance(event, Connected)]
    assert [event.reconnected for event in connected] == [False, True]
    assert "explain" in connected[0].features
    assert connected[0].purpose == "calls"
    assert isinstance(heard[1], Disconnected)
    assert "a listener that fails" in caplog.text
    assert "s3cret" not in caplog.text
    with pytest.raises(ConnectionFailed):
        Client("rstmdb://127.0.0.1:1", on_event=heard.append).ping()
    assert isinstance(heard[-1], ConnectFailed)


@FACES
def test_a_restarting_server_is_waited_for(face: str) -> None:
    database = ModelDatabase()
    database.run("PUT_MACHINE", {"machine": "order", "version": 1, "definition": ORDER})
    database.pending_refusals = [Refused("RATE_LIMITED", "slow down", True)] * 2
    with serving(database) as server:
        created = run(face, server.url, lambda c: c.create_instance("order", 1, instance_id="o"), retry=SOON)
        assert created.instance_id == "o"
        database.pending_refusals = [
            Refused("WAL_IO_ERROR", "full", True, reason="DISK_FULL", outcome="not_applied")
        ] * 9
        with pytest.raises(DiskFull):
            run(face, server.url, lambda c: c.create_instance("order", 1), retry=SOON)
        assert len(database.pending_refusals) == 9 - SOON.attempts_max
        database.pending_refusals = [Refused("WAL_IO_ERROR", "sync", reason="SYNC_FAILED", outcome="unknown")]
        run(face, server.url, lambda c: c.create_instance("order", 1), retry=SOON)
        database.pending_refusals = [Refused("WAL_IO_ERROR", "sync", reason="SYNC_FAILED", outcome="unknown")]
        with pytest.raises(OutcomeUnknownError) as unknown:
            run(face, server.url, lambda c: c.create_instance("order", 1, idempotency_key=None), retry=SOON)
        assert isinstance(unknown.value.__cause__, ServerError)


# One thread cannot break its own call half-way; what is decided then is the same for the sync face.
@pytest.mark.parametrize("face", ["asyncio", "trio"])
def test_keys_of_one_database_mean_nothing_to_another(face: str) -> None:
    # The second server takes over half-way and keeps no keys: nobody can know.
    with serving() as first, serving(ModelDatabase(original=True)) as second:
        for server in (first, second):
            server.execute("PUT_MACHINE", machine="order", version=1, definition=ORDER)
            server.execute("CREATE_INSTANCE", machine="order", version=1, instance_id="o")
        url = f"{first.url},127.0.0.1:{second.port}"

        async def lose(client: Any) -> None:
            await client.ping()
            first.mute = True
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(expect_unknown, client)
                while not any(one["op"] == "APPLY_EVENT" for one in first.requests):
                    await anyio.lowlevel.checkpoint()
                first.call(lambda: [one.transport.abort() for one in list(first.connections)])

        async def expect_unknown(client: Any) -> None:
            with pytest.raises(OutcomeUnknownError):
                await client.apply_event("o", "PAY")

        run(face, url, lose, retry=SOON, connect_timeout=0.2)
        assert second.database.executed["APPLY_EVENT"] == 0


@FACES
def test_a_watch_survives(face: str, server: ModelServer) -> None:
    server.execute("PUT_MACHINE", machine="order", version=1, definition=ORDER)
    server.execute("CREATE_INSTANCE", machine="order", version=1, instance_id="o")

    def disturb(number: int) -> int:
        if number % 2:
            server.drop_connections()
        offset: int = server.execute("APPLY_EVENT", instance_id="o", event="NOTE", payload={"n": number})[
            "wal_offset"
        ]
        return offset

    offsets: list[int] = []
    seen: list[int] = []
    if face == "sync":
        with Client(server.url, retry=SOON) as client, client.watch_all() as watch:
            for number in range(10):
                offsets.append(disturb(number))
                event = watch.next(5)
                assert event is not None
                seen.append(event.wal_offset)
    else:

        async def main() -> None:
            async with AsyncClient(server.url, retry=SOON) as client, client.watch_all() as watch:
                for number in range(10):
                    offsets.append(disturb(number))
                    event = await watch.next(5)
                    assert event is not None
                    seen.append(event.wal_offset)

        anyio.run(main, backend=face)
    assert seen == offsets


@FACES
def test_a_watch_says_when_history_is_gone(face: str, server: ModelServer) -> None:
    server.execute("PUT_MACHINE", machine="order", version=1, definition=ORDER)
    server.execute("CREATE_INSTANCE", machine="order", version=1, instance_id="o")
    server.execute("CREATE_INSTANCE", machine="order", version=1, instance_id="quiet")

    def forget() -> None:
        server.drop_connections()
        server.execute("APPLY_EVENT", instance_id="o", event="NOTE")
        server.execute("COMPACT")

    def check(client: Any) -> None:
        with client.watch_instance("quiet") as quiet, client.watch_all() as watch:
            forget()
            with pytest.raises(HistoryCompacted):
                watch.next(5)
            # This instance did not change: nothing was missed, and the watch goes on.
            server.execute("APPLY_EVENT", instance_id="quiet", event="NOTE")
            with pytest.raises(HistoryCompacted):
                client.watch_all(store=MemoryPositionStore(1)).start()
            del quiet

    async def check_async(client: Any) -> None:
        async with client.watch_all() as watch:
            forget()
            with pytest.raises(HistoryCompacted):
                await watch.next(5)
        async with client.watch_instance("quiet") as quiet:
            forget()
            with pytest.raises(TimeoutError):
                await quiet.next(0.2)
            server.execute("APPLY_EVENT", instance_id="quiet", event="NOTE")
            event = await quiet.next(5)
            assert event is not None

    run(face, server.url, check if face == "sync" else check_async, retry=SOON)


def test_a_watch_holds_back_what_nobody_reads(server: ModelServer) -> None:
    server.execute("PUT_MACHINE", machine="order", version=1, definition=ORDER)
    server.execute("CREATE_INSTANCE", machine="order", version=1, instance_id="o")

    async def main() -> None:
        async with AsyncClient(server.url) as client, client.watch_all() as watch:
            for number in range(300):
                server.execute(
                    "APPLY_EVENT", instance_id="o", event="NOTE", payload={"text": "x" * 20_000, "n": number}
                )
            # Nothing is read ahead, and calls are not held up by what is waiting.
            assert watch._channel is not None
            assert len(watch._channel._events) == 0
            assert await client.ping() < 5
            for number in range(300):
                event = await watch.next(5)
                assert event is not None
                assert event.payload is not None
                assert event.payload["n"] == number
                assert len(watch._channel._events) < 50

    anyio.run(main)


@FACES
def test_spans(face: str, server: ModelServer) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    with pytest.raises(InstanceNotFound):
        run(face, server.url, lambda client: client.get_instance("o-1"), tracer=tracer)
    (span,) = exporter.get_finished_spans()
    assert span.name == "GET_INSTANCE"
    attributes = dict(span.attributes or {})
    assert attributes["db.system.name"] == "rstmdb"
    assert attributes["rstmdb.subject"] == "o-1"
    assert attributes["error.type"] == "INSTANCE_NOT_FOUND"
    assert attributes["server.port"] == server.port
