"""The parameters of every operation, by their names on the wire.

Readers are as tolerant as the published clients need, and no more:

- an absent or null scalar or array is "not given" and arrives as None (or as its default)
- integers must be integer tokens within their range (`1.0` and `"1"` are refused), text must be a string
- members that an operation does not know are ignored
- documents (`ctx`, `payload`, `definition`) stay JSON text; `ABSENT` (no bytes) when not given

What the engine alone can judge (empty or long names, unknown machines) is not judged here.
"""

from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Raw, Struct, field

from rstmdb_protocol.limits import BATCH_OPERATIONS_MAX, OFFSET_MAX, PROTOCOL_VERSION_MAX, VERSION_MAX

U16 = Annotated[int, Meta(ge=0, le=PROTOCOL_VERSION_MAX)]
U32 = Annotated[int, Meta(ge=0, le=VERSION_MAX)]
Offset = Annotated[int, Meta(ge=0, le=OFFSET_MAX)]

_ABSENT: Final = Raw()


class Params(Struct, gc=False, omit_defaults=True, forbid_unknown_fields=True):
    """Base of all parameters. Members that hold their default are not sent.

    `messages.decode_params` ignores unknown members; the structs by themselves refuse them.
    """


class EmptyParams(Params, kw_only=True):
    """No parameters, or none that mean anything."""


class HelloParams(Params, kw_only=True):
    """HELLO. The singular `wire_mode` that some clients send is ignored.

    Attributes:
        protocol_version: The only version there is, is 1.
        client_name: For logs.
        wire_modes: Framings the client can read; `binary_json` is chosen if it is among them.
        features: Features the client can use; the answer is the intersection.
    """

    protocol_version: U16
    client_name: str | None = None
    wire_modes: list[str] | None = None
    features: list[str] | None = None


class AuthParams(Params, kw_only=True):
    """AUTH.

    Attributes:
        token: The secret.
        method: `bearer` when absent, since one published client never sends it.
    """

    token: str
    # A factory, so that it is always sent: the original server requires it.
    method: str | None = field(default_factory=lambda: "bearer")

    def __post_init__(self) -> None:
        if self.method is None:
            self.method = "bearer"


class PutMachineParams(Params, kw_only=True):
    """PUT_MACHINE.

    Attributes:
        machine: Name of the machine.
        version: Version to store.
        definition: JSON text of the definition.
        checksum: Of the definition, if the client wants it compared.
    """

    machine: str
    version: U32
    definition: Raw
    checksum: str | None = None


class GetMachineParams(Params, kw_only=True):
    """GET_MACHINE."""

    machine: str
    version: U32


class ListMachinesParams(EmptyParams, kw_only=True):
    """LIST_MACHINES. The `cursor` and `limit` that one published client may send mean nothing."""


class CreateInstanceParams(Params, kw_only=True):
    """CREATE_INSTANCE.

    Attributes:
        machine: Name of the machine.
        version: Its version.
        instance_id: Chosen by the server when absent.
        initial_ctx: JSON text of the first context; absent and null mean `{}`.
        idempotency_key: Makes a repetition return the first answer.
        idempotency_ttl_secs: How long the key is wanted, if shorter than the server keeps keys anyway.
    """

    machine: str
    version: U32
    instance_id: str | None = None
    initial_ctx: Raw = _ABSENT
    idempotency_key: str | None = None
    idempotency_ttl_secs: U32 | None = None


class GetInstanceParams(Params, kw_only=True):
    """GET_INSTANCE."""

    instance_id: str


class ListInstancesParams(Params, kw_only=True):
    """LIST_INSTANCES.

    Attributes:
        machine: Only instances of this machine.
        state: Only instances in this state.
        limit: Page size; a server clamps it. None means `limits.LIST_INSTANCES_LIMIT_DEFAULT`.
        offset: How many matches to skip. None means 0.
        cursor: Where the page before ended (its `next_cursor`); takes the place of `offset`.
    """

    machine: str | None = None
    state: str | None = None
    limit: U32 | None = None
    offset: U32 | None = None
    cursor: str | None = None


class DeleteInstanceParams(Params, kw_only=True):
    """DELETE_INSTANCE; the key is as in CREATE_INSTANCE."""

    instance_id: str
    idempotency_key: str | None = None
    idempotency_ttl_secs: U32 | None = None


class ApplyEventParams(Params, kw_only=True):
    """APPLY_EVENT.

    Attributes:
        instance_id: The instance.
        event: Name of the event.
        payload: JSON text merged into the context; absent and null mean none.
        expected_state: Refuse with CONFLICT when the instance is in another state.
        expected_wal_offset: Refuse with CONFLICT when the instance has changed since.
        event_id: The client's name for this event.
        idempotency_key: Makes a repetition return the first answer.
        idempotency_ttl_secs: How long the key is wanted, if shorter than the server keeps keys anyway.
    """

    instance_id: str
    event: str
    payload: Raw = _ABSENT
    expected_state: str | None = None
    expected_wal_offset: Offset | None = None
    event_id: str | None = None
    idempotency_key: str | None = None
    idempotency_ttl_secs: U32 | None = None


class BatchOperation(Struct, gc=False, omit_defaults=True):
    """One operation of a batch.

    Attributes:
        op: Its name; None when missing, which makes only this item fail.
        params: Its parameters, not decoded yet.
    """

    op: str | None = None
    params: Raw = _ABSENT


