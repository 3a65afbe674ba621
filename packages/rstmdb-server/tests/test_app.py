"""The command line of the server: what it prints, and with which code it ends, without serving."""

import hashlib
from pathlib import Path

import pytest
import trustme

from rstmdb_server import exit_codes
from rstmdb_server.app import main


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RSTMDB_CONFIG", "RSTMDB_BIND", "RSTMDB_DATA", "RUST_LOG"):
        monkeypatch.delenv(name, raising=False)


def check(tmp_path: Path, text: str) -> int:
    path = tmp_path / "rstmdb.yaml"
    path.write_text(text)
    return main(["--config", str(path), "--check-config"])


def test_a_good_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secrets = tmp_path / "tokens"
    secrets.write_text(hashlib.sha256(b"token").hexdigest() + " name=ci\n")
    issued = trustme.CA().issue_cert("localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "all.pem")
    text = (
        f"auth: {{required: true, secrets_file: {secrets}}}\n"
        f"tls: {{enabled: true, cert_path: {tmp_path}/all.pem, key_path: {tmp_path}/all.pem}}\n"
    )
    assert check(tmp_path, text) == exit_codes.OK
    assert capsys.readouterr() == ("the configuration is good\n", "")


def test_checking_reads_the_files_that_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All of them: nobody wants to hear of one fault at a time."""
    (tmp_path / "cert.pem").write_text("no certificate")
    text = (
        f"auth: {{required: true, secrets_file: {tmp_path}/none}}\n"
        f"tls: {{enabled: true, cert_path: {tmp_path}/cert.pem, key_path: {tmp_path}/cert.pem}}\n"
    )
    assert check(tmp_path, text) == exit_codes.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    secrets, certificate = err.splitlines()
    assert secrets.startswith("rstmdb: configuration: auth.secrets_file ")
    assert certificate.startswith("rstmdb: configuration: tls.cert_path ")


def test_required_tokens_that_nobody_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(tmp_path, "auth: {required: true}\n") == exit_codes.USAGE
    assert "auth.required is true but" in capsys.readouterr().err


def test_every_fault_of_a_configuration_is_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(tmp_path, "network: {bind: x}\nstorage: {fsync_policy: sometimes}\n") == exit_codes.USAGE
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("rstmdb: configuration: ") for line in lines)


@pytest.mark.parametrize(
    "arguments",
    [[], ["serve"], ["verify"], ["dump"], ["import"], ["backup"], ["restore"], ["health"], ["dev-certs"]],
)
def test_help_of_everything(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--help"])
    assert ended.value.code == exit_codes.OK
    out, err = capsys.readouterr()
    assert out.startswith(f"usage: {' '.join(['rstmdb', *arguments])} ")
    assert err == ""
    if arguments:
        # Whoever asks for help has the name already.
        assert all(len(line.split()) > 1 for line in out.splitlines() if line.startswith("  DIR"))


@pytest.mark.parametrize("arguments", [["frob"], ["--frob"], ["verify"]])
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == exit_codes.USAGE
    assert "rstmdb" in capsys.readouterr().err
