"""The Instance value, its life cycle, and the machine version it runs.

    absent --create, import--> live --apply--> live --delete--> tombstone --create--> live, with a new ordinal
                                                                └── the key window passes --> absent

Instances are replaced, never changed, and hold nothing but strings, integers and bytes, so the collector
does not look at them (`gc=False`) and a dump may walk them while the state goes on.
"""

import msgspec

from rstmdb_core.definition import Definition
from rstmdb_core.document import encode


class Instance(msgspec.Struct, frozen=True, gc=False):
    """A live instance.

    Attributes:
        id: Its id.
        machine: Name of its machine.
        version: Version of its machine.
        state: Current state.
        ctx: Context as compact JSON.
        last_event_id: The `event_id` of the last event, if that event had one.
        last_offset: Sequence of the effect that changed it last.
        created_ms: Time of the record that created it, Unix milliseconds.
        updated_ms: Time of the record that changed it last.
        ordinal: Its place in creation order; never used twice.
    """

    id: str
    machine: str
    version: int
    state: str
    ctx: bytes
    last_event_id: str | None
    last_offset: int
    created_ms: int
    updated_ms: int
    ordinal: int


class Tombstone(msgspec.Struct, frozen=True, gc=False):
    """What remains of a deleted instance while its keys may still be used.

    Attributes:
        key: The instance's id.
        offset: Sequence of the effect that deleted it; a second DELETE answers with it.
        expires_ms: When it is forgotten, Unix milliseconds.
        size: Bytes charged for it.
        ordinal: Its place in the order of deletion.
    """

    key: str
    offset: int
    expires_ms: int
    size: int
    ordinal: int


class Machine(msgspec.Struct, frozen=True):
    """One version of a machine, with what every instance of it shares.

    Attributes:
        name: The machine's name.
        version: The version.
        definition: Its definition.
        states: state -> the one string object every instance of it uses.
        heads: state -> the start of a GET_INSTANCE answer up to the context.
    """

    name: str
    version: int
    definition: Definition
    states: dict[str, str]
    heads: dict[str, bytes]


def make_machine(name: str, version: int, definition: Definition) -> Machine:
    """Prepare a definition for its instances."""
    lead = b'{"machine":%b,"version":%d,"state":' % (encode(name), version)
    return Machine(
        name=name,
        version=version,
        definition=definition,
        states={state: state for state in definition.states},
        heads={state: lead + encode(state) + b',"ctx":' for state in definition.states},
    )
