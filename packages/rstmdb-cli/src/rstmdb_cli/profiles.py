r"""Profiles: servers that have a name, in one TOML file of the user.

    default = "local"                     # used when neither --profile nor RSTMDB_PROFILE names one

    [profiles.prod]
    server = "db.example.com:7401"        # or url = "rstmdbs://db.example.com:7401"
    tls = true
    ca_cert = "~/.config/rstmdb/ca.pem"
    token_file = "~/.config/rstmdb/prod.token"

The file is `config.toml` in the platform's configuration directory (`$XDG_CONFIG_HOME/rstmdb`, or
`~/Library/Application Support/rstmdb` on macOS, `%APPDATA%\rstmdb` on Windows); `RSTMDB_CLI_CONFIG` names
another. A token itself may stand in a profile, but then the file must be readable by its owner alone.
"""

import os
import sys
from pathlib import Path
from typing import Any

from rstmdb_cli.exit_codes import ExitCode
from rstmdb_cli.failures import Failure

FIELDS: dict[str, type] = {
    "server": str,
    "url": str,
    "token": str,
    "token_file": str,
    "tls": bool,
    "ca_cert": str,
    "client_cert": str,
    "client_key": str,
    "insecure": bool,
    "server_name": str,
    "timeout": float,
}
"""What a profile may say; anything else is an error, so that a slip of the pen is found."""

PATH_FIELDS = frozenset(["token_file", "ca_cert", "client_cert", "client_key"])


def config_path() -> Path:
    """Return where the profiles are kept; the file need not exist."""
    named = os.environ.get("RSTMDB_CLI_CONFIG")
    if named:
        return Path(named).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return base / "rstmdb" / "config.toml"


def read_config(path: Path) -> dict[str, Any]:
    """Return the whole file; an absent one is empty.

    Raises:
        Failure: It cannot be read or is not TOML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"cannot read {path}: {error}", code=ExitCode.USAGE) from None
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Failure(f"{path} is not valid TOML: {error}", code=ExitCode.USAGE) from None


def load_profile(name: str | None) -> dict[str, Any]:
    """Return the fields of a profile, checked, with `~` expanded in paths.

    Args:
        name: The profile asked for; None takes the file's `default`, or an empty profile.

    Raises:
        Failure: There is no such profile, or it says something that no profile may say.
    """
    path = config_path()
    config = read_config(path)
    profiles = config.get("profiles", {})
    chosen = name if name is not None else config.get("default")
    if chosen is None:
        return {}
    if not isinstance(profiles, dict) or not isinstance(profiles.get(chosen), dict):
        known = ", ".join(sorted(profiles)) if isinstance(profiles, dict) and profiles else "none"
        raise Failure(
            f"no profile {chosen!r} in {path} (there: {known})",
            hint=f"`rstmdb-cli profile set {chosen} server=HOST:PORT` makes one",
            code=ExitCode.USAGE,
        )
    fields = {key: check_field(key, value, path=path) for key, value in profiles[chosen].items()}
    if "token" in fields and os.name == "posix" and path.stat().st_mode & 0o077:
        raise Failure(
            f"{path} holds a token but others may read it",
            hint=f"chmod 600 {path}, or keep the token in a file of its own and name it with token_file",
            code=ExitCode.USAGE,
        )
    return fields


def check_field(key: str, value: Any, *, path: Path) -> Any:
    """Return one field's value, converted; paths have `~` expanded.

    Raises:
        Failure: The name is unknown or the value has the wrong type.
    """
    wanted = FIELDS.get(key)
    if wanted is None:
        raise Failure(
            f"{path}: unknown field {key!r}", hint=f"known: {', '.join(FIELDS)}", code=ExitCode.USAGE
        )
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, wanted):
        kind = {str: "a string", bool: "true or false", float: "a number"}[wanted]
        raise Failure(f"{path}: {key} must be {kind}, not {value!r}", code=ExitCode.USAGE)
    return str(Path(str(value)).expanduser()) if key in PATH_FIELDS else value


def write_config(path: Path, config: dict[str, Any]) -> None:
    """Write the file whole, readable by its owner alone; a crash leaves the old one."""
    lines: list[str] = []
    if isinstance(config.get("default"), str):
        lines.append(f"default = {_toml(config['default'])}")
    for name, fields in config.get("profiles", {}).items():
        lines.append("")
        lines.append(f"[profiles.{_toml(name)}]")
        lines.extend(f"{key} = {_toml(value)}" for key, value in fields.items())
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write("\n".join(lines).lstrip("\n") + "\n")
    temporary.replace(path)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        import json

        return json.dumps(value, ensure_ascii=False)
    return str(value)
