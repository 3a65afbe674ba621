"""What the engine must do, written from the specification in plain dictionaries.

No import from the engine. Operations and results are the wire's JSON as Python values; everything is copied
instead of staged, searched instead of indexed, and nothing is fast.
"""

import json
import math

from core_model.guards import NotAGuardError, evaluate


class RefusedError(Exception):
    """The operation is refused with a wire code."""

    def __init__(self, wire_code, /, **why):
        super().__init__(wire_code, why)
        self.code, self.why = wire_code, why


def read_document(text, limit):
    """Read a JSON object as the specification wants it."""
    if text == b"" or text.strip() == b"null":
        return {}

    def integer(digits):
        value = int(digits)
        return value if -(2**63) <= value < 2**64 else number(digits)

    def number(digits):
        value = float(digits)
        if math.isinf(value):
            raise ValueError
        return value

    def constant(name):
        raise ValueError(name)

    try:
        value = json.loads(text.decode(), parse_int=integer, parse_float=number, parse_constant=constant)
        json.dumps(value, ensure_ascii=False).encode()  # lone surrogates
    except (ValueError, OverflowError, RecursionError):
        raise RefusedError("BAD_REQUEST") from None
    if not isinstance(value, dict) or depth(value) > 56 or size(value) > limit:
        raise RefusedError("BAD_REQUEST")
    return value


def check_name(name):
    """Refuse a name outside 1 to 256 bytes."""
    if not 1 <= len(name.encode()) <= 256:
        raise RefusedError("BAD_REQUEST")


def depth(value):
    """Return how many arrays and objects are inside each other."""
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    return 0


def size(value):
    """Return the bytes of the compact form."""
    return len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())


def canonical(value):
    """Return a text that equal documents share."""
    return json.dumps(value, sort_keys=True)


