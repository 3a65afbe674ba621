"""Configuration: every key from file and environment, every published form, and one line for every fault."""

import re
from pathlib import Path

import pytest
import yaml

from rstmdb_server.config import (
    ENVIRONMENT,
    ConfigError,
    FsyncPolicy,
    Settings,
    TokenEntry,
    load_settings,
    print_settings,
)
from rstmdb_server.settings import KEYS, parse_address

EXAMPLE = Path(__file__).parents[3] / "docs/reference/rstmdb.example.yaml"
HASH = "ea5add57437cbf20af59034d7ed17968dcc56767b41965fcc5b376d45db8b4a3"


@pytest.fixture
def load(tmp_path):
    def load(text="", environ=None):
        path = tmp_path / "rstmdb.yaml"
        path.write_text(text)
        return load_settings(path=str(path), environ=environ or {})

    return load


def problem(load, text="", environ=None):
    with pytest.raises(ConfigError) as caught:
        load(text, environ)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_nothing_given_is_the_defaults():
    assert load_settings(path=None, environ={}) == (Settings(), [])


@pytest.mark.parametrize(
    "text", ["", "\n# only a comment\n", "---\n", "network:\nauth:\n", "network: {bind_addr: }"]
)
def test_an_empty_document_or_section_or_value_is_not_given(load, text):
    assert load(text).settings == Settings()


def test_a_published_configuration_with_everything(load):
    settings, warnings = load(
        f"""
network: {{bind_addr: "0.0.0.0:7401", idle_timeout_secs: 600, max_connections: 5000, wire_mode: binary_json}}
auth:
  required: true
  token_hashes: ["{HASH.upper()}"]
storage:
  data_dir: /var/lib/rstmdb
  wal_segment_size_mb: 128
  fsync_policy:
    every_ms: 100
compaction: {{enabled: true, events_threshold: 50000, size_threshold_mb: 500, min_interval_secs: 300}}
tls: {{enabled: true, cert_path: /c.pem, key_path: /k.pem}}
metrics: {{enabled: true, bind_addr: "0.0.0.0:9090"}}
logging: {{level: info, format: json}}
replication: {{role: leader}}
"""
    )
    assert settings.network.bind_addr == "0.0.0.0:7401"
    assert settings.auth.token_hashes == (TokenEntry(hash=HASH),)
    assert settings.storage.fsync_policy == FsyncPolicy("every_ms", 100)
    assert settings.metrics.configured
    assert settings.logging.format == "json"
    assert [w.split(":")[0] for w in warnings] == ["network.wire_mode", "replication"]


@pytest.mark.parametrize(
    ("form", "policy"),
    [
        ("every_write", FsyncPolicy("every_write")),
        ("everywrite", FsyncPolicy("every_write")),
        ("!every_write", FsyncPolicy("every_write")),
        ("never", FsyncPolicy("never")),
        ("every_ms:100", FsyncPolicy("every_ms", 100)),
        ('"every_n:7"', FsyncPolicy("every_n", 7)),
        ("{every_n: 100}", FsyncPolicy("every_n", 100)),
        ("\n    every_ms: 50", FsyncPolicy("every_ms", 50)),
        ("!every_ms 100", FsyncPolicy("every_ms", 100)),
        ("!every_n 3", FsyncPolicy("every_n", 3)),
    ],
)
def test_every_form_of_the_sync_policy(load, form, policy):
    assert load(f"storage:\n  fsync_policy: {form}\n").settings.storage.fsync_policy == policy
    if not form.startswith(("!", "{", '"', "\n")):
        assert load("", {"RSTMDB_FSYNC_POLICY": form}).settings.storage.fsync_policy == policy


