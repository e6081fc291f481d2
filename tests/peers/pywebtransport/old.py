"""The other side of test_pywebtransport.py, drafts 13 and 14: pywebtransport 0.8, which runs on aioquic.

Runs in an environment of its own (tests/peers/environments.py). Prints one JSON object a line: what it saw.

    python old.py server CERTFILE KEYFILE     echoes until its input ends; the first line says the port
    python old.py client PORT                 sends a datagram, a stream and a larger stream, says what came back
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import ssl
import sys
from typing import Any

from pywebtransport import ClientConfig, ServerApp, ServerConfig, WebTransportClient
from pywebtransport.stream import WebTransportReceiveStream, WebTransportStream

LARGE = bytes(range(256)) * 400


def say(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


def unused_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def echo_datagrams(session: Any) -> None:
    transport = await session.create_datagram_transport()
    while True:
        await transport.send(data=b"ECHO: " + await transport.receive())


async def echo_streams(session: Any) -> None:
    async for stream in session.incoming_streams():
        if isinstance(stream, WebTransportStream):
            await stream.write_all(data=b"ECHO: " + await stream.read_all())
        elif isinstance(stream, WebTransportReceiveStream):
            data = await stream.read_all()
            answer = await session.create_unidirectional_stream()
            await answer.write_all(data=b"ECHO: " + data)


async def serve(certfile: str, keyfile: str) -> None:
    config = ServerConfig(
        certfile=certfile,
        keyfile=keyfile,
        initial_max_data=1 << 20,
        initial_max_streams_bidi=10,
        initial_max_streams_uni=10,
    )
    app = ServerApp(config=config)

    @app.route(path="/echo")
    async def echo(session: Any) -> None:
        tasks = [asyncio.create_task(echo_datagrams(session)), asyncio.create_task(echo_streams(session))]
        try:
            await session.wait_closed()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            say(event="session closed")

    port = unused_port()
    async with app:
        serving = asyncio.create_task(app.serve(host="127.0.0.1", port=port))
        await asyncio.sleep(0.3)
        say(event="listening", port=port)
        await asyncio.to_thread(sys.stdin.read)
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving


async def ask(port: int) -> None:
    config = ClientConfig(
        verify_mode=ssl.CERT_NONE, initial_max_data=1 << 20, initial_max_streams_bidi=10, initial_max_streams_uni=10
    )
    async with WebTransportClient(config=config) as client:
        session = await client.connect(url=f"https://127.0.0.1:{port}/echo")
        say(event="session", path=session.path)
        transport = await session.create_datagram_transport()
        await transport.send(data=b"datagram")
        say(event="datagram", data=(await transport.receive()).decode())
        stream = await session.create_bidirectional_stream()
        await stream.write_all(data=b"stream")
        say(event="stream", data=(await stream.read_all()).decode())
        stream = await session.create_bidirectional_stream()
        await stream.write_all(data=LARGE)
        say(event="large", same=await stream.read_all() == b"ECHO: " + LARGE)
        await session.close()
    say(event="done")


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    if sys.argv[1] == "server":
        asyncio.run(serve(*sys.argv[2:4]))
    else:
        asyncio.run(asyncio.wait_for(ask(int(sys.argv[2])), 40))