class Model:
    """The database as dictionaries."""

    def __init__(self, *, retention_ms, versions_max, recreate, ctx_max, batch_max):
        self.retention_ms, self.versions_max = retention_ms, versions_max
        self.recreate, self.ctx_max, self.batch_max = recreate, ctx_max, batch_max
        self.time = 0
        self.next_offset = 1
        self.machines = {}
        self.instances = {}
        self.tombstones = {}
        self.keys = {}

    def copy(self):
        """Return a copy that may be thrown away."""
        twin = Model.__new__(Model)
        twin.__dict__.update(self.__dict__)
        for name in ("machines", "instances", "tombstones", "keys"):
            twin.__dict__[name] = dict(self.__dict__[name])
        return twin

    def execute(self, op, now, new_id=None):
        """Run an operation; return its result or raise RefusedError, in which case nothing has changed."""
        trial = self.copy()
        trial.time = max(self.time, now)
        before = trial.next_offset
        result = getattr(trial, op["op"])(op, new_id)
        if trial.next_offset == before:
            # Nothing was logged, so the time of the last record stays.
            trial.time = self.time
        self.__dict__.update(trial.__dict__)
        return result

    def _offset(self):
        self.next_offset += 1
        return self.next_offset - 1

    # Idempotency: the answer is looked up before anything else about the request is.

    def _once(self, scope, op, request, run):
        key = op.get("key")
        if key is None:
            return run()
        check_name(key)
        mark = canonical(request)
        known = self.keys.get((*scope, key))
        if known is not None and known[2] > self.time:
            if known[0] != mark:
                raise RefusedError("CONFLICT", reason="IDEMPOTENCY_KEY_REUSED")
            return replayed(known[1])
        before = self.next_offset
        result = run()
        if self.next_offset > before:
            life = self.retention_ms if op.get("ttl") is None else min(self.retention_ms, op["ttl"] * 1000)
            self.keys[(*scope, key)] = (mark, result, self.time + life)
        return result

    # Operations

    def put_machine(self, op, _):
        name, version = op["machine"], op["version"]
        versions = self.machines.get(name, {})
        if version not in versions and self.versions_max and len(versions) >= self.versions_max:
            raise RefusedError("MACHINE_VERSION_LIMIT_EXCEEDED")
        definition = read_definition(op["definition"])
        if version in versions:
            if versions[version] != definition:
                raise RefusedError("MACHINE_VERSION_EXISTS")
            return {"machine": name, "version": version, "created": False}
        self.machines[name] = {**versions, version: definition}
        self._offset()
        return {"machine": name, "version": version, "created": True}

    def create(self, op, new_id):
        ctx = read_document(op["ctx"], self.ctx_max)
        given = op["id"]
        if given is not None:
            check_name(given)
        scope = ("auto", op["machine"]) if given is None else ("create", given)
        return self._once(
            scope,
            op,
            [given, op["machine"], op["version"], ctx],
            lambda: self._create(given, op, ctx, new_id),
        )

    def _create(self, given, op, ctx, new_id):
        if given is not None and (
            given in self.instances or (not self.recreate and given in self.tombstones)
        ):
            raise RefusedError("INSTANCE_EXISTS")
        definition = self.machines.get(op["machine"], {}).get(op["version"])
        if definition is None:
            raise RefusedError("MACHINE_NOT_FOUND")
        name = new_id() if given is None else given
        offset = self._offset()
        self.tombstones.pop(name, None)
        self.instances[name] = {
            "machine": op["machine"],
            "version": op["version"],
            "state": definition["initial"],
            "ctx": ctx,
            "event_id": None,
            "offset": offset,
            "created": self.time,
            "updated": self.time,
        }
        return {"instance_id": name, "state": definition["initial"], "wal_offset": offset}

    def apply(self, op, _):
        payload = read_document(op["payload"], self.ctx_max)
        if op.get("event_id") is not None:
            check_name(op["event_id"])
        return self._once(("apply", op["id"]), op, [op["event"], payload], lambda: self._apply(op, payload))

    def _apply(self, op, payload):
        instance = self.instances.get(op["id"])
        if instance is None:
            raise RefusedError("INSTANCE_NOT_FOUND")
        if op.get("expected_state") not in (None, instance["state"]):
            raise RefusedError("CONFLICT", reason="STATE")
        if op.get("expected_offset") not in (None, instance["offset"]):
            raise RefusedError("CONFLICT", reason="WAL_OFFSET")
        rules = self._rules(instance)
        matching = [rule for rule in rules if rule["event"] == op["event"]]
        if not matching:
            allowed = {rule["event"] for rule in rules if passes(rule, instance["ctx"])}
            raise RefusedError("INVALID_TRANSITION", current_state=instance["state"], allowed_events=allowed)
        for rule in matching:
            if passes(rule, instance["ctx"]):
                break
        else:
            raise RefusedError("GUARD_FAILED", guards=[rule["guard"] for rule in matching])
        ctx = {**instance["ctx"], **payload}
        if payload and size(ctx) > self.ctx_max:
            raise RefusedError("BAD_REQUEST")
        offset = self._offset()
        self.instances[op["id"]] = {
            **instance,
            "state": rule["to"],
            "ctx": ctx,
            "event_id": op.get("event_id"),
            "offset": offset,
            "updated": self.time,
        }
        result = {
            "applied": True,
            "from_state": instance["state"],
            "to_state": rule["to"],
            "wal_offset": offset,
            "ctx": ctx,
        }
        if op.get("event_id") is not None:
            result["event_id"] = op["event_id"]
        return result

    def _rules(self, instance):
        definition = self.machines[instance["machine"]][instance["version"]]
        return [rule for rule in definition["transitions"] if instance["state"] in rule["from"]]

    def delete(self, op, _):
        return self._once(("delete", op["id"]), op, [], lambda: self._delete(op))

    def _delete(self, op):
        name = op["id"]
        if name in self.instances:
            del self.instances[name]
            offset = self._offset()
            expires = math.inf if not self.recreate else self.time + self.retention_ms
            self.tombstones[name] = (offset, expires)
        elif name in self.tombstones and self.tombstones[name][1] > self.time:
            offset = self.tombstones[name][0]
        else:
            raise RefusedError("INSTANCE_NOT_FOUND")
        return {"instance_id": name, "deleted": True, "wal_offset": offset}

    def batch(self, op, new_id):
        if len(op["ops"]) > self.batch_max:
            raise RefusedError("BAD_REQUEST")
        request = [op["atomic"], [self._request(each) for each in op["ops"]]]
        return self._once(("batch",), op, request, lambda: self._batch(op, new_id))

    @staticmethod
    def _request(op):
        kept = {name: op[name] for name in ("op", "id", "machine", "version", "event", "code") if name in op}
        for name in ("payload", "ctx"):
            if name in op:
                try:
                    kept[name] = read_document(op[name], math.inf)
                except RefusedError:
                    kept[name] = ["refused", op[name].decode("latin-1")]
        return kept

    def _batch(self, op, new_id):
        results = []
        for index, each in enumerate(op["ops"]):
            trial = self.copy()
            try:
                if each["op"] == "refused":
                    raise RefusedError(each["code"])
                result = getattr(trial, each["op"])(each, new_id)
            except RefusedError as refusal:
                if op["atomic"]:
                    raise RefusedError(
                        "BAD_REQUEST", failed_index=index, code=refusal.code, rolled_back=True
                    ) from None
                results.append({"status": "error", "result": None, "error": refusal.code})
            else:
                self.__dict__.update(trial.__dict__)
                results.append({"status": "ok", "result": result, "error": None})
        return {"results": results}

    def flush(self, op, _):
        deleted = sum(expires > self.time for _, expires in self.tombstones.values())
        removed = len(self.instances) + deleted
        machines = sum(map(len, self.machines.values()))
        if self.instances or self.machines or self.tombstones or self.keys:
            self._offset()
        self.machines, self.instances, self.tombstones, self.keys = {}, {}, {}, {}
        return {"flushed": True, "instances_removed": removed, "machines_removed": machines}

    # Queries

    def get(self, name):
        instance = self.instances.get(name)
        if instance is None:
            raise RefusedError("INSTANCE_NOT_FOUND")
        result = {
            "machine": instance["machine"],
            "version": instance["version"],
            "state": instance["state"],
            "ctx": instance["ctx"],
            "last_wal_offset": instance["offset"],
        }
        if instance["event_id"] is not None:
            result["last_event_id"] = instance["event_id"]
        return result

    def matching(self, machine, state):
        """Return the rows of a list, all pages."""
        return [
            {
                "id": name,
                "machine": instance["machine"],
                "version": instance["version"],
                "state": instance["state"],
                "created_at": instance["created"],
                "updated_at": instance["updated"],
                "last_wal_offset": instance["offset"],
            }
            for name, instance in self.instances.items()
            if machine in (None, instance["machine"]) and state in (None, instance["state"])
        ]


