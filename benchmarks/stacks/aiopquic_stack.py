"""aiopquic (C, picoquic) as a benchmark's server and client: QUIC streams and datagrams."""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import workloads
from aiopquic.asyncio.client import connect
from aiopquic.asyncio.protocol import QuicConnectionProtocol
from aiopquic.asyncio.server import serve
from aiopquic.quic.configuration import QuicConfiguration
from aiopquic.quic.events import DatagramFrameReceived, StreamDataReceived
from workloads import ALPN, DATAGRAMS, Connect, Read, Write, answer

X25519 = 0x001D


def configuration(is_client: bool, **more: Any) -> QuicConfiguration:
    return QuicConfiguration(
        alpn_protocols=[ALPN],
        is_client=is_client,
        key_exchange_groups=[X25519],
        max_connections=2_000,
        max_streams_bidi=100_000,
        cipher_suite=0x1301,
        pmtud="blocked",
        **more,
    )


class Side(QuicConnectionProtocol):
    """Either side: bytes of each stream wait in a reader."""

    def __init__(self, quic: Any, stream_handler: Any = None) -> None:
        super().__init__(quic, stream_handler=stream_handler)
        self.readers: dict[int, asyncio.StreamReader] = {}
        self.datagrams: asyncio.Queue[bytes] = asyncio.Queue()
        self.tasks: set[asyncio.Task[None]] = set()
        self.is_server = not quic.configuration.is_client

    def quic_event_received(self, event: Any) -> None:
        if isinstance(event, StreamDataReceived):
            reader = self.readers.get(event.stream_id)
            if reader is None:
                reader = self.readers[event.stream_id] = asyncio.StreamReader(limit=1 << 24)
                if self.is_server:
                    task = asyncio.get_running_loop().create_task(answer(reader.read, self.writer(event.stream_id)))
                    self.tasks.add(task)
                    task.add_done_callback(self.tasks.discard)
            if event.data:
                reader.feed_data(bytes(event.data))
            if event.end_stream:
                self.readers.pop(event.stream_id).feed_eof()
        elif isinstance(event, DatagramFrameReceived):
            data = bytes(event.data)
            if not self.is_server:
                self.datagrams.put_nowait(data)
            elif (back := DATAGRAMS.take(data)) is not None:
                self._quic.send_datagram_frame(back)

    def writer(self, stream_id: int) -> Write:
        async def write(data: bytes, end: bool) -> None:
            await self._quic.send_stream_data_drained(stream_id, data, end)

        return write


def unused_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def serve_layer(folder: str, layer: str) -> None:
    port = unused_port()
    served = configuration(False, certificate_file=f"{folder}/cert.pem", private_key_file=f"{folder}/key.pem")
    server = await serve("127.0.0.1", port, configuration=served, create_protocol=Side)
    workloads.say(port=port)
    await workloads.input_ends()
    server.close()


class PicoLink:
    def __init__(self, protocol: Side, context: Any) -> None:
        self.protocol = protocol
        self.context = context

    async def open(self) -> tuple[Read, Write]:
        stream_id = self.protocol._quic.get_next_available_stream_id()
        reader = self.protocol.readers[stream_id] = asyncio.StreamReader(limit=1 << 24)
        return reader.read, self.protocol.writer(stream_id)

    async def send_datagram(self, data: bytes) -> None:
        quic = self.protocol._quic
        while not quic.send_datagram_frame(data):
            await quic.get_datagram_tx_drain_event().wait()

    async def receive_datagram(self) -> bytes:
        return await self.protocol.datagrams.get()

    async def close(self) -> None:
        await self.context.__aexit__(None, None, None)

    def facts(self) -> dict[str, int]:
        return {}

    def resumed(self) -> bool:
        return False


def connector(port: int, layer: str, resuming: bool) -> Connect:
    async def connect_side() -> Any:
        wanted = configuration(True, verify_mode=ssl.CERT_NONE, server_name="localhost")
        context = connect("127.0.0.1", port, configuration=wanted, create_protocol=Side)
        return PicoLink(await context.__aenter__(), context)

    return connect_side


if __name__ == "__main__":
    workloads.main(serve_layer, connector)
