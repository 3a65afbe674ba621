"""The table of permissions against a real server: every operation, every kind of token, and none."""

import hashlib
import json

import pytest
import yaml

from rstmdb_server.permissions import GRANTS, PERMISSIONS, Need, Scope

DEFINITION = {"states": ["a", "b"], "initial": "a", "transitions": [{"from": "a", "event": "GO", "to": "b"}]}

TOKENS = {
    "everything": {},
    "read": {"roles": ["read"]},
    "write": {"roles": ["write"]},
    "admin": {"roles": ["admin"]},
    "orders": {"machines": ["order*"]},
    "orders-read": {"roles": ["read"], "machines": ["order*"]},
    "over": {"expires": "2020-01-01"},
}


def sha(token):
    return hashlib.sha256(token.encode()).hexdigest()


def parameters(machine, number):
    """Valid parameters for every operation, about one machine; `number` makes them new each time."""
    fresh = {"instance_id": f"{machine}-new-{number}", "machine": machine, "version": 1}
    named = {"instance_id": f"{machine}-1"}
    return {
        "HELLO": {"protocol_version": 1},
        "AUTH": {"token": "wrong"},
        "PING": {},
        "BYE": {},
        "INFO": {},
        "GET_MACHINE": {"machine": machine, "version": 1},
        "LIST_MACHINES": {},
        "GET_INSTANCE": named,
        "LIST_INSTANCES": {},
        "EXPLAIN_EVENT": named,
        "WATCH_INSTANCE": named,
        "WATCH_ALL": {},
        "UNWATCH": {"subscription_id": "sub-x"},
        "WAL_READ": {"from_offset": 0},
        "WAL_STATS": {},
        "STATS": {},
        "CREATE_INSTANCE": fresh,
        "APPLY_EVENT": {**named, "event": "GO", "idempotency_key": "same"},
        "DELETE_INSTANCE": {"instance_id": f"{machine}-2"},
        "BATCH": {"ops": []},
        "PUT_MACHINE": {"machine": machine, "version": 1, "definition": DEFINITION},
        "SNAPSHOT_INSTANCE": named,
        "COMPACT": {},
        "FLUSH_ALL": {},
    }


@pytest.fixture
def server(start, tmp_path):
    entries = [{"hash": sha(name), "name": name, **more} for name, more in TOKENS.items()]
    config = tmp_path / "rstmdb.yaml"
    config.write_text(yaml.safe_dump({"auth": {"required": True, "token_hashes": entries}}))
    return start(environ={"RSTMDB_CONFIG": str(config)})


@pytest.fixture
def as_token(server, session_of):
    """Open a session with a token; the first caller's server has two machines with two instances each."""

    def open_session(token):
        call = session_of(server)
        if token is not None:
            call("AUTH", token=token)
        return call

    setup = open_session("everything")
    for machine in ("order", "secret"):
        setup("PUT_MACHINE", machine=machine, version=1, definition=DEFINITION)
        for number in (1, 2):
            setup("CREATE_INSTANCE", machine=machine, version=1, instance_id=f"{machine}-{number}")
    return open_session


def refusal(answer):
    """Return (code, reason) of a refusal by the gate, or None if it got through, whatever came of it."""
    error = answer.get("error")
    if error is None or error["code"] != "UNAUTHORIZED":
        return None
    return error["code"], error["details"]["reason"]


def test_without_a_token_only_the_exempt_operations_get_through(as_token):
    for number, operation in enumerate(PERMISSIONS):
        answer = as_token(None).answer(operation, **parameters("order", number)[operation])
        exempt = PERMISSIONS[operation].need is Need.EXEMPT
        assert (refusal(answer) is None) == exempt, operation
        if not exempt:
            assert refusal(answer) == ("UNAUTHORIZED", "NOT_AUTHENTICATED")
            assert "connection" not in answer["error"]["message"]


@pytest.mark.parametrize("token", ["everything", "read", "write", "admin"])
def test_every_operation_for_every_role(as_token, token):
    grants = GRANTS[token if token in GRANTS else "admin"]
    call = as_token(token)
    for number, operation in enumerate(PERMISSIONS):
        if operation in ("AUTH", "BYE"):
            continue  # exempt, and they end what the session is
        answer = call.answer(operation, **parameters("order", f"{token}{number}")[operation])
        need = PERMISSIONS[operation].need
        allowed = need & grants == need
        assert refusal(answer) == (None if allowed else ("UNAUTHORIZED", "FORBIDDEN")), operation
        if allowed and operation != "FLUSH_ALL":  # which is off
            assert answer["status"] == "ok", answer


def test_inside_a_batch_each_operation_passes_the_same_gate(as_token):
    items = [
        {"op": "CREATE_INSTANCE", "params": {"machine": "secret", "version": 1, "instance_id": "sneaky"}},
        {"op": "APPLY_EVENT", "params": {"instance_id": "secret-1", "event": "GO"}},
        {"op": "DELETE_INSTANCE", "params": {"instance_id": "secret-1"}},
        {"op": "APPLY_EVENT", "params": {"instance_id": "order-1", "event": "GO"}},
    ]
    results = as_token("orders")("BATCH", mode="best_effort", ops=items)["results"]
    assert [item["status"] for item in results] == ["error", "error", "error", "ok"]
    assert results[0]["error"]["code"] == "UNAUTHORIZED"
    assert {item["error"]["code"] for item in results[1:3]} == {"INSTANCE_NOT_FOUND"}
    atomic = as_token("orders").answer("BATCH", mode="atomic", ops=items)
    assert atomic["status"] == "error"
    read = as_token("orders-read").answer("BATCH", mode="best_effort", ops=[items[3]])
    assert refusal(read) == ("UNAUTHORIZED", "FORBIDDEN")
    owner = as_token("everything")
    assert owner("GET_INSTANCE", instance_id="secret-1")["state"] == "a"
    assert owner.answer("GET_INSTANCE", instance_id="sneaky")["error"]["code"] == "INSTANCE_NOT_FOUND"


