"""The rstmdb engine: machines, guards, instances and exactly-once answers, without I/O."""

from rstmdb_core.answers import Outcome, Refusal
from rstmdb_core.commands import (
    ApplyEvent,
    Batch,
    Command,
    CreateInstance,
    DeleteInstance,
    FlushAll,
    Import,
    ImportedKey,
    ImportInstance,
    Operation,
    PutMachine,
    Refused,
)
from rstmdb_core.definition import Definition, Transition, parse_definition
from rstmdb_core.document import intake
from rstmdb_core.dump import StateView, digest, dump, load
from rstmdb_core.engine import decide
from rstmdb_core.errors import (
    CoreError,
    DefinitionError,
    DocumentError,
    DumpError,
    Fault,
    GuardSyntaxError,
    RecordError,
    SequenceError,
)
from rstmdb_core.explain import explain
from rstmdb_core.fold import apply
from rstmdb_core.guard import Guard, compile_guard
from rstmdb_core.instance import Instance, Machine, Tombstone
from rstmdb_core.lint import Finding, lint_definition
from rstmdb_core.queries import (
    Position,
    get_instance,
    get_machine,
    instance_position,
    list_instances,
    list_machines,
)
from rstmdb_core.records import (
    Effect,
    EventApplied,
    Flushed,
    InstanceCreated,
    InstanceDeleted,
    InstanceImported,
    Key,
    MachinePut,
    Record,
    decode_record,
    encode_record,
)
from rstmdb_core.state import EngineSettings, State

__all__ = [
    "ApplyEvent",
    "Batch",
    "Command",
    "CoreError",
    "CreateInstance",
    "Definition",
    "DefinitionError",
    "DeleteInstance",
    "DocumentError",
    "DumpError",
    "Effect",
    "EngineSettings",
    "EventApplied",
    "Fault",
    "Finding",
    "FlushAll",
    "Flushed",
    "Guard",
    "GuardSyntaxError",
    "Import",
    "ImportInstance",
    "ImportedKey",
    "Instance",
    "InstanceCreated",
    "InstanceDeleted",
    "InstanceImported",
    "Key",
    "Machine",
    "MachinePut",
    "Operation",
    "Outcome",
    "Position",
    "PutMachine",
    "Record",
    "RecordError",
    "Refusal",
    "Refused",
    "SequenceError",
    "State",
    "StateView",
    "Tombstone",
    "Transition",
    "apply",
    "compile_guard",
    "decide",
    "decode_record",
    "digest",
    "dump",
    "encode_record",
    "explain",
    "get_instance",
    "get_machine",
    "instance_position",
    "intake",
    "lint_definition",
    "list_instances",
    "list_machines",
    "load",
    "parse_definition",
]
