"""The TLS side of the client port: certificates from the settings into a context, or one line saying why not.

TLS 1.2 and 1.3, no compression, no renegotiation. With `require_client_cert` only clients with a
certificate of `client_ca_path` get in. A context is never changed: a reload makes a new one for the clients
that come after it, and a fault in the new files leaves the old context in force.
"""

import ssl

from rstmdb_server.settings import ConfigError, TlsSettings


def server_context(settings: TlsSettings) -> ssl.SSLContext | None:
    """Return a context for the listener, or None where TLS is off.

    Raises:
        ConfigError: Naming the key and the file.
    """
    if not settings.enabled:
        return None
    if settings.cert_path is None or settings.key_path is None:
        missing = "tls.cert_path" if settings.cert_path is None else "tls.key_path"
        raise ConfigError(f"tls.enabled is true but {missing} is not set")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # No resumption: a session that was made before a reload would come back without being verified again.
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    context.num_tickets = 0
    _expect_pem("tls.cert_path", settings.cert_path, "CERTIFICATE")
    _expect_pem("tls.key_path", settings.key_path, "PRIVATE KEY")
    _load_chain(context, settings.cert_path, settings.key_path)
    if settings.require_client_cert:
        if settings.client_ca_path is None:
            raise ConfigError("tls.require_client_cert is true but tls.client_ca_path is not set")
        _expect_pem("tls.client_ca_path", settings.client_ca_path, "CERTIFICATE")
        try:
            context.load_verify_locations(cafile=settings.client_ca_path)
        except ssl.SSLError as error:
            raise ConfigError(
                f"tls.client_ca_path {settings.client_ca_path!r} is not usable: {_reason(error)}"
            ) from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _load_chain(context: ssl.SSLContext, cert_path: str, key_path: str) -> None:
    def refuse_password() -> str:
        # Without this OpenSSL would ask on the terminal, and a server that starts by itself would wait.
        raise ConfigError(f"tls.key_path {key_path!r} is encrypted; the server needs a plain key")

    try:
        context.load_cert_chain(cert_path, key_path, password=refuse_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            what = f"tls.key_path {key_path!r} is not the key of tls.cert_path {cert_path!r}"
        elif not _usable_certificates(cert_path):
            what = f"tls.cert_path {cert_path!r} is not usable: {_reason(error)}"
        else:
            what = f"tls.key_path {key_path!r} is not usable: {_reason(error)}"
        raise ConfigError(what) from None


def _usable_certificates(path: str) -> bool:
    """Return whether the certificates alone can be read, to tell which of two files is at fault."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except ssl.SSLError:
        return False
    return True


def _expect_pem(key: str, path: str, kind: str) -> None:
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise ConfigError(f"{key} {path!r} cannot be read: {error.strerror}") from None
    if f"{kind}-----".encode() not in content:
        raise ConfigError(f"{key} {path!r} has no PEM block of kind {kind}")


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()
