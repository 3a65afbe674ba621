"""The limits fit together."""

from rstmdb_protocol import limits


def test_limits_fit_together() -> None:
    assert (
        limits.HANDSHAKE_PAYLOAD_BYTES_MAX
        < limits.FRAME_PAYLOAD_BYTES_MAX
        == limits.LINE_BYTES_MAX
        == 1 << 24
    )
    assert limits.WAL_READ_BYTES_MAX < limits.FRAME_PAYLOAD_BYTES_MAX
    assert limits.LIST_INSTANCES_LIMIT_DEFAULT <= limits.LIST_INSTANCES_LIMIT_MAX
    assert limits.REQUEST_ID_BYTES_MAX < limits.HANDSHAKE_PAYLOAD_BYTES_MAX
    assert limits.OFFSET_MAX >= 2**53
