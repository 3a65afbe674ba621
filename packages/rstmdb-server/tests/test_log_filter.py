"""The RUST_LOG notation."""

import pytest

from rstmdb_server.log_filter import LEVELS, OFF, TRACE, parse_filter


@pytest.mark.parametrize("name", LEVELS)
def test_a_level_is_for_everything(name):
    assert parse_filter(f" {name.upper()} ").level_of("anything.at.all") == LEVELS[name]


def test_the_longest_target_decides():
    log_filter = parse_filter("warn,rstmdb_server=info,rstmdb_server::watch=trace,asyncio=off")
    assert log_filter.level_of("rstmdb_server.watch") == TRACE
    assert log_filter.level_of("rstmdb_server.watch.cursor") == TRACE
    assert log_filter.level_of("rstmdb_server.watcher") == LEVELS["info"]
    assert log_filter.level_of("rstmdb_server") == LEVELS["info"]
    assert log_filter.level_of("asyncio") == OFF
    assert log_filter.level_of("other") == LEVELS["warn"]
    assert log_filter.lowest == TRACE


def test_a_bare_target_is_everything_from_it_and_the_rest_stays_at_info():
    log_filter = parse_filter("rstmdb_server")
    assert log_filter.level_of("rstmdb_server") == TRACE
    assert log_filter.level_of("other") == LEVELS["info"]


@pytest.mark.parametrize("text", ["", " , ,", "info", "info,"])
def test_nothing_is_info(text):
    assert parse_filter(text).level_of("x") == LEVELS["info"]


@pytest.mark.parametrize("text", ["a=loud", "=debug", "a b", "info;debug", "a=", "[span]=debug", "a..b=info"])
def test_what_is_not_understood_is_named(text):
    with pytest.raises(ValueError, match="neither a level nor target=level"):
        parse_filter(text)
