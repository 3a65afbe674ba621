"""The two ways to write a token entry."""

import pytest

from rstmdb_server.settings import ROLES, ConfigError, TokenEntry
from rstmdb_server.tokens import parse_secrets, parse_token_map, parse_token_text, read_secrets

HASH = "ea5add57437cbf20af59034d7ed17968dcc56767b41965fcc5b376d45db8b4a3"


def test_a_plain_hash_may_do_everything():
    assert parse_token_text(f"  {HASH.upper()} ") == TokenEntry(hash=HASH)
    assert TokenEntry(hash=HASH).roles == ROLES


def test_a_line_and_a_map_say_the_same():
    line = parse_token_text(
        f"{HASH} name=ci roles=write,read machines=order*,cart expires=2031-01-31T12:00:00+01:00"
    )
    mapped = parse_token_map(
        {
            "hash": HASH,
            "name": "ci",
            "roles": ["read", "write"],
            "machines": ["order*", "cart"],
            "expires": "2031-01-31T11:00:00Z",
        }
    )
    assert line == mapped
    assert line.roles == ("read", "write")
    assert line.expires_ms == 1_927_623_600_000


def test_a_date_is_its_first_instant_in_utc():
    assert parse_token_text(f"{HASH} expires=1970-01-02").expires_ms == 86_400_000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "neither a hash nor a map"),
        (7, "neither a hash nor a map"),
        ("abc", "64 hexadecimal digits"),
        (HASH[:-1] + "g", "64 hexadecimal digits"),
        (HASH + "00", "64 hexadecimal digits"),
        (f"{HASH} ci", "key=value"),
        (f"{HASH} name=a name=b", "each once"),
        (f"{HASH} hash={HASH}", "each once"),
        (f"{HASH} rolls=read", "unknown key 'rolls' in a token entry, did you mean 'roles'"),
        (f"{HASH} roles=wirte", "role 'wirte' is not one of read, write, admin, did you mean 'write'"),
        (f"{HASH} roles=", "roles of a token entry is not a list of names"),
        (f"{HASH} machines=a,,b", "machines of a token entry is not a list of names"),
        (f"{HASH} expires=soon", "expires of a token entry: 'soon'"),
        (f"{HASH} name=", "name of a token entry"),
    ],
)
def test_faults(text, message):
    with pytest.raises(ValueError, match=message):
        parse_token_text(text)


@pytest.mark.parametrize(
    "entry",
    [{}, {"hash": None}, {"hash": HASH, "roles": "read"}, {"hash": HASH, "name": 7}, {"hash": HASH, 1: 2}],
)
def test_faults_of_maps(entry):
    with pytest.raises(ValueError, match="token"):
        parse_token_map(entry)


def test_no_roles_at_all_would_be_a_token_for_nothing():
    with pytest.raises(ValueError, match="roles"):
        parse_token_map({"hash": HASH, "roles": []})


def test_a_fault_in_a_file_is_named_by_line_and_never_quoted():
    with pytest.raises(ConfigError) as caught:
        parse_secrets(f"{HASH}\n\nhunter2\n", name="/etc/tokens")
    assert str(caught.value).startswith("secrets file '/etc/tokens', line 3: ")
    assert "hunter2" not in str(caught.value)


def test_files_of_other_systems(tmp_path):
    path = tmp_path / "tokens"
    path.write_bytes(b"\xef\xbb\xbf" + f"{HASH}\r\n# c\r\n".encode())
    assert read_secrets(str(path)) == (TokenEntry(hash=HASH),)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not text"):
        read_secrets(str(path))
