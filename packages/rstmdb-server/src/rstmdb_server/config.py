"""From a YAML file and the environment to `Settings`, or to one line that says what is wrong.

```
defaults  <-  YAML file (--config, else RSTMDB_CONFIG)  <-  environment
```

Nothing is guessed and nothing is ignored: an unknown key, a value that does not parse, a key given twice and
a document that is not a map are errors. The exceptions are keys that published configurations carry although
no server ever used them (`network.wire_mode`, `replication.*`): these only warn.

Every key has an environment variable, `RSTMDB_<SECTION>_<KEY>`; those with a published short name have both.
"""

import difflib
import re
from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

import msgspec
import yaml

from rstmdb_server.log_filter import LEVELS, parse_filter
from rstmdb_server.settings import (
    Address,
    AuthSettings,
    ConfigError,
    FsyncPolicy,
    LoggingSettings,
    MetricsSettings,
    NetworkSettings,
    Settings,
    StorageSettings,
    TlsSettings,
    TokenEntry,
    parse_address,
)
from rstmdb_server.tokens import parse_token_map, parse_token_text

__all__ = [
    "ENVIRONMENT",
    "Address",
    "AuthSettings",
    "ConfigError",
    "FsyncPolicy",
    "LoadedSettings",
    "LoggingSettings",
    "MetricsSettings",
    "NetworkSettings",
    "Settings",
    "StorageSettings",
    "TlsSettings",
    "TokenEntry",
    "load_settings",
    "parse_address",
    "print_settings",
]

_BOOLEANS = {"1": True, "true": True, "yes": True, "on": True}
_BOOLEANS |= {"0": False, "false": False, "no": False, "off": False, "": False}
_FSYNC_HINT = "every_write, every_n:<records>, every_ms:<milliseconds> or never"

# Documented for the original, never used by it: a configuration that has them must still start.
_WARN_ONLY_SECTIONS = {"replication"}
_WARN_ONLY_KEYS = {("network", "wire_mode")}

# The published names, where they differ from RSTMDB_<SECTION>_<KEY>.
_SHORT_NAMES = {
    "RSTMDB_BIND": ("network", "bind_addr"),
    "RSTMDB_IDLE_TIMEOUT": ("network", "idle_timeout_secs"),
    "RSTMDB_MAX_CONNECTIONS": ("network", "max_connections"),
    "RSTMDB_AUTH_TOKEN_HASH": ("auth", "token_hashes"),
    "RSTMDB_DATA": ("storage", "data_dir"),
    "RSTMDB_WAL_SEGMENT_SIZE_MB": ("storage", "wal_segment_size_mb"),
    "RSTMDB_FSYNC_POLICY": ("storage", "fsync_policy"),
    "RSTMDB_MAX_MACHINE_VERSIONS": ("storage", "max_machine_versions"),
    "RSTMDB_ALLOW_FLUSH_ALL": ("storage", "allow_flush_all"),
    "RSTMDB_ALLOW_INSTANCE_RECREATE": ("storage", "allow_instance_recreate"),
    "RSTMDB_COMPACT_ENABLED": ("compaction", "enabled"),
    "RSTMDB_COMPACT_EVENTS": ("compaction", "events_threshold"),
    "RSTMDB_COMPACT_SIZE_MB": ("compaction", "size_threshold_mb"),
    "RSTMDB_COMPACT_INTERVAL": ("compaction", "min_interval_secs"),
    "RSTMDB_TLS_CERT": ("tls", "cert_path"),
    "RSTMDB_TLS_KEY": ("tls", "key_path"),
    "RSTMDB_TLS_CLIENT_CA": ("tls", "client_ca_path"),
    "RSTMDB_METRICS_BIND": ("metrics", "bind_addr"),
    "RSTMDB_LOG_FORMAT": ("logging", "format"),
    "RUST_LOG": ("logging", "level"),
}


class LoadedSettings(NamedTuple):
    """The settings, and one line for everything the operator should know about them."""

    settings: Settings
    warnings: list[str]


def _sections() -> dict[str, dict[str, Any]]:
    """Return the type of every key, by section, as the structs declare it."""
    found = {}
    for section, kind in get_type_hints(Settings).items():
        hints = get_type_hints(kind, include_extras=True)
        hints.pop("configured", None)  # derived, not a key
        found[section] = hints
    return found


