"""The demonstration's page as a user meets it: started from the shell, opened, and clicked through.

With SCREENSHOTS set to a folder, each browser leaves one there; those in docs/screenshots come from this test.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.conftest import BROWSERS, require
from tests.browser.driver import Browser

pytestmark = pytest.mark.browser

START = [sys.executable, "-m", "webtransport", "demo", "--browser", "--no-open", "--http-port", "0"]
WINDOW = (1100, 1180)


@contextlib.contextmanager
def demonstration() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The page's address, and the process behind it."""
    process = subprocess.Popen(START, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if found := re.match(r"Open (http://\S+)", line):
                yield found[1], process
                break
        else:
            raise AssertionError("the demonstration did not start")
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


@pytest.fixture(scope="module", params=sorted(BROWSERS))
def user(request: pytest.FixtureRequest) -> Iterator[Browser]:
    kind = BROWSERS[request.param]
    require(kind)
    with kind(window=WINDOW) as browser:
        yield browser


def wait_for_state(user: Browser, state: str) -> None:
    user.wait_for(f"document.documentElement.dataset.state === '{state}'")


def number(user: Browser, selector: str) -> float:
    """A figure of the page, once it shows one."""
    user.wait_for(f"/^[0-9]/.test(document.querySelector('{selector}').innerText)")
    return float(user.text(selector).replace(",", ""))


def test_everything_on_the_page(user: Browser) -> None:
    with demonstration() as (url, _):
        user.console.clear()
        user.open(url)
        wait_for_state(user, "connected")
        assert user.text("#status") == "connected"

        # round trips by datagram
        user.wait_for("Number(document.querySelector('#sent').innerText) >= 30")
        best, median = number(user, "#rtt-best"), number(user, "#rtt-median")
        assert 0 <= best <= median  # 0: Firefox gives pages a clock of whole milliseconds
        assert number(user, "#lost") <= 3

        # what was negotiated
        info = user.text("#info").split("\n")
        facts = dict(zip(info[::2], info[1::2], strict=True))
        assert facts["WebTransport"] == "draft-02"
        assert facts["Transport"] == "QUIC v1"
        assert facts["Cipher"].startswith("TLS_")
        assert facts["Server"].startswith("CPython 3.")

        # a stream there and back, then twenty
        user.click("#echo")
        assert number(user, "#echo-size") == 1 << 20
        assert number(user, "#echo-rate") > 0
        user.wait_for("!document.querySelector('#many').disabled")
        user.click("#many")
        user.wait_for("document.querySelector('#log').innerText.includes('20 streams')")

        # streams that the server opens
        user.wait_for("document.querySelectorAll('#ticks li').length >= 3")
        assert "second 1, sent" in user.text("#ticks")

        # close, and connect again
        user.click("#close")
        wait_for_state(user, "closed")
        assert "closed with code 7 and the reason “closed by a button”" in user.text("#log li:first-child")
        user.click("#connect")
        wait_for_state(user, "connected")
        assert user.console == []

        if folder := os.environ.get("SCREENSHOTS"):
            user.wait_for("Number(document.querySelector('#sent').innerText) >= 200", timeout=40)
            user.screenshot(Path(folder) / f"demo-{user.name}.png")


def test_a_server_that_is_stopped_says_goodbye(user: Browser) -> None:
    with demonstration() as (url, process):
        user.open(url)
        wait_for_state(user, "connected")
        process.send_signal(signal.SIGINT)  # Ctrl-C
        user.wait_for("document.documentElement.dataset.state !== 'connected'")
        assert "closed with code 0" in user.text("#log li:first-child")
        assert process.wait(timeout=20) == 0
