"""How an export gets into a server: in batches where it can, by a way through the machine where it must.

machine                     PUT_MACHINE; the same definition again is no error
instance, initial state     CREATE_INSTANCE, up to 100 in a batch
instance, any other state   one atomic batch: CREATE_INSTANCE with the final context, then the events of a
                            shortest way, each with the state it expects; a guard that refuses rules its
                            transition out, and the next way is tried
create, apply, delete       the operations themselves, in order, up to 100 in a batch, each with its own key
"""

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from rstmdb_cli.failures import Failure

if TYPE_CHECKING:
    from rstmdb_cli.connection import Connection

BATCH = 100
WAYS_MAX = 30
"""How many ways through a machine are tried for one instance before it is given up."""


class Problem(NamedTuple):
    """A line that could not be imported."""

    line: int
    text: str


class Step(NamedTuple):
    """An event that leads from one state to another."""

    source: str
    event: str
    target: str


class Importer:
    """Takes the lines of an export one by one.

    Args:
        client: The server.
    """

    def __init__(self, client: "Connection") -> None:
        self.counts = {"machines": 0, "instances": 0, "events": 0, "skipped": 0}
        self.problems: list[Problem] = []
        self.done_line = 0
        self._client = client
        self._export_id = "unnamed"
        self._definitions: dict[tuple[str, int], dict[str, Any]] = {}
        self._waiting: list[tuple[int, dict[str, Any], dict[str, Any]]] = []
        self._taken = 0

    def take(self, line: dict[str, Any], *, number: int) -> None:
        """Import one line, or keep it for the next batch.

        Raises:
            Failure: It is no line of an export.
        """
        self._taken = number
        kind = line.get("kind") if isinstance(line, dict) else None
        try:
            match kind:
                case "export":
                    self._export_id = str(line.get("id"))
                case "machine":
                    self.flush()
                    self._machine(line, number)
                case "instance":
                    self._instance(line, number)
                case "create" | "apply" | "delete":
                    self._replayed(line, number)
                case "mark" | "end":
                    self.flush()
                case _:
                    raise Failure(f"line {number} is no line of an export: kind is {kind!r}")
        except KeyError as error:
            raise Failure(f"line {number} lacks {error}") from None
        if not self._waiting:
            self.done_line = number

    def _machine(self, line: dict[str, Any], number: int) -> None:
        from rstmdb_client.errors import ServerError

        params = {name: line[name] for name in ("machine", "version", "definition")}
        try:
            created = self._client.call("PUT_MACHINE", params)["created"]
        except ServerError as error:
            self.problems.append(Problem(number, f"machine {line['machine']} v{line['version']}: {error}"))
            return
        self.counts["machines" if created else "skipped"] += 1

    def _definition(self, machine: str, version: int) -> dict[str, Any]:
        known = self._definitions.get((machine, version))
        if known is None:
            params = {"machine": machine, "version": version}
            known = self._definitions[machine, version] = self._client.call("GET_MACHINE", params)[
                "definition"
            ]
        return known

    def _instance(self, line: dict[str, Any], number: int) -> None:
        from rstmdb_client.errors import ServerError

        try:
            definition = self._definition(line["machine"], line["version"])
        except ServerError as error:
            self.problems.append(Problem(number, f"{line['id']}: {error}"))
            return
        create = {
            "op": "CREATE_INSTANCE",
            "params": {
                "instance_id": line["id"],
                "machine": line["machine"],
                "version": line["version"],
                "initial_ctx": line["ctx"],
            },
        }
        if line["state"] == definition["initial"]:
            self._wait(number, line, create)
        else:
            self.flush()
            self._lead(line, number, definition, create)

    def _wait(self, number: int, line: dict[str, Any], operation: dict[str, Any]) -> None:
        self._waiting.append((number, line, operation))
        if len(self._waiting) >= BATCH:
            self.flush()

    def _replayed(self, line: dict[str, Any], number: int) -> None:
        params: dict[str, Any] = {
            "instance_id": line["id"],
            "idempotency_key": f"import:{self._export_id}:{number}",
        }
        match line["kind"]:
            case "create":
                params |= {"machine": line["machine"], "version": line["version"], "initial_ctx": line["ctx"]}
                operation = "CREATE_INSTANCE"
            case "apply":
                params |= {"event": line["event"]}
                if line.get("payload") is not None:
                    params["payload"] = line["payload"]
                operation = "APPLY_EVENT"
            case _:
                operation = "DELETE_INSTANCE"
        self._wait(number, line, {"op": operation, "params": params})

    def flush(self) -> None:
        """Send what waits."""
        if not self._waiting:
            self.done_line = self._taken
            return
        waiting, self._waiting = self._waiting, []
        operations = [operation for _, _, operation in waiting]
        results = self._client.call("BATCH", {"mode": "best_effort", "ops": operations})["results"]
        for (number, line, operation), result in zip(waiting, results, strict=True):
            if result["status"] == "ok":
                replayed = result["result"].get("applied") is False
                kind = (
                    "skipped" if replayed else "events" if operation["op"] == "APPLY_EVENT" else "instances"
                )
                if operation["op"] != "DELETE_INSTANCE":
                    self.counts[kind] += 1
                continue
            error = result["error"]
            if error["code"] == "INSTANCE_EXISTS" and line["kind"] == "instance":
                self._compare(line, number)
            else:
                self.problems.append(Problem(number, f"{line['id']}: {error['code']} - {error['message']}"))
        self.done_line = waiting[-1][0]

    def _compare(self, line: dict[str, Any], number: int) -> None:
        """An instance is there already: the same is fine, anything else is a problem."""
        there = self._client.call("GET_INSTANCE", {"instance_id": line["id"]})
        differing = [name for name in ("machine", "version", "state", "ctx") if there[name] != line[name]]
        if not differing:
            self.counts["skipped"] += 1
            return
        listed = ", ".join(differing)
        self.problems.append(Problem(number, f"{line['id']} is there already, with another {listed}"))

    def _lead(
        self, line: dict[str, Any], number: int, definition: dict[str, Any], create: dict[str, Any]
    ) -> None:
        """Create an instance and lead it to its state, all or nothing."""
        from rstmdb_client.errors import BadRequest, ServerError

        ruled_out: set[Step] = set()
        reason = "no events lead there"
        for _ in range(WAYS_MAX):
            way = shortest_way(definition, line["state"], ruled_out)
            if way is None:
                break
            if len(way) >= BATCH:
                reason = f"the shortest way there has {len(way)} events"
                break
            events = [
                {
                    "op": "APPLY_EVENT",
                    "params": {"instance_id": line["id"], "event": step.event, "expected_state": step.source},
                }
                for step in way
            ]
            try:
                results = self._client.call("BATCH", {"mode": "atomic", "ops": [create, *events]})["results"]
            except BadRequest as error:
                failed = error.details.get("failed_index")
                code = error.details.get("code")
                if code == "INSTANCE_EXISTS":
                    self._compare(line, number)
                    return
                reason = error.message
                if not isinstance(failed, int) or failed == 0:
                    break
                # expected_state failed: the event before led somewhere else
                ruled_out.add(way[failed - 2] if code == "CONFLICT" and failed >= 2 else way[failed - 1])
                continue
            except ServerError as error:
                reason = str(error)
                break
            arrived = results[-1]["result"]["to_state"]
            if arrived == line["state"]:
                self.counts["instances"] += 1
                self.counts["events"] += len(events)
                return
            self._client.call("DELETE_INSTANCE", {"instance_id": line["id"]})
            ruled_out.add(way[-1])
            reason = f"{way[-1].event} leads to {arrived}"
        self.problems.append(
            Problem(number, f"{line['id']} cannot be led to state {line['state']}: {reason}")
        )


def shortest_way(definition: dict[str, Any], state: str, ruled_out: set[Step]) -> list[Step] | None:
    """Return the events from the initial state to another, without some steps; None when there is no way."""
    leaving: dict[str, list[Step]] = {}
    for transition in definition["transitions"]:
        sources = transition["from"]
        for source in [sources] if isinstance(sources, str) else sources:
            step = Step(source, transition["event"], transition["to"])
            if step not in ruled_out:
                leaving.setdefault(source, []).append(step)
    reached: dict[str, Step | None] = {definition["initial"]: None}
    waiting = deque([definition["initial"]])
    while waiting:
        here = waiting.popleft()
        if here == state:
            way: list[Step] = []
            last = reached[here]
            while last is not None:
                way.append(last)
                last = reached[last.source]
            return way[::-1]
        for step in leaving.get(here, ()):
            if step.target not in reached:
                reached[step.target] = step
                waiting.append(step.target)
    return None
