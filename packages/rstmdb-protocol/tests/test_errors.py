"""The exceptions: their texts, their tree, and that they survive pickling."""

import pickle

import pytest

from rstmdb_protocol import (
    RETRYABLE,
    ErrorCode,
    FramingError,
    FramingFault,
    LocalError,
    MessageError,
    ParamsError,
    ProtocolError,
)

EXAMPLES = [
    (FramingError(FramingFault.BAD_MAGIC, "expected 52435058"), "bad magic: expected 52435058"),
    (MessageError("no id"), "malformed message: no id"),
    (ParamsError("params.version", "expected an integer"), "params.version: expected an integer"),
    (LocalError("request id '1' is in use"), "request id '1' is in use"),
]


@pytest.mark.parametrize(("error", "text"), EXAMPLES, ids=[type(error).__name__ for error, _ in EXAMPLES])
def test_texts_and_tree(error: ProtocolError, text: str) -> None:
    assert str(error) == text
    assert isinstance(error, ProtocolError)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert (str(copy), vars(copy)) == (text, vars(error))


def test_every_class_of_the_tree_has_an_example() -> None:
    assert set(ProtocolError.__subclasses__()) == {type(error) for error, _ in EXAMPLES}


def test_codes() -> None:
    assert len(ErrorCode) == 16
    assert all(code.name == code.value for code in ErrorCode)
    assert {code for code in ErrorCode if code in RETRYABLE} == RETRYABLE
    assert len(RETRYABLE) == 3
