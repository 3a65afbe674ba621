"""Who may do what, asked of a real server over a real socket, operation by operation."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from rstmdb_server.auth import PERMISSIONS, Need, Scope
from rstmdb_server.permissions import GRANTS
from tests.security.conftest import secrets_text, until
from tests.server_process import ServerProcess
from tests.wire import ORDER, Wire

REQUESTS: dict[str, dict[str, Any]] = {
    "HELLO": {"protocol_version": 1},
    "PING": {},
    "BYE": {},
    "INFO": {},
    "GET_MACHINE": {"machine": "vault", "version": 1},
    "LIST_MACHINES": {},
    "GET_INSTANCE": {"instance_id": "v1"},
    "LIST_INSTANCES": {},
    "EXPLAIN_EVENT": {"instance_id": "v1"},
    "WATCH_INSTANCE": {"instance_id": "v1"},
    "WATCH_ALL": {},
    "UNWATCH": {"subscription_id": "sub-x"},
    "WAL_READ": {"from_offset": 0},
    "WAL_STATS": {},
    "STATS": {},
    "CREATE_INSTANCE": {"machine": "vault", "version": 1},
    "APPLY_EVENT": {"instance_id": "v1", "event": "NOTE"},
    "DELETE_INSTANCE": {"instance_id": "gone"},
    "BATCH": {"ops": []},
    "PUT_MACHINE": {"machine": "vault", "version": 1, "definition": ORDER},
    "SNAPSHOT_INSTANCE": {"instance_id": "v1"},
    "COMPACT": {},
    "FLUSH_ALL": {},
}
WATCHES = ("WATCH_INSTANCE", "WATCH_ALL")


@pytest.fixture
def furnished(guarded: ServerProcess) -> ServerProcess:
    """Two machines, one of them outside the team's scope."""
    with Wire(guarded.port) as boss:
        boss.authenticate("boss")
        boss.call("FLUSH_ALL")
        for machine, instance in (("vault", "v1"), ("orders", "o1")):
            boss.call("PUT_MACHINE", machine=machine, version=1, definition=ORDER)
            boss.call(
                "CREATE_INSTANCE",
                machine=machine,
                version=1,
                instance_id=instance,
                initial_ctx={"of": machine},
            )
    return guarded


def test_the_table_knows_every_operation() -> None:
    assert PERMISSIONS.keys() == REQUESTS.keys() | {"AUTH"}


def test_without_a_token_only_four_operations(furnished: ServerProcess) -> None:
    for operation, params in REQUESTS.items():
        with Wire(furnished.port) as wire:
            if PERMISSIONS[operation].need is Need.EXEMPT:
                wire.call(operation, params)
                continue
            refused = wire.refusal(operation, params)
            assert (refused.code, refused.reason) == ("UNAUTHORIZED", "NOT_AUTHENTICATED"), operation
            for inner in ("BATCH", "WATCH_ALL"):
                assert (
                    wire.refusal(inner, {"ops": [{"op": operation, "params": params}]}).code == "UNAUTHORIZED"
                )
            with Wire(furnished.port) as boss:
                boss.authenticate("boss")
                if operation == "WATCH_ALL":
                    boss.call("APPLY_EVENT", instance_id="v1", event="NOTE")
            wire.call("PING")
            assert not wire.events, "nobody may hear what happens"


@pytest.mark.parametrize("role", GRANTS)
def test_roles_operation_by_operation(furnished: ServerProcess, role: str) -> None:
    token = {"read": "reader", "write": "writer", "admin": "admin"}[role]
    for operation, params in sorted(REQUESTS.items(), key=lambda item: item[0] == "FLUSH_ALL"):
        if operation == "DELETE_INSTANCE":
            with Wire(furnished.port) as boss:
                boss.authenticate("boss")
                boss.call("CREATE_INSTANCE", machine="vault", version=1, instance_id="gone")
        with Wire(furnished.port) as wire:
            wire.authenticate(token)
            if GRANTS[role] & PERMISSIONS[operation].need == PERMISSIONS[operation].need:
                wire.call(operation, params)
            else:
                refused = wire.refusal(operation, params)
                assert (refused.code, refused.reason) == ("UNAUTHORIZED", "FORBIDDEN"), operation
                assert refused.error["retryable"] is False


def test_a_reader_does_nothing_through_a_batch(furnished: ServerProcess) -> None:
    """BATCH needs the right to write, and each operation inside passes the gate again."""
    item = {"op": "APPLY_EVENT", "params": {"instance_id": "v1", "event": "PAY"}}
    with Wire(furnished.port) as wire, Wire(furnished.port) as boss:
        wire.authenticate("reader")
        boss.authenticate("boss")
        assert wire.refusal("BATCH", ops=[item]).reason == "FORBIDDEN"
        for operation, params in REQUESTS.items():
            [result] = boss.call("BATCH", ops=[{"op": operation, "params": params}])["results"]
            inside = operation in ("CREATE_INSTANCE", "APPLY_EVENT", "DELETE_INSTANCE")
            if not inside:
                assert result["error"]["code"] == "BAD_REQUEST", operation
        assert wire.call("GET_INSTANCE", instance_id="v1")["state"] == "created"