@pytest.mark.parametrize(
    "form",
    ["sometimes", "every_n", "every_ms:0", "{every_ms: -1}", "every_ms:soon", "[never]", "{never: 1}", "7"],
)
def test_a_wrong_sync_policy_is_named(load, form):
    assert "storage.fsync_policy" in problem(load, f"storage: {{fsync_policy: {form}}}")
    assert "RSTMDB_FSYNC_POLICY" in problem(load, environ={"RSTMDB_FSYNC_POLICY": "every_ms:x"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("network: {max_conections: 1}", "'network.max_conections', did you mean 'network.max_connections'?"),
        ("netwrok: {}", "unknown key 'netwrok', did you mean 'network'?"),
        ("bind_addr: x", "unknown key 'bind_addr', did you mean 'network.bind_addr'?"),
        ("network: {data_dir: x}", "unknown key 'network.data_dir', did you mean 'storage.data_dir'?"),
        ("qqq: 1", "unknown key 'qqq'"),
        ("metrics: {configured: true}", "unknown key 'metrics.configured'"),
        ("7: 1", "unknown key 7"),
        ("network: [1]", "network: [1] is not a map of keys"),
        ("network: {max_connections: 0}", "network.max_connections: 0 is not a whole number from 1 to"),
        ("network: {max_connections: '10'}", "network.max_connections: '10' is not a whole number"),
        ("network: {max_connections: 1.5}", "network.max_connections: 1.5 is not a whole number"),
        ("network: {max_connections: true}", "network.max_connections: True is not a whole number"),
        ("network: {bind_addr: '7401'}", "network.bind_addr: '7401' is not host:port (no port)"),
        ("network: {bind_addr: ':7401'}", "is not host:port (no host)"),
        ("network: {bind_addr: '::1:7401'}", "is not host:port (an IPv6 address needs brackets)"),
        ("network: {bind_addr: 'a:99999'}", "the port is not a number up to 65535"),
        ("metrics: {bind_addr: 9090}", "metrics.bind_addr: 9090 is not host:port"),
        ("auth: {required: maybe}", "auth.required: 'maybe' is not true or false"),
        ("auth: {required: 1}", "auth.required: 1 is not true or false"),
        ("auth: {token_hashes: abc}", "auth.token_hashes: is not a list of hashes"),
        ("auth: {token_hashes: [secret-token]}", "auth.token_hashes: a token hash is 64 hexadecimal digits"),
        ("auth: {token_hashes: [{hash: x}]}", "auth.token_hashes: a token hash is 64 hexadecimal digits"),
        ("storage: {data_dir: ''}", "storage.data_dir: is empty"),
        ("storage: {data_dir: 7}", "storage.data_dir: 7 is not a text"),
        ("logging: {level: inof}", "logging.level: 'inof' is not a level, did you mean 'info'?"),
        ("logging: {level: 'a=loud'}", "'a=loud' is neither a level nor target=level"),
        ("logging: {format: jsn}", "'jsn' is not one of auto, text, json, did you mean 'json'?"),
        ("tls: {enabled: true, key_path: k}", "tls.enabled is true but tls.cert_path is not set"),
        ("tls: {enabled: true, cert_path: c}", "tls.enabled is true but tls.key_path is not set"),
        (
            "tls: {enabled: true, cert_path: c, key_path: k, require_client_cert: true}",
            "tls.require_client_cert is true but tls.client_ca_path is not set",
        ),
        ("logging: {audit: /no/such/audit.jsonl}", "there is no directory '/no/such'"),
        ("logging: {audit: /tmp}", "logging.audit: '/tmp' is a directory"),
        ("a: 1\na: 2", "key 'a' is given twice (line 2)"),
        ("network:\n  bind_addr: a:1\n  bind_addr: a:2", "key 'bind_addr' is given twice (line 3)"),
        ("- 1", "is not a map of sections"),
        ("just text", "is not a map of sections"),
        ("a: [", "is not valid YAML"),
        ("a: 1\n---\nb: 2", "is not valid YAML"),
        ("a: !!python/object:os.system x", "is not valid YAML"),
        ("a: " + "[" * 5000, "is not valid YAML"),
        ("network: {max_connections: " + "9" * 5000 + "}", "is not valid YAML"),
    ],
)  # fmt: skip
def test_each_fault_is_one_line_that_names_it(load, text, expected):
    assert expected in problem(load, text)


def test_a_token_that_was_configured_instead_of_its_hash_is_not_repeated(load):
    assert "hunter2" not in problem(load, "auth: {token_hashes: [hunter2]}")
    assert "hunter2" not in problem(load, environ={"RSTMDB_AUTH_TOKEN_HASH": "hunter2"})


def test_all_faults_are_told_at_once(load):
    with pytest.raises(ConfigError) as caught:
        load("network: {max_connections: 0}\nnope: 1", {"RSTMDB_BIND": "nowhere"})
    assert len(caught.value.problems) == 3


def test_an_unreadable_file_is_named(tmp_path):
    missing = str(tmp_path / "missing.yaml")
    with pytest.raises(ConfigError, match=r"missing\.yaml' cannot be read: No such file"):
        load_settings(path=missing, environ={})
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings(path=None, environ={"RSTMDB_CONFIG": str(tmp_path)})
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9\n")
    with pytest.raises(ConfigError, match="is not valid YAML"):
        load_settings(path=str(tmp_path / "latin.yaml"), environ={})


def test_the_option_wins_over_the_variable(tmp_path):
    (tmp_path / "a.yaml").write_text("network: {max_connections: 1}")
    (tmp_path / "b.yaml").write_text("network: {max_connections: 2}")
    environ = {"RSTMDB_CONFIG": str(tmp_path / "b.yaml")}
    assert load_settings(path=str(tmp_path / "a.yaml"), environ=environ).settings.network.max_connections == 1
    assert load_settings(path=None, environ=environ).settings.network.max_connections == 2


