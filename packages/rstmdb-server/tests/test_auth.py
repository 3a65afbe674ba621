"""Who is let in, what they may do, and how often they may be wrong."""

import hashlib
import hmac
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rstmdb_server import auth
from rstmdb_server.auth import (
    PERMISSIONS,
    UNRESTRICTED,
    AttemptLimiter,
    Authenticator,
    AuthRefusal,
    Need,
    Principal,
    RefusalReason,
    Scope,
    load_authenticator,
)
from rstmdb_server.permissions import render_table
from rstmdb_server.settings import ROLES, AuthSettings, ConfigError, TokenEntry

DOCUMENT = Path(__file__).parents[3] / "docs/reference/authorization.md"


def sha(token):
    return hashlib.sha256(token.encode()).hexdigest()


def entry(token, **options):
    return TokenEntry(hash=sha(token), **options)


def test_a_token_is_known_by_its_hash():
    authenticator = Authenticator(
        [entry("a"), entry("b", name="bob", roles=("read",), machines=("m*",))], True
    )
    assert authenticator.authenticate("a", 0) == Principal("default", ROLES, (), None, sha("a"))
    assert authenticator.authenticate("b", 0) == Principal("bob", ("read",), ("m*",), None, sha("b"))
    assert authenticator.authenticate("c", 0) == AuthRefusal(RefusalReason.UNKNOWN_TOKEN)
    assert authenticator.authenticate("", 0) == AuthRefusal(RefusalReason.EMPTY_TOKEN)
    assert authenticator.authenticate("\ud800", 0) == AuthRefusal(RefusalReason.UNKNOWN_TOKEN)
    assert authenticator.anonymous is None


def test_the_empty_token_is_refused_even_when_its_hash_is_configured():
    authenticator = Authenticator([entry("")], True)
    assert authenticator.authenticate("", 0) == AuthRefusal(RefusalReason.EMPTY_TOKEN)


def test_every_entry_is_compared_whatever_the_others_said(monkeypatch):
    compared = []
    compare = hmac.compare_digest

    def watch(one, other):
        compared.append(other)
        return compare(one, other)

    authenticator = Authenticator([entry(token) for token in "abcd"], True)
    monkeypatch.setattr(auth.hmac, "compare_digest", watch)
    authenticator.authenticate("a", 0)
    first = len(compared)
    authenticator.authenticate("nobody", 0)
    assert (first, len(compared)) == (4, 8)


def test_without_required_any_token_but_the_empty_one_is_everybody():
    authenticator = Authenticator([entry("a", roles=("read",))], False)
    assert authenticator.anonymous is UNRESTRICTED
    assert authenticator.authenticate("whatever", 0) is UNRESTRICTED
    assert authenticator.authenticate("", 0) == AuthRefusal(RefusalReason.EMPTY_TOKEN)
    assert all(UNRESTRICTED.may(operation) for operation in PERMISSIONS)
    assert UNRESTRICTED.sees("anything")
    assert UNRESTRICTED.unrestricted


def test_a_token_ends_when_it_expires():
    authenticator = Authenticator([entry("a", expires_ms=1000)], True)
    principal = authenticator.authenticate("a", 999)
    assert isinstance(principal, Principal)
    assert not principal.unrestricted
    assert not principal.expired(999)
    assert principal.expired(1000)
    assert authenticator.authenticate("a", 1000) == AuthRefusal(RefusalReason.EXPIRED)


def test_a_reload_changes_and_revokes():
    first = Authenticator([entry("a"), entry("b")], True)
    a, b = first.authenticate("a", 0), first.authenticate("b", 0)
    second = Authenticator([entry("b", name="bob", roles=("read",))], True)
    assert second.renew(a, 0) == AuthRefusal(RefusalReason.REVOKED)
    assert second.renew(b, 0) == Principal("bob", ("read",), (), None, sha("b"))
    assert second.renew(UNRESTRICTED, 0) == AuthRefusal(RefusalReason.REVOKED)
    assert Authenticator([], False).renew(a, 0) is UNRESTRICTED


def test_the_later_entry_of_one_hash_counts():
    authenticator = Authenticator([entry("a"), entry("a", name="narrow", roles=("read",))], True)
    assert authenticator.authenticate("a", 0).name == "narrow"


