"""The id of a malformed request, against an independent model: a recursive descent parser, byte by byte."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rstmdb_protocol import RECOVERY_TOKENS_MAX, recover_envelope
from rstmdb_protocol.recovery import RecoveredEnvelope


class NotJsonError(Exception):
    """The text stops being JSON."""


class Model:
    """Reads one JSON value the slow and plain way, noting string members of the outermost object."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.found: dict[str, str] = {}

    def run(self) -> RecoveredEnvelope:
        try:
            self.space()
            if self.peek() != b"{":
                raise NotJsonError
            self.object(depth=1)
        except NotJsonError:
            pass
        return RecoveredEnvelope(self.found.get("id"), self.found.get("op"))

    def peek(self) -> bytes:
        return self.data[self.at : self.at + 1]

    def take(self, wanted: bytes) -> None:
        if not self.data.startswith(wanted, self.at):
            raise NotJsonError
        self.at += len(wanted)

    def space(self) -> None:
        while self.peek() and self.peek() in b" \t\r\n":
            self.at += 1

    def value(self, depth: int) -> str | None:
        self.space()
        first = self.peek()
        if first == b'"':
            return self.string()
        if first == b"{":
            self.object(depth + 1)
        elif first == b"[":
            self.array(depth + 1)
        elif first in (b"t", b"f", b"n"):
            self.take({b"t": b"true", b"f": b"false", b"n": b"null"}[first])
        else:
            self.number()
        return None

    def object(self, depth: int) -> None:
        self.take(b"{")
        self.space()
        if self.peek() == b"}":
            return self.take(b"}")
        while True:
            self.space()
            key = self.string()
            self.space()
            self.take(b":")
            text = self.value(depth)
            if depth == 1 and text is not None and key in ("id", "op"):
                self.found.setdefault(key, text)
            self.space()
            if self.peek() == b"}":
                return self.take(b"}")
            self.take(b",")

    def array(self, depth: int) -> None:
        self.take(b"[")
        self.space()
        if self.peek() == b"]":
            return self.take(b"]")
        while True:
            self.value(depth)
            self.space()
            if self.peek() == b"]":
                return self.take(b"]")
            self.take(b",")

    def number(self) -> None:
        if self.peek() == b"-":
            self.at += 1
        if self.peek() == b"0":
            self.at += 1
        else:
            self.digits()
        if self.peek() == b".":
            self.at += 1
            self.digits()
        # An exponent that is cut short cannot be told from a number with junk behind it: both end here.
        if self.peek() in (b"e", b"E"):
            self.at += 1
            if self.peek() in (b"+", b"-"):
                self.at += 1
            self.digits()

    def digits(self) -> None:
        start = self.at
        while self.peek().isdigit():
            self.at += 1
        if self.at == start:
            raise NotJsonError

    def string(self) -> str:
        start = self.at
        self.take(b'"')
        while self.peek() != b'"':
            if not self.peek() or self.peek() < b" ":
                raise NotJsonError
            self.at += 2 if self.peek() == b"\\" else 1
        self.take(b'"')
        try:
            text: str = json.loads(self.data[start : self.at].decode())
            text.encode()  # half a surrogate pair has no UTF-8
        except ValueError:
            raise NotJsonError from None
        return text


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6)
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
members = st.tuples(
    st.sampled_from(["id", "op", "type", "params", "x"]), documents | st.sampled_from(["7", "8"])
)


@st.composite
def nearly_json(draw: st.DrawFn) -> bytes:
    """An object with some of the envelope's members, perhaps twice, perhaps damaged at some bytes."""
    items = draw(st.lists(members, max_size=6))
    ascii_only = draw(st.booleans())
    space = draw(st.sampled_from(["", " ", "\n\t"]))
    pairs = [
        f"{json.dumps(k)}{space}:{space}{json.dumps(v, ensure_ascii=ascii_only)}{space}" for k, v in items
    ]
    data = bytearray(f"{{{space}{','.join(pairs)}}}".encode())
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        kind = draw(st.sampled_from(["cut", "drop", "insert", "replace"]))
        byte = draw(st.sampled_from(list(b'{}[],:"\\ 0123456789.eE+-tfnudD\x00\n\xff\xc3')))
        if kind == "cut":
            del data[at:]
        elif kind == "drop":
            del data[at : at + 1]
        elif kind == "insert":
            data.insert(at, byte)
        elif data:
            data[at] = byte
    return bytes(data)


@settings(max_examples=400, deadline=None)
@given(nearly_json())
@example(b'{"a":1e5,"id":"7"}')
@example(b'{"a":1e,"id":"7"}')
@example(b'{"a":-,"id":"7"}')
@example(b'{"a":01,"id":"7"}')
@example(b'{"a":"\\ud83d\\ude00","id":"7"}')
def test_recovery_agrees_with_the_model(data: bytes) -> None:
    assert recover_envelope(data) == Model(data).run()


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_recovery_never_raises(data: bytes) -> None:
    assert recover_envelope(data) == Model(data).run()
    assert recover_envelope(b'{"id":"7",' + data).id == "7"


@pytest.mark.parametrize("position", range(60))
def test_recovery_at_each_cut(position: int) -> None:
    whole = b'{"type":"request","op":"APPLY_EVENT","params":{},"id":"\\u0037"}'
    expected = RecoveredEnvelope("7" if position >= 62 else None, "APPLY_EVENT" if position >= 36 else None)
    assert recover_envelope(whole[:position]) == expected
    assert recover_envelope(whole).id == "7"


def test_the_scan_is_bounded() -> None:
    cheap = b'{"a":[' + b"1," * (RECOVERY_TOKENS_MAX // 2 - 100) + b'1],"id":"7"}'
    costly = b'{"a":[' + b"1," * RECOVERY_TOKENS_MAX + b'1],"id":"7"}'
    assert recover_envelope(cheap).id == "7"
    assert recover_envelope(costly).id is None


def test_a_large_document_before_the_id_is_no_obstacle() -> None:
    document: Any = {"text": "x" * (1 << 20), "list": ["word"] * 20_000}
    data = b'{"params":' + json.dumps(document).encode() + b',"id":"7"'
    assert recover_envelope(data).id == "7"
