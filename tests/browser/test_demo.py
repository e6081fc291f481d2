"""``python -m webtransport demo --browser`` in Chromium and Firefox, as a stranger would use it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.driver import Browser

pytestmark = pytest.mark.browser


@pytest.fixture
def demo_url(tmp_path: Path) -> Iterator[str]:
    """The page of a demonstration that runs in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "webtransport", "demo", "--browser", "--no-open", "--http-port", "0"],
        env=os.environ | {"XDG_CACHE_HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(3)]
        yield next(word for line in said for word in line.split() if word.startswith("http://"))
    finally:
        process.terminate()
        process.communicate(timeout=20)
    assert process.returncode == 0


def test_the_page(browser: Browser, demo_url: str) -> None:
    browser.open(demo_url)
    browser.wait_for("document.documentElement.dataset.state === 'connected'")
    browser.wait_for("document.querySelector('#info').innerText.includes('draft-')")
    info = browser.text("#info")
    assert "QUIC v1" in info and "TLS_" in info

    browser.click("#echo")
    browser.wait_for("document.querySelector('#echo-size').textContent === '1,048,576'")
    browser.wait_for("!document.querySelector('#many').disabled")
    browser.click("#many")
    browser.wait_for("document.querySelector('#log').innerText.includes('20 streams of')")
    browser.wait_for("document.querySelector('#ticks').children.length >= 2")
    browser.wait_for("Number(document.querySelector('#rtt-median').textContent) > 0")

    browser.click("#close")
    browser.wait_for("document.documentElement.dataset.state === 'closed'")
    assert "closed with code 7" in browser.text("#log")
    browser.click("#connect")
    browser.wait_for("document.documentElement.dataset.state === 'connected'")
    assert browser.call("() => document.querySelectorAll('#log .error').length") == 0
