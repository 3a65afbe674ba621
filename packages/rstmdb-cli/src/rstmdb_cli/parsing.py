"""How typer is bent to this command line: lazy commands, global options anywhere, one way to fail.

    rstmdb-cli [GLOBAL] COMMAND [OPTIONS and GLOBAL mixed] [-- TAIL]

- `LazyGroup` knows the commands' names and one-line helps from a table; a module is imported when its
  command is named. So a one-shot command pays for itself alone.
- `CliCommand` accepts the group's options after the command's name too. Where a command has the same
  spelling for something of its own (`put-machine -v`, `create-instance -V`), its own wins.
- A command that takes a tail (`watch-all -- COMMAND`) must be given it after `--`, so that a mistyped
  argument is never executed.
- typer converts every value with pydantic, whose import alone takes as long as typer's. `convert_quickly`
  converts what is plainly right by itself and leaves the rest, the errors above all, to typer.
- Whatever a command raises ends here: a `Failure` becomes its message, hint and exit code, a closed pipe is
  quiet, Ctrl-C is 130.
"""

import copy
import gc
import os
import sys
from collections.abc import Callable, Sequence
from enum import StrEnum
from importlib import import_module
from typing import Any, Literal, NamedTuple, get_args, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from rstmdb_cli.context import Invocation
from rstmdb_cli.exit_codes import ExitCode
from rstmdb_cli.failures import Failure

GLOBAL_PREFIX = "global_"
"""Parameters of the group are named so, to keep them apart from every command's own."""


class Listed(NamedTuple):
    """A command as the table of names knows it."""

    section: str
    help: str
    target: str
    """`module:function` under `rstmdb_cli.commands`."""
    takes_tail: bool = False
    lasting: bool = False
    """Whether it may run for long, or through much."""


class CliCommand(TyperCommand):
    """A command that also takes the group's options and turns failures into messages and exit codes."""

    takes_tail = False

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Cut the tail after `--` off, where the command takes one, and parse the rest."""
        if self.takes_tail and "--" in args:
            at = args.index("--")
            ctx.meta["rstmdb_cli.tail"] = args[at + 1 :]
            args = args[:at]
        return super().parse_args(ctx, args)

    def get_help_option(self, ctx: Any) -> Any:
        """Return the option --help, absent from most command lines and then free."""
        return _free_unless_given(super().get_help_option(ctx))

    def adopt(self, options: Sequence[Any]) -> None:
        """Accept the group's options too, without the spellings that this command uses itself."""
        taken = {spelling for param in self.params for spelling in (*param.opts, *param.secondary_opts)}
        for option in options:
            spellings = [spelling for spelling in option.opts if spelling not in taken]
            if spellings:
                adopted = copy.copy(option)
                adopted.opts = spellings
                adopted.hidden = True  # help shows them once, at the group
                self.params.append(adopted)

    def invoke(self, ctx: Any) -> Any:
        """Run the command with what the command line said.

        Raises:
            typer.Exit: It failed; the message is printed.
        """
        given = take_global_options(ctx)
        with ended_well(ctx.obj):
            if given:
                ctx.obj.override(given)
            if given.get("version"):
                from rstmdb_cli.commands.server import show_version

                show_version(ctx.obj)
                return None
            result = super().invoke(ctx)
            ctx.obj.output.stdout.flush()
            return result


class LazyGroup(TyperGroup):
    """The group of all commands, which imports one when it is named."""

    table: dict[str, Listed]

    def get_help_option(self, ctx: Any) -> Any:
        """Return the option --help, absent from most command lines and then free."""
        return _free_unless_given(super().get_help_option(ctx))

    def list_commands(self, ctx: Any) -> list[str]:
        """Return every command's name, in the order of the table."""
        return list(self.table)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Build a command, or return None for an unknown name."""
        built = self.commands.get(cmd_name)
        if built is not None:
            return built
        listed = self.table.get(cmd_name)
        if listed is None:
            return None
        if listed.lasting:
            gc.enable()
        module, _, function = listed.target.partition(":")
        callback = getattr(import_module(f"rstmdb_cli.commands.{module}"), function)
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        single.command(cmd_name, cls=CliCommand, short_help=listed.help)(callback)
        command: Any = typer.main.get_command(single)
        command.takes_tail = listed.takes_tail
        convert_quickly(command, callback)
        command.adopt([param for param in self.params if isinstance(param, TyperOption)])
        self.commands[cmd_name] = command
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands by section, from the table alone."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, listed in self.table.items():
            sections.setdefault(listed.section, []).append((name, listed.help))
        for title, rows in sections.items():
            with formatter.section(title):
                formatter.write_dl(rows)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command; a mistyped name is answered with the nearest ones."""
        name = args[0]
        if name not in self.table and not name.startswith("-") and not ctx.resilient_parsing:
            from difflib import get_close_matches

            near = get_close_matches(name, list(self.table), n=3)
            meant = f" Did you mean {' or '.join(near)}?" if near else ""
            ctx.fail(f"No such command {name!r}.{meant}")
        return super().resolve_command(ctx, args)


