"""SIGHUP under load: new certificates, changed tokens, another level; nobody is dropped or half reloaded."""

import hashlib
import json
import signal
import ssl
import threading

import pytest
import trustme
import yaml

ORDERS = 50


def sha(token):
    return hashlib.sha256(token.encode()).hexdigest()


class Place:
    """The files of a server that can be changed while it runs."""

    def __init__(self, directory):
        self.directory = directory
        self.config = directory / "rstmdb.yaml"
        self.secrets = directory / "tokens"
        self.cert, self.key = directory / "cert.pem", directory / "key.pem"
        self.authority = trustme.CA()
        self.client = ssl.create_default_context()
        self.authority.configure_trust(self.client)
        self.issue()
        self.tokens("keeps", "loses")
        self.configure()

    def issue(self):
        """Put a new certificate of the same authority in place; returns it as the client will see it."""
        issued = self.authority.issue_cert("localhost")
        issued.private_key_pem.write_to_path(self.key)
        for number, blob in enumerate(issued.cert_chain_pems):
            blob.write_to_path(self.cert, append=number > 0)
        return ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())

    def tokens(self, *tokens):
        self.secrets.write_text("".join(f"{sha(token)} name={token}\n" for token in tokens))

    def configure(self, *, network=None, **logging):
        self.config.write_text(
            yaml.safe_dump(
                {
                    "network": network or {},
                    "auth": {"required": True, "secrets_file": str(self.secrets)},
                    "tls": {"enabled": True, "cert_path": str(self.cert), "key_path": str(self.key)},
                    "logging": logging,
                }
            )
        )


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def reload(server):
    before = len(server.said)
    server.signal(signal.SIGHUP)
    return before


def authenticated(session_of, server, place, token):
    call = session_of(server, tls=place.client)
    call("AUTH", token=token)
    return call


class Worker(threading.Thread):
    """Keeps a session busy until told to stop; counts its answers and keeps what was not an answer."""

    def __init__(self, call, name):
        super().__init__(daemon=True)
        self.call, self.label, self.answers, self.failure = call, name, 0, None
        self.enough = threading.Event()
        self.progress = threading.Condition()

    def run(self):
        try:
            while not self.enough.is_set():
                instance = f"{self.label}-{self.answers}"
                self.call("CREATE_INSTANCE", machine="m", version=1, instance_id=instance)
                self.call("APPLY_EVENT", instance_id=instance, event="GO")
                with self.progress:
                    self.answers += 1
                    self.progress.notify_all()
        except BaseException as error:
            self.failure = error
            with self.progress:
                self.progress.notify_all()

    def go_on(self, count=ORDERS):
        """Wait until it has got `count` more answers."""
        with self.progress:
            target = self.answers + count
            assert self.progress.wait_for(lambda: self.failure or self.answers >= target, timeout=30)
        assert self.failure is None, repr(self.failure)


DEFINITION = {"states": ["a", "b"], "initial": "a", "transitions": [{"from": "a", "event": "GO", "to": "b"}]}


def test_new_certificate_and_revoked_token_under_load(start, session_of, place):
    server = start(environ={"RSTMDB_CONFIG": str(place.config)})
    first = authenticated(session_of, server, place, "keeps")
    first("PUT_MACHINE", machine="m", version=1, definition=DEFINITION)
    loses = authenticated(session_of, server, place, "loses")
    loses("GET_MACHINE", machine="m", version=1)
    workers = [Worker(authenticated(session_of, server, place, "keeps"), f"w{n}") for n in range(3)]
    for worker in workers:
        worker.start()
        worker.go_on()
    old = first.certificate()

    new = place.issue()
    assert new != old
    place.tokens("keeps", "new")
    server.wait_for("configuration reloaded", after=reload(server))
    for worker in workers:
        worker.go_on()

    assert authenticated(session_of, server, place, "new").certificate() == new
    assert first("GET_MACHINE", machine="m", version=1), "an open session keeps its certificate and its place"
    refused = loses.answer("GET_MACHINE", machine="m", version=1)
    assert refused["error"]["code"] == "UNAUTHORIZED"
    assert refused["error"]["details"]["reason"] == "TOKEN_REVOKED"
    again = session_of(server, tls=place.client).answer("AUTH", token="loses")
    assert again["error"]["code"] == "AUTH_FAILED"
    for worker in workers:
        worker.enough.set()
        worker.join(10)
        assert worker.failure is None


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda place: place.key.write_text("nonsense"), "tls.key_path"),
        (lambda place: place.secrets.write_text("nonsense"), "line 1"),
        (lambda place: place.config.write_text("network: {max_conections: 1}"), "max_conections"),
        (lambda place: place.cert.unlink(), "tls.cert_path"),
    ],
)
def test_a_fault_in_any_file_leaves_everything_as_it_was(start, session_of, place, spoil, reason):
    server = start(environ={"RSTMDB_CONFIG": str(place.config)})
    call = authenticated(session_of, server, place, "keeps")
    old = call.certificate()
    place.issue()
    place.tokens("new")
    spoil(place)
    said = server.wait_for("reload refused", after=reload(server)).string
    assert reason in said
    other = authenticated(session_of, server, place, "loses")
    assert other.certificate() == old
    assert call("PING") == {"pong": True}


def test_the_level_changes(start, session_of, place):
    server = start(environ={"RSTMDB_CONFIG": str(place.config)})
    place.configure(level="debug")
    server.wait_for("configuration reloaded", after=reload(server))
    place.configure(level="error")
    before = reload(server)
    # Nothing is said at this level: a session that still works shows that it is done, a third reload that
    # it counted.
    authenticated(session_of, server, place, "keeps")("PING")
    place.configure(level="info")
    server.wait_for("configuration reloaded", after=reload(server))
    assert before <= len(server.said)


def test_limits_change_for_who_comes_next(start, session_of, place):
    server = start(environ={"RSTMDB_CONFIG": str(place.config)})
    sessions = [authenticated(session_of, server, place, "keeps") for _ in range(3)]
    place.configure(network={"max_connections": 3, "subscriptions_max": 1})
    server.wait_for("configuration reloaded", after=reload(server))
    refused = session_of(server, tls=place.client).answer("PING")["error"]
    assert (refused["code"], refused["details"]["limit"]) == ("RATE_LIMITED", 3)
    assert all(call("PING") == {"pong": True} for call in sessions), "who is there stays"
    sessions[0]("WATCH_ALL")
    assert sessions[0].answer("WATCH_ALL")["status"] == "error"
    place.configure()
    server.wait_for("configuration reloaded", after=reload(server))
    sessions[0]("WATCH_ALL")
    assert session_of(server, tls=place.client).answer("PING")["status"] == "ok"


def test_a_rotated_audit_file_is_opened_anew(start, session_of, place):
    audit = place.directory / "audit.jsonl"
    place.configure(audit=str(audit))
    server = start(environ={"RSTMDB_CONFIG": str(place.config)})
    call = authenticated(session_of, server, place, "keeps")
    call("PUT_MACHINE", machine="m", version=1, definition=DEFINITION)
    audit.rename(place.directory / "audit.jsonl.1")
    server.wait_for("configuration reloaded", after=reload(server))
    call("CREATE_INSTANCE", machine="m", version=1, instance_id="one")
    assert "PUT_MACHINE" in (place.directory / "audit.jsonl.1").read_text()
    [line] = audit.read_text().splitlines()
    written = json.loads(line)
    assert (written["principal"], written["operation"], written["subject"]) == (
        "keeps",
        "CREATE_INSTANCE",
        "one",
    )
    assert written["offset"] == 2