def test_scope_hides_a_machine_from_every_operation(furnished: ServerProcess) -> None:
    with Wire(furnished.port) as boss, Wire(furnished.port) as team:
        boss.authenticate("boss")
        team.authenticate("team")
        for operation, params in REQUESTS.items():
            match PERMISSIONS[operation].scope:
                case Scope.NAMED:
                    refused = team.refusal(operation, params)
                    assert (refused.code, refused.reason) == ("UNAUTHORIZED", "MACHINE_SCOPE"), operation
                case Scope.WHOLE:
                    refused = team.refusal(operation, params)
                    assert (refused.code, refused.reason) == ("UNAUTHORIZED", "MACHINE_SCOPE"), operation
                case Scope.INSTANCE:
                    hidden = team.refusal(operation, {**params, "instance_id": "v1"})
                    missing = team.refusal(operation, {**params, "instance_id": "v2"})
                    assert hidden.code == missing.code == "INSTANCE_NOT_FOUND", operation
                    as_missing = json.loads(json.dumps(hidden.error).replace("v1", "v2"))
                    assert as_missing == missing.error, operation

        assert team.call("LIST_MACHINES")["items"] == [{"machine": "orders", "versions": [1]}]
        page = team.call("LIST_INSTANCES")
        assert ([item["id"] for item in page["instances"]], page["total"]) == (["o1"], 1)
        assert team.call("LIST_INSTANCES", machine="vault")["total"] == 0
        assert boss.call("LIST_INSTANCES")["total"] == 2
        figures = team.call("STATS")
        assert figures["instances_by_state"] == [{"machine": "orders", "state": "created", "instances": 1}]
        assert (figures["instances"], figures["machines"]) == (1, 1)

        everything = team.call("WATCH_ALL", include=["create", "delete", "put_machine", "flush"])
        narrowed = team.call("WATCH_ALL", machines=["vault"])
        assert everything["subscription_id"] != narrowed["subscription_id"]
        for instance in ("v1", "o1"):
            boss.call("APPLY_EVENT", instance_id=instance, event="PAY", payload={"secret": instance})
        boss.call("CREATE_INSTANCE", machine="vault", version=1, instance_id="v3")
        boss.call("DELETE_INSTANCE", instance_id="v3")
        boss.call("APPLY_EVENT", instance_id="o1", event="SHIP")
        heard = [team.event(), team.event()]
        assert [(e["instance_id"], e["event"]) for e in heard] == [("o1", "PAY"), ("o1", "SHIP")]

        log = team.call("WAL_READ", from_offset=0)
        assert {r["entry"].get("instance_id") or r["entry"]["machine"] for r in log["records"]} == {
            "orders",
            "o1",
        }
        assert team.call("WAL_READ", from_offset=0, instance_id="v1")["records"] == []
        text = json.dumps([log, page, figures, heard, team.events])
        assert "vault" not in text
        assert "v1" not in text

        operations = [
            {"op": "CREATE_INSTANCE", "params": {"machine": "vault", "version": 1, "instance_id": "v4"}},
            {"op": "APPLY_EVENT", "params": {"instance_id": "v1", "event": "NOTE"}},
            {"op": "DELETE_INSTANCE", "params": {"instance_id": "v1"}},
            {"op": "APPLY_EVENT", "params": {"instance_id": "o1", "event": "NOTE"}},
        ]
        results = team.call("BATCH", ops=operations)["results"]
        assert [r["error"] and r["error"]["code"] for r in results] == [
            "UNAUTHORIZED", "INSTANCE_NOT_FOUND", "INSTANCE_NOT_FOUND", None,
        ]  # fmt: skip
        refused = team.refusal("BATCH", mode="atomic", ops=operations[::-1])
        assert refused.code == "BAD_REQUEST"
        assert refused.error["details"]["rolled_back"] is True
        assert refused.error["details"]["failed_index"] == 1
        assert boss.call("GET_INSTANCE", instance_id="v1")["state"] == "paid"
        assert boss.call("GET_INSTANCE", instance_id="o1")["state"] == "created"


