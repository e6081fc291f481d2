"""Real browsers, the page that they load, and the server that they talk to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.browser.chromium import Chromium
from tests.browser.driver import Browser
from tests.browser.firefox import Firefox
from tests.browser.server import EchoServer

ROOT = Path(__file__).parents[2]
BROWSERS: dict[str, type[Browser]] = {"chromium": Chromium, "firefox": Firefox}

CheckRunner = Callable[..., Any]


def require(browser: type[Browser]) -> None:
    """Skip, and say what to install, if the browser is not there. In CI every such skip is a failure."""
    if browser.executable() is None:
        pytest.skip(f"{browser.name} is not installed: apt-get install {browser.package}")


@pytest.fixture(scope="module", params=sorted(BROWSERS))
def shared_browser(request: pytest.FixtureRequest) -> Iterator[Browser]:
    require(BROWSERS[request.param])
    with BROWSERS[request.param]() as browser:
        yield browser


@pytest.fixture
def browser(shared_browser: Browser) -> Browser:
    """Chromium, then Firefox, with an empty page: whatever the test before left open is gone."""
    shared_browser.open("about:blank")
    shared_browser.console.clear()
    return shared_browser


@pytest.fixture(scope="module")
def chromium_draft07() -> Iterator[Browser]:
    """A Chromium that offers draft-07 of WebTransport besides draft-02."""
    require(Chromium)
    with Chromium(flags=["--enable-features=EnableWebTransportDraft07"]) as browser:
        yield browser


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def page_url() -> Iterator[str]:
    """A plain HTTP server for the test page. http://localhost counts as a secure context."""
    handler = partial(QuietHandler, directory=str(Path(__file__).parent / "pages"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://localhost:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EchoServer]:
    with EchoServer(tmp_path_factory.mktemp("certificate")) as server:
        yield server


@pytest.fixture
def server(shared_server: EchoServer) -> EchoServer:
    shared_server.forget()
    return shared_server


def check_runner(browser: Browser, server: EchoServer, page_url: str) -> CheckRunner:
    """A function that has the page run one of pages/checks.js against a route of the server."""
    browser.open(page_url)

    def run(name: str, path: str, **options: object) -> Any:
        target = {"url": server.url + path, "hash": list(server.certificate_hash), **options}
        return browser.call("(name, target) => checks[name](target)", name, target, timeout=30)

    return run


@pytest.fixture
def check(browser: Browser, server: EchoServer, page_url: str) -> CheckRunner:
    return check_runner(browser, server, page_url)


@pytest.fixture
def check_draft07(chromium_draft07: Browser, server: EchoServer, page_url: str) -> CheckRunner:
    return check_runner(chromium_draft07, server, page_url)
