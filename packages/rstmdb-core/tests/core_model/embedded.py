"""The engine as a test uses it: decide, encode, decode, apply, and a log to replay."""

import json

from rstmdb_core import (
    EngineSettings,
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
    load,
)

ORDER = {
    "states": ["created", "paid", "shipped"],
    "initial": "created",
    "transitions": [
        {"from": "created", "event": "PAY", "to": "paid"},
        {"from": "paid", "event": "SHIP", "to": "shipped", "guard": "ctx.ready"},
        {"from": ["created", "paid"], "event": "NOTE", "to": "created"},
    ],
}


class Embedded:
    """A state with its log and a clock that the test moves."""

    def __init__(self, *, machine=ORDER, **settings):
        self.settings = EngineSettings(**settings)
        self.state = State(self.settings)
        self.log = []
        self.now = 1_000_000
        self.ids = 0
        if machine is not None:
            self.do(PutMachine("order", 1, json.dumps(machine).encode()))

    def decide(self, command):
        return decide(self.state, command, now_ms=self.now, new_id=self._new_id)

    def do(self, command):
        """Run a command that must succeed; return its answer."""
        outcome = self.decide(command)
        assert isinstance(outcome, Outcome), outcome
        if outcome.record is not None:
            body = encode_record(outcome.record)
            record = decode_record(body)
            assert record == outcome.record
            apply(self.state, record)
            self.log.append((record.first_sequence, body))
        return json.loads(outcome.answer)

    def refuse(self, command):
        """Run a command that must be refused; return the refusal, which must be sendable."""
        before = digest(self.state)
        refusal = self.decide(command)
        assert isinstance(refusal, Refusal), refusal
        assert digest(self.state) == before
        assert "connection" not in refusal.message
        json.dumps(refusal.details).encode()
        refusal.message.encode()
        return refusal

    def replayed(self, settings=None):
        """Return a state that replayed the log."""
        state = State(settings or self.settings)
        for sequence, body in self.log:
            state.skip_to(sequence)
            apply(state, decode_record(body, sequence))
        state.skip_to(self.state.next_sequence)
        return state

    def loaded(self, settings=None):
        """Return a state that was dumped and loaded."""
        with dump(self.state) as view:
            return load(list(view.chunks()), settings or self.settings)

    def check(self):
        """Assert that every way back leads to this state."""
        live = digest(self.state)
        assert digest(self.replayed()) == live
        assert digest(self.loaded()) == live

    def _new_id(self):
        self.ids += 1
        return f"auto-{self.ids}"
