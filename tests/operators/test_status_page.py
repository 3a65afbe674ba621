"""The status page of a real server in a real browser."""

import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")


class Text(HTMLParser):
    """The text of each element that has an id, and how often each tag occurs."""

    def __init__(self, html):
        super().__init__()
        self.by_id, self._open, self.sources = {}, [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "img":
            self.sources.append(attributes["src"])
        if tag not in ("meta", "link", "img", "input", "br"):
            self._open.append((tag, attributes.get("id")))

    def handle_endtag(self, tag):
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        for _, name in self._open:
            if name is not None:
                self.by_id[name] = self.by_id.get(name, "") + " " + data.strip()


def browse(url, tmp_path, *options):
    """Load a page, let its script run for seconds of virtual time; return the page and what it logged."""
    result = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--no-first-run", "--disable-background-networking", "--enable-logging=stderr",
            f"--user-data-dir={tmp_path / 'browser'}", "--virtual-time-budget=5000",
            "--window-size=1200,1000", *options, url,
        ],
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    console = [line for line in result.stderr.splitlines() if "CONSOLE" in line]
    return result.stdout, console


def test_the_page_shows_state_figures_and_machines(start, session_of, busy, tmp_path):
    server = start()
    call = session_of(server)
    busy(call)
    evil = "<img src=x onerror=alert(1)>"
    call("PUT_MACHINE", machine=evil, version=1,
         definition={"states": [evil], "initial": evil, "transitions": []})  # fmt: skip
    html, console = browse(f"{server.url}/#order", tmp_path, "--dump-dom")
    page = Text(html)
    assert console == []
    assert page.by_id["state"].strip() == "ready"
    assert re.search(r"instances\s+30\b", page.by_id["tiles"])
    assert re.search(r"connections\s+1\b", page.by_id["tiles"])
    assert re.search(r"APPLY_EVENT .* 32\b", page.by_id["operations"])
    assert re.search(r"INVALID_TRANSITION .* 1\b", page.by_id["errors"])
    assert re.search(r"order\s+version 1, 30 instances", page.by_id["machines"])
    assert re.search(r"paid\s+29\s+shipped\s+1", page.by_id["machines"])
    assert page.sources == ["machine.svg?machine=order&version=1"], "only the opened machine is drawn"
    assert evil in page.by_id["machines"], "a name is text, whatever is in it"


def test_a_diagram_is_drawn(start, session_of, busy, tmp_path):
    server = start()
    busy(session_of(server), orders=1)
    picture = tmp_path / "page.png"
    _, console = browse(f"{server.url}/#order", tmp_path, f"--screenshot={picture}")
    assert console == []
    assert picture.stat().st_size > 20_000


def test_an_empty_server_says_so(start, tmp_path):
    server = start()
    html, console = browse(server.url, tmp_path, "--dump-dom")
    page = Text(html)
    assert console == []
    assert page.by_id["state"].strip() == "ready"
    assert "No machine yet." in page.by_id["no-machines"]
    assert "No request yet." in page.by_id["no-operations"]
