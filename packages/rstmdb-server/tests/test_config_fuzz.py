"""Whatever stands in a configuration, it is settings or one line that says why not; nothing else ever."""

import contextlib
import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from rstmdb_server.config import ENVIRONMENT, ConfigError, LoadedSettings, load_settings, print_settings
from rstmdb_server.log_filter import parse_filter
from rstmdb_server.settings import KEYS, parse_address
from rstmdb_server.tokens import parse_secrets

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
LIKELY = st.sampled_from(
    [
        "",
        "every_ms:5",
        "127.0.0.1:1",
        "[::1]:2",
        "info",
        "x=debug",
        "json",
        "off",
        "-1",
        "0",
        "1",
        "1e9",
        "0" * 64,
        "~",
    ]
)


@pytest.fixture(scope="module")
def path():
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory) / "rstmdb.yaml"


def outcome(**arguments):
    """Load; a refusal must be one line."""
    refusal = None
    try:
        loaded = load_settings(**arguments)
    except ConfigError as error:
        refusal = error
    if refusal is not None:
        assert refusal.problems
        assert "\n" not in str(refusal)
    else:
        assert isinstance(loaded, LoadedSettings)
        assert yaml.safe_load(print_settings(loaded.settings)).keys() == KEYS.keys()


@settings(max_examples=150, deadline=None)
@given(
    content=st.binary(max_size=200)
    | st.text(alphabet="abn:{}[]-!&*?|>'\"#%@`\n \t\\,0~", max_size=60).map(str.encode)
)
def test_any_bytes(path, content):
    path.write_bytes(content)
    outcome(path=str(path), environ={})


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_value_for_any_key(path, data):
    document = {}
    for _ in range(data.draw(st.integers(1, 4))):
        section = data.draw(st.sampled_from(sorted(KEYS)))
        key = data.draw(st.sampled_from(sorted(KEYS[section])))
        document.setdefault(section, {})[key] = data.draw(LIKELY | VALUES)
    path.write_text(yaml.safe_dump(document, allow_unicode=True), errors="replace")
    outcome(path=str(path), environ={})


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(ENVIRONMENT)), LIKELY | st.text(max_size=20), max_size=4))
def test_any_environment(environ):
    outcome(path=None, environ=environ)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60))
def test_any_text_in_the_small_notations(text):
    for parse in (parse_filter, parse_address):
        with contextlib.suppress(ValueError):
            parse(text)
    with contextlib.suppress(ConfigError):
        parse_secrets(text, name="tokens")
