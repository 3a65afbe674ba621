"""Intake of client documents."""

import json
import math

import msgspec
import pytest
from core_model.model import RefusedError, read_document
from hypothesis import given, settings
from hypothesis import strategies as st

from rstmdb_core import DocumentError, intake
from rstmdb_core.document import canonical, decode_checked, merge


@pytest.mark.parametrize("raw", [b"", b"null", b" null ", b"{}", b" { } "])
def test_nothing_is_an_empty_object(raw):
    assert intake(raw) == ({}, b"{}")


@pytest.mark.parametrize(
    "raw",
    [
        b"[]",
        b"5",
        b'"x"',
        b"true",
        b"{",
        b'{"a":}',
        b'{"a":1}x',
        b'{"a":1,}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":1e400}',
        b'{"a":-1e400}',
        b'{"a":' + b"9" * 400 + b"}",
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":"\xff"}',
        b'{"a":"\\ud800"}',
        b'{"a":"\n"}',
        b"{'a':1}",
        b'{"a":01}',
        b"\xef\xbb\xbf{}",
        b'{"a":' * 56 + b"1" + b"}" * 56 + b" x",
        b"{" * 100_000,
        b"[" * 100_000,
        b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}",
    ],
)
def test_refused(raw):
    with pytest.raises(DocumentError) as caught:
        intake(raw, place="payload")
    assert caught.value.place == "payload"
    assert "connection" not in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b'{ "a" : 1 , "b":[ 1 ,2] }', b'{"a":1,"b":[1,2]}'),
        (b'{"a":1,"a":2}', b'{"a":2}'),
        (b'{"a":"\\u00e9\\ud83d\\ude00"}', '{"a":"é😀"}'.encode()),
        (b'{"a":18446744073709551615,"b":-9223372036854775808}', None),
        (b'{"a":18446744073709551616}', b'{"a":1.8446744073709552e19}'),
        (b'{"a":-9223372036854775809}', b'{"a":-9.223372036854776e18}'),
        (b'{"a":[{"b":123456789012345678901234567890}]}', b'{"a":[{"b":1.2345678901234568e29}]}'),
        (b'{"a":"1234567890123456789012345"}', None),
        (b'{"a":1.0,"b":-0.0,"c":1e3}', b'{"a":1.0,"b":-0.0,"c":1000.0}'),
    ],
)
def test_compact_text(raw, text):
    value, compact = intake(raw)
    assert compact == (raw if text is None else text)
    assert json.loads(compact) == value
    assert intake(compact) == (value, compact)


def test_depth_is_counted_exactly():
    for depth, good in ((55, True), (56, True), (57, False)):
        for open_, close, core in ((b'{"a":', b"}", b"1"), (b'{"a":[', b"]}", b"")):
            step = open_.count(b"{") + open_.count(b"[")
            if depth % step:
                continue
            raw = open_ * (depth // step) + core + close * (depth // step)
            if good:
                assert intake(raw)[1] == raw
            else:
                with pytest.raises(DocumentError, match="deeper than 56"):
                    intake(raw)


def test_brackets_in_strings_are_no_depth():
    raw = b'{"a":"' + b"[{" * 200 + b'"}'
    assert intake(raw)[1] == raw


def test_wide_is_not_deep():
    raw = b'{"a":[' + b",".join([b"{}"] * 500) + b"]}"
    assert intake(raw)[1] == raw


def test_size_is_that_of_the_compact_form():
    raw = b'{"a":"' + b"\\u0041" * 100 + b'"}'
    assert intake(raw, bytes_max=108)[1] == b'{"a":"' + b"A" * 100 + b'"}'
    with pytest.raises(DocumentError, match="takes 108 bytes, the limit is 107"):
        intake(raw, bytes_max=107)


@pytest.mark.parametrize("part", [b"[],", b"1,", b'{"a":[1]},', b'{"a":{"b":1}},'])
def test_a_text_of_far_too_many_values_is_not_decoded(part, monkeypatch):
    """Decoding what a frame can carry of them took two seconds, and then it was too large."""

    def decoded(raw):
        raise AssertionError("decoded")

    raw = b'{"a":[' + part * 2_000_000 + b"0]}"
    with monkeypatch.context() as patch:
        patch.setattr("rstmdb_core.document._decode", decoded)
        for call in (
            lambda: intake(raw, place="payload"),
            lambda: decode_checked(raw, place="payload", bytes_max=1_000),
        ):
            with pytest.raises(DocumentError, match="payload: holds more values than fit"):
                call()


@pytest.mark.parametrize("raw", [b'{"a":[[1],[2],{"b":"[{,,"}]}', b'{"a":1}', b'{"":[]}', b'{"a":{},"b":[]}'])
def test_what_fits_is_never_taken_for_too_many_values(raw):
    assert intake(b" " * 99 + raw, bytes_max=len(raw))[1] == raw


def test_raw_and_memoryview_are_taken():
    assert intake(msgspec.Raw(b'{"a":1}')) == ({"a": 1}, b'{"a":1}')
    assert intake(memoryview(b'{"a":1}')) == ({"a": 1}, b'{"a":1}')


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=500, deadline=None)
@given(st.dictionaries(st.text(), json_values, max_size=5), st.booleans())
def test_intake_agrees_with_the_model_and_is_stable(value, ascii_only):
    raw = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "replace")
    decoded, compact = intake(raw)
    assert decoded == read_document(raw, math.inf)
    assert intake(compact) == (decoded, compact)
    assert json.loads(compact) == decoded


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=40) | st.text(alphabet='{}[]":,ae1.-\\ud8 ', max_size=40).map(str.encode))
def test_any_bytes_are_accepted_or_refused_as_the_model_does(raw):
    try:
        taken = intake(raw)[0]
    except DocumentError:
        taken = "refused"
    try:
        expected = read_document(raw, math.inf)
    except RefusedError:
        expected = "refused"
    assert taken == expected


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(st.text(), json_values, max_size=4), st.dictionaries(st.text(), json_values, max_size=4)
)
def test_merge_is_shallow(context, payload):
    first, text = intake(json.dumps(context).encode())
    second, _ = intake(json.dumps(payload).encode())
    for decoded in (None, first):
        merged = merge(text, decoded, second)
        assert json.loads(merged) == {**first, **second}
        assert intake(merged)[1] == merged


def test_canonical_ignores_the_order_of_keys():
    assert canonical({"b": {"y": 1, "x": [2]}, "a": 1}) == canonical({"a": 1, "b": {"x": [2], "y": 1}})
    assert canonical({"a": 1}) != canonical({"a": 1.0})


def test_any_value_can_be_checked():
    assert decode_checked(b"[1,2]", place="meta") == [1, 2]
    with pytest.raises(DocumentError, match="meta"):
        decode_checked(b"[", place="meta")