def test_a_scoped_token_is_narrowed_as_the_table_says(as_token):
    call = as_token("orders")
    for number, (operation, permission) in enumerate(PERMISSIONS.items()):
        if operation in ("AUTH", "BYE", "BATCH"):
            continue
        answer = call.answer(operation, **parameters("secret", f"s{number}")[operation])
        if permission.scope is Scope.NAMED or permission.scope is Scope.WHOLE:
            assert refusal(answer) == ("UNAUTHORIZED", "MACHINE_SCOPE"), operation
        elif permission.scope is Scope.INSTANCE:
            assert answer["error"]["code"] == "INSTANCE_NOT_FOUND", operation
        else:
            assert answer["status"] == "ok", operation
            if permission.scope is Scope.FILTERED and operation != "WATCH_ALL":
                assert "secret" not in json.dumps(answer["result"]), operation


@pytest.mark.parametrize("operation", [name for name, p in PERMISSIONS.items() if p.scope is Scope.INSTANCE])
def test_what_is_hidden_is_answered_like_what_does_not_exist(as_token, operation):
    call = as_token("orders")
    asked = parameters("secret", 0)[operation]
    hidden = call.answer(operation, **asked)["error"]
    missing = call.answer(operation, **asked | {"instance_id": "nobody"})["error"]
    assert json.dumps(hidden).replace(asked["instance_id"], "nobody") == json.dumps(missing)


def test_a_scoped_token_sees_its_own(as_token):
    call = as_token("orders")
    assert [item["machine"] for item in call("LIST_MACHINES")["items"]] == ["order"]
    page = call("LIST_INSTANCES")
    assert {instance["machine"] for instance in page["instances"]} == {"order"}
    assert page["total"] == 2
    assert page["has_more"] is False
    for query in ({"machine": "order"}, {"state": "a"}, {"machine": "order", "state": "a"}):
        assert call("LIST_INSTANCES", **query)["total"] == 2
    log = json.dumps(call("WAL_READ", from_offset=0))
    assert "order-1" in log
    assert "secret" not in log
    statistics = json.dumps(call("STATS"))
    assert "order" in statistics
    assert "secret" not in statistics


def test_a_scoped_token_cannot_list_another_machine(as_token):
    answer = as_token("orders").answer("LIST_INSTANCES", machine="secret")
    if answer["status"] == "ok":
        assert answer["result"]["total"] == 0
        assert answer["result"]["instances"] == []
    else:
        assert refusal(answer) == ("UNAUTHORIZED", "MACHINE_SCOPE")


def test_a_scoped_watcher_hears_of_its_machines_alone(as_token):
    watcher, owner = as_token("orders-read"), as_token("everything")
    watcher("WATCH_ALL", include=["create", "delete", "put_machine", "flush"], **{"from": "oldest"})
    for machine in ("secret", "order"):
        owner("PUT_MACHINE", machine=f"{machine}-more", version=1, definition=DEFINITION)
        owner("APPLY_EVENT", instance_id=f"{machine}-1", event="GO")
        owner("DELETE_INSTANCE", instance_id=f"{machine}-2")
    # Events come in log order, so when the last one of ours is there, one of the others would be, too.
    while not (watcher.events and watcher.events[-1].get("kind") == "delete"):
        watcher("PING")
    assert "secret" not in json.dumps(watcher.events)
    assert any(event.get("event") == "GO" for event in watcher.events)


def test_an_expired_token_is_refused(server, session_of):
    answer = session_of(server).answer("AUTH", token="over")
    assert answer["error"]["code"] == "AUTH_FAILED"
    assert answer["error"]["details"]["reason"] == "TOKEN_EXPIRED"


def test_a_failed_authentication_does_not_take_away_what_was_there(as_token):
    call = as_token("read")
    assert call.answer("AUTH", token="wrong")["error"]["code"] == "AUTH_FAILED"
    assert call("GET_INSTANCE", instance_id="order-1")["state"] == "a"


def test_wrong_tokens_are_logged_without_the_token(server, session_of):
    call = session_of(server)
    call.answer("AUTH", token="hunter2-secret-token")
    line = server.wait_for("authentication failed").string
    assert json.loads(line)["peer"] == "127.0.0.1"
    assert not any("hunter2" in line for line in server.said)


def test_guessing_ends_in_rate_limited(server, session_of):
    from rstmdb_server.auth import AttemptLimiter

    # A session each, so that the growing delays run beside each other.
    sessions = [session_of(server) for _ in range(AttemptLimiter.PEER_BURST + 5)]
    for number, call in enumerate(sessions):
        call.send("AUTH", token=f"guess {number}")
    codes = [call.receive()["error"]["code"] for call in sessions]
    assert set(codes) == {"AUTH_FAILED", "RATE_LIMITED"}
    assert codes.count("AUTH_FAILED") <= AttemptLimiter.PEER_BURST + 3
