"""A start that fails: one line that names what is wrong, and the exit code that says which kind it is."""

import errno
import os
import socket
from pathlib import Path

import msgspec
import pytest

from rstmdb_server import exit_codes
from rstmdb_server.database import Database
from rstmdb_server.settings import Settings, StorageSettings
from rstmdb_server.starting import Seldom, StartError, bind_or_refuse, open_or_refuse
from rstmdb_storage import FileSystem, OsFileSystem
from tests.in_process import VirtualHost
from tests.simulation.filesystem import Disk, SimulatedFileSystem

NOBODY = 65_534


def settings(path: str | Path) -> Settings:
    return Settings(storage=StorageSettings(data_dir=str(path), wal_segment_size_mb=1))


def opened(path: str | Path, fs: FileSystem | None = None) -> Database:
    return open_or_refuse(VirtualHost(), fs or OsFileSystem(), settings(path), on_progress=lambda _: None)


def refused(path: str | Path, fs: FileSystem | None = None) -> tuple[str, int]:
    with pytest.raises(StartError) as caught:
        opened(path, fs)
    message = str(caught.value)
    assert "\n" not in message
    return message, caught.value.code


# --- the port ---------------------------------------------------------------------------------------------


def test_a_bound_port_does_not_listen_yet() -> None:
    with bind_or_refuse("127.0.0.1:0", "network.bind_addr") as sock, pytest.raises(ConnectionRefusedError):
        socket.create_connection(sock.getsockname(), timeout=5)


@pytest.mark.parametrize("address", ["127.0.0.1:0", "localhost:0", "[::1]:0"])
def test_every_form_of_an_address(address: str) -> None:
    if address.startswith("[") and not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with bind_or_refuse(address, "network.bind_addr") as sock:
        assert sock.getsockname()[1] > 0


def test_a_taken_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        address = f"127.0.0.1:{holder.getsockname()[1]}"
        with pytest.raises(StartError) as caught:
            bind_or_refuse(address, "metrics.bind_addr")
    assert str(caught.value) == f"cannot listen on {address} (metrics.bind_addr): Address already in use"
    assert caught.value.code == exit_codes.START_FAILED


def test_an_address_of_another_machine() -> None:
    with pytest.raises(StartError, match=r"cannot listen on 203\.0\.113\.1:1 .*Cannot assign requested"):
        bind_or_refuse("203.0.113.1:1", "network.bind_addr")


def test_a_name_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(StartError) as caught:
        bind_or_refuse("nosuch.invalid:1", "network.bind_addr")
    assert str(caught.value).endswith("(network.bind_addr): Name or service not known")


# --- the data directory -----------------------------------------------------------------------------------


def test_a_new_directory_is_made_with_its_parents(tmp_path: Path) -> None:
    database = opened(tmp_path / "a" / "b")
    database.close()
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == [
        "FORMAT",
        "LOCK",
        "snapshots",
        "wal",
    ]


def test_a_directory_in_use_names_its_holder(tmp_path: Path) -> None:
    database = opened(tmp_path)
    message, code = refused(tmp_path)
    assert message.startswith(f"data directory {tmp_path} is in use: ")
    assert f"process {os.getpid()}" in message
    assert code == exit_codes.START_FAILED
    database.close()
    opened(tmp_path).close()


@pytest.mark.parametrize("below", ["", "sub"])
def test_a_file_in_the_way(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    message, code = refused(tmp_path / "file" / below)
    assert message.endswith(": there is a file of that name, or on the way to it")
    assert code == exit_codes.START_FAILED


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not write")
def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    os.seteuid(NOBODY)
    try:
        message, code = refused(tmp_path / "data")
    finally:
        os.seteuid(0)
    assert message == f"cannot open data directory {tmp_path}/data: Permission denied"
    assert code == exit_codes.START_FAILED


def test_a_directory_of_another_server(tmp_path: Path) -> None:
    (tmp_path / "wal").mkdir()
    (tmp_path / "wal" / "0000000000000001.wal").write_bytes(b"of another server")
    message, code = refused(tmp_path)
    assert "has to be imported" in message
    assert code == exit_codes.DATA_DAMAGED


def test_a_format_of_the_future(tmp_path: Path) -> None:
    opened(tmp_path).close()
    (tmp_path / "FORMAT").write_text("rstmdb data directory, format 99\n")
    message, code = refused(tmp_path)
    assert "format 99" in message
    assert code == exit_codes.DATA_DAMAGED


def test_damage_names_file_position_and_reason(tmp_path: Path) -> None:
    opened(tmp_path).close()
    (segment,) = (tmp_path / "wal").glob("*[0-9a-f].wal")
    with segment.open("r+b") as file:
        file.seek(16)
        file.write(b"\xff\xff\xff\xff")
    message, code = refused(tmp_path)
    assert segment.name in message
    assert code == exit_codes.DATA_DAMAGED
    # And the directory is free again for the tools that look at it.
    assert refused(tmp_path) == (message, code)


def test_a_full_disk() -> None:
    message, code = refused("/data", SimulatedFileSystem(Disk(capacity=512)))
    assert message.startswith("cannot open data directory /data: ")
    assert code == exit_codes.START_FAILED


def test_a_disk_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), "/data")

    fs = SimulatedFileSystem()
    monkeypatch.setattr(fs, "make_directory", failing)
    assert refused("/data", fs)[0] == "cannot open data directory /data: Input/output error"


def test_the_settings_reach_log_and_engine(tmp_path: Path) -> None:
    given = msgspec.structs.replace(
        settings(tmp_path),
        storage=StorageSettings(data_dir=str(tmp_path), wal_segment_size_mb=2, allow_instance_recreate=False),
    )
    database = open_or_refuse(VirtualHost(), OsFileSystem(), given, on_progress=lambda _: None)
    assert next((tmp_path / "wal").glob("*1.wal")).stat().st_size == 2 * 1024 * 1024
    assert database.state.settings.allow_instance_recreate is False
    database.close()


@pytest.mark.parametrize(("at_once", "told"), [(True, [0.0, 1.0, 2.5]), (False, [1.0, 2.5])])
def test_what_happens_often_is_told_seldom(at_once: bool, told: list[float]) -> None:
    clock = [0.0]
    seldom = Seldom(lambda: clock[0], at_once=at_once)
    due = []
    for clock[0] in (0.0, 0.2, 0.9, 1.0, 1.1, 1.9, 2.5, 3.4):
        if seldom.due():
            due.append(clock[0])
    assert due == told
