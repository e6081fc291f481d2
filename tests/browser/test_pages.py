"""Chromium and Firefox load a page, and what the page asks for, from our HTTP/3 server."""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from h3.server import Reply, Request, serve
from quicstack.config import Configuration
from quicstack.tls.certificate import CertificateKey, CertificateStore
from tests.browser.conftest import BROWSERS, require
from tests.browser.driver import Browser
from tests.browser.server_thread import LOCALHOST, ServerThread
from webtransport.certificates import generate_self_signed_cert

pytestmark = pytest.mark.browser

HTML = """<!doctype html>
<meta charset="utf-8">
<title>over QUIC</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="style.css">
<h1>Grüße</h1>
"""
MEGABYTE = bytes(range(256)) * 4096


class PageServer(ServerThread):
    def __init__(self, folder: Path) -> None:
        super().__init__()
        certfile, keyfile = generate_self_signed_cert("localhost", folder)
        certificate = x509.load_pem_x509_certificate(Path(certfile).read_bytes())
        key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.key_hash = base64.b64encode(hashlib.sha256(key).digest()).decode()
        store = CertificateStore(CertificateKey.load(certfile, keyfile))
        self._configuration = Configuration(alpn_protocols=("h3",), certificates=store)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        port = 0
        async with contextlib.AsyncExitStack() as servers:
            for host in LOCALHOST:
                server = await servers.enter_async_context(await serve(host, port, answer, self._configuration))
                port = server.server.addresses[0][1]
            yield port


async def answer(request: Request) -> Reply:
    path = request.path.partition("?")[0]
    if request.method == "POST":
        return Reply(200, [("content-type", "application/octet-stream")], await request.read())
    if path == "/":
        return Reply(200, [("content-type", "text/html"), ("set-cookie", "taste=sweet")], HTML)
    if path == "/style.css":
        return Reply(200, [("content-type", "text/css")], "h1 { color: rgb(1, 2, 3) }")
    if path == "/megabyte":
        return Reply(200, [("content-type", "application/octet-stream")], MEGABYTE)
    if path == "/cookie":
        return Reply(200, [("content-type", "text/plain")], request.headers.get("cookie", ""))
    return Reply(404)


@pytest.fixture(scope="module", params=sorted(BROWSERS))
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser that has loaded the first page."""
    kind = BROWSERS[request.param]
    require(kind)
    with (
        PageServer(tmp_path_factory.mktemp("certificate")) as server,
        kind.over_http3(f"localhost:{server.port}", server.key_hash) as browser,
    ):
        browser.open(server.url + "/")
        yield browser


def test_the_page_and_its_style_come_over_http3(page: Browser) -> None:
    protocols = "() => performance.getEntries().filter((e) => e.nextHopProtocol).map((e) => e.nextHopProtocol)"
    assert page.call(protocols) == ["h3", "h3"]
    assert page.text("h1") == "Grüße"
    assert page.call("() => getComputedStyle(document.querySelector('h1')).color") == "rgb(1, 2, 3)"


def test_a_megabyte_down(page: Browser) -> None:
    seen = page.call(
        """async () => {
            const bytes = new Uint8Array(await (await fetch("megabyte")).arrayBuffer());
            return { size: bytes.length, intact: bytes.every((byte, i) => byte === (i & 255)) };
        }"""
    )
    assert seen == {"size": len(MEGABYTE), "intact": True}


def test_a_megabyte_up_and_down(page: Browser) -> None:
    seen = page.call(
        """async () => {
            const sent = new Uint8Array(1 << 20).map((_, i) => i * 7);
            const answer = await fetch("echo", { method: "POST", body: sent });
            const bytes = new Uint8Array(await answer.arrayBuffer());
            return { size: bytes.length, intact: bytes.every((byte, i) => byte === sent[i]) };
        }"""
    )
    assert seen == {"size": 1 << 20, "intact": True}


def test_fifty_requests_at_once(page: Browser) -> None:
    seen = page.call(
        """async () => {
            const one = async (i) => (await (await fetch(`echo?${i}`, { method: "POST", body: `n${i}` })).text());
            return await Promise.all(Array.from({ length: 50 }, (_, i) => one(i)));
        }"""
    )
    assert seen == [f"n{i}" for i in range(50)]


def test_cookies_and_status_codes(page: Browser) -> None:
    assert page.call("async () => await (await fetch('cookie')).text()") == "taste=sweet"
    assert page.call("async () => (await fetch('nowhere')).status") == 404
