"""The TLS of the client port: real handshakes, and one line for each file that is wrong."""

import ssl

import pytest
import trustme

from rstmdb_server.settings import ConfigError, TlsSettings
from rstmdb_server.tls import server_context

AUTHORITY = trustme.CA()
OTHER = trustme.CA()


@pytest.fixture
def files(tmp_path):
    """A usable set: the settings, and the paths by role."""
    server = AUTHORITY.issue_cert("localhost")
    paths = {name: str(tmp_path / f"{name}.pem") for name in ("cert", "key", "ca", "other")}
    for number, blob in enumerate(server.cert_chain_pems):
        blob.write_to_path(paths["cert"], append=number > 0)
    server.private_key_pem.write_to_path(paths["key"])
    AUTHORITY.cert_pem.write_to_path(paths["ca"])
    OTHER.cert_pem.write_to_path(paths["other"])
    return paths


def settings(files, **options):
    return TlsSettings(enabled=True, cert_path=files["cert"], key_path=files["key"], **options)


def client_context(*, trust=AUTHORITY, certificate=None, version=None):
    context = ssl.create_default_context()
    trust.configure_trust(context)
    if certificate is not None:
        certificate.configure_cert(context)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


def handshake(server, client):
    """Shake hands in memory and exchange a byte each way; returns both ends."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        server.wrap_bio(to_server, to_client, server_side=True),
        client.wrap_bio(to_client, to_server, server_hostname="localhost"),
    )
    open_ends = list(ends)
    for _ in range(10):
        for end in list(open_ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            open_ends.remove(end)
    assert not open_ends
    ends[0].write(b"s")
    assert ends[1].read(1) == b"s"
    ends[1].write(b"c")
    assert ends[0].read(1) == b"c"
    return ends


def test_off_is_none():
    assert server_context(TlsSettings()) is None


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_versions(files, version):
    server, client = handshake(server_context(settings(files)), client_context(version=version))
    assert server.version() == {ssl.TLSVersion.TLSv1_2: "TLSv1.2", ssl.TLSVersion.TLSv1_3: "TLSv1.3"}[version]
    assert client.selected_alpn_protocol() is None


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_older_versions_are_refused(files):
    with pytest.raises(ssl.SSLError):
        handshake(server_context(settings(files)), client_context(version=ssl.TLSVersion.TLSv1_1))


def test_a_client_with_a_certificate_of_the_authority_gets_in(files):
    context = server_context(settings(files, require_client_cert=True, client_ca_path=files["ca"]))
    server, _ = handshake(context, client_context(certificate=AUTHORITY.issue_cert("client@example.org")))
    assert server.getpeercert()["subjectAltName"] == (("email", "client@example.org"),)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    "certificate", [None, OTHER.issue_cert("client@example.org")], ids=["none", "foreign"]
)
def test_others_do_not(files, certificate, version):
    context = server_context(settings(files, require_client_cert=True, client_ca_path=files["ca"]))
    with pytest.raises(ssl.SSLError):
        handshake(context, client_context(certificate=certificate, version=version))


def test_a_client_certificate_is_not_asked_for_unless_required(files):
    context = server_context(settings(files, client_ca_path=files["ca"]))
    server, _ = handshake(context, client_context(certificate=AUTHORITY.issue_cert("client@example.org")))
    assert server.getpeercert() is None


def test_sessions_are_not_resumed(files):
    """A client that was verified before a reload must be verified again after it."""
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context, client = server_context(settings(files)), client_context(version=version)
        _, first = handshake(context, client)
        assert not (first.session and first.session.has_ticket)
        assert not first.session_reused


def test_a_reload_is_a_new_context_and_the_old_one_stays_as_it_was(files):
    old = server_context(settings(files))
    replacement = OTHER.issue_cert("localhost")
    replacement.cert_chain_pems[0].write_to_path(files["cert"])
    replacement.private_key_pem.write_to_path(files["key"])
    new = server_context(settings(files))
    handshake(old, client_context(trust=AUTHORITY))
    handshake(new, client_context(trust=OTHER))
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(new, client_context(trust=AUTHORITY))


def pem(path, text):
    with open(path, "w") as file:
        file.write(text)


GARBAGE = "-----BEGIN {0}-----\nAAAA\n-----END {0}-----\n"


CERT, KEY, CA = r"tls\.cert_path .*", r"tls\.key_path .*", r"tls\.client_ca_path .*"


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda f: f.update(cert="/nowhere/c.pem"), CERT + r"'/nowhere/c\.pem' cannot be read: No such"),
        (lambda f: f.update(key="/nowhere/k.pem"), KEY + r"'/nowhere/k\.pem' cannot be read: No such"),
        (lambda f: f.update(ca="/nowhere/a.pem"), CA + r"'/nowhere/a\.pem' cannot be read: No such"),
        (lambda f: f.update(cert="/"), CERT + r"'/' cannot be read: Is a directory"),
        (lambda f: pem(f["cert"], ""), CERT + r"cert\.pem' has no PEM block of kind CERTIFICATE"),
        (lambda f: f.update(cert=f["key"]), CERT + r"key\.pem' has no PEM block of kind CERTIFICATE"),
        (lambda f: f.update(key=f["cert"]), KEY + r"cert\.pem' has no PEM block of kind PRIVATE KEY"),
        (lambda f: pem(f["cert"], GARBAGE.format("CERTIFICATE")), CERT + r"cert\.pem' is not usable: "),
        (lambda f: pem(f["key"], GARBAGE.format("PRIVATE KEY")), KEY + r"key\.pem' is not usable: "),
        (lambda f: pem(f["ca"], GARBAGE.format("CERTIFICATE")), CA + r"ca\.pem' is not usable: "),
        (lambda f: f.update(cert=f["other"]), KEY + r"key\.pem' is not the key of tls\.cert_path"),
    ],
)
def test_each_wrong_file_is_named_on_one_line(files, break_it, message):
    break_it(files)
    with pytest.raises(ConfigError, match=message) as caught:
        server_context(settings(files, require_client_cert=True, client_ca_path=files["ca"]))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("format_name", ["PKCS8", "TraditionalOpenSSL"])
def test_every_kind_of_key(files, format_name):
    """PKCS#8, and what came before it: PKCS#1 for RSA, SEC1 with its parameters for elliptic curves."""
    from cryptography.hazmat.primitives import serialization

    for kind in (trustme.KeyType.RSA, trustme.KeyType.ECDSA):
        issued = AUTHORITY.issue_cert("localhost", key_type=kind)
        key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
        text = key.private_bytes(
            serialization.Encoding.PEM,
            getattr(serialization.PrivateFormat, format_name),
            serialization.NoEncryption(),
        ).decode()
        pem(
            files["key"],
            "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" + text,
        )
        issued.cert_chain_pems[0].write_to_path(files["cert"])
        handshake(server_context(settings(files)), client_context())


def test_an_encrypted_key_is_refused_instead_of_asked_for(files):
    from cryptography.hazmat.primitives import serialization

    with open(files["key"], "rb") as file:
        key = serialization.load_pem_private_key(file.read(), None)
    text = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    pem(files["key"], text.decode())
    with pytest.raises(ConfigError, match="is encrypted"):
        server_context(settings(files))


def test_settings_that_were_not_checked_before():
    with pytest.raises(ConfigError, match=r"tls\.cert_path is not set"):
        server_context(TlsSettings(enabled=True))
