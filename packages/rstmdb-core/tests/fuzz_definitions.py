"""Fuzzes definitions and documents: accepted, or refused with our own errors; nothing else.

    python packages/rstmdb-core/tests/fuzz_definitions.py [--seconds N]

What is accepted must be a fixed point: parsed again from its canonical form it is the same, it can be put,
used, logged, replayed and linted.
"""

import json
import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parent))

with atheris.instrument_imports(include=["rstmdb_core"]):
    from rstmdb_core import (
        ApplyEvent,
        CreateInstance,
        DefinitionError,
        DocumentError,
        Outcome,
        PutMachine,
        Refusal,
        State,
        apply,
        decide,
        decode_record,
        digest,
        dump,
        encode_record,
        explain,
        get_instance,
        intake,
        lint_definition,
        load,
        parse_definition,
    )

from fuzz_seconds import run

counts = {"accepted": 0, "refused": 0}


def execute(state: State, log: list[bytes], command: object) -> Outcome | Refusal:
    decided = decide(state, command, now_ms=1, new_id=lambda: "auto")  # type: ignore[arg-type]
    if isinstance(decided, Outcome):
        json.loads(decided.answer)
        if decided.record is not None:
            log.append(encode_record(decided.record))
            apply(state, decided.record)
    else:
        json.dumps(decided.details).encode()
        decided.message.encode()
    return decided


def refused(text: bytes, error: DefinitionError) -> None:
    counts["refused"] += 1
    assert error.faults
    assert [finding.rule for finding in lint_definition(text)] == ["invalid"] * len(error.faults)


def one_input(data: bytes) -> None:
    text, _, rest = data.partition(b"\0")
    payload, _, event = rest.partition(b"\0")
    try:
        compact = intake(payload)[1]
        assert intake(compact)[1] == compact
    except DocumentError:
        pass
    try:
        definition = parse_definition(text)
    except DefinitionError as error:
        refused(text, error)
        return
    counts["accepted"] += 1
    assert parse_definition(definition.canonical).canonical == definition.canonical
    lint_definition(text)
    state = State()
    log: list[bytes] = []
    assert isinstance(execute(state, log, PutMachine("m", 1, text)), Outcome)
    assert isinstance(execute(state, log, CreateInstance("i", "m", 1)), Outcome)
    events = [event.decode("utf-8", "replace"), *(move.event for move in definition.transitions[:20])]
    for name in events:
        execute(state, log, ApplyEvent("i", name, payload, idempotency_key="k"))
        execute(state, log, ApplyEvent("i", name, payload))
    json.loads(get_instance(state, "i"))  # type: ignore[arg-type]
    explain(state, "i")
    replica = State()
    for body in log:
        apply(replica, decode_record(body))
    with dump(state) as view:
        assert digest(load(view.chunks())) == digest(state) == digest(replica)


MACHINE = b'{"states":["a","b"],"initial":"a","transitions":[%b]%b}\0%b\0e'
SEEDS = (
    MACHINE % (b'{"from":["a"],"event":"e","to":"b"}', b"", b'{"x":1}'),
    MACHINE
    % (b'{"from":"a","event":"e","to":"a","guard":"ctx.x > 5"}', b',"meta":{"z":[1.5,null]}', b'{"x":6}'),
    MACHINE % (b"", b',"other":"\\u00e9"', b'{"y":123456789012345678901234567890}'),
)

if __name__ == "__main__":
    run(one_input, list(SEEDS), counts)
