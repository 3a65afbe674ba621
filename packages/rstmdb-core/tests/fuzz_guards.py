"""Fuzzes the guard language: any text is accepted, or refused with our own error; nothing else.

    python packages/rstmdb-core/tests/fuzz_guards.py [--seconds N]

Every accepted guard is evaluated on contexts read from the same bytes and held against the independent model;
every refused one must be refused by the model too. A crash is kept in the temporary directory and ends the
run.
"""

import sys
from contextlib import suppress
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parent))

with atheris.instrument_imports(include=["rstmdb_core"]):
    from rstmdb_core import DocumentError, GuardSyntaxError, compile_guard, intake
    from rstmdb_core.guard import original_prefix
    from rstmdb_core.guard.constancy import constant_value, normal_form

from core_model.guards import NotAGuardError, evaluate
from fuzz_seconds import run

CONTEXTS = ({}, {"a": 1, "b": {"a": "x", "length": 0}}, {"a": [1, 2], "b": "text", "": {"": True}})
TOKENS = (
    *("ctx.a", "ctx.b", "ctx.a.b", "ctx.a.length", "ctx..", "ctx.é", "ctx."),
    *("&&", "||", "!", "(", ")", "==", "!=", "<", "<=", ">", ">=", "=", "&", " "),
    *("5", "-1", ".5", "007", "-", ".", "9" * 309, "true", "false", "null", "x", '"x"', '""', '"', "\\"),
)
counts = {"accepted": 0, "refused": 0}


def refused(text: str, error: GuardSyntaxError) -> None:
    counts["refused"] += 1
    assert 0 <= error.position <= len(text)
    assert "connection" not in str(error) or "connection" in text
    try:
        evaluate(text, {})
    except NotAGuardError:
        pass
    else:
        raise AssertionError(f"the model accepts {text!r}")
    if len(text) > 60:
        return  # finding the prefix parses the text once for each character
    with suppress(GuardSyntaxError):
        prefix = original_prefix(text)
        assert text.startswith(prefix)
        compile_guard(prefix)


def read(data: bytes) -> tuple[str, bytes]:
    """Read a guard and the text of a context: the guard as text, or as a row of tokens."""
    guard, _, context = data.partition(b"\0")
    if guard[:1] == b"\xff":
        return "".join(TOKENS[byte % len(TOKENS)] for byte in guard[1:]), context
    return guard.decode("utf-8", "replace"), context


def one_input(data: bytes) -> None:
    text, document = read(data)
    contexts = list(CONTEXTS)
    with suppress(DocumentError):
        contexts.append(intake(document)[0])
    try:
        guard = compile_guard(text)
    except GuardSyntaxError as error:
        refused(text, error)
        return
    counts["accepted"] += 1
    constant = constant_value(guard)
    normal_form(guard.tree)
    for context in contexts:
        value = guard(context)
        assert value is evaluate(text, context), (text, context)
        assert constant is None or constant is value, (text, context)
        guard.explain(context)


SEEDS = (
    b"ctx.a > 5 && ctx.b == true\0{}",
    b'!(ctx.a.b == "x" || ctx.items.length >= 2)\0{"a":{"b":"x"},"items":[1,2]}',
    b"ctx.a == null || !ctx.b != -0.5\0",
    "((ctx.a)) && ctx.é == 007".encode(),
    bytes([255, 0, 7, 20]),
)

if __name__ == "__main__":
    run(one_input, list(SEEDS), counts)
