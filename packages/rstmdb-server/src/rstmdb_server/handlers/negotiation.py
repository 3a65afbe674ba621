"""HELLO, AUTH, PING, BYE, INFO: what a session says before and beside its work."""

from __future__ import annotations

import msgspec

from rstmdb_core import Refusal
from rstmdb_protocol import (
    BATCH_OPERATIONS_MAX,
    FEATURES,
    FRAME_PAYLOAD_BYTES_MAX,
    AuthParams,
    EmptyParams,
    ErrorCode,
    HelloParams,
    decode_params,
)
from rstmdb_server.answers import Deferred
from rstmdb_server.auth import AuthRefusal
from rstmdb_server.dispatch_types import Handler
from rstmdb_server.services import PROTOCOL_VERSION, SERVER_NAME, Services
from rstmdb_server.session import Phase, Session

_encode = msgspec.json.encode


class NegotiationOperations:
    """Handlers that concern the session itself."""

    __slots__ = ("_info", "_services")

    def __init__(self, services: Services) -> None:
        self._services = services
        settings = services.settings
        self._info = _encode(
            {
                "server_name": SERVER_NAME,
                "server_version": services.version,
                "protocol_version": PROTOCOL_VERSION,
                "features": FEATURES,
                "max_frame_bytes": FRAME_PAYLOAD_BYTES_MAX,
                "max_batch_ops": BATCH_OPERATIONS_MAX,
                "idempotency": {
                    "durable": True,
                    "window_secs": settings.idempotency.retention_secs,
                    "max_bytes": settings.idempotency.max_bytes,
                },
            }
        )

    def hello(self, session: Session, params: msgspec.Raw) -> bytes | Refusal:
        """HELLO: agree on version, features and the framing of answers."""
        p = decode_params(HelloParams, params)
        if p.protocol_version != PROTOCOL_VERSION:
            return Refusal(
                code=ErrorCode.UNSUPPORTED_PROTOCOL.value,
                message=f"protocol version {p.protocol_version} is not supported, only {PROTOCOL_VERSION}",
                details={"supported": [PROTOCOL_VERSION]},
            )
        wanted = frozenset(p.features or ())
        features = [feature for feature in FEATURES if feature in wanted]
        session.features = frozenset(features)
        modes = p.wire_modes or ()
        lines = "jsonl" in modes and "binary_json" not in modes
        return _encode(
            {
                "protocol_version": PROTOCOL_VERSION,
                "wire_mode": "jsonl" if lines else "binary_json",
                "server_name": SERVER_NAME,
                "server_version": self._services.version,
                "features": features,
            }
        )

    def auth(self, session: Session, params: msgspec.Raw) -> bytes | Refusal | Deferred:
        """AUTH: exchange a bearer token for a principal."""
        p = decode_params(AuthParams, params)
        services = self._services
        if p.method not in (None, "bearer"):
            return _auth_failed(f"authentication method {p.method!r} is not supported, only bearer", "METHOD")
        now_ms = int(services.host.monotonic() * 1000)
        if not services.attempts.admits(session.peer, now_ms):
            return Refusal(
                code=ErrorCode.RATE_LIMITED.value,
                message="too many failed attempts to authenticate; wait and try again",
                details={"reason": "AUTH_ATTEMPTS"},
            )
        found = services.authenticator.authenticate(p.token, services.host.wall_ms())
        if isinstance(found, AuthRefusal):
            services.counters.auth_failures += 1
            services.log.warning("authentication failed", peer=session.peer, reason=found.reason.value)
            refusal = _auth_failed("authentication failed: the token is not accepted", found.reason)
            # Held back, so that guessing costs time; the answer is the same whatever was wrong.
            deferred = Deferred()
            delay_ms = services.attempts.failed(session.peer, now_ms)
            services.host.call_later(delay_ms / 1000, lambda: deferred.complete(refusal))
            return deferred
        session.admit(found)
        session.phase = Phase.READY
        return b'{"authenticated":true}'

    def ping(self, _session: Session, params: msgspec.Raw) -> bytes:
        """PING."""
        decode_params(EmptyParams, params)
        return b'{"pong":true}'

    def bye(self, session: Session, params: msgspec.Raw) -> bytes:
        """BYE: end the subscriptions, answer, close."""
        decode_params(EmptyParams, params)
        for subscription in list(session.subscriptions.values()):
            self._services.hub.remove(subscription)
        session.end_of_stream = True
        session.inbox.clear()
        return b'{"goodbye":true}'

    def info(self, _session: Session, params: msgspec.Raw) -> bytes:
        """INFO."""
        decode_params(EmptyParams, params)
        return self._info


def _auth_failed(message: str, reason: str) -> Refusal:
    return Refusal(code=ErrorCode.AUTH_FAILED.value, message=message, details={"reason": reason})


def bind(services: Services) -> dict[str, Handler]:
    """Return the handlers of this module by operation name."""
    operations = NegotiationOperations(services)
    return {
        "HELLO": operations.hello,
        "AUTH": operations.auth,
        "PING": operations.ping,
        "BYE": operations.bye,
        "INFO": operations.info,
    }