_KEYS = _sections()

ENVIRONMENT: dict[str, tuple[str, str]] = {
    f"RSTMDB_{section}_{key}".upper(): (section, key)
    for section, keys in _KEYS.items()
    for key in keys
    if key != "token_hashes"
} | _SHORT_NAMES
"""Every variable that is read, and the (section, key) it sets; published short names win over long ones."""


def load_settings(*, path: str | None, environ: Mapping[str, str]) -> LoadedSettings:
    """Read the configuration file, if any, then the environment.

    Args:
        path: The file of `--config`; None falls back to `RSTMDB_CONFIG`, and to no file.
        environ: The environment of the process.

    Raises:
        ConfigError: With every fault found.
    """
    problems: list[str] = []
    warnings: list[str] = []
    values: dict[tuple[str, str], Any] = {}
    path = path or environ.get("RSTMDB_CONFIG") or None
    if path is not None:
        _read_document(_load_yaml(path), values, problems, warnings)
    _read_environment(environ, values, problems, warnings)
    settings = Settings(
        **{
            section: kind(**{key: values[section, key] for key in _KEYS[section] if (section, key) in values})
            for section, kind in get_type_hints(Settings).items()
        }
    )
    if ("metrics", "bind_addr") in values:
        settings = msgspec.structs.replace(
            settings, metrics=msgspec.structs.replace(settings.metrics, configured=True)
        )
    _check_together(settings, problems, warnings)
    if problems:
        raise ConfigError(*problems)
    return LoadedSettings(settings, warnings)


def print_settings(settings: Settings) -> str:
    """Return the settings as YAML, every key with its value in force, token hashes hidden."""
    document: dict[str, dict[str, Any]] = {}
    for section, keys in _KEYS.items():
        values = getattr(settings, section)
        document[section] = {key: _printable(getattr(values, key)) for key in keys}
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def _printable(value: Any) -> Any:
    if isinstance(value, FsyncPolicy):
        return str(value)
    if isinstance(value, tuple):
        return [_printable(item) for item in value]
    if isinstance(value, TokenEntry):
        shown = msgspec.to_builtins(value)
        shown = {key: list(item) if isinstance(item, tuple) else item for key, item in shown.items()}
        return {**shown, "hash": "(hidden)"}
    return value


