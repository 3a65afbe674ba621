"""`profile`: list, show and change the profiles of the configuration file."""

from contextlib import suppress
from enum import StrEnum
from typing import Annotated, Any

import typer

from rstmdb_cli.context import Invocation
from rstmdb_cli.exit_codes import ExitCode
from rstmdb_cli.failures import Failure
from rstmdb_cli.profiles import FIELDS, check_field, config_path, read_config, write_config


class Action(StrEnum):
    """What to do with the profiles."""

    LIST = "list"
    SHOW = "show"
    SET = "set"
    USE = "use"
    REMOVE = "remove"
    PATH = "path"


def profile(
    ctx: typer.Context,
    action: Annotated[Action, typer.Argument(help="What to do")] = Action.LIST,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Profile")] = None,
    values: Annotated[list[str] | None, typer.Argument(metavar="[FIELD=VALUE]...", help="For set")] = None,
) -> None:
    """List, show and change profiles: servers that have a name.

    Fields: server, url, token_file, token, tls, ca_cert, client_cert, client_key, insecure, server_name,
    timeout. An empty value removes a field. `use` chooses the profile that counts when none is named.
    """
    cli: Invocation = ctx.obj
    path = config_path()
    config = read_config(path)
    profiles: dict[str, dict[str, Any]] = config.setdefault("profiles", {})
    if action is Action.PATH:
        cli.output.line(str(path))
        return
    if action is Action.LIST:
        rows = [
            {
                "name": each,
                "server": fields.get("server") or fields.get("url"),
                "default": each == config.get("default"),
            }
            for each, fields in profiles.items()
        ]
        cli.output.rows(rows, ["name", "server", "default"], empty=f"No profiles in {path}")
        return
    if name is None:
        raise Failure(f"profile {action} needs a NAME", code=ExitCode.USAGE)
    if action is not Action.SET and name not in profiles:
        raise Failure(f"no profile {name!r} in {path}", code=ExitCode.USAGE)
    match action:
        case Action.SHOW:
            shown = {key: "***" if key == "token" else value for key, value in profiles[name].items()}
            if not cli.output.document(shown):
                for key, value in shown.items():
                    cli.output.line(f"{key} = {value}")
            return
        case Action.SET:
            _set(profiles.setdefault(name, {}), values or [])
        case Action.USE:
            config["default"] = name
        case Action.REMOVE:
            del profiles[name]
            if config.get("default") == name:
                del config["default"]
    write_config(path, config)
    done = {Action.SET: "Saved", Action.USE: "Default is now", Action.REMOVE: "Removed"}[action]
    cli.output.success(f"{done} profile {name} ({path})")


def _set(fields: dict[str, Any], values: list[str]) -> None:
    if not values:
        raise Failure("profile set needs FIELD=VALUE", code=ExitCode.USAGE)
    for text in values:
        key, equals, value = text.partition("=")
        if not equals:
            raise Failure(f"{text!r} is not FIELD=VALUE", code=ExitCode.USAGE)
        if not value:
            fields.pop(key, None)
            continue
        parsed: Any = value
        if FIELDS.get(key) is bool and value in ("true", "false"):
            parsed = value == "true"
        elif FIELDS.get(key) is float:
            with suppress(ValueError):  # check_field says what is wrong with it
                parsed = float(value)
        check_field(key, parsed, path=config_path())
        fields[key] = parsed
