"""WebTransport with Deno, which runs on quinn and offers the settings of drafts 2 and 7. Both roles."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from environments import program
from peer_program import run

from webtransport import ClientConfig, ServerApp, ServerConfig, WebTransportClient, WebTransportSession
from webtransport.certificates import certificate_hash, generate_self_signed_cert
from webtransport.stream import WebTransportStream

pytestmark = pytest.mark.peer

LARGE = bytes(i % 256 for i in range(100_000))


@pytest.fixture
def deno(tmp_path: Path) -> Callable[..., tuple[str, ...]]:
    """The command line for one role; Deno writes nothing outside of the test's folder."""
    script = Path(__file__).parent / "deno" / "webtransport.js"
    command = (program("deno", "deno"), "run", "-A", "--unstable-net", "--no-lock", "--no-config", str(script))
    return lambda *arguments: (*command, *map(str, arguments))


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "DENO_DIR": str(tmp_path / "deno"), "DENO_NO_UPDATE_CHECK": "1", "NO_COLOR": "1"}


async def echo(session: WebTransportSession) -> None:
    async def datagrams() -> None:
        while True:
            await session.datagrams.send(await session.datagrams.receive())

    async def stream_echo(stream: WebTransportStream) -> None:
        async for data in stream:
            await stream.write(data)

    async with asyncio.TaskGroup() as tasks:
        echoing = [tasks.create_task(datagrams())]

        async def streams() -> None:
            async for stream in session.incoming_streams():
                echoing.append(tasks.create_task(stream_echo(stream)))

        echoing.append(tasks.create_task(streams()))
        await session.wait_closed()
        for task in echoing:
            task.cancel()


async def test_their_client_with_our_server(
    deno: Callable[..., tuple[str, ...]], environment: dict[str, str], tmp_path: Path
) -> None:
    certfile, keyfile = generate_self_signed_cert("localhost", tmp_path)
    app = ServerApp(ServerConfig.create(certfile, keyfile))
    app.add_route("/echo", echo)
    command = deno("client", "{port}", certificate_hash(certfile).hex())
    async with app.serve("127.0.0.1") as server:
        command = tuple(part.format(port=server.port) for part in command)
        async with run(*command, **environment) as client:
            events = await client.events()
    assert events["datagram"]["data"] == "datagram"
    assert events["stream"]["data"] == "stream"
    assert events["large"]["same"]
    assert "done" in events


async def test_our_client_with_their_server(
    deno: Callable[..., tuple[str, ...]], environment: dict[str, str], tmp_path: Path
) -> None:
    certfile, keyfile = generate_self_signed_cert("localhost", tmp_path)
    async with run(*deno("server", certfile, keyfile), **environment) as server:
        port = (await server.event("listening"))["port"]
        async with WebTransportClient(ClientConfig.create(verify_mode=ssl.CERT_NONE)) as client:
            session = await client.connect(f"https://127.0.0.1:{port}/echo")
            assert (await server.event("session"))["url"] == f"https://127.0.0.1:{port}/echo"
            await session.datagrams.send(b"datagram")
            assert await session.datagrams.receive() == b"datagram"
            stream = await session.create_bidirectional_stream()
            await stream.write(LARGE)
            received = b""
            while len(received) < len(LARGE):
                received += await stream.read()
            assert received == LARGE
            await session.close()
        await server.event("session closed")  # of the reason it knows only the connection's
