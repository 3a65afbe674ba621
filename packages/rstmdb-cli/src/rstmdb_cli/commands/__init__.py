"""The commands, a module a subject; `app.COMMANDS` names the function of each."""
