"""health: 0 for a server that is ready, 1 and one line for everything else."""

import contextlib
import socket
import threading

import pytest

from rstmdb_protocol import encode_frame
from rstmdb_server import exit_codes

READY = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\nConnection: close\r\n\r\nserving\n"
NOT_READY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 11\r\nConnection: close\r\n\r\nrecovering\n"


@contextlib.contextmanager
def answering(answer):
    """A server that gives everybody the same answer; yields its address and what it was asked."""
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        asked.append(connection.recv(4096))
                        connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}", asked
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_ready_over_http(rstmdb):
    with answering(READY) as (address, asked):
        assert rstmdb("health", "--http", address) == exit_codes.OK
    assert rstmdb.out == "serving\n"
    assert asked[0].startswith(b"GET /readyz HTTP/1.1\r\n")


def test_not_ready_over_http(rstmdb):
    with answering(NOT_READY) as (address, _):
        assert rstmdb("health", "--http", address) == exit_codes.START_FAILED
    assert rstmdb.err == "rstmdb: not ready: recovering\n"


def test_ready_over_the_protocol(rstmdb):
    answer = encode_frame(b'{"type":"response","id":"health","status":"ok","result":{"pong":true}}')
    with answering(answer) as (address, asked):
        assert rstmdb("health", "--server", address) == exit_codes.OK
    assert b'"op":"PING"' in asked[0]


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        encode_frame(b'{"type":"response","id":"health","status":"error","error":{"code":"INTERNAL_ERROR"}}'),
    ],
)
def test_other_answers_over_the_protocol(rstmdb, answer):
    with answering(answer) as (address, _):
        assert rstmdb("health", "--server", address) == exit_codes.START_FAILED
    assert rstmdb.err.startswith("rstmdb: not ready: ")


@pytest.mark.parametrize("option", ["--server", "--http"])
def test_nobody_there(rstmdb, option):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert rstmdb("health", option, f"127.0.0.1:{port}") == exit_codes.START_FAILED
    assert rstmdb.err == f"rstmdb: 127.0.0.1:{port}: Connection refused\n"


def test_by_default_it_asks_the_configured_server(rstmdb, monkeypatch):
    with answering(READY) as (address, asked):
        port = address.rpartition(":")[2]
        monkeypatch.setenv("RSTMDB_METRICS_BIND", f"0.0.0.0:{port}")
        assert rstmdb("health") == exit_codes.OK
        monkeypatch.setenv("RSTMDB_METRICS_ENABLED", "false")
        monkeypatch.setenv("RSTMDB_BIND", f"0.0.0.0:{port}")
        assert rstmdb("health") == exit_codes.START_FAILED
    assert b"PING" in asked[1]


def test_wrong_addresses(rstmdb):
    assert rstmdb("health", "--server", "nowhere") == exit_codes.USAGE
    assert rstmdb("health", "--server", "a:1", "--http", "a:1") == exit_codes.USAGE
