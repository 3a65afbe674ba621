"""What typer is bent to: lazy commands, global options anywhere, quick conversion."""

import inspect
from importlib import import_module

import pytest
import typer

from rstmdb_cli.app import COMMANDS, build


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_table_exists_and_takes_the_global_options(name: str) -> None:
    module, _, function = COMMANDS[name].target.partition(":")
    callback = getattr(import_module(f"rstmdb_cli.commands.{module}"), function)
    assert inspect.getdoc(callback)
    group = build()
    command = group.get_command(typer.Context(group), name)
    assert command is not None
    spellings = {spelling for param in command.params for spelling in param.opts}
    assert {"--server", "--token", "--json", "--timeout", "--exit-codes"} <= spellings
    assert len({param.name for param in command.params}) == len(command.params)


@pytest.mark.parametrize("name", COMMANDS)
def test_no_spelling_means_two_things(name: str) -> None:
    group = build()
    command = group.get_command(typer.Context(group), name)
    assert command is not None
    spellings = [spelling for param in command.params for spelling in (*param.opts, *param.secondary_opts)]
    assert len(set(spellings)) == len(spellings)


@pytest.mark.parametrize(("text", "converted"), [("0", 0), ("4294967295", 4294967295), ("007", 7)])
def test_quick_conversion_is_typers(text: str, converted: int) -> None:
    group = build()
    command = group.get_command(typer.Context(group), "get-machine")
    assert command is not None
    context = command.make_context("get-machine", ["-n", "x", "-v", text], parent=typer.Context(group))
    assert context.params["version"] == converted


def test_a_tail_is_cut_off_only_where_there_is_one() -> None:
    group = build()
    root = typer.Context(group)
    watch = group.get_command(root, "watch-all")
    assert watch is not None
    context = watch.make_context("watch-all", ["--no-ctx", "--", "jq", "--tab"], parent=root)
    assert context.meta["rstmdb_cli.tail"] == ["jq", "--tab"]
    get = group.get_command(root, "get-instance")
    assert get is not None
    assert get.make_context("get-instance", ["--", "-odd-id"], parent=root).params["instance_id"] == "-odd-id"