def passes(rule, ctx):
    """Tell whether a transition would be taken."""
    return rule["guard"] is None or evaluate(rule["guard"], ctx)


def replayed(result):
    """Return an answer as a replay gives it."""
    marked = {**result, "applied": False}
    if "results" in result:
        marked["results"] = [
            {**item, "result": replayed(item["result"])} if item["status"] == "ok" else item
            for item in result["results"]
        ]
    return marked


def read_definition(text):
    """Read a definition or refuse it."""
    try:
        value = json.loads(text)
        states, initial, transitions = value["states"], value["initial"], value["transitions"]
        rules = []
        good = bool(states) and all(isinstance(state, str) for state in states) and initial in states
        for each in transitions:
            sources = each["from"] if isinstance(each["from"], list) else [each["from"]]
            guard = each.get("guard")
            if guard is not None:
                evaluate(guard, {})
            good = good and all(source in states for source in sources) and each["to"] in states
            rules.append({"from": sources, "event": each["event"], "to": each["to"], "guard": guard})
    except (ValueError, KeyError, TypeError, AttributeError, NotAGuardError):
        raise RefusedError("BAD_REQUEST") from None
    if not good:
        raise RefusedError("BAD_REQUEST")
    return {"states": states, "initial": initial, "transitions": rules, "meta": value.get("meta")}
