"""Where settings come from."""

from pathlib import Path

import pytest

from rstmdb_cli.context import Invocation, parse_address
from rstmdb_cli.exit_codes import ExitCode
from rstmdb_cli.failures import Failure


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config.toml"
    monkeypatch.setenv("RSTMDB_CLI_CONFIG", str(path))
    return path


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("127.0.0.1:7401", ("127.0.0.1", 7401)),
        ("localhost", ("localhost", 7401)),
        ("db.example.com:1", ("db.example.com", 1)),
        ("[::1]:65535", ("::1", 65535)),
        ("[::1]", ("::1", 7401)),
        ("::1", ("::1", 7401)),
    ],
)
def test_addresses(text: str, place: tuple[str, int]) -> None:
    assert parse_address(text) == place


@pytest.mark.parametrize(
    "text", ["", ":1", "h:", "h:0", "h:65536", "h:x", "h:١", "[::1", "[::1]x", "rstmdb://h", "a b:1"]
)
def test_wrong_addresses(text: str) -> None:
    with pytest.raises(Failure) as caught:
        parse_address(text)
    assert caught.value.code is ExitCode.USAGE


def test_flag_before_environment_before_profile_before_default(config: Path) -> None:
    def host(flags: dict[str, str], environment: dict[str, str]) -> str:
        return Invocation(flags=flags, environment=environment).settings.host

    assert host({}, {}) == "127.0.0.1"
    config.write_text('default = "p"\n[profiles.p]\nserver = "profile"\n[profiles.q]\nserver = "other"\n')
    assert host({}, {}) == "profile"
    assert host({"profile": "q"}, {}) == "other"
    assert host({}, {"RSTMDB_PROFILE": "q"}) == "other"
    assert host({}, {"RSTMDB_SERVER": "environment"}) == "environment"
    assert host({"server": "flag"}, {"RSTMDB_SERVER": "environment"}) == "flag"
    assert Invocation(flags={"server": "flag"}, environment={"RSTMDB_URL": "rstmdb://x"}).settings.url is None
    assert Invocation(flags={}, environment={"RSTMDB_URL": "rstmdb://x"}).settings.url == "rstmdb://x"


@pytest.mark.parametrize("flag", ["tls", "ca_cert", "insecure"])
def test_any_tls_option_turns_tls_on(config: Path, flag: str) -> None:
    assert Invocation(flags={flag: "x"}, environment={}).settings.tls
    assert not Invocation(flags={"client_key": "x"}, environment={}).settings.tls


def test_a_place_never_shows_a_token(config: Path) -> None:
    settings = Invocation(flags={"url": "rstmdb://secret@h:1?timeout=3"}, environment={}).settings
    assert settings.place == "rstmdb://h:1"
    assert Invocation(flags={"server": "[::1]:2"}, environment={}).settings.place == "[::1]:2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[profiles.p]\nwhat = 1", "unknown field 'what'"),
        ('[profiles.p]\ntls = "yes"', "tls must be true or false"),
        ("[profiles.q]", "no profile 'p'"),
        ("[profiles.p", "not valid TOML"),
    ],
)
def test_wrong_profiles(config: Path, text: str, message: str) -> None:
    config.write_text(text)
    with pytest.raises(Failure, match=message):
        _ = Invocation(flags={"profile": "p"}, environment={}).settings


def test_every_code_is_reported_as_documented() -> None:
    assert [code.reported(detailed=True) for code in ExitCode] == [0, 1, 2, 3, 4, 5, 6, 130]
    assert [code.reported(detailed=False) for code in ExitCode] == [0, 1, 2, 1, 1, 1, 1, 130]
