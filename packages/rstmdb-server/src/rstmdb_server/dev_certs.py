"""`rstmdb dev-certs DIR`: an authority, a server and a client certificate to develop with.

```
DIR/ca-cert.pem      DIR/ca-key.pem          the authority; clients trust it
DIR/server-cert.pem  DIR/server-key.pem      localhost, 127.0.0.1, ::1
DIR/client-cert.pem  DIR/client-key.pem      for mutual TLS
```

The names are those that published documentation uses. Not for production: the authority's key lies beside the
certificates it signs. Made anew each time, since an authority that is kept for years is one that leaks.
"""

import os

from rstmdb_server.settings import ConfigError

SERVER_IDENTITIES = ("localhost", "127.0.0.1", "::1")


def write_dev_certs(directory: str) -> list[str]:
    """Write the six files, keys readable by their owner alone.

    Returns:
        The paths, in the order of the module's picture.

    Raises:
        ConfigError: If trustme is not installed or the directory cannot be written.
    """
    try:
        import trustme
    except ModuleNotFoundError:
        raise ConfigError("dev-certs needs trustme: pip install 'rstmdb-server[dev-certs]'") from None
    # RSA, because the oldest of the published clients' platforms know nothing else.
    kind = trustme.KeyType.RSA
    authority = trustme.CA(organization_name="rstmdb", organization_unit_name="rstmdb-dev-ca", key_type=kind)
    server = authority.issue_cert(
        *SERVER_IDENTITIES, common_name="localhost", organization_name="rstmdb", key_type=kind
    )
    client = authority.issue_cert(
        "rstmdb-client", common_name="rstmdb-client", organization_name="rstmdb", key_type=kind
    )
    contents = {
        "ca-cert.pem": authority.cert_pem.bytes(),
        "ca-key.pem": authority.private_key_pem.bytes(),
        "server-cert.pem": b"".join(blob.bytes() for blob in server.cert_chain_pems),
        "server-key.pem": server.private_key_pem.bytes(),
        "client-cert.pem": b"".join(blob.bytes() for blob in client.cert_chain_pems),
        "client-key.pem": client.private_key_pem.bytes(),
    }
    paths = []
    try:
        os.makedirs(directory, exist_ok=True)
        for name, content in contents.items():
            path = os.path.join(directory, name)
            _replace(path, content, mode=0o600 if name.endswith("-key.pem") else 0o644)
            paths.append(path)
    except OSError as error:
        raise ConfigError(f"certificates cannot be written to {directory!r}: {error.strerror}") from None
    return paths


def _replace(path: str, content: bytes, *, mode: int) -> None:
    """Write a file under another name and move it into place: nobody sees a half one, nor an open key."""
    temporary = f"{path}.{os.getpid()}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
