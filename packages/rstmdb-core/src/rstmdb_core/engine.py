"""Decide what a command does; apply what was decided.

    decide(state, command) -> Outcome(record, answer)    nothing has changed yet: the host logs the record
                            | Refusal(code, ...)          nothing will change
    apply(state, record)                                  the one fold, live and in replay (fold.py)

`decide` is complete: every limit, guard and expectation is checked there, so `apply` accepts every record
that `decide` made, on the state it was decided on, for ever. The answer must not be shown before the record
is durable.
"""

from collections.abc import Callable

from rstmdb_core.administration import decide_flush, decide_import, decide_put_machine
from rstmdb_core.answers import Outcome, Refusal, Step
from rstmdb_core.batch import decide_batch
from rstmdb_core.commands import (
    ApplyEvent,
    Batch,
    Command,
    CreateInstance,
    DeleteInstance,
    FlushAll,
    Import,
    PutMachine,
)
from rstmdb_core.fold import apply
from rstmdb_core.operations import decide_apply, decide_create, decide_delete
from rstmdb_core.records import Record
from rstmdb_core.state import State

__all__ = ["Outcome", "Refusal", "apply", "decide"]


def decide(state: State, command: Command, *, now_ms: int, new_id: Callable[[], str]) -> Outcome | Refusal:
    """Decide a command on a state, without changing it.

    Args:
        state: The state with every earlier record applied.
        command: What is asked.
        now_ms: The clock, Unix milliseconds; a clock that went back is ignored.
        new_id: Makes an instance id nobody has, for a CREATE without one.

    Returns:
        The outcome to log, apply and answer; or why the command is refused.
    """
    time_ms = max(now_ms, state.time_ms)
    if type(command) is ApplyEvent:
        step = decide_apply(state, command, time_ms, 0)
    elif type(command) is CreateInstance:
        step = decide_create(state, command, time_ms, 0, new_id)
    elif type(command) is DeleteInstance:
        step = decide_delete(state, command, time_ms, 0)
    elif type(command) is Batch:
        return decide_batch(state, command, time_ms, new_id)
    elif type(command) is PutMachine:
        return decide_put_machine(state, command, time_ms)
    elif type(command) is FlushAll:
        return decide_flush(state, command, time_ms)
    else:
        assert type(command) is Import
        return decide_import(state, command, time_ms)
    if type(step) is Refusal:
        return step
    assert type(step) is Step
    effect = step.effect
    if effect is None:
        return Outcome(None, step.answer)
    keys = () if step.key is None else (step.key,)
    return Outcome(Record(state.next_sequence, time_ms, (effect,), keys), step.answer)
