"""What the server says, and how it looks."""

import io
import json
import logging
import re
import sys
from types import SimpleNamespace

import pytest

from rstmdb_server import logs
from rstmdb_server.settings import ConfigError, LoggingSettings


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def restored():
    """Logging belongs to the process: give it back as it was."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logs.configure(LoggingSettings(level="off"))
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def said():
    """Configure with these options; returns a function that gives the lines so far."""

    def configure(stream=None, *, colours=None, **options):
        stream = stream or io.StringIO()
        logs.configure(LoggingSettings(**options), stream=stream, colours=colours)
        return lambda: stream.getvalue().splitlines()

    return configure


def test_json_lines_where_it_is_no_terminal(said):
    lines = said()
    logs.get_logger("rstmdb_server.part").warning("what", number=3, text="a b", nothing=None, more=[1])
    [line] = lines()
    value = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", value.pop("time"))
    assert value == {
        "level": "warn", "target": "rstmdb_server.part", "message": "what", "number": 3, "text": "a b",
        "nothing": None, "more": [1],
    }  # fmt: skip


def test_text_on_a_terminal(said):
    lines = said(Terminal())
    logs.get_logger("part").info("what", number=3, text="a b")
    [line] = lines()
    assert re.sub(r"\x1b\[\d+m", "", line).endswith('  INFO part: what number=3 text="a b"')
    assert "\x1b[" in line


@pytest.mark.parametrize(("format_name", "is_json"), [("text", False), ("json", True)])
def test_a_configured_format_wins(said, format_name, is_json):
    for stream in (Terminal(), io.StringIO()):
        lines = said(stream, format=format_name, colours=False)
        logs.get_logger("part").info("what")
        assert lines()[0].startswith("{") is is_json
        assert "\x1b" not in lines()[0]


@pytest.mark.parametrize("format_name", ["text", "json"])
@pytest.mark.parametrize("evil", ["a\nb", "a\x1b[31m", "\ud800", '"', "\x00", "", "a\u2028b"])
def test_a_line_stays_a_line_whatever_is_in_it(said, format_name, evil):
    stream = io.StringIO()
    said(stream, format=format_name)
    logs.get_logger("part").info(evil, value=evil, other=SimpleNamespace(x=evil))
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert text.strip("\n").isprintable()
    if format_name == "json":
        assert json.loads(text)["value"] == evil


def test_levels_and_targets(said):
    lines = said(level="warn,rstmdb_server.watch=debug", format="text")
    for target in ("rstmdb_server", "rstmdb_server.watch", "rstmdb_server.watch.cursor"):
        for level in ("debug", "info", "warning", "error", "critical"):
            getattr(logs.get_logger(target), level)(f"{target}/{level}")
    found = [line.rsplit(" ", 1)[1] for line in lines()]
    assert found == [
        *(f"rstmdb_server/{level}" for level in ("warning", "error", "critical")),
        *(f"rstmdb_server.watch/{level}" for level in ("debug", "info", "warning", "error", "critical")),
        *(
            f"rstmdb_server.watch.cursor/{level}"
            for level in ("debug", "info", "warning", "error", "critical")
        ),
    ]


def test_a_level_can_be_changed_while_loggers_are_in_use(said):
    lines = said(level="error")
    log = logs.get_logger("part")
    log.info("before")
    logs.set_level("debug")
    log.info("after")
    with pytest.raises(ValueError, match="loud"):
        logs.set_level("a=loud")
    log.debug("still")
    assert [json.loads(line)["message"] for line in lines()] == ["after", "still"]


def test_a_logger_made_before_the_settings_obeys_them(said):
    log = logs.get_logger("early")
    lines = said()
    log.info("x")
    assert json.loads(lines()[0])["target"] == "early"


def test_lines_of_libraries_come_along(said):
    lines = said(level="info,noisy=error")
    logging.getLogger("asyncio").warning("slow %s", "callback")
    logging.getLogger("asyncio").debug("not this")
    logging.getLogger("noisy").warning("nor this")
    [line] = lines()
    assert (
        json.loads(line).items() >= {"level": "warn", "target": "asyncio", "message": "slow callback"}.items()
    )


def test_configuring_again_does_not_double_lines(said):
    said()
    lines = said()
    logging.getLogger("x").warning("once")
    logs.get_logger("x").warning("once")
    assert len(lines()) == 2


@pytest.mark.parametrize("format_name", ["text", "json"])
def test_tracebacks(said, format_name):
    lines = said(format=format_name)
    try:
        raise RuntimeError("why")
    except RuntimeError as error:
        logs.get_logger("a").exception("failed", op="X")
        logs.get_logger("b").error("failed", exc_info=error)
        logging.getLogger("c").exception("failed")
    if format_name == "json":
        for line in lines():
            assert json.loads(line)["exception"].endswith("RuntimeError: why")
    else:
        assert sum(line == "    RuntimeError: why" for line in lines()) == 3
        assert sum(line.endswith("failed op=X") for line in lines()) == 1


def test_a_stream_that_fails_costs_the_line_and_nothing_else():
    class Broken(io.StringIO):
        def write(self, text):
            raise OSError(28, "No space left on device")

    logs.configure(LoggingSettings(), stream=Broken())
    logs.get_logger("x").error("lost")
    logging.getLogger("x").error("lost")
    closed = io.StringIO()
    logs.configure(LoggingSettings(), stream=closed)
    closed.close()
    logs.get_logger("x").error("lost")


def test_without_a_stream_it_is_stderr_at_that_moment(monkeypatch):
    logs.configure(LoggingSettings())
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    logs.get_logger("x").error("there")
    assert "there" in stream.getvalue()


# --- slow operations --------------------------------------------------------------------------------------


def test_slow_operations_are_told_up_to_a_rate_and_the_rest_as_a_number(said):
    lines = said()
    slow = logs.SlowOperations(250)
    assert slow.threshold_seconds == 0.25
    for number in range(25):
        slow.report("APPLY_EVENT", 0.3, 100.0 + number / 100, peer="p", principal="ci")
    slow.report("PING", 1.0, 101.0)
    slow.report("PING", 1.0, 101.1)
    found = [json.loads(line) for line in lines()]
    assert len(found) == 12
    assert (
        found[0].items() >= {"operation": "APPLY_EVENT", "ms": 300.0, "peer": "p", "principal": "ci"}.items()
    )
    assert [line.get("untold") for line in found[9:]] == [None, 15, None]


def test_zero_is_never_slow():
    assert logs.SlowOperations(0).threshold_seconds == float("inf")


# --- audit ------------------------------------------------------------------------------------------------

SESSION = SimpleNamespace(principal=SimpleNamespace(name="ci"), peer="192.0.2.1")


def database(next_sequence=1):
    return SimpleNamespace(log=SimpleNamespace(next_sequence=next_sequence))


def test_off_is_none():
    assert logs.audit_writer(LoggingSettings(), database()) is None


def test_audit_lines_tell_who_did_what_and_are_not_filtered(said):
    lines = said(level="error")
    log = database(7)
    audit = logs.audit_writer(LoggingSettings(audit=True), log)
    log.log.next_sequence = 9
    audit(SESSION, "APPLY_EVENT", "order-1", event="PAY")
    audit(SESSION, "APPLY_EVENT", "order-1", event="PAY")  # a repeated request: nothing was logged
    found = [json.loads(line) for line in lines()]
    assert found[0].items() >= {
        "target": "rstmdb_server.audit", "message": "audit", "principal": "ci", "peer": "192.0.2.1",
        "operation": "APPLY_EVENT", "subject": "order-1", "event": "PAY", "offset": 8,
    }.items()  # fmt: skip
    assert found[1]["offset"] is None


def test_audit_lines_go_to_a_file_of_their_own(tmp_path, said):
    lines = said()
    path = tmp_path / "audit.jsonl"
    path.write_text("kept\n")
    log = database()
    audit = logs.audit_writer(LoggingSettings(audit=str(path)), log)
    log.log.next_sequence = 2
    audit(SESSION, "CREATE_INSTANCE", "ü", machine="order")
    audit(SimpleNamespace(principal=None, peer="p"), "DELETE_INSTANCE", "x")
    first, second, third = path.read_text().splitlines()
    assert first == "kept"
    assert json.loads(second).items() >= {"subject": "ü", "machine": "order", "offset": 1}.items()
    assert json.loads(third)["principal"] is None
    assert path.stat().st_mode & 0o007 == path.stat().st_mode & 0o004
    assert lines() == []
    path.rename(tmp_path / "audit.jsonl.1")
    audit.reopen()
    audit(SESSION, "BATCH", "3 operations")
    assert "BATCH" in path.read_text()
    audit.close()


def test_an_audit_file_that_cannot_be_opened_stops_the_start(tmp_path):
    with pytest.raises(ConfigError, match=r"logging\.audit .* cannot be opened: Is a directory"):
        logs.audit_writer(LoggingSettings(audit=str(tmp_path)), database())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/dev/full is Linux's")
def test_lost_audit_lines_are_told_once_until_they_work_again(said):
    lines = said()
    audit = logs.audit_writer(LoggingSettings(audit="/dev/full"), database())
    for _ in range(3):
        audit(SESSION, "PUT_MACHINE", "order v1")
    [line] = lines()
    assert json.loads(line).items() >= {"message": "audit lines are being lost", "path": "/dev/full"}.items()
    audit.close()
