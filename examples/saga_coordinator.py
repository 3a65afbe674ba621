"""A saga: steps across services, undone in reverse when one fails, and finished after a crash.

The saga's own progress is an instance. Every step is done under a key made of the saga's id and the step's
name, so a coordinator that died half-way is simply started again: what was done is not done twice.
"""

import os
from collections.abc import Callable

from rstmdb_client import Client

SAGA = {
    "states": ["running", "undoing", "done", "undone"],
    "initial": "running",
    "transitions": [
        {"from": "running", "event": "STEP_DONE", "to": "running"},
        {"from": "running", "event": "FAIL", "to": "undoing"},
        {"from": "undoing", "event": "STEP_UNDONE", "to": "undoing"},
        {"from": "running", "event": "FINISH", "to": "done"},
        {"from": "undoing", "event": "FINISH", "to": "undone"},
    ],
}

Step = tuple[str, Callable[[], None], Callable[[], None]]


def run(client: Client, saga: str, steps: list[Step]) -> str:
    """Drive a saga, from wherever it stands, to its end; return the final state."""
    found = client.get_instance(saga)
    done: list[str] = found.ctx.get("done", [])
    if found.state == "running":
        try:
            for name, action, _ in steps:
                if name not in done:
                    action()
                    done = [*done, name]
                    client.apply_event(
                        saga, "STEP_DONE", payload={"done": done}, idempotency_key=f"{saga}/{name}/done"
                    )
        except RuntimeError as failure:
            reason = {"reason": str(failure)}
            client.apply_event(saga, "FAIL", payload=reason, idempotency_key=f"{saga}/fail")
        else:
            return client.apply_event(saga, "FINISH", idempotency_key=f"{saga}/finish").to_state
    elif found.state in ("done", "undone"):
        return found.state
    for name, _, undo in reversed(steps):
        if name in done:
            undo()
            done = [one for one in done if one != name]
            client.apply_event(
                saga, "STEP_UNDONE", payload={"done": done}, idempotency_key=f"{saga}/{name}/undone"
            )
    return client.apply_event(saga, "FINISH", idempotency_key=f"{saga}/finish").to_state


def main(url: str | None = None) -> tuple[str, list[str]]:
    """Book a trip whose last step fails, with a crash in between; return the end and what was called."""
    called: list[str] = []

    def refuse() -> None:
        raise RuntimeError("no car left")

    def crash() -> None:
        raise KeyboardInterrupt

    def step(name: str, action: Callable[[], None] | None = None) -> Step:
        return (
            name,
            action or (lambda: called.append(f"book {name}")),
            lambda: called.append(f"cancel {name}"),
        )

    with Client(url) as client:
        client.put_machine("saga", 1, SAGA)
        saga = client.create_instance("saga", 1, ctx={"trip": "Lisbon"}).instance_id
        try:
            run(client, saga, [step("flight"), step("hotel", crash)])
        except KeyboardInterrupt:
            print("the coordinator died after", called)
        end = run(client, saga, [step("flight"), step("hotel"), step("car", refuse)])
        print(end, called)
        return end, called


if __name__ == "__main__":
    main(os.environ.get("RSTMDB_URL"))
