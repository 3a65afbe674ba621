"""TLS as the command line offers it: an authority, a client certificate, no check, and what goes wrong."""

from pathlib import Path

import pytest
import trustme

from tests.cli.conftest import Cli
from tests.server_process import running_server


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca-cert.pem")
    server = authority.issue_cert("localhost", "127.0.0.1")
    server.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    client = authority.issue_cert("client@example.com")
    client.private_key_pem.write_to_path(tmp_path / "client-key.pem")
    client.cert_chain_pems[0].write_to_path(tmp_path / "client-cert.pem")
    trustme.CA().cert_pem.write_to_path(tmp_path / "other-ca.pem")
    return tmp_path


def test_tls(certificates: Path) -> None:
    settings = {
        "RSTMDB_TLS_ENABLED": "true",
        "RSTMDB_TLS_CERT": str(certificates / "server.pem"),
        "RSTMDB_TLS_KEY": str(certificates / "server.pem"),
    }
    with running_server(settings) as server:
        cli = Cli(certificates, server.address)
        assert cli("--tls", "--ca-cert", "ca-cert.pem", "ping").stdout == "PONG\n"
        assert cli("ping", "--ca-cert", "ca-cert.pem").stdout == "PONG\n"
        assert cli("--tls", "--insecure", "ping").stdout == "PONG\n"
        assert cli("ping", "-k").stdout == "PONG\n"
        assert cli("ping", env={"RSTMDB_TLS": "true", "RSTMDB_CA_CERT": "ca-cert.pem"}).stdout == "PONG\n"
        named = ("ping", "--ca-cert", "ca-cert.pem", "--server-name")
        assert cli(*named, "localhost").stdout == "PONG\n"
        for arguments in (
            ("ping", "--ca-cert", "other-ca.pem"),
            ("ping", "--tls"),
            (*named, "wrong.example.com"),
        ):
            run = cli(*arguments)
            assert (run.stdout, run.code) == ("", 1)
            assert run.stderr.startswith("Connection failed: ")
            expected = "--server-name NAME" if "wrong.example.com" in arguments else "--ca-cert FILE"
            assert expected in run.stderr
        run = cli("ping", "--timeout", "3")
        assert (run.stdout, run.code) == ("", 1)
        assert "TLS" in run.stderr
        run = cli("ping", "--ca-cert", "missing.pem")
        assert run.code != 0
        assert "Traceback" not in run.stderr


def test_mutual_tls(certificates: Path) -> None:
    settings = {
        "RSTMDB_TLS_ENABLED": "true",
        "RSTMDB_TLS_CERT": str(certificates / "server.pem"),
        "RSTMDB_TLS_KEY": str(certificates / "server.pem"),
        "RSTMDB_TLS_REQUIRE_CLIENT_CERT": "true",
        "RSTMDB_TLS_CLIENT_CA": str(certificates / "ca-cert.pem"),
    }
    with running_server(settings) as server:
        cli = Cli(certificates, server.address)
        pair = ("--client-cert", "client-cert.pem", "--client-key", "client-key.pem")
        assert cli("--tls", "--ca-cert", "ca-cert.pem", *pair, "ping").stdout == "PONG\n"
        variables = {
            "RSTMDB_TLS": "true",
            "RSTMDB_CA_CERT": "ca-cert.pem",
            "RSTMDB_CLIENT_CERT": "client-cert.pem",
            "RSTMDB_CLIENT_KEY": "client-key.pem",
        }
        assert cli("ping", env=variables).stdout == "PONG\n"
        run = cli("ping", "--ca-cert", "ca-cert.pem")
        assert (run.stdout, run.code) == ("", 1)
        assert run.stderr.startswith("Connection failed: ")
