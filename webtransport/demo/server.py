"""The demonstration's server: echoes, ticks, and data to measure with.

======================  =============================================================================================
``/echo``               datagrams, bidirectional and unidirectional streams come back the way they went
``/tick``               the server opens a stream every second and says how late it is
``/upload``             each stream is read, and answered with the number of its bytes
``/download/{size}``    one stream of so many bytes
``/demo``               for the page: what was negotiated, then echoes and ticks together
======================  =============================================================================================
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import platform

from webtransport.app import ServerApp
from webtransport.config import ServerConfig
from webtransport.errors import WebTransportError
from webtransport.session import WebTransportSession
from webtransport.stream import WebTransportReceiveStream, WebTransportStream

__all__ = ["demo_app", "describe"]

TICK = 1.0
MAX_DOWNLOAD = 1 << 30
BLOCK = bytes(range(256)) * 1024


def demo_app(config: ServerConfig) -> ServerApp:
    """An application with the routes above."""
    app = ServerApp(config=config)
    app.add_route("/echo", echo)
    app.add_route("/tick", tick)
    app.add_route("/upload", upload)
    app.add_route("/download/{size}", download)
    app.add_route("/demo", demo)
    return app


def describe(session: WebTransportSession) -> dict[str, object]:
    """What was negotiated below the session, in words for people."""
    transport, stats = session.transport, session.connection.stats()
    return {
        "dialect": session.dialect,
        "version": f"QUIC v{transport.version}" if transport.version == 1 else f"QUIC {transport.version:#x}",
        "cipher": transport.cipher_suite,
        "group": transport.group,
        "handshake_ms": round((stats.handshake_time or 0.0) * 1000, 1),
        "datagram": session.datagrams.max_size,
        "peer": f"{transport.remote_address[0]} port {transport.remote_address[1]}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "flow_control": session.core.flow is not None,
    }


async def echo(session: WebTransportSession) -> None:
    """Send everything back until the client has enough."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_echo_datagrams(session))
        tasks.create_task(_echo_unidirectional(session, tasks))
        async for stream in session.incoming_streams():
            tasks.create_task(_echo_stream(stream))


async def tick(session: WebTransportSession) -> None:
    """Open a stream a second."""
    loop = asyncio.get_running_loop()
    started, number = loop.time(), 0
    with contextlib.suppress(WebTransportError):
        while not session.is_closed:
            number += 1
            late = (loop.time() - started - (number - 1) * TICK) * 1000
            stream = await session.create_unidirectional_stream()
            await stream.write_all(json.dumps({"kind": "tick", "number": number, "late_ms": round(late, 2)}).encode())
            await asyncio.sleep(max(0.0, started + number * TICK - loop.time()))


async def upload(session: WebTransportSession) -> None:
    """Count what comes in."""
    async for stream in session.incoming_streams():
        size = 0
        async for piece in stream:
            size += len(piece)
        await stream.write_all(str(size).encode())


async def download(session: WebTransportSession) -> None:
    """Send as many bytes as the path says."""
    try:
        left = int(session.parameters["size"])
    except ValueError:
        left = -1
    if not 0 <= left <= MAX_DOWNLOAD:
        await session.close(1, f"a size between 0 and {MAX_DOWNLOAD}, please")
        return
    stream = await session.create_unidirectional_stream()
    while left > len(BLOCK):
        await stream.write(BLOCK)
        left -= len(BLOCK)
    await stream.write_all(BLOCK[:left])
    await session.wait_closed()


async def demo(session: WebTransportSession) -> None:
    """For the page: first one stream that tells what was negotiated, then echoes and ticks."""
    stream = await session.create_unidirectional_stream()
    await stream.write_all(json.dumps({"kind": "info", **describe(session)}).encode())
    async with asyncio.TaskGroup() as tasks:
        ticking = tasks.create_task(tick(session))
        tasks.create_task(echo(session))
        await session.wait_closed()
        ticking.cancel()


async def _echo_datagrams(session: WebTransportSession) -> None:
    async for data in session.datagrams:
        with contextlib.suppress(WebTransportError):
            await session.datagrams.send(data)


async def _echo_stream(stream: WebTransportStream) -> None:
    with contextlib.suppress(WebTransportError):
        async for piece in stream:
            await stream.write(piece)
        stream.finish()


async def _echo_unidirectional(session: WebTransportSession, tasks: asyncio.TaskGroup) -> None:
    async for stream in session.incoming_unidirectional_streams():
        tasks.create_task(_return(session, stream))


async def _return(session: WebTransportSession, stream: WebTransportReceiveStream) -> None:
    with contextlib.suppress(WebTransportError):
        back = await session.create_unidirectional_stream()
        async for piece in stream:
            await back.write(piece)
        back.finish()
