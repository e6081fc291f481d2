"""WebTransport with two generations of pywebtransport: drafts 13/14 over aioquic, draft 15 over quinn. Both roles.

The older one reads and writes capsules on the CONNECT stream itself, not in DATA frames (RFC 9297 §3.1), and ends the
connection at the first DATA frame. So the tests give each session its full window in SETTINGS: then no capsule is due
before the one that closes the session.
"""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
from environments import program
from peer_program import run

from webtransport import ClientConfig, ServerApp, ServerConfig, WebTransportClient, WebTransportSession
from webtransport.certificates import generate_self_signed_cert
from webtransport.dialects import FlowLimits

pytestmark = pytest.mark.peer

HERE = Path(__file__).parent / "pywebtransport"
LARGE = bytes(range(256)) * 400

# The row of webtransport/dialects.py that each has to end up with; -15 and -16 are the same on the wire.
PEERS = [("pywebtransport-old", "old.py", "draft-14"), ("pywebtransport-new", "new.py", "draft-16")]
WINDOW = FlowLimits(max_data=16 << 20, max_streams_bidi=64, max_streams_uni=64)
LIMITS = {"initial_limits": WINDOW, "session_window": WINDOW}


async def echo(session: WebTransportSession) -> None:
    async def datagrams() -> None:
        while True:
            await session.datagrams.send(b"ECHO: " + await session.datagrams.receive())

    async def streams() -> None:
        async for stream in session.incoming_streams():
            await stream.write_all(b"ECHO: " + await stream.read_all())

    tasks = [asyncio.create_task(datagrams()), asyncio.create_task(streams())]
    try:
        await session.wait_closed()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize(("peer", "script", "dialect"), PEERS)
async def test_their_client_with_our_server(peer: str, script: str, dialect: str, tmp_path: Path) -> None:
    python = program(peer)
    certfile, keyfile = generate_self_signed_cert("localhost", tmp_path)
    app = ServerApp(ServerConfig.create(certfile, keyfile, require_reset_stream_at=False, **LIMITS))
    seen: list[WebTransportSession] = []

    @app.route("/echo", subprotocols=("second", "first"))
    async def handler(session: WebTransportSession) -> None:
        seen.append(session)
        await echo(session)

    async with app.serve("127.0.0.1") as server, run(python, str(HERE / script), "client", str(server.port)) as client:
        events = await client.events()
    assert events["datagram"]["data"] == "ECHO: datagram"
    assert events["stream"]["data"] == "ECHO: stream"
    assert events["large"]["same"]
    assert "done" in events
    assert seen[0].dialect == dialect
    if peer == "pywebtransport-new":
        assert events["session"]["protocol"] == "first" == seen[0].subprotocol


@pytest.mark.parametrize(("peer", "script", "dialect"), PEERS)
async def test_our_client_with_their_server(peer: str, script: str, dialect: str, tmp_path: Path) -> None:
    python = program(peer)
    certfile, keyfile = generate_self_signed_cert("localhost", tmp_path)
    async with run(python, str(HERE / script), "server", str(certfile), str(keyfile)) as server:
        port = (await server.event("listening"))["port"]
        async with WebTransportClient(
            ClientConfig.create(verify_mode=ssl.CERT_NONE, require_reset_stream_at=False, **LIMITS)
        ) as client:
            session = await client.connect(f"https://127.0.0.1:{port}/echo")
            assert session.dialect == dialect
            await session.datagrams.send(b"datagram")
            assert await session.datagrams.receive() == b"ECHO: datagram"
            stream = await session.create_bidirectional_stream()
            await stream.write_all(b"stream")
            assert await stream.read_all() == b"ECHO: stream"
            stream = await session.create_bidirectional_stream()
            await stream.write_all(LARGE)
            assert await stream.read_all() == b"ECHO: " + LARGE
            sender = await session.create_unidirectional_stream()
            await sender.write_all(b"one way")
            receiver = await session.accept_unidirectional_stream()
            assert await receiver.read_all() == b"ECHO: one way"
            await session.close()
        if peer == "pywebtransport-new":
            await server.event("session")
            await server.event("session closed")
