"""Certificates to develop with: the published names, usable by every kind of client."""

import os
import ssl
import stat
import sys

import pytest
from cryptography import x509

from rstmdb_server.dev_certs import write_dev_certs
from rstmdb_server.settings import ConfigError, TlsSettings
from rstmdb_server.tls import server_context

NAMES = [
    "ca-cert.pem",
    "ca-key.pem",
    "server-cert.pem",
    "server-key.pem",
    "client-cert.pem",
    "client-key.pem",
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    place = tmp_path_factory.mktemp("certs") / "new" / "dev-certs"
    assert [os.path.basename(path) for path in write_dev_certs(str(place))] == NAMES
    return place


def test_the_published_names_and_nothing_else(directory):
    assert sorted(path.name for path in directory.iterdir()) == sorted(NAMES)


def test_keys_are_their_owners_alone(directory):
    for name in NAMES:
        mode = stat.S_IMODE((directory / name).stat().st_mode)
        assert mode == (0o600 if name.endswith("-key.pem") else 0o644)


def test_the_server_is_localhost_by_name_and_address(directory):
    certificate = x509.load_pem_x509_certificate((directory / "server-cert.pem").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    [common] = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    assert common.value == "localhost"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
def test_mutual_tls_works_with_the_strictest_client(directory, host):
    server = server_context(
        TlsSettings(
            enabled=True,
            cert_path=str(directory / "server-cert.pem"),
            key_path=str(directory / "server-key.pem"),
            require_client_cert=True,
            client_ca_path=str(directory / "ca-cert.pem"),
        )
    )
    client = ssl.create_default_context(cafile=str(directory / "ca-cert.pem"))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    client.load_cert_chain(directory / "client-cert.pem", directory / "client-key.pem")
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=host),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    waiting = list(ends)
    for _ in range(10):
        for end in list(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                pass
    assert not waiting
    subject = dict(pair for [pair] in ends[1].getpeercert()["subject"])
    assert subject["commonName"] == "rstmdb-client"


def test_a_second_time_makes_new_ones(tmp_path):
    write_dev_certs(str(tmp_path))
    first = (tmp_path / "ca-cert.pem").read_bytes()
    write_dev_certs(str(tmp_path))
    assert (tmp_path / "ca-cert.pem").read_bytes() != first
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(NAMES)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"certificates cannot be written to .*file"):
        write_dev_certs(str(tmp_path / "file"))


def test_without_the_extra_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "trustme", None)
    with pytest.raises(ConfigError, match=r"rstmdb-server\[dev-certs\]"):
        write_dev_certs(str(tmp_path))