# --- the file ---------------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """Safe YAML with the scalars of YAML 1.2 and without duplicate keys.

    YAML 1.1, PyYAML's default, would read `off` as false, `2027-01-31` as a date and `1:30` as 90.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.value in seen and isinstance(key_node, yaml.ScalarNode):
                mark = key_node.start_mark
                raise ConfigError(f"key {key_node.value!r} is given twice (line {mark.line + 1})")
            if isinstance(key_node, yaml.ScalarNode):
                seen.add(key_node.value)
        return super().construct_mapping(node, deep)

    def construct_policy(self, node: yaml.Node) -> Any:
        """Read `!every_ms 100` as `{every_ms: 100}`."""
        if not isinstance(node, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(None, None, "expected a single value", node.start_mark)
        return {node.tag[1:]: int(node.value) if node.value.strip().isdigit() else node.value or None}


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?", list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)
_Loader.add_constructor("tag:yaml.org,2002:int", lambda _, node: int(node.value))
for _kind in ("every_write", "everywrite", "every_n", "every_ms", "never"):
    _Loader.add_constructor(f"!{_kind}", _Loader.construct_policy)


def _load_yaml(path: str) -> dict[str, Any]:
    """Return the document of a configuration file."""
    try:
        with open(path, encoding="utf-8") as file:
            document = yaml.load(file, _Loader)
    except OSError as error:
        raise ConfigError(f"configuration file {path!r} cannot be read: {error.strerror}") from None
    except ConfigError as error:
        raise ConfigError(f"configuration file {path!r}: {error}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        what = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"configuration file {path!r} is not valid YAML: {what}") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"configuration file {path!r} is not a map of sections")
    return document


def _read_document(
    document: dict[str, Any],
    values: dict[tuple[str, str], Any],
    problems: list[str],
    warnings: list[str],
) -> None:
    for section, content in document.items():
        if section in _WARN_ONLY_SECTIONS:
            warnings.append(f"{section}: not supported by this server, ignored")
        elif section not in _KEYS:
            problems.append(f"unknown key {section!r}{_suggestion(str(section), None)}")
        elif content is not None and not isinstance(content, dict):
            problems.append(f"{section}: {content!r} is not a map of keys")
        else:
            for key, value in (content or {}).items():
                if (section, key) in _WARN_ONLY_KEYS:
                    warnings.append(f"{section}.{key}: the framing follows each client, ignored")
                elif key not in _KEYS[section]:
                    problems.append(f"unknown key '{section}.{key}'{_suggestion(str(key), section)}")
                elif value is not None:  # a key without a value is a key not given
                    _set(values, section, key, value, f"{section}.{key}", problems)


def _suggestion(key: str, section: str | None) -> str:
    """Return ", did you mean ...?" for the nearest known key, wherever it lives, or nothing."""
    full = {f"{s}.{k}" for s, keys in _KEYS.items() for k in keys}
    near: list[str] = []
    if section is None:
        near = difflib.get_close_matches(key, _KEYS, n=1)
    else:
        near = [f"{section}.{k}" for k in difflib.get_close_matches(key, _KEYS[section], n=1)]
    if not near:
        elsewhere = {name.partition(".")[2]: name for name in sorted(full)}
        near = [elsewhere[k] for k in difflib.get_close_matches(key, elsewhere, n=1, cutoff=0.75)]
    return f", did you mean {near[0]!r}?" if near else ""


# --- the environment --------------------------------------------------------------------------------------


def _read_environment(
    environ: Mapping[str, str],
    values: dict[tuple[str, str], Any],
    problems: list[str],
    warnings: list[str],
) -> None:
    for variable, (section, key) in ENVIRONMENT.items():
        text = environ.get(variable)
        if text is None:
            continue
        if text == "" and _KEYS[section][key] is not bool:
            continue  # compose files pass unset variables on as empty ones
        if key == "token_hashes":
            # Added to the list of the file, as published.
            try:
                entry = parse_token_text(text)
            except ValueError as error:
                problems.append(f"{variable}: {error}")
            else:
                values[section, key] = (*values.get((section, key), ()), entry)
            continue
        value: Any = text
        if "int" in _expectation(_KEYS[section][key]) and re.fullmatch(r"\s*[-+]?[0-9]{1,19}\s*", text):
            value = int(text)
        _set(values, section, key, value, variable, problems)
    for variable in environ:
        if variable.startswith("RSTMDB_REPLICATION_"):
            warnings.append(f"{variable}: not supported by this server, ignored")
        elif variable.startswith("RSTMDB_") and variable not in ENVIRONMENT:
            # Others use the prefix too (the command line, a Kubernetes service of that name): only a near
            # miss is worth a word, and only a word.
            near = difflib.get_close_matches(variable, ENVIRONMENT, n=1, cutoff=0.9)
            if near:
                warnings.append(f"environment variable {variable} is not used, did you mean {near[0]}?")


# --- one value --------------------------------------------------------------------------------------------


def _set(
    values: dict[tuple[str, str], Any], section: str, key: str, value: Any, name: str, problems: list[str]
) -> None:
    """Parse one value into `values`, or add a sentence to `problems`."""
    parse = _PARSERS.get((section, key))
    try:
        if parse is not None:
            values[section, key] = parse(value)
        else:
            values[section, key] = _plain(value, _KEYS[section][key])
    except (ValueError, msgspec.ValidationError) as error:
        problems.append(f"{name}: {error}")


def _plain(value: Any, kind: Any) -> Any:
    """Return a value of a key that needs no parser of its own."""
    if kind is bool:
        return _boolean(value)
    try:
        converted = msgspec.convert(value, kind)
    except msgspec.ValidationError:
        raise ValueError(f"{value!r} is not {_expectation(kind)[1]}{_near_choice(value, kind)}") from None
    if converted == "":
        raise ValueError("is empty")
    return converted


def _expectation(kind: Any) -> tuple[str, str]:
    """Return the basic type of a key and what it takes, in words."""
    bounds = [item for item in getattr(kind, "__metadata__", ()) if isinstance(item, msgspec.Meta)]
    if bounds:
        return "int", f"a whole number from {bounds[0].ge} to {bounds[0].le}"
    if get_origin(kind) is not None and all(isinstance(choice, str) for choice in get_args(kind)):
        return "str", "one of " + ", ".join(get_args(kind))
    return ("bool", "true or false") if kind is bool else ("str", "a text")


def _near_choice(value: Any, kind: Any) -> str:
    choices = [choice for choice in get_args(kind) if isinstance(choice, str)]
    near = difflib.get_close_matches(str(value), choices, n=1)
    return f", did you mean {near[0]!r}?" if near else ""


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    known = _BOOLEANS.get(value.strip().lower()) if isinstance(value, str) else None
    if known is None:
        raise ValueError(f"{value!r} is not true or false")
    return known


def _address(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not host:port")
    try:
        parse_address(value)
    except ValueError as error:
        raise ValueError(f"{value!r} is not host:port ({error})") from None
    return value.strip()


def _fsync_policy(value: Any) -> FsyncPolicy:
    """Read any published form: a word, `every_ms:100`, a map `{every_ms: 100}` (also what a tag becomes)."""
    kind, number = value, None
    if isinstance(value, dict) and len(value) == 1:
        ((kind, number),) = value.items()
    elif isinstance(value, str):
        kind, colon, text = value.partition(":")
        number = (int(text) if text.strip().isdigit() else text) if colon else None
    if kind in ("every_write", "everywrite", "never") and number is None:
        return FsyncPolicy("never" if kind == "never" else "every_write")
    if kind == "every_n" or kind == "every_ms":
        if type(number) is not int or not 1 <= number <= 2**31:
            raise ValueError(f"{value!r} needs a whole number of at least 1, as in {kind}:100")
        return FsyncPolicy(kind, number)
    near = difflib.get_close_matches(str(kind), ["every_write", "every_n", "every_ms", "never"], n=1)
    hint = f", did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{value!r} is not {_FSYNC_HINT}{hint}")


def _token_hashes(value: Any) -> tuple[TokenEntry, ...]:
    if not isinstance(value, list):
        raise ValueError("is not a list of hashes")
    return tuple(
        parse_token_map(item) if isinstance(item, dict) else parse_token_text(item) for item in value
    )


def _log_level(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a level or a filter")
    try:
        log_filter = parse_filter(value)
    except ValueError as error:
        raise ValueError(str(error)) from None
    # A single unknown word would be a target by the grammar; far more often it is a misspelt level.
    if (
        "=" not in value
        and len(log_filter.targets) == 1
        and (near := difflib.get_close_matches(value.strip().lower(), LEVELS, n=1, cutoff=0.7))
    ):
        raise ValueError(f"{value!r} is not a level, did you mean {near[0]!r}?")
    return value.strip() or "info"


def _log_format(value: Any) -> str:
    name = value.strip().lower() if isinstance(value, str) else value
    return str(_plain(name, _KEYS["logging"]["format"]))


def _audit(value: Any) -> bool | str:
    if isinstance(value, str) and value.strip().lower() not in _BOOLEANS:
        return value
    return _boolean(value)


_PARSERS: dict[tuple[str, str], Callable[[Any], Any]] = {
    ("network", "bind_addr"): _address,
    ("metrics", "bind_addr"): _address,
    ("storage", "fsync_policy"): _fsync_policy,
    ("auth", "token_hashes"): _token_hashes,
    ("logging", "level"): _log_level,
    ("logging", "format"): _log_format,
    ("logging", "audit"): _audit,
}


# --- all values together ----------------------------------------------------------------------------------


def _check_together(settings: Settings, problems: list[str], warnings: list[str]) -> None:
    tls, auth = settings.tls, settings.auth
    if tls.enabled:
        if tls.cert_path is None:
            problems.append("tls.enabled is true but tls.cert_path is not set")
        if tls.key_path is None:
            problems.append("tls.enabled is true but tls.key_path is not set")
        if tls.require_client_cert and tls.client_ca_path is None:
            problems.append("tls.require_client_cert is true but tls.client_ca_path is not set")
    elif tls.require_client_cert:
        warnings.append("tls.require_client_cert has no effect while tls.enabled is false")
    if not auth.required:
        if auth.token_hashes or auth.secrets_file:
            warnings.append(
                "auth.required is false: configured tokens are not checked, any token is accepted"
            )
        host = parse_address(settings.network.bind_addr).host
        if host not in ("localhost", "::1") and not host.startswith("127."):
            warnings.append(
                f"auth.required is false and {host} can be reached by others: anyone may do anything"
            )
