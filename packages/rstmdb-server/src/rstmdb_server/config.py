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
import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, get_type_hints

import msgspec
import yaml

from rstmdb_server.setting_values import parse_value, takes_number
from rstmdb_server.settings import (
    KEYS,
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
from rstmdb_server.tokens import parse_token_text
from rstmdb_server.yaml_file import load_yaml

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


ENVIRONMENT: dict[str, tuple[str, str]] = {
    f"RSTMDB_{section}_{key}".upper(): (section, key)
    for section, keys in KEYS.items()
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
        _read_document(load_yaml(path), values, problems, warnings)
    _read_environment(environ, values, problems, warnings)
    settings = Settings(
        **{
            section: kind(**{key: values[section, key] for key in KEYS[section] if (section, key) in values})
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
    for section, keys in KEYS.items():
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


def _read_document(
    document: dict[str, Any],
    values: dict[tuple[str, str], Any],
    problems: list[str],
    warnings: list[str],
) -> None:
    for section, content in document.items():
        if section in _WARN_ONLY_SECTIONS:
            warnings.append(f"{section}: not supported by this server, ignored")
        elif section not in KEYS:
            problems.append(f"unknown key {section!r}{_suggestion(str(section), None)}")
        elif content is not None and not isinstance(content, dict):
            problems.append(f"{section}: {content!r} is not a map of keys")
        else:
            for key, value in (content or {}).items():
                if (section, key) in _WARN_ONLY_KEYS:
                    warnings.append(f"{section}.{key}: the framing follows each client, ignored")
                elif key not in KEYS[section]:
                    problems.append(f"unknown key '{section}.{key}'{_suggestion(str(key), section)}")
                elif value is not None:  # a key without a value is a key not given
                    try:
                        values[section, key] = parse_value(section, key, value)
                    except ValueError as error:
                        problems.append(f"{section}.{key}: {error}")


def _suggestion(key: str, section: str | None) -> str:
    """Return ", did you mean ...?" for the nearest known key, wherever it lives, or nothing."""
    full = {f"{s}.{k}" for s, keys in KEYS.items() for k in keys}
    near: list[str] = []
    if section is None:
        near = difflib.get_close_matches(key, KEYS, n=1)
    else:
        near = [f"{section}.{k}" for k in difflib.get_close_matches(key, KEYS[section], n=1)]
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
        if text == "" and KEYS[section][key] is not bool:
            continue  # compose files pass unset variables on as empty ones
        if key == "token_hashes":
            # Added to the list of the file, as published.
            try:
                added = parse_token_text(text)
            except ValueError as error:
                problems.append(f"{variable}: {error}")
            else:
                values[section, key] = (*values.get((section, key), ()), added)
            continue
        number = takes_number(section, key) and re.fullmatch(r"\s*[-+]?[0-9]{1,19}\s*", text)
        try:
            values[section, key] = parse_value(section, key, int(text) if number else text)
        except ValueError as error:
            problems.append(f"{variable}: {error}")
    for variable in environ:
        if variable.startswith("RSTMDB_REPLICATION_"):
            warnings.append(f"{variable}: not supported by this server, ignored")
        elif variable.startswith("RSTMDB_") and variable not in ENVIRONMENT:
            # Others use the prefix too (the command line, a Kubernetes service of that name): only a near
            # miss is worth a word, and only a word.
            near = difflib.get_close_matches(variable, ENVIRONMENT, n=1, cutoff=0.9)
            if near:
                warnings.append(f"environment variable {variable} is not used, did you mean {near[0]}?")


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
    audit = settings.logging.audit
    if isinstance(audit, str):
        directory = os.path.dirname(audit) or "."
        if not os.path.isdir(directory):
            problems.append(
                f"logging.audit: {audit!r} cannot be written, there is no directory {directory!r}"
            )
        elif os.path.isdir(audit):
            problems.append(f"logging.audit: {audit!r} is a directory")