PUBLISHED = {
    "RSTMDB_BIND": ("localhost:1", "network", "bind_addr", "localhost:1"),
    "RSTMDB_IDLE_TIMEOUT": ("7", "network", "idle_timeout_secs", 7),
    "RSTMDB_MAX_CONNECTIONS": ("7", "network", "max_connections", 7),
    "RSTMDB_AUTH_REQUIRED": ("TRUE", "auth", "required", True),
    "RSTMDB_AUTH_TOKEN_HASH": (HASH, "auth", "token_hashes", (TokenEntry(hash=HASH),)),
    "RSTMDB_AUTH_SECRETS_FILE": ("/s", "auth", "secrets_file", "/s"),
    "RSTMDB_DATA": ("/data", "storage", "data_dir", "/data"),
    "RSTMDB_WAL_SEGMENT_SIZE_MB": ("8", "storage", "wal_segment_size_mb", 8),
    "RSTMDB_FSYNC_POLICY": ("every_n:5", "storage", "fsync_policy", FsyncPolicy("every_n", 5)),
    "RSTMDB_MAX_MACHINE_VERSIONS": ("9", "storage", "max_machine_versions", 9),
    "RSTMDB_COMPACT_ENABLED": ("0", "compaction", "enabled", False),
    "RSTMDB_COMPACT_EVENTS": ("0", "compaction", "events_threshold", 0),
    "RSTMDB_COMPACT_SIZE_MB": ("0", "compaction", "size_threshold_mb", 0),
    "RSTMDB_COMPACT_INTERVAL": ("0", "compaction", "min_interval_secs", 0),
    "RSTMDB_TLS_ENABLED": ("no", "tls", "enabled", False),
    "RSTMDB_TLS_CERT": ("/c", "tls", "cert_path", "/c"),
    "RSTMDB_TLS_KEY": ("/k", "tls", "key_path", "/k"),
    "RSTMDB_TLS_REQUIRE_CLIENT_CERT": ("1", "tls", "require_client_cert", True),
    "RSTMDB_TLS_CLIENT_CA": ("/a", "tls", "client_ca_path", "/a"),
    "RSTMDB_METRICS_ENABLED": ("false", "metrics", "enabled", False),
    "RSTMDB_METRICS_BIND": ("0.0.0.0:9090", "metrics", "bind_addr", "0.0.0.0:9090"),
    "RUST_LOG": ("debug", "logging", "level", "debug"),
    "RSTMDB_LOG_FORMAT": ("JSON", "logging", "format", "json"),
    "RSTMDB_ALLOW_FLUSH_ALL": ("1", "storage", "allow_flush_all", True),
    "RSTMDB_ALLOW_INSTANCE_RECREATE": ("false", "storage", "allow_instance_recreate", False),
}


@pytest.mark.parametrize("variable", PUBLISHED)
def test_every_published_variable(load, variable):
    text, section, key, value = PUBLISHED[variable]
    settings = load("", {variable: text}).settings
    assert getattr(getattr(settings, section), key) == value


def test_every_key_has_a_variable():
    assert set(ENVIRONMENT.values()) == {(section, key) for section, keys in KEYS.items() for key in keys}


def test_the_variable_wins_over_the_file_and_a_hash_is_added(load):
    other = "0" * 64
    settings = load(
        f"network: {{max_connections: 1}}\nauth: {{token_hashes: ['{other}']}}",
        {"RSTMDB_MAX_CONNECTIONS": "2", "RSTMDB_AUTH_TOKEN_HASH": HASH},
    ).settings
    assert settings.network.max_connections == 2
    assert [entry.hash for entry in settings.auth.token_hashes] == [other, HASH]


def test_a_published_short_name_wins_over_the_long_one(load):
    environ = {"RSTMDB_DATA": "/short", "RSTMDB_STORAGE_DATA_DIR": "/long"}
    assert load("", environ).settings.storage.data_dir == "/short"


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", True), ("TrUe", True), ("yes", True), ("on", True), ("0", False), ("False", False), ("no", False),
     ("off", False), ("", False), (" ", False)],
)  # fmt: skip
def test_booleans_of_the_environment(load, text, value):
    assert load("auth: {required: true}", {"RSTMDB_AUTH_REQUIRED": text}).settings.auth.required is value


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("RSTMDB_AUTH_REQUIRED", "ture"),
        ("RSTMDB_MAX_CONNECTIONS", "many"),
        ("RSTMDB_MAX_CONNECTIONS", "-1"),
        ("RSTMDB_MAX_CONNECTIONS", "1e3"),
        ("RSTMDB_MAX_CONNECTIONS", "9" * 5000),
        ("RSTMDB_BIND", "7401"),
        ("RUST_LOG", "info,=debug"),
    ],
)
def test_a_variable_that_does_not_parse_is_an_error(load, variable, text):
    assert problem(load, environ={variable: text}).startswith(variable + ": ")


