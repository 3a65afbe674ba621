import datetime
import enum
import json
import math
import uuid
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rstmdb_client.documents import decoder_for, encode_document, text
from rstmdb_client.errors import InvalidDocument


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Point:
    x: Any
    y: Any = None


class Box(msgspec.Struct):
    inner: Any


class Model(pydantic.BaseModel):
    value: Any = None


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), JSON, max_size=5))
def test_json_passes_unchanged(value: dict[str, Any]) -> None:
    assert json.loads(encode_document(value, "ctx")) == value


@given(JSON, st.sampled_from([math.nan, math.inf, -math.inf, 2**64, -(2**63) - 1, "\ud800", object()]))
def test_what_json_cannot_hold_is_found(around: Any, bad: Any) -> None:
    value = {"a": [around, {"b": bad}, around]}
    with pytest.raises(InvalidDocument) as refused:
        encode_document(value, "ctx")
    assert refused.value.path == "ctx.a[1].b"


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (Point(1, [math.nan]), "ctx.y[0]"),
        (Box({"k": math.inf}), "ctx.inner.k"),
        (Model(value={"k": [None, math.nan]}), "ctx.value.k[1]"),
        ({"a": (1, math.nan)}, "ctx.a[1]"),
        ({"a": Point(object())}, "ctx.a.x"),
        ({"a": Box(2**70)}, "ctx.a.inner"),
        ({None: 1}, "ctx"),
        ({"a": {object(): 1}}, "ctx.a"),
    ],
)
def test_the_place_is_named(value: Any, path: str) -> None:
    with pytest.raises(InvalidDocument) as refused:
        encode_document(value, "ctx")
    assert refused.value.path == path
    assert str(refused.value).startswith(path)


def test_kinds_of_values() -> None:
    moment = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
    number = uuid.UUID(int=1)
    value = MappingProxyType(
        {"c": Colour.RED, "t": moment, "u": number, "s": {1}, "p": Point(1), "m": Model()}
    )
    assert json.loads(encode_document(value, "ctx")) == {
        "c": "red",
        "t": "2026-01-02T00:00:00Z",
        "u": str(number),
        "s": [1],
        "p": {"x": 1, "y": None},
        "m": {"value": None},
    }


@pytest.mark.parametrize("value", [None, 1, "text", [1], [("a", 1)], Colour.RED])
def test_only_objects_are_documents(value: Any) -> None:
    with pytest.raises(InvalidDocument):
        encode_document(value, "ctx")


def test_loops_and_depth() -> None:
    loop: dict[str, Any] = {}
    loop["self"] = loop
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"a": deep}
    for value in (loop, deep):
        with pytest.raises(InvalidDocument, match="deep"):
            encode_document(value, "ctx")


def test_words_that_look_like_trouble_are_not() -> None:
    value = {"null": "null", "n": None, "d": "1234567890123456789012", "i": 2**63}
    assert json.loads(encode_document(value, "ctx")) == value


def test_text() -> None:
    assert text("ä\n", "id") == '"ä\\n"'.encode()
    for wrong in ("\ud800", b"x", 1, None):
        with pytest.raises(InvalidDocument):
            text(wrong, "id")  # type: ignore[arg-type]


def test_decoders_are_kept() -> None:
    assert decoder_for(Point) is decoder_for(Point)
    with pytest.raises(TypeError):
        decoder_for(Point | Box)