def test_scope_holds_for_an_id_that_changes_its_machine(furnished: ServerProcess) -> None:
    with Wire(furnished.port) as boss, Wire(furnished.port) as team:
        boss.authenticate("boss")
        team.authenticate("team")
        team.call("WATCH_INSTANCE", instance_id="o1")
        boss.call("DELETE_INSTANCE", instance_id="o1")
        boss.call("CREATE_INSTANCE", machine="vault", version=1, instance_id="o1", initial_ctx={"secret": 1})
        boss.call("APPLY_EVENT", instance_id="o1", event="PAY", payload={"secret": 2})
        assert team.refusal("GET_INSTANCE", instance_id="o1").code == "INSTANCE_NOT_FOUND"
        assert team.call("PING")
        assert team.events == []


def test_unwatch_ends_only_subscriptions_of_the_same_principal(furnished: ServerProcess) -> None:
    with Wire(furnished.port) as one, Wire(furnished.port) as other, Wire(furnished.port) as stranger:
        one.authenticate("writer")
        other.authenticate("writer")
        stranger.authenticate("boss")
        subscription = one.call("WATCH_ALL")["subscription_id"]
        assert stranger.call("UNWATCH", subscription_id=subscription)["removed"] is False
        assert other.call("UNWATCH", subscription_id=subscription)["removed"] is True
        assert one.event() == {"type": "end", "subscription_id": subscription, "reason": "UNWATCHED"}
        assert one.call("UNWATCH", subscription_id=subscription)["removed"] is False


def test_wrong_empty_and_expired_tokens(furnished: ServerProcess) -> None:
    with Wire(furnished.port) as wire:
        for params, code, reason in (
            ({"method": "bearer", "token": "bygone"}, "AUTH_FAILED", "TOKEN_EXPIRED"),
            ({"method": "bearer", "token": ""}, "AUTH_FAILED", "EMPTY_TOKEN"),
            ({"method": "basic", "token": "boss"}, "AUTH_FAILED", "METHOD"),
            ({"method": "bearer"}, "BAD_REQUEST", None),
            ({"token": 7}, "BAD_REQUEST", None),
        ):
            refused = wire.refusal("AUTH", params)
            assert (refused.code, refused.reason) == (code, reason), params
        assert wire.refusal("LIST_MACHINES").code == "UNAUTHORIZED"
        wire.authenticate("boss")
        assert wire.refusal("AUTH", method="bearer", token="bygone").code == "AUTH_FAILED"
        wire.call("LIST_MACHINES")  # a failed attempt takes nothing away


def test_a_token_that_expires_while_it_is_used(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.write_text(secrets_text({"boss": ""}))
    settings = {"RSTMDB_AUTH_REQUIRED": "1", "RSTMDB_AUTH_SECRETS_FILE": str(secrets)}
    with ServerProcess(tmp_path / "data", environ=settings) as server, Wire(server.port) as guest:
        # Its time begins when the server runs: a start may take as long as the token lives.
        expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 4))
        secrets.write_text(secrets_text({"boss": "", "guest": f"expires={expires}"}))
        os.kill(server.pid, signal.SIGHUP)
        until(lambda: "configuration reloaded" in server.output, 10, "the token is known")
        guest.authenticate("guest")
        subscription = guest.call("WATCH_ALL")["subscription_id"]
        guest.call("LIST_MACHINES")
        end = guest.event()
        assert end == {"type": "end", "subscription_id": subscription, "reason": "TOKEN_EXPIRED"}
        assert guest.refusal("LIST_MACHINES").reason == "TOKEN_EXPIRED"
        guest.call("PING")
        guest.authenticate("boss")
        guest.call("LIST_MACHINES")


def test_attempts_are_limited_slowed_and_told_without_the_token(tmp_path: Path) -> None:
    settings = {"RSTMDB_AUTH_REQUIRED": "1", "RSTMDB_AUTH_TOKEN_HASH": hashlib.sha256(b"right").hexdigest()}
    with ServerProcess(tmp_path / "data", environ=settings) as server:
        with Wire(server.port) as session:
            session.authenticate("right")
            guessers = [Wire(server.port) for _ in range(30)]
            began = time.monotonic()
            for number, wire in enumerate(guessers):
                wire.ask("AUTH", {"method": "bearer", "token": f"guess-number-{number}"})
            with Wire(server.port) as late:
                refused = late.refusal("AUTH", method="bearer", token="right")
                assert (refused.code, refused.reason) == ("RATE_LIMITED", "AUTH_ATTEMPTS")
                assert refused.error["retryable"] is True
            codes = [wire.answer()["error"]["code"] for wire in guessers]
            assert time.monotonic() - began > 1, "a wrong answer is held back"
            assert set(codes) == {"AUTH_FAILED", "RATE_LIMITED"}
            assert codes.count("AUTH_FAILED") <= 22
            session.call("LIST_MACHINES")  # who is in stays in
            for wire in guessers:
                wire.close()
        assert server.stop() == 0
        assert "authentication failed" in server.output
        assert "127.0.0.1" in server.output
        assert "guess-number" not in server.output
        assert "right" not in server.output
