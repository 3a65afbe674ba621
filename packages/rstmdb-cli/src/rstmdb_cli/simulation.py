"""A definition being walked through: one instance on the real engine, in memory; steps can be taken back.

> PAY {"amount": 5}          an event, optionally with a payload
> back · ctx · graph · events · history · restart · help · quit
"""

from typing import Any

from rstmdb_cli.commands.describe import event_lines
from rstmdb_cli.context import Invocation
from rstmdb_cli.documents import parse_object
from rstmdb_cli.drawing.model import graph_of
from rstmdb_cli.drawing.text import draw
from rstmdb_cli.failures import Failure, server_failure
from rstmdb_cli.output import compact, pretty
from rstmdb_cli.repl.reading import LineReader
from rstmdb_core import (
    ApplyEvent,
    CreateInstance,
    EngineSettings,
    PutMachine,
    Refusal,
    State,
    apply,
    decide,
    explain,
)

_ID = "simulated"


class Simulation:
    """One instance of a definition, and how it came where it is.

    Args:
        raw: The definition's JSON text.
        title: What to call the machine.
        context: The initial context.

    Raises:
        ValueError: The definition or the context is refused.
    """

    def __init__(self, raw: bytes, *, title: str, context: dict[str, Any]) -> None:
        self.title = title
        self._raw = raw
        self._context = compact(context).encode()
        self.steps: list[tuple[str, bytes, str, str]] = []
        self._state = State(EngineSettings())
        self.restart()

    def restart(self) -> None:
        """Begin anew, in the initial state."""
        self._state = State(EngineSettings())
        self.steps.clear()
        self._do(PutMachine(self.title, 1, self._raw, None))
        self._do(CreateInstance(_ID, self.title, 1, self._context))

    def _do(self, command: Any) -> dict[str, Any]:
        import json

        outcome = decide(self._state, command, now_ms=0, new_id=lambda: _ID)
        if isinstance(outcome, Refusal):
            raise ValueError(f"{outcome.code} - {outcome.message}")
        if outcome.record is not None:
            apply(self._state, outcome.record)
        answer: dict[str, Any] = json.loads(outcome.answer)
        return answer

    @property
    def state(self) -> str:
        """The instance's state."""
        return self._state.instances[_ID].state

    @property
    def context(self) -> dict[str, Any]:
        """The instance's context."""
        import json

        document: dict[str, Any] = json.loads(self._state.instances[_ID].ctx)
        return document

    def events(self) -> list[dict[str, Any]]:
        """Return what every event of the current state would do, as EXPLAIN_EVENT says it."""
        import json

        found = explain(self._state, _ID)
        assert not isinstance(found, Refusal), "the instance is there"
        items: list[dict[str, Any]] = json.loads(found)["events"]
        return items

    def apply(self, event: str, payload: bytes) -> tuple[str, str]:
        """Apply an event; return the state before and after.

        Raises:
            Failure: It is refused; nothing has changed.
        """
        outcome = decide(self._state, ApplyEvent(_ID, event, payload), now_ms=0, new_id=lambda: _ID)
        if isinstance(outcome, Refusal):
            failure = server_failure(outcome.code, outcome.message, outcome.details)
            failure.message = f"{outcome.code} - {outcome.message}"
            failure.hint = (
                "; ".join(line for item in self.events() for line in event_lines(item))
                or "the state is final"
            )
            raise failure
        before = self.state
        assert outcome.record is not None, "without a key every accepted event is a record"
        apply(self._state, outcome.record)
        self.steps.append((event, payload, before, self.state))
        return before, self.state

    def back(self) -> bool:
        """Take the last step back; False when there is none."""
        if not self.steps:
            return False
        replayed = self.steps[:-1]
        self.restart()
        for event, payload, _, _ in replayed:
            self.apply(event, payload)
        return True

    def drawing(self, cli: Invocation) -> list[str]:
        """Return the machine as text, the current state marked."""
        import json

        graph = graph_of(json.loads(self._raw), title=self.title, current=self.state)
        return draw(graph, cli.output)


_WORDS = ("back", "ctx", "graph", "events", "history", "restart", "help", "quit", "exit")
_HELP = """\
  EVENT [JSON]   apply an event, with a payload
  events         what every event would do now
  ctx            the context
  graph          the machine, the current state marked
  history        the steps so far
  back           take the last step back
  restart        begin anew
  quit           leave (also Ctrl-D)"""


def walk(simulation: Simulation, cli: Invocation) -> bool:
    """Read events and apply them until the input ends; return whether all were accepted."""
    out = cli.output

    def words() -> list[str]:
        return [*(item["event"] for item in simulation.events()), *_WORDS]

    reader = LineReader(prompt=lambda: f"{simulation.title} [{simulation.state}]> ", words=words)
    out.line(f"{simulation.title}: {out.styled(simulation.state, 'green', 'bold')}")
    if reader.interactive:
        out.line("Type an event, `help`, or Ctrl-D to leave.")
    accepted = True
    for line in reader:
        word, _, rest = line.strip().partition(" ")
        try:
            match word.lower():
                case "":
                    continue
                case "quit" | "exit":
                    break
                case "help" | "?":
                    out.line(_HELP)
                case "ctx":
                    out.line(pretty(simulation.context))
                case "graph":
                    for drawn in simulation.drawing(cli):
                        out.line(drawn)
                case "events":
                    for shown in [line for item in simulation.events() for line in event_lines(item)] or [
                        "none"
                    ]:
                        out.line(f"  {shown}")
                case "history":
                    for event, payload, before, after in simulation.steps:
                        out.line(f"  {event} {before} → {after}  {payload.decode()}".rstrip())
                case "restart":
                    simulation.restart()
                    out.line(f"  {simulation.state}")
                case "back":
                    out.line(f"  {simulation.state}" if simulation.back() else "  nothing to take back")
                case _:
                    payload = (
                        compact(parse_object(rest, name="the payload")).encode() if rest.strip() else b""
                    )
                    before, after = simulation.apply(word, payload)
                    out.line(f"  {before} → {out.styled(after, 'green')}")
        except Failure as failure:
            accepted = False
            out.note(f"  {failure.message}" + (f"\n  Hint: {failure.hint}" if failure.hint else ""))
    return accepted