# --- the table --------------------------------------------------------------------------------------------

READ = {
    "INFO", "GET_MACHINE", "LIST_MACHINES", "GET_INSTANCE", "LIST_INSTANCES", "EXPLAIN_EVENT",
    "WATCH_INSTANCE", "WATCH_ALL", "UNWATCH", "WAL_READ", "WAL_STATS", "STATS",
}  # fmt: skip
WRITE = {"CREATE_INSTANCE", "APPLY_EVENT", "DELETE_INSTANCE", "BATCH"}
ADMIN = {"PUT_MACHINE", "SNAPSHOT_INSTANCE", "COMPACT", "FLUSH_ALL"}
EXEMPT = {"HELLO", "AUTH", "PING", "BYE"}


def test_the_table_has_every_operation_of_the_protocol():
    from rstmdb_protocol import OPERATIONS

    assert set(PERMISSIONS) == set(OPERATIONS)
    assert {name for name, op in OPERATIONS.items() if not op.requires_auth} == EXEMPT


@pytest.mark.parametrize("operation", sorted(READ | WRITE | ADMIN | EXEMPT))
@pytest.mark.parametrize(
    ("roles", "allowed"),
    [
        ((), EXEMPT),
        (("read",), EXEMPT | READ),
        (("write",), EXEMPT | READ | WRITE),
        (("read", "write"), EXEMPT | READ | WRITE),
        (("admin",), EXEMPT | READ | WRITE | ADMIN),
        (ROLES, EXEMPT | READ | WRITE | ADMIN),
    ],
)
def test_each_operation_for_each_role(operation, roles, allowed):
    assert Principal("p", roles).may(operation) == (operation in allowed)


def test_an_operation_outside_the_table_is_allowed_to_nobody():
    assert not UNRESTRICTED.may("DROP_EVERYTHING")
    assert not UNRESTRICTED.may("")


def test_a_scoped_principal_may_nothing_that_concerns_all_machines():
    scoped = Principal("p", ROLES, ("order*",))
    refused = {operation for operation in PERMISSIONS if not scoped.may(operation)}
    assert refused == {"COMPACT", "FLUSH_ALL"}
    assert refused == {name for name, p in PERMISSIONS.items() if p.scope is Scope.WHOLE}
    assert scoped.scoped
    assert not scoped.unrestricted


def test_a_refusal_says_whether_it_is_the_role_or_the_scope():
    scoped_reader = Principal("p", ("read",), ("order*",))
    assert scoped_reader.refusal("GET_MACHINE") is None
    assert scoped_reader.refusal("COMPACT") is RefusalReason.FORBIDDEN
    assert scoped_reader.refusal("NO_SUCH_OPERATION") is RefusalReason.FORBIDDEN
    assert Principal("p", ("admin",), ("order*",)).refusal("COMPACT") is RefusalReason.MACHINE_SCOPE
    assert UNRESTRICTED.refusal("COMPACT") is None


def test_operations_that_name_a_machine_or_instance_are_narrowed():
    free = {name for name, p in PERMISSIONS.items() if p.scope is Scope.FREE}
    assert free == EXEMPT | {"INFO", "UNWATCH", "WAL_STATS"}
    assert {name for name, p in PERMISSIONS.items() if p.need is Need.EXEMPT} == EXEMPT


@pytest.mark.parametrize(
    ("patterns", "machine", "seen"),
    [
        (("order*",), "order", True),
        (("order*",), "order-v2", True),
        (("order*",), "preorder", False),
        (("order?",), "order", False),
        (("order?",), "order1", True),
        (("a", "b"), "b", True),
        (("a.b",), "axb", False),
        (("[ab]",), "a", False),
        (("[ab]",), "[ab]", True),
        (("*",), "line\nbreak", True),
        (("a|b",), "a", False),
        ((), "anything", True),
    ],
)
def test_the_scope_of_machines(patterns, machine, seen):
    assert Principal("p", ROLES, patterns).sees(machine) is seen


@given(st.text(max_size=20))
def test_a_name_without_wildcards_matches_itself_alone(name):
    principal = Principal("p", ROLES, (name.replace("*", "").replace("?", ""),))
    assert principal.sees(name) == (not set(name) & {"*", "?"})


