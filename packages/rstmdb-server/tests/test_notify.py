"""What the service manager hears, over a real socket."""

import os
import socket
import time

import pytest

from rstmdb_server.notify import Notifier


@pytest.fixture
def manager(tmp_path):
    """A socket that plays the service manager; `hear()` returns one datagram as a dict."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        path = str(tmp_path / "notify")
        sock.bind(path)
        sock.settimeout(5)

        def hear():
            text = sock.recv(4096).decode()
            assert text.endswith("\n")
            return dict(line.split("=", 1) for line in text.splitlines())

        yield path, hear


def nothing_more(path, hear):
    """Assert that nothing was said since: the next thing heard is what is said now."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"MARK=1\n", path)
    assert hear() == {"MARK": "1"}


def test_a_whole_life(manager):
    path, hear = manager
    notifier = Notifier({"NOTIFY_SOCKET": path})
    assert notifier.listened
    notifier.status("recovering: 3 of 7\nsegments")
    assert hear() == {"STATUS": "recovering: 3 of 7 segments"}
    notifier.extend_timeout(30)
    assert hear() == {"EXTEND_TIMEOUT_USEC": "30000000"}
    notifier.ready("serving on 127.0.0.1:7401")
    assert hear() == {"READY": "1", "STATUS": "serving on 127.0.0.1:7401"}
    before = time.monotonic_ns() // 1000
    notifier.reloading()
    heard = hear()
    assert heard.keys() == {"RELOADING", "MONOTONIC_USEC"}
    assert before <= int(heard["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    notifier.ready()
    assert hear() == {"READY": "1"}
    notifier.stopping()
    assert hear() == {"STOPPING": "1", "STATUS": "draining"}
    nothing_more(path, hear)


def test_the_watchdog_is_fed_twice_as_often_as_it_wants(manager):
    path, hear = manager
    notifier = Notifier({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "4000000", "WATCHDOG_PID": str(os.getpid())})
    assert notifier.watchdog_interval_seconds == 2.0
    for now in (100.0, 100.1, 101.9, 102.0, 103.9, 104.5):
        notifier.watchdog(now)
    for _ in range(3):
        assert hear() == {"WATCHDOG": "1"}
    nothing_more(path, hear)


@pytest.mark.parametrize(
    "environ",
    [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}],
)
def test_a_watchdog_that_is_not_ours_is_not_fed(manager, environ):
    path, hear = manager
    notifier = Notifier({"NOTIFY_SOCKET": path, **environ})
    notifier.watchdog(1.0)
    assert notifier.watchdog_interval_seconds is None
    nothing_more(path, hear)


def test_an_abstract_socket():
    name = f"rstmdb-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name)
        sock.settimeout(5)
        Notifier({"NOTIFY_SOCKET": "@" + name}).ready()
        assert sock.recv(100) == b"READY=1\n"


@pytest.mark.parametrize(
    "environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}, {"NOTIFY_SOCKET": "x"}]
)
def test_without_a_manager_nothing_happens(environ):
    notifier = Notifier(environ)
    assert not notifier.listened
    notifier.ready()
    notifier.watchdog(0.0)


def test_a_manager_that_is_gone_or_does_not_listen_holds_nobody_up(tmp_path, manager):
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).ready()
    path, _ = manager
    notifier = Notifier({"NOTIFY_SOCKET": path})
    for _ in range(2000):  # far more than a datagram socket keeps
        notifier.status("x" * 200)