def convert_quickly(command: Any, callback: Callable[..., Any]) -> None:
    """Let plainly right values of a command's parameters pass without typer's (slow to import) conversion.

    Args:
        command: The built command or group.
        callback: The function it was built from, whose annotations say the types.
    """
    hints = get_type_hints(callback, include_extras=True)
    for param in command.params:
        hint = hints.get(param.name)
        metadata = getattr(hint, "__metadata__", ())
        if metadata and param.callback is None:
            kinds = [
                kind for kind in get_args(get_args(hint)[0]) or get_args(hint)[:1] if kind is not type(None)
            ]
            if len(kinds) == 1:
                param.process_value = _quick_process(param, kinds[0], metadata[0].min, metadata[0].max)


def _quick_process(
    param: Any, kind: Any, least: float | None, most: float | None
) -> Callable[[Any, Any], Any]:
    slow = param.process_value

    def process(ctx: Any, value: Any) -> Any:
        if value is None:
            return slow(ctx, value) if param.required else None
        if type(value) is kind:
            return value
        if type(value) is str:
            if kind is int and value.isascii() and value.isdigit() and len(value) < 20:
                number = int(value)
                if (least is None or number >= least) and (most is None or number <= most):
                    return number
            elif issubclass(kind, StrEnum) and value in kind._value2member_map_:
                return kind(value)
        return slow(ctx, value)

    return process


def _free_unless_given(option: Any) -> Any:
    if option is not None and "process_value" not in vars(option):
        slow = option.process_value
        option.process_value = lambda ctx, value: slow(ctx, value) if value else None
    return option


def take_global_options(ctx: Any) -> dict[str, Any]:
    """Remove the group's options from a context's parameters and return those that were given."""
    given: dict[str, Any] = {}
    for name in [name for name in ctx.params if name.startswith(GLOBAL_PREFIX)]:
        value = ctx.params.pop(name)
        source = ctx.get_parameter_source(name)
        if value is not None and source is not None and source.name == "COMMANDLINE":
            given[name.removeprefix(GLOBAL_PREFIX)] = value
    return given


class ended_well:  # noqa: N801 - reads as a statement: `with ended_well(invocation):`
    """Turn what a command raises into its message and exit code."""

    def __init__(self, invocation: Invocation | None) -> None:
        self.invocation = invocation

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> Literal[False]:
        if error is None:
            return False
        detailed = self.invocation is not None and self.invocation.detailed_exit_codes
        if self.invocation is not None and self.invocation.interactive and not isinstance(error, typer.Exit):
            return False  # the prompt prints failures itself and goes on
        match error:
            case Failure():
                show_failure(error)
                raise typer.Exit(error.code.reported(detailed=detailed)) from None
            case BrokenPipeError():
                silence_stdout()
                raise typer.Exit(int(ExitCode.OK)) from None
            case OSError():  # a full disk behind standard output, a file that cannot be written
                place = f" {error.filename}" if error.filename else ""
                show_failure(Failure(f"cannot write{place}: {error.strerror or error}"))
                raise typer.Exit(ExitCode.FAILED.reported(detailed=detailed)) from None
            case KeyboardInterrupt():
                raise typer.Exit(ExitCode.INTERRUPTED.reported(detailed=detailed)) from None
            case _:
                return False


def show_failure(failure: Failure) -> None:
    """Print a failure on standard error, after all data that came before it."""
    from rstmdb_cli.output import Output

    output = Output()
    try:
        output.stdout.flush()
    except OSError:  # its reader has gone, or its disk is full: what is to be said goes elsewhere
        silence_stdout()
    label, _, rest = str(failure).partition(": ")
    lines = [f"{output.styled(label + ':', 'red', stream=output.stderr)} {rest}"]
    if failure.hint:
        lines.append(f"{output.styled('Hint:', 'cyan', stream=output.stderr)} {failure.hint}")
    output.stderr.write("\n".join(lines) + "\n")
    output.stderr.flush()


def silence_stdout() -> None:
    """Point standard output at nothing: its reader has gone, and nothing may complain about that at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.__stdout__.fileno() if sys.__stdout__ is not None else 1)
    os.close(nowhere)
