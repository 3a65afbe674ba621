"""The whole conversation of a real server with a service manager."""

import os
import signal
import socket
import time

import pytest


@pytest.fixture
def manager(tmp_path):
    """A socket that plays the service manager; `hear_until(word)` returns what was said up to that word."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        path = str(tmp_path / "notify")
        sock.bind(path)
        sock.settimeout(10)

        def hear_until(word):
            heard = []
            deadline = time.monotonic() + 20  # the watchdog never stops talking
            while time.monotonic() < deadline:
                message = dict(line.split("=", 1) for line in sock.recv(4096).decode().splitlines())
                heard.append(message)
                if word in message:
                    return heard
            raise AssertionError(f"{word} was not said, but {heard}")

        yield path, hear_until


def test_ready_watchdog_reload_and_stop(start, session_of, busy, manager):
    path, hear_until = manager
    server = start(environ={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "400000"})
    beginning = hear_until("READY")
    assert all(message.keys() <= {"STATUS", "EXTEND_TIMEOUT_USEC", "READY"} for message in beginning)
    assert f"127.0.0.1:{server.port}" in beginning[-1]["STATUS"]
    # Without a PID it watches whoever was started: twice in its time.
    hear_until("WATCHDOG")
    hear_until("WATCHDOG")

    call = session_of(server)
    busy(call, orders=1)
    server.signal(signal.SIGHUP)
    reloading = hear_until("RELOADING")[-1]
    assert int(reloading["MONOTONIC_USEC"]) > 0
    hear_until("READY")
    assert call("GET_INSTANCE", instance_id="o0")["state"] == "shipped", "the session is still there"

    server.signal(signal.SIGTERM)
    hear_until("STOPPING")
    assert server.process.wait(20) == 0


def test_a_watchdog_of_another_process_is_not_fed(start, manager):
    path, hear_until = manager
    server = start(
        environ={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "100000", "WATCHDOG_PID": str(os.getpid())}
    )
    hear_until("READY")
    server.signal(signal.SIGTERM)
    assert not any("WATCHDOG" in message for message in hear_until("STOPPING"))


def test_a_long_recovery_asks_for_time(start, session_of, busy, manager):
    path, hear_until = manager
    server = start()
    busy(session_of(server), orders=200)
    server.signal(signal.SIGKILL)
    server.process.wait(20)
    again = start(environ={"NOTIFY_SOCKET": path})
    said = hear_until("READY")
    statuses = [message["STATUS"] for message in said if "STATUS" in message]
    assert any(status.startswith("recovering") for status in statuses), statuses
    assert any("EXTEND_TIMEOUT_USEC" in message for message in said)
    assert session_of(again)("GET_INSTANCE", instance_id="o199")["state"] == "paid"
