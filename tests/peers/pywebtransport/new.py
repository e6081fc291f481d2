"""The other side of test_pywebtransport.py, draft 15: pywebtransport 0.21, which runs on quinn.

Runs in an environment of its own (tests/peers/environments.py). Prints one JSON object a line: what it saw.

    python new.py server CERTFILE KEYFILE     echoes until its input ends; the first line says the port
    python new.py client PORT                 sends a datagram, a stream and a larger stream, says what came back
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import ssl
import sys
from typing import Any

from pywebtransport import ClientConfig, ServerConfig, WebTransportClient, WebTransportServer

LARGE = bytes(range(256)) * 400


def say(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


def unused_port() -> int:
    """It refuses to be told port 0."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def echo_datagrams(session: Any) -> None:
    while True:
        await session.send_datagram(data=b"ECHO: " + await session.read_datagram())


async def echo_bidirectional(session: Any) -> None:
    async for stream in session.incoming_bidirectional_streams():
        await stream.write_all(data=b"ECHO: " + await stream.read_all(), end_stream=True)


async def echo_unidirectional(session: Any) -> None:
    async for stream in session.incoming_unidirectional_streams():
        data = await stream.read_all()
        answer = await session.create_unidirectional_stream()
        await answer.write_all(data=b"ECHO: " + data, end_stream=True)


async def answer_sessions(connection: Any) -> None:
    async for session in connection.incoming_sessions():
        say(event="session", path=session.path, protocols=session.wt_available_protocols)
        offered = session.wt_available_protocols
        await session.accept(wt_protocol=offered[0] if offered else None)
        echoes = [echo_datagrams(session), echo_bidirectional(session), echo_unidirectional(session)]
        await asyncio.gather(*echoes, return_exceptions=True)
        say(event="session closed")


async def serve(certfile: str, keyfile: str) -> None:
    server = WebTransportServer(config=ServerConfig(certfile=certfile, keyfile=keyfile))
    await server.listen(host="127.0.0.1", port=unused_port())

    async def answer_connections() -> None:
        async for connection in server.incoming_connections():
            answering.add(asyncio.create_task(answer_sessions(connection)))

    answering: set[asyncio.Task[None]] = set()
    answering.add(asyncio.create_task(answer_connections()))
    say(event="listening", port=server.local_addresses[0][1])
    await asyncio.to_thread(sys.stdin.read)
    for task in answering:
        task.cancel()
    await asyncio.gather(*answering, return_exceptions=True)
    await server.close()


async def ask(port: int) -> None:
    async with WebTransportClient(config=ClientConfig(verify_mode=ssl.CERT_NONE)) as client:
        url = f"https://127.0.0.1:{port}/echo"
        session = await client.connect(url=url, wt_available_protocols=["first", "second"])
        say(event="session", path=session.path, protocol=session.wt_protocol)
        await session.send_datagram(data=b"datagram")
        say(event="datagram", data=(await session.read_datagram()).decode())
        stream = await session.create_bidirectional_stream()
        await stream.write_all(data=b"stream", end_stream=True)
        say(event="stream", data=(await stream.read_all()).decode())
        stream = await session.create_bidirectional_stream()
        await stream.write_all(data=LARGE, end_stream=True)
        say(event="large", same=await stream.read_all() == b"ECHO: " + LARGE)
        await session.close()
    say(event="done")


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    if sys.argv[1] == "server":
        asyncio.run(serve(*sys.argv[2:4]))
    else:
        asyncio.run(asyncio.wait_for(ask(int(sys.argv[2])), 40))
