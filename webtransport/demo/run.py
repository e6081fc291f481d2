"""Runs the demonstration: a client against a server in the terminal, or a page to open in a browser."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
import time
import webbrowser
from collections.abc import AsyncIterator

from webtransport.certificates import CertificatePair, certificate_hash, generate_self_signed_cert
from webtransport.client import WebTransportClient
from webtransport.config import ClientConfig, ServerConfig
from webtransport.demo.page import PageServer
from webtransport.demo.server import BLOCK, demo_app, describe
from webtransport.session import WebTransportSession

__all__ = ["run_browser", "run_server", "run_terminal"]

TRANSFER = 100_000_000
PINGS = 20


def _certificate(folder: str | None = None) -> CertificatePair:
    """A pair that browsers take by its hash. Kept from one run to the next where the user has a cache."""
    if folder is None:
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        folder = os.path.join(cache, "quicstack") if os.path.isdir(cache) else tempfile.mkdtemp(prefix="quicstack-")
    return generate_self_signed_cert("localhost", folder)


async def run_server(host: str, port: int, folder: str | None) -> None:
    """Serve the demonstration's routes, and say on stdout where."""
    app = demo_app(ServerConfig.create(*_certificate(folder)))
    async with app.serve(host, port) as server:
        print(f"serving https://{host}:{server.port}/", flush=True)
        await server.serve_forever()


# In the terminal


async def run_terminal(size: int = TRANSFER) -> None:
    """A server in a process of its own, a client here, and real sockets between them."""
    with tempfile.TemporaryDirectory(prefix="quicstack-") as folder:
        pair = _certificate(folder)
        async with _server_process(folder) as url:
            print(f"A WebTransport server runs in a process of its own, at {url} (UDP).")
            print(
                "Its certificate is fresh and self-signed; the client believes it because it was given it as a root.\n"
            )
            async with WebTransportClient(ClientConfig.create(ca_certs=pair.certfile)) as client:
                started = time.perf_counter()
                session = await client.connect(f"{url}/echo")
                _say_connected(session, time.perf_counter() - started)
                await _say_datagrams(session)
                await _say_streams(session)
                await session.close(code=0, reason="that was all")
                print(f"\nSession closed with code 0 and the reason {'that was all'!r}.")
                await _say_upload(client, url, size)
                await _say_download(client, url, size)
    print("\nTo see it in a browser: python -m webtransport demo --browser")


@contextlib.asynccontextmanager
async def _server_process(folder: str) -> AsyncIterator[str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "webtransport", "serve", "--port", "0", "--certificates", folder),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode().strip()
        if not line.startswith("serving "):
            raise RuntimeError("the server did not start")
        yield line.removeprefix("serving ").rstrip("/")
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


def _say_connected(session: WebTransportSession, seconds: float) -> None:
    info = describe(session)
    stats = session.connection.stats()
    print(
        f"Connected, with a session, after {seconds * 1000:.1f} ms; the QUIC handshake took {info['handshake_ms']} ms."
    )
    print(f"  transport    {info['version']} over UDP")
    print(f"  encryption   {info['cipher']}, keys agreed with {info['group']}")
    print(f"  WebTransport {info['dialect']}: the newest draft that both sides speak")
    flow = "agreed on, so each session has limits of its own" if info["flow_control"] else "left to QUIC"
    print(f"  flow control {flow}")
    print(f"  round trip   {stats.min_rtt * 1000:.2f} ms at best so far\n")


async def _say_datagrams(session: WebTransportSession) -> None:
    await session.datagrams.send(b"Hello, Datagram!")
    print(f"Datagram echo: {await session.datagrams.receive()!r}")
    times = []
    for number in range(PINGS):
        started = time.perf_counter()
        await session.datagrams.send(number.to_bytes(4, "big"))
        try:
            async with asyncio.timeout(1):
                await session.datagrams.receive()
        except TimeoutError:
            continue
        times.append((time.perf_counter() - started) * 1000)
    if times:
        times.sort()
        print(f"  {len(times)} of {PINGS} pings by datagram came back, in {times[len(times) // 2]:.2f} ms (median)")


async def _say_streams(session: WebTransportSession) -> None:
    stream = await session.create_bidirectional_stream()
    await stream.write_all(b"Hello, Stream!")
    print(f"Stream echo: {await stream.read_all()!r}")
    sending = await session.create_unidirectional_stream()
    await sending.write_all(b"Hello, one-way street!")
    back = await session.accept_unidirectional_stream()
    print(f"Echo on a stream that the server opened: {await back.read_all()!r}")


async def _say_upload(client: WebTransportClient, url: str, size: int) -> None:
    session = await client.connect(f"{url}/upload")
    stream = await session.create_bidirectional_stream()
    started = time.perf_counter()
    left = size
    while left > len(BLOCK):
        await stream.write(BLOCK)
        left -= len(BLOCK)
    await stream.write_all(BLOCK[:left])
    received = int(await stream.read_all())
    _say_speed("Sent", received, time.perf_counter() - started, session)
    await session.close()


async def _say_download(client: WebTransportClient, url: str, size: int) -> None:
    session = await client.connect(f"{url}/download/{size}")
    stream = await session.accept_unidirectional_stream()
    started = time.perf_counter()
    received = 0
    async for piece in stream:
        received += len(piece)
    _say_speed("Received", received, time.perf_counter() - started, session)
    await session.close()


def _say_speed(verb: str, size: int, seconds: float, session: WebTransportSession) -> None:
    counters = session.connection.stats().counters
    print(f"\n{verb} {size / 1e6:.0f} MB on one stream in {seconds:.2f} s: {size * 8 / seconds / 1e6:.0f} Mbit/s.")
    print(f"  {counters.packets_sent} packets sent, {counters.packets_received} received, {counters.packets_lost} lost")


# In a browser


async def run_browser(port: int, http_port: int, *, open_browser: bool) -> None:
    """Serve the page and what it talks to, on both loopback addresses, until interrupted."""
    pair = _certificate()
    app = demo_app(ServerConfig.create(*pair))
    async with contextlib.AsyncExitStack() as stack:
        try:
            server = await stack.enter_async_context(app.serve(["127.0.0.1", "::1"], port))
        except OSError:
            server = await stack.enter_async_context(app.serve("127.0.0.1", port))  # no IPv6 here
        config = {"url": f"https://127.0.0.1:{server.port}", "hash": list(certificate_hash(pair.certfile))}
        try:
            page = PageServer(http_port, config)
        except OSError:
            page = PageServer(0, config)  # somebody else has that port
        stack.push_async_callback(asyncio.to_thread, page.close)
        stack.push_async_callback(server.close)  # first: stopping the page takes up to a second
        print(f"WebTransport server: {config['url']} (UDP), certificate {pair.certfile}")
        print(f"Open {page.url} in Chromium or Firefox, as they are: the page names the certificate's hash.")
        print("Ctrl-C ends it.", flush=True)
        if open_browser:
            await asyncio.to_thread(webbrowser.open, page.url)
        await server.serve_forever()