_Operations = Annotated[list[BatchOperation], Meta(max_length=BATCH_OPERATIONS_MAX)]


class BatchParams(Params, kw_only=True):
    """BATCH.

    Attributes:
        ops: The operations, in order; the spelling `operations` is read too.
        mode: `"atomic"`, or anything else for best effort.
        idempotency_key: Makes a repetition return the first answer.
        idempotency_ttl_secs: How long the key is wanted, if shorter than the server keeps keys anyway.
    """

    ops: _Operations | None = None
    operations: _Operations | None = None
    mode: Any = "best_effort"
    idempotency_key: str | None = None
    idempotency_ttl_secs: U32 | None = None

    def __post_init__(self) -> None:
        if self.ops is None:
            if self.operations is None:
                raise ValueError("Object missing required field `ops`")
            self.ops = self.operations
        self.operations = None

    @property
    def items(self) -> list[BatchOperation]:
        """The operations, whatever they were called on the wire."""
        return self.ops or []

    @property
    def atomic(self) -> bool:
        """Whether all operations take effect or none."""
        return isinstance(self.mode, str) and self.mode == "atomic"


class SnapshotInstanceParams(Params, kw_only=True):
    """SNAPSHOT_INSTANCE."""

    instance_id: str


class WalReadParams(Params, kw_only=True):
    """WAL_READ.

    Attributes:
        from_offset: The first record is the one at this offset or the next behind it. Always set by the
            reader, also when the request spelled it `fromOffset`.
        from_offset_camel: The spelling `fromOffset` of one published client: an integer or a decimal string.
        limit: Page size; a server clamps it. Anything but an unsigned integer counts as not given.
        instance_id: Only records of this instance.
    """

    from_offset: Offset | None = None
    from_offset_camel: Offset | str | None = field(name="fromOffset", default=None)
    limit: Any = None
    instance_id: str | None = None

    def __post_init__(self) -> None:
        if self.from_offset is None:
            camel = self.from_offset_camel
            if camel is None:
                raise ValueError("Object missing required field `from_offset`")
            if isinstance(camel, str):
                # The length first: int() of a very long text is a denial of service, and Python refuses it.
                if not (camel.isascii() and camel.isdigit() and len(camel) <= 19):
                    raise ValueError("fromOffset must be an unsigned integer or its decimal text")
                camel = int(camel)
                if camel > OFFSET_MAX:
                    raise ValueError(f"fromOffset must be at most {OFFSET_MAX}")
            self.from_offset = camel
        if type(self.limit) is not int or self.limit < 0:
            self.limit = None

    @property
    def start(self) -> int:
        """The offset to begin at."""
        return self.from_offset or 0

    @property
    def wants_entries(self) -> bool:
        """Whether the answer must also carry `entries`, `hasMore` and `nextOffset`."""
        return self.from_offset_camel is not None


class CompactParams(Params, kw_only=True):
    """COMPACT.

    Attributes:
        force_snapshot: Write a snapshot first; anything but a boolean counts as false.
    """

    force_snapshot: Any = False

    def __post_init__(self) -> None:
        self.force_snapshot = self.force_snapshot is True


IncludedKind = Literal["create", "delete", "put_machine", "flush"]


class WatchInstanceParams(Params, kw_only=True):
    """WATCH_INSTANCE.

    Attributes:
        instance_id: The instance.
        include_ctx: Send the context with each event.
        from_offset: Replay from here, inclusive, then live; absent and 0 mean live only.
        after_offset: Replay what is behind this offset, then live.
        from_position: `"oldest"` replays from the oldest change kept. `from` on the wire.
        include: Kinds of change to report besides applied events.
    """

    instance_id: str
    include_ctx: bool = True
    from_offset: Offset | None = None
    after_offset: Offset | None = None
    from_position: Literal["oldest"] | None = field(name="from", default=None)
    include: list[IncludedKind] | None = None


class WatchAllParams(Params, kw_only=True):
    """WATCH_ALL. Filters: any of a list, all of the lists; an empty list matches everything.

    Attributes:
        include_ctx: Send the context with each event.
        from_offset: Replay from here, inclusive, then live; absent and 0 mean live only.
        after_offset: Replay what is behind this offset, then live.
        from_position: `"oldest"` replays from the oldest change kept. `from` on the wire.
        machines: Names of machines.
        from_states: States before.
        to_states: States after.
        events: Names of events.
        include: Kinds of change to report besides applied events.
    """

    include_ctx: bool = True
    from_offset: Offset | None = None
    after_offset: Offset | None = None
    from_position: Literal["oldest"] | None = field(name="from", default=None)
    machines: list[str] | None = None
    from_states: list[str] | None = None
    to_states: list[str] | None = None
    events: list[str] | None = None
    include: list[IncludedKind] | None = None


class UnwatchParams(Params, kw_only=True):
    """UNWATCH."""

    subscription_id: str


class ExplainEventParams(Params, kw_only=True):
    """EXPLAIN_EVENT.

    Attributes:
        instance_id: The instance.
        event: Explain this event; all events of the current state when absent.
        payload: JSON text that the event would carry.
    """

    instance_id: str
    event: str | None = None
    payload: Raw = _ABSENT
