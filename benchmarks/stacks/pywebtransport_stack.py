"""pywebtransport 0.21 (Rust, quinn) as a benchmark's server and client: WebTransport alone is what it speaks."""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import workloads
from pywebtransport import ClientConfig, ServerConfig, WebTransportClient, WebTransportServer
from workloads import DATAGRAMS, Connect, Read, Write, answer


def ends(stream: Any) -> tuple[Read, Write]:
    async def read(n: int) -> bytes:
        data: bytes = await stream.read(max_size=n)
        return data

    async def write(data: bytes, end: bool) -> None:
        await stream.write_all(data=data, end_stream=end)

    return read, write


def unused_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def on_session(session: Any) -> None:
    tasks: set[asyncio.Task[None]] = set()

    async def datagrams() -> None:
        while True:
            back = DATAGRAMS.take(await session.read_datagram())
            if back is not None:
                await session.send_datagram(data=back)

    tasks.add(asyncio.create_task(datagrams()))
    async for stream in session.incoming_bidirectional_streams():
        task = asyncio.create_task(answer(*ends(stream)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    for task in tasks:
        task.cancel()


async def serve_layer(folder: str, layer: str) -> None:
    tasks: set[asyncio.Task[None]] = set()
    server = WebTransportServer(config=ServerConfig(certfile=f"{folder}/cert.pem", keyfile=f"{folder}/key.pem"))
    port = unused_port()
    await server.listen(host="127.0.0.1", port=port)

    async def on_connection(connection: Any) -> None:
        async for session in connection.incoming_sessions():
            await session.accept()
            tasks.add(asyncio.create_task(on_session(session)))

    async def connections() -> None:
        async for connection in server.incoming_connections():
            tasks.add(asyncio.create_task(on_connection(connection)))

    tasks.add(asyncio.create_task(connections()))
    workloads.say(port=port)
    await workloads.input_ends()


class WtLink:
    def __init__(self, client: Any, session: Any) -> None:
        self.client = client
        self.session = session

    async def open(self) -> tuple[Read, Write]:
        return ends(await self.session.create_bidirectional_stream())

    async def send_datagram(self, data: bytes) -> None:
        await self.session.send_datagram(data=data)

    async def receive_datagram(self) -> bytes:
        data: bytes = await self.session.read_datagram()
        return data

    async def close(self) -> None:
        await self.session.close()
        await self.client.close()

    def facts(self) -> dict[str, int]:
        return {}

    def resumed(self) -> bool:
        return False


def connector(port: int, layer: str, resuming: bool) -> Connect:
    async def connect() -> Any:
        client = WebTransportClient(config=ClientConfig(verify_mode=ssl.CERT_NONE))
        await client.__aenter__()
        return WtLink(client, await client.connect(url=f"https://127.0.0.1:{port}/"))

    return connect


if __name__ == "__main__":
    workloads.main(serve_layer, connector)