def test_an_empty_variable_is_not_given(load):
    assert load("", {"RSTMDB_BIND": "", "RSTMDB_MAX_CONNECTIONS": "", "RUST_LOG": ""}).settings == Settings()


def test_variables_of_others_are_left_alone_and_near_misses_are_told(load):
    others = {
        "RSTMDB_TOKEN": "t", "RSTMDB_TLS": "true", "RSTMDB_CA_CERT": "c", "RSTMDB_CLIENT_CERT": "c",
        "RSTMDB_CLIENT_KEY": "k", "RSTMDB_SERVER": "s", "RSTMDB_PORT_7401_TCP_ADDR": "10.0.0.1",
        "RSTMDB_SERVICE_HOST": "10.0.0.1", "RSTMDB_SERVICE_PORT": "7401", "RSTMDB_CONFIG": "",
    }  # fmt: skip
    assert load("", others).warnings == []
    [warning] = load("", {"RSTMDB_MAX_CONECTIONS": "5"}).warnings
    assert warning.endswith("did you mean RSTMDB_MAX_CONNECTIONS?")
    [warning] = load("", {"RSTMDB_REPLICATION_ROLE": "leader"}).warnings
    assert warning.startswith("RSTMDB_REPLICATION_ROLE")


def test_an_open_server_that_others_can_reach_is_told():
    [warning] = load_settings(path=None, environ={"RSTMDB_BIND": "0.0.0.0:7401"}).warnings
    assert "anyone may do anything" in warning
    assert load_settings(path=None, environ={"RSTMDB_BIND": "[::1]:7401"}).warnings == []


def test_tokens_that_are_not_checked_are_told(load):
    [warning] = load("", {"RSTMDB_AUTH_TOKEN_HASH": HASH}).warnings
    assert "auth.required is false" in warning


def test_scalars_are_those_of_yaml_1_2(load):
    assert load("storage: {data_dir: off}").settings.storage.data_dir == "off"
    assert load("storage: {data_dir: 2031-01-31}").settings.storage.data_dir == "2031-01-31"
    assert load("storage: {data_dir: 1:30}").settings.storage.data_dir == "1:30"
    assert load("network: {max_connections: 0010}").settings.network.max_connections == 10


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("no", False), ("'1'", True), ("audit.jsonl", "audit.jsonl"), ("~", False)],
)
def test_audit_is_off_on_or_a_file(load, text, value):
    assert load(f"logging: {{audit: {text}}}").settings.logging.audit == value


def test_printing_hides_hashes_and_loads_again(load):
    settings = load(
        f"auth: {{required: true, token_hashes: ['{HASH}', {{hash: '{HASH}', name: ci, roles: [read]}}]}}\n"
        "storage: {fsync_policy: {every_ms: 20}}\nmetrics: {bind_addr: 'a:1'}"
    ).settings
    printed = print_settings(settings)
    assert HASH not in printed
    assert HASH[:8] not in printed
    assert "name: ci" in printed
    without = re.sub(
        r"(?m)^  token_hashes:\n(  - .*\n    .*\n|    .*\n|  - .*\n)*", "  token_hashes: []\n", printed
    )
    again = load(without).settings
    assert again.storage == settings.storage
    assert again.metrics == settings.metrics
    assert yaml.safe_load(printed).keys() == KEYS.keys()


def test_the_annotated_example_is_the_defaults_and_has_every_key(load):
    text = EXAMPLE.read_text()
    settings, warnings = load(text)
    assert warnings == []
    # Naming the address is what `configured` records; everything else is what nothing at all would give.
    assert print_settings(settings) == print_settings(Settings())
    document = yaml.safe_load(text)
    assert {section: set(keys) for section, keys in document.items()} == {s: set(k) for s, k in KEYS.items()}
    for variable, target in ENVIRONMENT.items():
        if variable != f"RSTMDB_{target[0]}_{target[1]}".upper():
            assert variable in text, "a published short name is not documented"


def test_the_examples_in_its_comments_load(load):
    lines = EXAMPLE.read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if '#   - "ea5add' in line)
    commented = [re.sub(r"^  #", "  ", line) for line in lines[start : start + 6]]
    entries = load(
        "\n".join(["auth:", "  required: true", "  token_hashes:", *commented])
    ).settings.auth.token_hashes
    assert entries[0] == TokenEntry(hash=HASH)
    assert (entries[1].name, entries[1].roles, entries[1].machines) == ("reports", ("read",), ("order*",))
    assert entries[1].expires_ms == 1_927_584_000_000


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:7401", ("127.0.0.1", 7401)),
        ("[::]:0", ("::", 0)),
        ("db.internal:65535", ("db.internal", 65535)),
    ],
)
def test_addresses(text, address):
    assert parse_address(text) == address
