"""Read the state: results of the operations that change nothing, as JSON text of the wire.

LIST_INSTANCES is in creation order. A page after a cursor costs what the page costs; a page at an offset
also counts its way there. `total` counts all that match, whatever the page.
"""

from collections.abc import Collection, Container, Iterator

import msgspec

from rstmdb_core.answers import Refusal, bad_request, instance_not_found, machine_not_found
from rstmdb_core.document import encode
from rstmdb_core.index import ordinals_after, ordinals_from_rank
from rstmdb_core.instance import Instance
from rstmdb_core.limits import PAGE_INSTANCES_DEFAULT, PAGE_INSTANCES_MAX
from rstmdb_core.state import State


class Position(msgspec.Struct, frozen=True, gc=False):
    """Where an instance stands, for a watch that starts now."""

    state: str
    last_offset: int


def get_instance(state: State, instance_id: str) -> bytes | Refusal:
    """Return the result of GET_INSTANCE."""
    instance = state.instances.get(instance_id)
    if instance is None:
        return instance_not_found(instance_id)
    head = state.machines[instance.machine][instance.version].heads[instance.state]
    if instance.last_event_id is None:
        return b'%b%b,"last_wal_offset":%d}' % (head, instance.ctx, instance.last_offset)
    return b'%b%b,"last_event_id":%b,"last_wal_offset":%d}' % (
        head,
        instance.ctx,
        encode(instance.last_event_id),
        instance.last_offset,
    )


def instance_position(state: State, instance_id: str) -> Position | Refusal:
    """Return an instance's state and last offset."""
    instance = state.instances.get(instance_id)
    if instance is None:
        return instance_not_found(instance_id)
    return Position(instance.state, instance.last_offset)


def get_machine(state: State, machine: str, version: int) -> bytes | Refusal:
    """Return the result of GET_MACHINE."""
    found = state.machines.get(machine, {}).get(version)
    if found is None:
        return machine_not_found(machine, version)
    return b'{"definition":%b,"checksum":"%b"}' % (
        found.definition.canonical,
        found.definition.checksum.encode(),
    )


def list_machines(state: State, *, machines: Container[str] | None = None) -> bytes:
    """Return the result of LIST_MACHINES: by name, versions ascending; only of `machines` when given."""
    return encode(
        {
            "items": [
                {"machine": name, "versions": sorted(versions)}
                for name, versions in sorted(state.machines.items())
                if machines is None or name in machines
            ]
        }
    )


def list_instances(
    state: State,
    *,
    machine: str | None = None,
    state_name: str | None = None,
    limit: int | None = None,
    offset: int = 0,
    cursor: str | None = None,
    machines: Collection[str] | None = None,
) -> bytes | Refusal:
    """Return the result of LIST_INSTANCES.

    Args:
        state: The state.
        machine: Only instances of this machine.
        state_name: Only instances in this state.
        limit: Instances a page; clamped, never refused.
        offset: Matches to leave out at the start; not together with a cursor.
        cursor: The `next_cursor` of the page before.
        machines: Only instances of one of these, for a caller who may not see the others.
    """
    size = PAGE_INSTANCES_DEFAULT if limit is None else max(0, min(limit, PAGE_INSTANCES_MAX))
    if cursor is not None:
        after = _ordinal_of(cursor)
        if after is None:
            return bad_request("cursor is not one of this server", parameter="cursor")
        if offset > 0:
            return bad_request("cursor and offset exclude each other", parameter="offset")
    else:
        after = -1
    offset = max(0, min(offset, state.instance_count))
    table = state.table
    if machine is None and state_name is None and machines is None:
        total = len(state.instances)
        matches = table.values_after(after) if cursor is not None else table.values_from_rank(offset)
    else:
        if machines is None:
            sets = state.index.sets(machine, state_name)
        else:
            names = dict.fromkeys(machines) if machine is None else [machine] if machine in machines else []
            sets = [each for name in names for each in state.index.sets(name, state_name)]
        total = sum(each.count for each in sets)
        ordinals = ordinals_after(sets, after) if cursor is not None else ordinals_from_rank(sets, offset)
        matches = (instance for at in ordinals if (instance := table.get(at)) is not None)
    return _page(matches, size, total, state.settings.answer_bytes_max)


def _page(matches: Iterator[Instance], size: int, total: int, bytes_max: int) -> bytes:
    items: list[bytes] = []
    has_more = False
    last = -1
    room = bytes_max - 256
    if size == 0:
        has_more = next(matches, None) is not None
    else:
        for instance in matches:
            if len(items) == size:
                has_more = True
                break
            item = _item(instance)
            room -= len(item) + 1
            if room < 0 and items:
                # Imported ids may be of any length; a page ends where an answer must.
                has_more = True
                break
            items.append(item)
            last = instance.ordinal
    tail = b',"next_cursor":"%b"' % _cursor_of(last) if has_more and items else b""
    return b'{"instances":[%b],"total":%d,"has_more":%b%b}' % (
        b",".join(items),
        total,
        b"true" if has_more else b"false",
        tail,
    )


def _item(instance: Instance) -> bytes:
    return (
        b'{"id":%b,"machine":%b,"version":%d,"state":%b,"created_at":%d,"updated_at":%d,"last_wal_offset":%d}'
    ) % (
        encode(instance.id),
        encode(instance.machine),
        instance.version,
        encode(instance.state),
        instance.created_ms,
        instance.updated_ms,
        instance.last_offset,
    )


def _cursor_of(ordinal: int) -> bytes:
    return b"c%x" % ordinal


def _ordinal_of(cursor: str) -> int | None:
    if not cursor.startswith("c") or len(cursor) > 17 or not cursor.isascii() or not cursor[1:].isalnum():
        return None
    try:
        return int(cursor[1:], 16)
    except ValueError:
        return None
