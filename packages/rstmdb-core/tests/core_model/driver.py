"""Holds the engine against the model, driven by a string of bytes.

Every decision of a run is read from the bytes, so a test tool that makes and shrinks bytes drives it, and a
failure is a string that can be kept. After each operation the answers are compared; at each restart the
state is dumped and loaded, replayed from the first record, and restored from an older dump and the log after
it, and all digests agree.
"""

import json
from collections import Counter

from core_model.model import Model, RefusedError
from rstmdb_core import (
    ApplyEvent,
    Batch,
    CreateInstance,
    DeleteInstance,
    EngineSettings,
    FlushAll,
    Outcome,
    PutMachine,
    Refusal,
    State,
    apply,
    decide,
    decode_record,
    digest,
    dump,
    encode_record,
    get_instance,
    list_instances,
    list_machines,
    load,
)
from rstmdb_core import Refused as RefusedItem

STATES = ("s0", "s1", "s2", "s3")
EVENTS = ("e0", "e1", "e2")
MACHINES = ("m", "n")
IDS = tuple(f"i{number}" for number in range(10))
GUARDS = (
    None,
    None,
    None,
    "ctx.a > 2",
    "ctx.a <= 2",
    "ctx.b == true",
    '!ctx.text == "x"',
    "ctx.items.length >= 2 || ctx.a == 1",
    "ctx.deep.a && !ctx.b",
    "!(ctx.a < 3 && ctx.text != null)",
)
DOCUMENTS = (
    b"",
    b"null",
    b"{}",
    b'{"a":1}',
    b'{"a": 3, "b": true}',
    b'{"b":false,"a":2.5}',
    b'{"text":"x","items":[1,2]}',
    b'{"items":[],"deep":{"a":1}}',
    b'{"deep":{"b":0},"text":"caf\xc3\xa9"}',
    b'{"a":123456789012345678901234567890}',
    b'{"a":9223372036854775807,"b":null}',
    b'{"big":"' + b"p" * 300 + b'"}',
    b'{"more":"' + b"q" * 700 + b'"}',
    b'{"text":"' + b"r" * 900 + b'"}',
)
BAD_DOCUMENTS = (
    b"[]",
    b'"text"',
    b"{",
    b'{"a":NaN}',
    b'{"a":1e400}',
    b'{"a":"\xff"}',
    b'{"a":"\\ud800"}',
    b'{"a":' * 56 + b"{}" + b"}" * 56,
    b'{"a":"' + b"z" * 1500 + b'"}',
    b'{"a":1}x',
)
CONTEXT_MAX = 1200
BATCH_MAX = 5
RETENTION_MS = 20_000


class MismatchError(AssertionError):
    """Engine and model disagree."""


