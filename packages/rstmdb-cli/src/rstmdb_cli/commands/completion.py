"""`completion`: the script that makes a shell complete `rstmdb-cli`."""

from enum import StrEnum
from typing import Annotated

import typer

from rstmdb_cli.context import Invocation


class Shell(StrEnum):
    """A shell with a script."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


COMPLETE_VARIABLE = "_RSTMDB_CLI_COMPLETE"
"""Set by the scripts: then the command prints candidates instead of running."""

_SCRIPTS = {
    Shell.BASH: """\
# rstmdb-cli completion bash >> ~/.bash_completion
_rstmdb_cli_completion() {
    local IFS=$'\\n'
    COMPREPLY=( $( env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD \\
                   _RSTMDB_CLI_COMPLETE=complete_bash "$1" 2>/dev/null ) )
    return 0
}
complete -o default -F _rstmdb_cli_completion rstmdb-cli""",
    Shell.ZSH: """\
#compdef rstmdb-cli
# rstmdb-cli completion zsh > "${fpath[1]}/_rstmdb-cli"
_rstmdb_cli_completion() {
    eval $(env _TYPER_COMPLETE_ARGS="${words[1,$CURRENT]}" _RSTMDB_CLI_COMPLETE=complete_zsh rstmdb-cli
    2>/dev/null)
}
compdef _rstmdb_cli_completion rstmdb-cli""",
    Shell.FISH: """\
# rstmdb-cli completion fish > ~/.config/fish/completions/rstmdb-cli.fish
complete --command rstmdb-cli --no-files \\
    --arguments "(env _RSTMDB_CLI_COMPLETE=complete_fish _TYPER_COMPLETE_FISH_ACTION=get-args \
_TYPER_COMPLETE_ARGS=(commandline -cp) rstmdb-cli 2>/dev/null)" \\
    --condition "env _RSTMDB_CLI_COMPLETE=complete_fish _TYPER_COMPLETE_FISH_ACTION=is-args \
_TYPER_COMPLETE_ARGS=(commandline -cp) rstmdb-cli 2>/dev/null\"""",
}


def completion(ctx: typer.Context, shell: Annotated[Shell, typer.Argument(help="The shell")]) -> None:
    """Print the completion script of a shell. Its first comment says where it goes.

    It completes commands and options, and asks the server for machines, instances, their events and states.
    """
    cli: Invocation = ctx.obj
    cli.output.line(_SCRIPTS[shell])
