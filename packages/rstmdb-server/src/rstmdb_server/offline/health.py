"""``rstmdb health``: whether a server is ready, for the health check of a container.

With the operators' HTTP address, ``GET /readyz`` there; else a PING over the protocol. Without options it
asks the server that this configuration would start, on this machine. Exit code 0: ready; 1: not.
"""

from __future__ import annotations

import argparse
import http.client
import os
import socket
import ssl
from typing import Any

from rstmdb_protocol import MessageDecoder, encode_frame
from rstmdb_server import exit_codes
from rstmdb_server.config import load_settings
from rstmdb_server.offline.errors import OfflineError
from rstmdb_server.offline.terminal import say
from rstmdb_server.settings import Address, parse_address

_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_PING = encode_frame(b'{"type":"request","id":"health","op":"PING","params":{}}')
_ANSWER_BYTES_MAX = 64 * 1024


def add(commands: Any, name: str) -> None:
    """Add the parser of the command."""
    parser = commands.add_parser(
        name,
        help="say whether a server is ready: exit code 0 or 1",
        description="Asks a server whether it is ready. Without options: the one that the configuration in "
        "effect would start, on this machine.",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--server", type=_address, metavar="HOST:PORT", help="PING this address")
    where.add_argument("--http", type=_address, metavar="HOST:PORT", help="GET /readyz of this address")
    parser.add_argument("--tls", action="store_true", help="with --server: use TLS, trusting any certificate")
    parser.add_argument("--timeout", type=float, default=5.0, metavar="SECONDS", help="default: 5")
    parser.add_argument("--config", "-c", metavar="FILE", help="YAML file of the server (RSTMDB_CONFIG)")


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    address, over_http, tls = options.server or options.http, options.http is not None, options.tls
    if address is None:
        settings = load_settings(path=options.config, environ=os.environ).settings
        over_http, tls = settings.metrics.enabled, settings.tls.enabled
        text = settings.metrics.bind_addr if over_http else settings.network.bind_addr
        address = parse_address(text)
    address = Address(_ANY.get(address.host, address.host), address.port)
    try:
        if over_http:
            say(get_ready(address, timeout=options.timeout))
        else:
            say(ping(address, tls=tls, timeout=options.timeout))
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise OfflineError(f"{address.host}:{address.port}: {reason}") from None
    return exit_codes.OK


def get_ready(address: Address, *, timeout: float) -> str:
    """GET ``/readyz``; returns what the server says of itself.

    Raises:
        OfflineError: It is not ready.
        OSError: It cannot be reached.
    """
    connection = http.client.HTTPConnection(address.host, address.port, timeout=timeout)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        text = response.read(_ANSWER_BYTES_MAX).decode("utf-8", "replace").strip()
    finally:
        connection.close()
    if response.status != 200:
        raise OfflineError(f"not ready: {text or response.reason}")
    return text or "ready"


def ping(address: Address, *, tls: bool, timeout: float) -> str:
    """PING over the protocol, which every server answers before authentication.

    Raises:
        OfflineError: The answer is not that of a server that is ready.
        OSError: It cannot be reached.
    """
    decoder = MessageDecoder(payload_bytes_max=_ANSWER_BYTES_MAX)
    with socket.create_connection(address, timeout=timeout) as plain:
        sock = _without_proof(plain, address.host) if tls else plain
        with sock:
            sock.sendall(_PING)
            messages: list[Any] = []
            while not messages and decoder.error is None:
                data = sock.recv(65536)
                if not data:
                    raise OfflineError("not ready: the connection was closed")
                messages = decoder.feed(data)
    if not messages or b'"status":"ok"' not in messages[0][0].replace(b" ", b""):
        raise OfflineError("not ready: PING was not answered with ok")
    return "ready"


def _without_proof(plain: socket.socket, host: str) -> ssl.SSLSocket:
    """Wrap in TLS without checking who answers: nothing secret is sent, and the server is on this machine."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(plain, server_hostname=host)


def _address(text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None
