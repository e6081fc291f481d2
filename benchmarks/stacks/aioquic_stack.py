"""aioquic as a benchmark's server and client, QUIC streams and HTTP/3; and qh3, which kept its interface: BENCH_STACK
in the environment says which."""

from __future__ import annotations

import asyncio
import importlib
import os
import ssl
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import workloads
from workloads import ALPN, DATAGRAMS, Connect, Read, Write, answer

STACK = os.environ.get("BENCH_STACK", "aioquic")
aio = importlib.import_module(f"{STACK}.asyncio")
protocol = importlib.import_module(f"{STACK}.asyncio.protocol")
configuration_module = importlib.import_module(f"{STACK}.quic.configuration")
events = importlib.import_module(f"{STACK}.quic.events")
tls = importlib.import_module(f"{STACK}.tls")
h3 = importlib.import_module(f"{STACK}.h3.connection")
h3_events = importlib.import_module(f"{STACK}.h3.events")


def configuration(layer: str, is_client: bool) -> Any:
    more: dict[str, Any] = {"verify_mode": ssl.CERT_NONE} if is_client else {}
    made = configuration_module.QuicConfiguration(
        alpn_protocols=["h3" if layer == "h3" else ALPN],
        is_client=is_client,
        cipher_suites=[tls.CipherSuite.AES_128_GCM_SHA256],
        max_datagram_frame_size=65536,
        **more,
    )
    if hasattr(made, "max_datagram_size"):
        made.max_datagram_size = 1200
    return made


class Plain(protocol.QuicConnectionProtocol):  # type: ignore[misc,name-defined]
    """Streams by the stack's own readers and writers; datagrams."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.datagrams: asyncio.Queue[bytes] = asyncio.Queue()
        self.is_server = not self._quic.configuration.is_client
        self.tasks: set[asyncio.Task[None]] = set()

    def start(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def quic_event_received(self, event: Any) -> None:
        if isinstance(event, events.DatagramFrameReceived):
            if not self.is_server:
                self.datagrams.put_nowait(event.data)
            elif (back := DATAGRAMS.take(event.data)) is not None:
                self._quic.send_datagram_frame(back)
                self.transmit()
            return
        super().quic_event_received(event)


class Http(Plain):
    """Requests over the stack's HTTP/3."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.http: Any = None
        self.bodies: dict[int, asyncio.StreamReader] = {}

    def quic_event_received(self, event: Any) -> None:
        """Nothing goes to the layer of streams below, which would end each stream that nobody holds."""
        if self.http is None:
            self.http = h3.H3Connection(self._quic)
        for found in self.http.handle_event(event):
            stream = getattr(found, "stream_id", None)
            if isinstance(found, h3_events.HeadersReceived) and self.is_server:
                body = self.bodies[stream] = asyncio.StreamReader(limit=1 << 24)
                self.start(answer(body.read, self.writer(stream)))
            if isinstance(found, h3_events.DataReceived | h3_events.HeadersReceived) and stream in self.bodies:
                if isinstance(found, h3_events.DataReceived):
                    self.bodies[stream].feed_data(found.data)
                if found.stream_ended:
                    self.bodies.pop(stream).feed_eof()

    def request(self) -> tuple[Read, Write]:
        """A request on the stream that is next when its first bytes are written."""
        body = asyncio.StreamReader(limit=1 << 24)
        write_on: Write | None = None

        async def write(data: bytes, end: bool) -> None:
            nonlocal write_on
            if write_on is None:
                if self.http is None:
                    self.http = h3.H3Connection(self._quic)
                stream = self._quic.get_next_available_stream_id()
                self.bodies[stream] = body
                write_on = self.writer(stream)
            await write_on(data, end)

        return body.read, write

    def writer(self, stream: int) -> Write:
        started = False

        async def write(data: bytes, end: bool) -> None:
            nonlocal started
            if not started:
                started = True
                pseudo = [
                    (b":method", b"POST"),
                    (b":scheme", b"https"),
                    (b":authority", b"localhost"),
                    (b":path", b"/"),
                ]
                self.http.send_headers(stream, [(b":status", b"200")] if self.is_server else pseudo)
            self.http.send_data(stream, data, end)
            self.transmit()
            await asyncio.sleep(0)

        return write


def ends(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[Read, Write]:
    async def write(data: bytes, end: bool) -> None:
        writer.write(data)
        if end:
            writer.write_eof()

    return reader.read, write


async def serve_layer(folder: str, layer: str) -> None:
    tasks: set[asyncio.Task[None]] = set()

    def on_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(answer(*ends(reader, writer)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    served = configuration(layer, is_client=False)
    served.load_cert_chain(f"{folder}/cert.pem", f"{folder}/key.pem")
    factory = Http if layer == "h3" else Plain
    tickets: dict[bytes, Any] = {}
    server = await aio.serve(
        "127.0.0.1",
        0,
        configuration=served,
        create_protocol=factory,
        stream_handler=on_stream if layer == "quic" else None,
        session_ticket_fetcher=tickets.get,
        session_ticket_handler=lambda ticket: tickets.setdefault(ticket.ticket, ticket),
    )
    workloads.say(port=server._transport.get_extra_info("sockname")[1])
    await workloads.input_ends()
    server.close()


class StackLink:
    def __init__(self, protocol: Any, context: Any, layer: str) -> None:
        self.protocol = protocol
        self.context = context
        self.layer = layer

    async def open(self) -> tuple[Read, Write]:
        if self.layer == "quic":
            return ends(*await self.protocol.create_stream())
        request: tuple[Read, Write] = self.protocol.request()
        return request

    async def send_datagram(self, data: bytes) -> None:
        self.protocol._quic.send_datagram_frame(data)
        self.protocol.transmit()

    async def receive_datagram(self) -> bytes:
        data: bytes = await self.protocol.datagrams.get()
        return data

    async def close(self) -> None:
        await self.context.__aexit__(None, None, None)

    def facts(self) -> dict[str, int]:
        """aioquic counts nothing, but its packet numbers tell; qh3 keeps them where Python cannot see."""
        quic = self.protocol._quic
        space = getattr(quic, "_spaces", {}).get(tls.Epoch.ONE_RTT)
        if not hasattr(quic, "_packet_number") or not hasattr(space, "largest_received_packet"):
            return {}
        return {"packets_sent": quic._packet_number, "packets_received": space.largest_received_packet + 1}

    def resumed(self) -> bool:
        resumed: bool = self.protocol._quic.tls.session_resumed
        return resumed


def connector(port: int, layer: str, resuming: bool) -> Connect:
    wanted = configuration(layer, is_client=True)

    def keep(ticket: Any) -> None:
        wanted.session_ticket = ticket

    async def connect_layer() -> Any:
        factory = Http if layer == "h3" else Plain
        context = aio.connect(
            "127.0.0.1", port, configuration=wanted, create_protocol=factory,
            session_ticket_handler=keep if resuming else None,
        )  # fmt: skip
        return StackLink(await context.__aenter__(), context, layer)

    return connect_layer


if __name__ == "__main__":
    workloads.main(serve_layer, connector)