class Choices:
    """Reads decisions from bytes; at the end of them every decision is the first one."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def __bool__(self):
        return self.at < len(self.data)

    def below(self, count):
        """Return a number below `count` (at most 256)."""
        if self.at >= len(self.data):
            return 0
        self.at += 1
        return self.data[self.at - 1] * count >> 8

    def one(self, values):
        """Return one of the values."""
        return values[self.below(len(values))]

    def chance(self, percent):
        """Return True about so often."""
        return self.below(256) >= 256 - percent * 256 // 100


class Driver:
    """One run: an engine with its log, a model, and what was done."""

    def __init__(self, data):
        self.choices = Choices(data)
        recreate = not self.choices.chance(15)
        self.settings = EngineSettings(
            idempotency_retention_ms=RETENTION_MS,
            machine_versions_max=3,
            allow_instance_recreate=recreate,
            ctx_bytes_max=CONTEXT_MAX,
            batch_operations_max=BATCH_MAX,
        )
        self.model = Model(
            retention_ms=RETENTION_MS,
            versions_max=3,
            recreate=recreate,
            ctx_max=CONTEXT_MAX,
            batch_max=BATCH_MAX,
        )
        self.state = State(self.settings)
        self.log = []
        self.clock = 1_000_000
        self.counts = Counter()
        self.sent = []
        self.view = None
        self.ids = 0

    def run(self):
        """Take every step the bytes ask for."""
        for version in (1, 2):
            self.execute(self._machine_op(MACHINES[version - 1], 1, good=True))
        while self.choices:
            self.step()
        self.restart()
        return self.counts

    def step(self):
        """Take one step."""
        self.clock += self.choices.below(5)
        pick = self.choices.below(256)
        if pick < 10:
            self.query_list()
        elif pick < 40:
            self.execute(self._create())
        elif pick < 128:
            self.execute(self._apply())
        elif pick < 140:
            self.execute(self._delete())
        elif pick < 168:
            self.execute(self._batch())
        elif pick < 200:
            self.resend(changed=False)
        elif pick < 214:
            self.resend(changed=True)
        elif pick < 220:
            self.execute(self._machine_op(self.choices.one(MACHINES), 1 + self.choices.below(4)))
        elif pick < 224:
            self.query_get(self.choices.one(IDS))
        elif pick < 230:
            self.clock += self.choices.one((100, 1_500, 9_000, 25_000, -5_000))
        elif pick < 234:
            self.hold()
        elif pick < 254:
            self.restart()
        elif self.choices.chance(10):
            self.execute({"op": "flush"})

    # What to ask

    def _document(self):
        return self.choices.one(BAD_DOCUMENTS) if self.choices.chance(3) else self.choices.one(DOCUMENTS)

    def _keyed(self, op, percent):
        if self.choices.chance(percent):
            op["key"] = f"k{self.choices.below(256)}-{self.choices.below(2)}"
            if self.choices.chance(25):
                op["ttl"] = 1 + self.choices.below(15)
        return op

    def _machine_op(self, name, version, good=False):
        states = list(STATES[: 2 + self.choices.below(3)])
        transitions = []
        for _ in range(3 + self.choices.below(8)):
            sources = [self.choices.one(states)]
            if self.choices.chance(30):
                sources.append(self.choices.one(states))
            transition = {
                "from": sources if self.choices.chance(50) else sources[0],
                "event": self.choices.one(EVENTS),
                "to": self.choices.one(states),
            }
            guard = self.choices.one(GUARDS)
            if guard is not None:
                transition["guard"] = guard
            transitions.append(transition)
        definition = {"states": states, "initial": states[0], "transitions": transitions}
        if not good and self.choices.chance(30):
            fault = self.choices.below(4)
            if fault == 0:
                definition["initial"] = "nowhere"
            elif fault == 1:
                transitions[0]["guard"] = "ctx.a foo"
            elif fault == 2:
                del definition["states"]
            else:
                transitions[-1]["to"] = "nowhere"
        elif self.choices.chance(20):
            definition["meta"] = {"b": 1, "a": [1, {"y": 2, "x": 3}]}
        text = json.dumps(definition).encode()
        if self.choices.chance(20):
            known = self.model.machines.get(name, {}).get(version)
            if known is not None:
                text = json.dumps({**known, "extra": 1}).encode()
        return {"op": "put_machine", "machine": name, "version": version, "definition": text}

    def _create(self):
        name = None if self.choices.chance(20) else self.choices.one(IDS)
        if name is not None and self.choices.chance(2):
            name = "x" * self.choices.one((255, 256, 257))
        machine = "absent" if self.choices.chance(4) else self.choices.one(MACHINES)
        op = {
            "op": "create",
            "id": name,
            "machine": machine,
            "version": 1 + self.choices.below(3) * self.choices.below(2),
            "ctx": self._document(),
        }
        return self._keyed(op, 30)

    def _apply(self):
        names = list(self.model.instances)
        name = self.choices.one(IDS) if not names or self.choices.chance(8) else self.choices.one(names[:256])
        op = {"op": "apply", "id": name, "event": self.choices.one(EVENTS), "payload": self._document()}
        if self.choices.chance(2):
            op["event"] = "never"
        if self.choices.chance(15):
            op["expected_state"] = self.choices.one(STATES)
        if self.choices.chance(12):
            known = self.model.instances.get(name)
            op["expected_offset"] = (0 if known is None else known["offset"]) + self.choices.below(2)
        if self.choices.chance(20):
            op["event_id"] = f"ev{self.choices.below(9)}"
        return self._keyed(op, 40)

    def _delete(self):
        return self._keyed({"op": "delete", "id": self.choices.one(IDS)}, 40)

    def _batch(self):
        ops = []
        for _ in range(self.choices.one((0, 1, 2, 2, 3, 3, 4, 5, 5, 6))):
            pick = self.choices.below(16)
            if pick < 5:
                ops.append(self._create())
            elif pick < 13:
                ops.append(self._apply())
            elif pick < 15:
                ops.append(self._delete())
            else:
                ops.append({"op": "refused", "code": "BAD_REQUEST"})
        return self._keyed({"op": "batch", "atomic": self.choices.chance(50), "ops": ops}, 40)

    def resend(self, *, changed):
        """Send an earlier keyed request again, the same or another one with its key."""
        if not self.sent:
            return
        op = dict(self.sent[-1 - self.choices.below(min(len(self.sent), 24))])
        if op["op"] == "apply":
            # Neither belongs to what a key stands for.
            op["event_id"] = f"again{self.choices.below(3)}"
            if self.choices.chance(30):
                op["expected_state"] = self.choices.one(STATES)
        if changed:
            if op["op"] == "apply":
                op["payload"] = b'{"other":%d}' % self.choices.below(9)
            elif op["op"] == "create":
                op["ctx"] = b'{"other":%d}' % self.choices.below(9)
            elif op["op"] == "batch":
                op["atomic"] = not op["atomic"]
        self.execute(op)

    # Asking both

    def execute(self, op):
        """Run one operation on both and compare."""
        self.counts["operations"] += 1
        if op["op"] == "batch" and op["ops"]:
            self.counts["batches"] += 1
        before = self.ids
        answer = decide(self.state, command_of(op), now_ms=self.clock, new_id=self._new_id)
        self.ids = before
        try:
            expected = self.model.execute(op, self.clock, self._new_id)
        except RefusedError as refusal:
            expected = refusal
        if isinstance(answer, Outcome):
            if answer.record is not None:
                body = encode_record(answer.record)
                apply(self.state, decode_record(body))
                self.log.append((answer.record.first_sequence, body))
            self._compare(op, json.loads(answer.answer), expected)
            if op.get("key") is not None:
                replay = json.loads(answer.answer).get("applied") is False
                self.counts["duplicates"] += replay
                if not replay:
                    self.sent.append(op)
                    del self.sent[:-64]
        else:
            self._compare_refusal(op, answer, expected)
            self.counts["conflicts"] += answer.code == "CONFLICT"
        self._expect(op, self.state.next_sequence, self.model.next_offset)
        if "id" in op and op["id"] is not None:
            self.query_get(op["id"])

    def _new_id(self):
        self.ids += 1
        return f"auto{self.ids}"

    def _expect(self, what, actual, expected):
        if actual != expected:
            raise MismatchError(f"{what}: engine {actual!r}, model {expected!r}")

    def _compare(self, op, actual, expected):
        if isinstance(expected, RefusedError):
            raise MismatchError(f"{op}: engine accepts {actual}, model refuses {expected}")
        if op["op"] == "put_machine":
            actual.pop("stored_checksum")
        for item in actual.get("results", ()):
            if item["error"] is not None:
                self._expect(op, item["error"]["retryable"], False)
                item["error"] = item["error"]["code"]
        self._expect(op, actual, expected)

    def _compare_refusal(self, op, actual, expected):
        if not isinstance(expected, RefusedError):
            raise MismatchError(f"{op}: engine refuses {actual}, model accepts {expected}")
        self._expect(op, actual.code, expected.code)
        details = actual.details or {}
        for name, value in expected.why.items():
            seen = details[name]
            if name == "guards":
                seen = [guard["guard"] for guard in seen]
            elif name == "allowed_events":
                seen = set(seen)
            self._expect((op, name), seen, value)
        if "NOT_FOUND" in actual.code and "not found" not in actual.message:
            raise MismatchError(f"message {actual.message!r}")

    def query_get(self, name):
        """Compare one instance."""
        self.counts["operations"] += 1
        answer = get_instance(self.state, name)
        try:
            expected = self.model.get(name)
        except RefusedError as refusal:
            self._expect(name, answer.code if isinstance(answer, Refusal) else answer, refusal.code)
        else:
            self._expect(name, answer if isinstance(answer, Refusal) else json.loads(answer), expected)

    def query_list(self):
        """Compare all pages of one list, by offset or by cursor."""
        self.counts["operations"] += 1
        machine = self.choices.one((None, None, *MACHINES, "absent"))
        state = self.choices.one((None, None, *STATES, "absent"))
        limit = self.choices.one((1, 2, 3, 7, 100))
        rows = self.model.matching(machine, state)
        by_cursor = self.choices.chance(50)
        found, cursor = [], None
        while True:
            where = {"cursor": cursor} if by_cursor else {"offset": len(found)}
            page = json.loads(
                list_instances(self.state, machine=machine, state_name=state, limit=limit, **where)
            )
            found += page["instances"]
            self._expect("total", page["total"], len(rows))
            self._expect("has_more", page["has_more"], len(found) < len(rows))
            if not page["has_more"]:
                break
            cursor = page["next_cursor"]
        self._expect((machine, state), found, rows)
        expected = [
            {"machine": name, "versions": sorted(versions)}
            for name, versions in sorted(self.model.machines.items())
        ]
        self._expect("machines", json.loads(list_machines(self.state))["items"], expected)

    # Restarting

    def hold(self):
        """Open a view and go on: its dump must be of this moment."""
        if self.view is not None:
            self.view[0].close()
        self.view = (dump(self.state), digest(self.state), len(self.log))

    def restart(self):
        """Come back from a dump, from the log, and from an older dump with the log after it."""
        self.counts["restarts"] += 1
        live = digest(self.state)
        with dump(self.state) as view:
            restored = load(list(view.chunks()), self.settings)
        self._expect("digest of the restored state", digest(restored), live)
        replica = State(self.settings)
        self._replay(replica, 0)
        self._expect("digest of the replayed state", digest(replica), live)
        candidates = [restored, replica]
        if self.view is not None:
            view, then, position = self.view
            older = load(list(view.chunks()), self.settings)
            view.close()
            self.view = None
            self._expect("digest of the held view", digest(older), then)
            self._replay(older, position)
            self._expect("digest of the view and the log", digest(older), live)
            candidates.append(older)
            self.counts["held views"] += 1
        self.state = self.choices.one(candidates)
        if self.choices.chance(10):
            # The log was not closed cleanly, so its numbers jump.
            self.model.next_offset += 1 << 20
            self.state.skip_to(self.model.next_offset)
        self.query_list()

    def _replay(self, state, position):
        for sequence, body in self.log[position:]:
            state.skip_to(sequence)
            apply(state, decode_record(body, sequence))
        state.skip_to(self.state.next_sequence)


def command_of(op):
    """Return an operation as the engine's command."""
    key, ttl = op.get("key"), op.get("ttl")
    match op["op"]:
        case "put_machine":
            return PutMachine(op["machine"], op["version"], op["definition"])
        case "create":
            return CreateInstance(op["id"], op["machine"], op["version"], op["ctx"], key, ttl)
        case "apply":
            return ApplyEvent(
                op["id"],
                op["event"],
                op["payload"],
                op.get("expected_state"),
                op.get("expected_offset"),
                op.get("event_id"),
                key,
                ttl,
            )
        case "delete":
            return DeleteInstance(op["id"], key, ttl)
        case "batch":
            return Batch(op["atomic"], [command_of(each) for each in op["ops"]], key, ttl)
        case "refused":
            return RefusedItem(op["code"], "not one of the three")
        case "flush":
            return FlushAll()
    raise AssertionError(op)
