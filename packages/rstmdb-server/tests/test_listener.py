"""The shell around the reactor: threads, sockets and certificates, on a real loop."""

import asyncio
import json
import socket
import ssl
import threading
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
import pytest_asyncio
import trustme

from rstmdb_server.listener import WORKER_THREADS, Listener, LoopHost, bind
from tests.in_process import InProcessServer, VirtualHost
from tests.simulation.filesystem import SimulatedFileSystem

PING = b'{"type":"request","id":"1","op":"PING"}\n'

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def host() -> AsyncIterator[LoopHost]:
    host = LoopHost(asyncio.get_running_loop(), on_failure=lambda _: None)
    yield host
    host.close()


@pytest_asyncio.fixture
async def listener(host: LoopHost) -> AsyncIterator[Listener]:
    # The in-process server takes any host, and asks this one for no more than every host has.
    server = InProcessServer(SimulatedFileSystem(), "/data", host=cast("VirtualHost", host))
    listener = Listener(bind("127.0.0.1", 0), server.reactor, write_buffer_bytes=1 << 20, handshake_seconds=5)
    listener.reactor = server.reactor  # type: ignore[attr-defined]  # for the tests to look at
    yield listener
    listener.close()
    for session in list(server.reactor.sessions):
        session.wire.abort()
    await asyncio.sleep(0)


async def ping(listener: Listener, context: ssl.SSLContext | None = None) -> tuple[bytes | None, Any]:
    """Connect and ask; returns the certificate that was shown, and the answer."""
    reader, writer = await asyncio.open_connection(
        *listener.address, ssl=context, server_hostname="localhost" if context else None
    )
    try:
        writer.write(PING)
        answer = json.loads(await reader.readline())
        shown = writer.get_extra_info("ssl_object")
        return (shown.getpeercert(binary_form=True) if shown else None), answer
    finally:
        writer.close()
        await writer.wait_closed()


async def test_a_commit_does_not_queue_behind_reads(host: LoopHost) -> None:
    gate = threading.Event()
    committed = asyncio.Event()
    read: list[object] = []
    for _ in range(WORKER_THREADS + 20):
        host.run_blocking(gate.wait, lambda result, _: read.append(result))
    host.run_blocking(lambda: None, lambda *_: committed.set(), urgent=True)
    await asyncio.wait_for(committed.wait(), 10)
    assert read == []
    gate.set()


async def test_the_outcome_of_a_job_arrives_on_the_loop(host: LoopHost) -> None:
    loop_thread = threading.get_ident()
    outcomes: asyncio.Queue[tuple[object, object, int]] = asyncio.Queue()

    def done(result: object, error: object) -> None:
        outcomes.put_nowait((result, error, threading.get_ident()))

    def fail() -> None:
        raise OSError("broken")

    host.run_blocking(threading.get_ident, done)
    ran_in, error, delivered_in = await outcomes.get()
    assert ran_in != loop_thread == delivered_in
    assert error is None
    host.run_blocking(fail, done)
    result, error, _ = await outcomes.get()
    assert result is None
    assert isinstance(error, OSError)


async def test_closing_waits_for_what_runs_and_drops_the_rest() -> None:
    host = LoopHost(asyncio.get_running_loop(), on_failure=lambda _: None)
    began, ran = threading.Barrier(WORKER_THREADS + 1), []

    def job() -> None:
        began.wait(10)
        ran.append(True)

    for _ in range(WORKER_THREADS * 5):
        host.run_blocking(job, lambda *_: None)
    began.wait(10)
    host.close()
    assert WORKER_THREADS <= len(ran) < WORKER_THREADS * 5 + 1


async def test_nobody_is_accepted_before_listening_or_after_closing(listener: Listener) -> None:
    with pytest.raises(ConnectionRefusedError):
        await ping(listener)
    await listener.listen(None)
    _, answer = await ping(listener)
    assert answer["result"] == {"pong": True}
    address = listener.address
    listener.close()
    await asyncio.sleep(0)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*address)


async def test_closing_while_listening_begins_leaves_nobody_listening(listener: Listener) -> None:
    address = listener.address
    beginning = asyncio.ensure_future(listener.listen(None))
    await asyncio.sleep(0)
    listener.close()
    await asyncio.gather(beginning, return_exceptions=True)
    await asyncio.sleep(0)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*address)


async def test_other_limits_count_for_the_clients_that_come(listener: Listener) -> None:
    await listener.listen(None)
    streams = [await asyncio.open_connection(*listener.address)]
    await ping(listener)  # so that the one before is accepted
    listener.limit(write_buffer_bytes=64 * 1024, handshake_seconds=5)
    streams.append(await asyncio.open_connection(*listener.address))
    await ping(listener)
    sessions = listener.reactor.sessions  # type: ignore[attr-defined]
    limits = [session.wire._transport.get_write_buffer_limits()[1] for session in sessions]
    assert limits[:2] == [1 << 20, 64 * 1024]
    for _, writer in streams:
        writer.close()
        await writer.wait_closed()


async def test_another_certificate_counts_for_the_clients_that_come(listener: Listener) -> None:
    authority = trustme.CA()
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    shown = []
    for _ in range(3):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(context)
        await listener.listen(context)
        certificate, answer = await ping(listener, trusting)
        assert answer["status"] == "ok"
        shown.append(certificate)
    assert len(set(shown)) == 3


async def test_a_handshake_that_never_comes_is_counted(listener: Listener) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    counted = asyncio.Event()
    listener.reactor.handshake_failed = counted.set  # type: ignore[attr-defined]
    listener.limit(write_buffer_bytes=1 << 20, handshake_seconds=0.05)
    await listener.listen(context)
    with socket.create_connection(listener.address):
        await asyncio.wait_for(counted.wait(), 10)
