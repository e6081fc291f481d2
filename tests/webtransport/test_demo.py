"""The demonstration: in the terminal, and what the page needs. tests/browser opens the page itself."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from webtransport import ClientConfig, ServerConfig, WebTransportClient
from webtransport.certificates import CertificatePair
from webtransport.demo.page import PageServer
from webtransport.demo.run import run_browser
from webtransport.demo.server import demo_app

Config = Callable[..., ClientConfig]


def test_in_the_terminal() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "webtransport", "demo", "--bytes", "1000000"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    for words in (
        "Connected",
        "QUIC v1",
        "TLS_",
        "draft-16",
        "Datagram echo: b'Hello, Datagram!'",
        "Stream echo: b'Hello, Stream!'",
        "server opened: b'Hello, one-way street!'",
        "Sent 1 MB",
        "Received 1 MB",
        "Mbit/s",
    ):
        assert words in done.stdout, done.stdout


def test_the_page_is_served() -> None:
    page = PageServer(0, {"url": "https://127.0.0.1:1", "hash": [1, 2]})
    try:
        for path in ("", "index.html", "?x"):
            with urllib.request.urlopen(f"http://127.0.0.1:{page.port}/{path}", timeout=10) as answer:
                text = answer.read().decode()
            assert "new WebTransport(" in text and "serverCertificateHashes" in text
            assert "//cdn" not in text and "src=" not in text  # everything is in the one file
        with urllib.request.urlopen(f"{page.url}config.json", timeout=10) as answer:
            assert json.load(answer) == {"url": "https://127.0.0.1:1", "hash": [1, 2]}
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"http://127.0.0.1:{page.port}/etc/passwd", timeout=10)
    finally:
        page.close()


async def test_what_the_page_talks_to(certificate: CertificatePair, client_config: Config) -> None:
    app = demo_app(ServerConfig.create(*certificate))
    async with app.serve() as server, WebTransportClient(client_config(dialects=["draft-02"])) as client:
        session = await client.connect(f"https://127.0.0.1:{server.port}/demo")
        info = json.loads(await (await session.accept_unidirectional_stream()).read_all())
        assert (info["kind"], info["dialect"], info["version"]) == ("info", "draft-02", "QUIC v1")
        tick = json.loads(await (await session.accept_unidirectional_stream()).read_all())
        assert (tick["kind"], tick["number"]) == ("tick", 1)
        await session.datagrams.send(b"ping")
        assert await session.datagrams.receive() == b"ping"
        stream = await session.create_bidirectional_stream()
        await stream.write_all(b"x" * 50_000)
        assert await stream.read_all() == b"x" * 50_000
        await session.close(7, "closed by a button")


@pytest.mark.parametrize("size", ["abc", "-1", str(1 << 31)])
async def test_sizes_that_are_none(certificate: CertificatePair, client_config: Config, size: str) -> None:
    app = demo_app(ServerConfig.create(*certificate))
    async with app.serve() as server, WebTransportClient(client_config()) as client:
        session = await client.connect(f"https://127.0.0.1:{server.port}/download/{size}")
        assert (await session.wait_closed()).code == 1


async def test_sessions_end_before_the_page_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stopping the page takes up to a second, for which the server must not stand still, nor its peers wait."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    running = asyncio.create_task(run_browser(0, 0, open_browser=False))
    said = ""
    while "Ctrl-C" not in said:
        await asyncio.sleep(0.01)
        said += capsys.readouterr().out
    found = re.search(r"server: (https://127\.0\.0\.1:\d+) .* certificate (.*)\n.*localhost:(\d+)/", said)
    assert found is not None, said
    async with WebTransportClient(ClientConfig.create(ca_certs=found[2])) as client:
        session = await client.connect(f"{found[1]}/demo")
        running.cancel()
        info = await session.wait_closed()
        with socket.create_connection(("127.0.0.1", int(found[3])), timeout=10):
            pass  # the page is still there
    assert (info.code, info.clean, info.by_peer) == (0, True, True)
    with pytest.raises(asyncio.CancelledError):
        await running