def test_the_documented_table_is_the_one_in_force():
    text = DOCUMENT.read_text()
    assert text.partition("<!-- table")[2].partition("-->\n")[2] == render_table()
    for reason in ("NOT_AUTHENTICATED", "FORBIDDEN", "MACHINE_SCOPE", "TOKEN_EXPIRED", "TOKEN_REVOKED"):
        assert f"`{RefusalReason(reason)}`" in text
    limiter = AttemptLimiter
    words = f"after {limiter.PEER_BURST} in a row", f"Over all addresses {limiter.ALL_BURST} wrong"
    assert all(word in text for word in words)


# --- the limiter ------------------------------------------------------------------------------------------


def test_wrong_tokens_get_slower_and_then_are_not_looked_at():
    limiter = AttemptLimiter()
    delays = []
    while limiter.admits("peer", 0):
        delays.append(limiter.failed("peer", 0))
    assert len(delays) == AttemptLimiter.PEER_BURST
    assert delays[:4] == [50, 100, 200, 400]
    assert delays[-1] == AttemptLimiter.DELAY_MAX_MS
    assert limiter.admits("other", 0)
    assert not limiter.admits("peer", 500)
    assert limiter.admits("peer", 1000)


def test_a_peer_is_forgotten_when_everything_is_forgiven():
    limiter = AttemptLimiter()
    limiter.failed("peer", 0)
    assert limiter.peers_remembered == 1
    assert limiter.admits("peer", 1000)
    assert limiter.peers_remembered == 0
    assert limiter.failed("peer", 5000) == AttemptLimiter.DELAY_FIRST_MS


def test_many_addresses_together_are_limited_but_lock_nobody_out():
    limiter = AttemptLimiter()
    for number in range(AttemptLimiter.ALL_BURST):
        peer = f"10.0.{number // 250}.{number % 250}"
        assert limiter.admits(peer, 0)
        limiter.failed(peer, 0)
    assert not limiter.admits("10.0.0.1", 0), "a peer that was wrong before waits with all the others"
    assert limiter.admits("192.0.2.1", 0), "a peer that never was is not affected"
    assert limiter.admits("10.0.0.1", 100)


def test_the_limiter_has_a_limit_itself():
    limiter = AttemptLimiter()
    for number in range(AttemptLimiter.PEERS_MAX + 100):
        limiter.failed(str(number), 0)
    assert limiter.peers_remembered == AttemptLimiter.PEERS_MAX
    limiter.failed("0", 0)
    assert limiter.peers_remembered == AttemptLimiter.PEERS_MAX


def test_a_clock_that_goes_back_forgives_nothing():
    limiter = AttemptLimiter()
    for _ in range(AttemptLimiter.PEER_BURST):
        limiter.failed("peer", 10_000)
    assert not limiter.admits("peer", 0)


# --- from the settings ------------------------------------------------------------------------------------


def test_hashes_of_configuration_and_file_are_put_together(tmp_path):
    secrets = tmp_path / "tokens"
    secrets.write_text(f"# team\n\n  {sha('b').upper()}  \n{sha('c')} name=ci roles=read\n")
    settings = AuthSettings(required=True, token_hashes=(entry("a"),), secrets_file=str(secrets))
    authenticator = load_authenticator(settings)
    assert [authenticator.authenticate(t, 0).name for t in "abc"] == ["default", "default", "ci"]


def test_required_without_any_hash_is_an_error(tmp_path):
    (tmp_path / "empty").write_text("# nobody\n")
    with pytest.raises(ConfigError, match=r"auth\.required is true"):
        load_authenticator(AuthSettings(required=True, secrets_file=str(tmp_path / "empty")))
    with pytest.raises(ConfigError, match=r"auth\.required is true"):
        load_authenticator(AuthSettings(required=True))


@pytest.mark.parametrize("required", [True, False])
def test_an_unreadable_file_is_an_error_even_when_nobody_is_asked(tmp_path, required):
    settings = AuthSettings(
        required=required, token_hashes=(entry("a"),), secrets_file=str(tmp_path / "none")
    )
    with pytest.raises(ConfigError, match=r"auth\.secrets_file .*none' cannot be read: No such file"):
        load_authenticator(settings)
