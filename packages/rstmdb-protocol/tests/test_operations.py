"""The table of operations, and what clients send of it."""

import msgspec
import pytest

from rstmdb_protocol import (
    BATCHABLE,
    FEATURES,
    OPERATIONS,
    ApplyEventParams,
    AuthParams,
    BatchOperation,
    BatchParams,
    HelloParams,
    Params,
    Result,
    WalReadParams,
    WatchAllParams,
    decode_params,
)

WITHOUT_AUTHENTICATION = {"HELLO", "AUTH", "PING", "BYE"}
WRITES = {"PUT_MACHINE", "CREATE_INSTANCE", "DELETE_INSTANCE", "APPLY_EVENT", "BATCH", "FLUSH_ALL"}


def test_the_table() -> None:
    assert len(OPERATIONS) == 24
    for name, operation in OPERATIONS.items():
        assert operation.name == name == name.upper()
        assert issubclass(operation.params_type, Params)
        assert issubclass(operation.result_type, Result)
        assert operation.requires_auth == (name not in WITHOUT_AUTHENTICATION)
        assert operation.writes == (name in WRITES)
        assert operation.feature is None or operation.feature in FEATURES
    assert BATCHABLE <= WRITES


def test_features() -> None:
    # The three of the original come first: a published client may show them in this order.
    assert FEATURES[:3] == ("idempotency", "batch", "wal_read")
    assert len(set(FEATURES)) == len(FEATURES)


@pytest.mark.parametrize(
    "struct", [*Params.__subclasses__(), *Result.__subclasses__()], ids=lambda s: s.__name__
)
def test_options_are_keyword_only(struct: type[msgspec.Struct]) -> None:
    if struct.__struct_fields__:
        with pytest.raises(TypeError):
            struct("x")


def test_members_at_their_default_are_not_sent() -> None:
    encode = msgspec.json.encode
    assert encode(ApplyEventParams(instance_id="i", event="E")) == b'{"instance_id":"i","event":"E"}'
    assert encode(WatchAllParams()) == b"{}"
    assert encode(WatchAllParams(from_position="oldest")) == b'{"from":"oldest"}'
    assert encode(WalReadParams(from_offset=0)) == b'{"from_offset":0}'
    assert encode(BatchParams(ops=[BatchOperation("X")])) == b'{"ops":[{"op":"X"}]}'
    assert encode(HelloParams(protocol_version=1)) == b'{"protocol_version":1}'
    # The original server requires it.
    assert msgspec.json.decode(encode(AuthParams(token="t"))) == {"token": "t", "method": "bearer"}


@pytest.mark.parametrize(
    "params",
    [
        ApplyEventParams(instance_id="i", event="E", payload=msgspec.Raw(b'{"a":1}'), expected_wal_offset=5),
        BatchParams(ops=[BatchOperation("X", msgspec.Raw(b"{}"))], mode="atomic", idempotency_key="k"),
        WatchAllParams(include_ctx=False, machines=["m"], after_offset=3, include=["create"]),
        WalReadParams(from_offset=7, limit=3, instance_id="i"),
    ],
    ids=lambda params: type(params).__name__,
)
def test_what_a_client_sends_is_what_a_server_reads(params: Params) -> None:
    text = msgspec.json.encode(params)
    again = decode_params(type(params), text)
    assert msgspec.json.encode(again) == text
