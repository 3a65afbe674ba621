import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from rstmdb_client import AsyncClient, Client, InvalidURL, TlsOptions
from rstmdb_client.url import Endpoint, Options, parse_url, resolve_options

NOTHING: dict[str, Any] = dict.fromkeys(
    (
        "host",
        "port",
        "token",
        "tls",
        "timeout",
        "connect_timeout",
        "client_name",
        "retry",
        "on_event",
        "tracer",
    )
)


def resolve(url: str | None = None, **given: Any) -> Options:
    return resolve_options(url, **{**NOTHING, **given})


def test_everything_a_url_can_say() -> None:
    found = parse_url(
        "rstmdbs://t%40k%3Aen@db.example,[::1]:7500,other:7402?timeout=5&connect_timeout=0.5&client_name=me"
        "&tls_ca=/ca.pem&tls_cert=c.pem&tls_key=k.pem&tls_server_name=db&tls_insecure=true"
    )
    assert found == {
        "endpoints": (Endpoint("db.example", 7401), Endpoint("::1", 7500), Endpoint("other", 7402)),
        "token": "t@k:en",
        "timeout": 5.0,
        "connect_timeout": 0.5,
        "client_name": "me",
        "tls": TlsOptions(ca="/ca.pem", cert="c.pem", key="k.pem", server_name="db", insecure=True),
    }
    assert [str(endpoint) for endpoint in found["endpoints"]] == [
        "db.example:7401",
        "[::1]:7500",
        "other:7402",
    ]


@pytest.mark.parametrize(
    "url",
    [
        "localhost:7401",
        "http://localhost",
        "rstmdb://",
        "rstmdb://host,",
        "rstmdb://host:",
        "rstmdb://host:0",
        "rstmdb://host:65536",
        "rstmdb://host:http",
        "rstmdb://host:٣",
        "rstmdb://[::1",
        "rstmdb://[::1]x",
        "rstmdb://host/database",
        "rstmdb://host?timeout=never",
        "rstmdb://host?timeout=0",
        "rstmdb://host?timeout=nan",
        "rstmdb://host?unknown=1",
        "rstmdb://host?timeout",
        "rstmdb://host?tls_ca=x",
        "rstmdbs://host?tls_insecure=perhaps",
        "rstmdb://%ff@host",
    ],
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidURL):
        parse_url(url)


def test_where_options_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RSTMDB_URL", raising=False)
    assert resolve().endpoints == (Endpoint("127.0.0.1", 7401),)
    monkeypatch.setenv("RSTMDB_URL", "rstmdb://from-environment")
    assert resolve().endpoints[0].host == "from-environment"
    assert resolve(host="here").endpoints == (Endpoint("here", 7401),)
    assert resolve(port=7500).endpoints == (Endpoint("127.0.0.1", 7500),)
    options = resolve("rstmdb://old@url?timeout=5", token="new", timeout=6.0)
    assert (options.token, options.timeout) == ("new", 6.0)
    assert resolve("rstmdb://@url").token is None
    assert resolve("rstmdb://url", tls=True).tls == TlsOptions()
    assert resolve("rstmdbs://url", tls=False).tls is None
    context = ssl.create_default_context()
    assert resolve("rstmdb://url", tls=context).tls == TlsOptions(context=context)
    for wrong in ({"host": "x"}, {"port": 1}, {"timeout": -1.0}, {"connect_timeout": 0.0}):
        with pytest.raises(InvalidURL):
            resolve("rstmdb://url", **wrong)
    with pytest.raises(InvalidURL):
        resolve(port=70000)


def test_a_token_shows_nowhere() -> None:
    for client in (Client("rstmdbs://s3cret@host"), AsyncClient("rstmdb://s3cret@host", client_name="x")):
        assert "s3cret" not in repr(client)
        assert "***" in repr(client)
        assert "s3cret" not in repr(client._options)
    with pytest.raises(InvalidURL) as refused:
        Client("rstmdb://s3cret@host:x")
    assert "s3cret" not in str(refused.value) + repr(refused.value)


def test_tls_files_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(InvalidURL):
        TlsOptions(ca=str(tmp_path / "nothing")).make_context()
    (tmp_path / "text").write_text("no certificate")
    with pytest.raises(InvalidURL):
        TlsOptions(cert=str(tmp_path / "text")).make_context()
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = TlsOptions(ca=str(tmp_path / "ca.pem")).make_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    insecure = TlsOptions(insecure=True).make_context()
    assert (insecure.verify_mode, insecure.check_hostname) == (ssl.CERT_NONE, False)
