"""quicstack as a benchmark's server and client: QUIC streams, HTTP/3, WebTransport."""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import workloads
from stacks.without import TRICKS
from workloads import ALPN, COUNTS, DATAGRAMS, Connect, Read, Write, answer, reader

from h3.client import H3Client
from h3.server import Reply, Request
from h3.server import serve as serve_h3
from quicstack import CertificateKey, CertificateStore, Configuration, Cubic, NewReno, Trust
from quicstack.drivers.aio import AsyncConnection, AsyncStream, UdpOptions, connect, serve
from quicstack.observe.stats import Counters
from quicstack.observe.trace import Trace
from quicstack.session_store import SessionStore
from quicstack.tls.groups import X25519, X25519MLKEM768
from webtransport import ClientConfig, ServerApp, ServerConfig, WebTransportClient, WebTransportSession

GROUPS = (X25519MLKEM768,) if os.environ.get("BENCH_GROUPS") == "hybrid" else (X25519,)
CONTROLLER = NewReno if os.environ.get("BENCH_CONTROLLER") == "newreno" else Cubic
SETTINGS: dict[str, Any] = {
    "path_mtu_discovery": False, "cipher_suites": (0x1301,), "groups": GROUPS, "congestion_controller": CONTROLLER,
    "max_idle_timeout": 120.0,
}  # fmt: skip
"""What the other stacks do as well: 1200 bytes, AES-128-GCM, X25519. A thousand idle connections
live until all are there. Everything else as it comes."""


BUSY_POLL = os.environ.get("BENCH_BUSY_POLL")
# None is as they come: a trick may change that.
OPTIONS = UdpOptions(busy_poll=float(BUSY_POLL)) if BUSY_POLL is not None else None


class AckCount(Trace):
    """An ACK frame comes first in a packet of ours."""

    def packet_sent(self, now: float, packet_type: str, packet_number: int, size: int, payload: bytes) -> None:
        COUNTS["acks"] += packet_type == "1RTT" and payload[0] in (0x02, 0x03)

    def packet_received(self, now: float, packet_type: str, packet_number: int, size: int, payload: bytes) -> None:
        COUNTS["received"] += packet_type == "1RTT"


if trick := os.environ.get("BENCH_WITHOUT"):
    TRICKS[trick].switch_off()
if workloads.COUNTED:
    SETTINGS["trace_factory"] = lambda odcid, is_client: AckCount()


def configuration(layer: str, **more: Any) -> Configuration:
    return Configuration(alpn_protocols=("h3" if layer != "quic" else ALPN,), **SETTINGS, **more)


def ends(stream: AsyncStream) -> tuple[Read, Write]:
    async def write(data: bytes, end: bool) -> None:
        if end:
            await stream.write_all(data)
        else:
            await stream.write(data)

    return stream.read, write


# -- servers


async def on_connection(connection: AsyncConnection) -> None:
    tasks: set[asyncio.Task[None]] = set()

    async def datagrams() -> None:
        while True:
            for data in await connection.receive_datagrams():
                if (back := DATAGRAMS.take(data)) is not None:
                    connection.send_datagram(back)

    tasks.add(asyncio.create_task(datagrams()))
    try:
        while True:
            stream = await connection.accept_stream()
            task = asyncio.create_task(answer(*ends(stream)))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    except Exception:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def on_request(request: Request) -> Reply:
    """A small answer goes out as one piece; a large one, or one that waits for an upload, as it comes."""
    source = aiter(request)
    first = await anext(source, b"")
    if first[:1] in (b"e", b"s"):
        parts: list[bytes] = []

        async def keep(data: bytes, end: bool) -> None:
            parts.append(data)

        await answer(reader(source, first), keep)
        return Reply(200, [], b"".join(parts))
    pieces: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=4)

    async def write(data: bytes, end: bool) -> None:
        if data:
            await pieces.put(data)
        if end:
            await pieces.put(None)

    async def content() -> Any:
        while (piece := await pieces.get()) is not None:
            yield piece

    task = asyncio.create_task(answer(reader(source, first), write))
    TASKS.add(task)
    task.add_done_callback(TASKS.discard)
    return Reply(200, [], content())


TASKS: set[asyncio.Task[None]] = set()


async def on_session(session: WebTransportSession) -> None:
    tasks: set[asyncio.Task[None]] = set()

    async def datagrams() -> None:
        async for data in session.datagrams:
            back = DATAGRAMS.take(data)
            if back is not None:
                await session.datagrams.send(back)

    tasks.add(asyncio.create_task(datagrams()))
    async for stream in session.incoming_streams():
        task = asyncio.create_task(answer(*ends(stream)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    for task in tasks:
        task.cancel()


async def serve_layer(folder: str, layer: str) -> None:
    certificate, key = f"{folder}/cert.pem", f"{folder}/key.pem"
    store = CertificateStore(CertificateKey.load(certificate, key))
    if layer == "quic":
        wanted = configuration(layer, certificates=store)
        async with await serve(
            "127.0.0.1", 0, configuration=wanted, on_connection=on_connection, options=OPTIONS
        ) as server:
            workloads.say(port=server.addresses[0][1])
            await workloads.input_ends()
    elif layer == "h3":
        wanted = configuration(layer, certificates=store)
        async with await serve_h3("127.0.0.1", 0, on_request, wanted, options=OPTIONS) as h3:
            workloads.say(port=h3.server.addresses[0][1])
            await workloads.input_ends()
    else:
        app = ServerApp(config=ServerConfig.create(certfile=certificate, keyfile=key, quic=SETTINGS))
        app.route("/")(on_session)
        async with app.serve("127.0.0.1", 0) as wt:
            workloads.say(port=wt.port)
            await workloads.input_ends()


# -- clients


class NewestSession:
    """Gives the newest session again and again, as the other stacks are made to do: each handshake can be resumed, and
    none waits for a ticket."""

    def __init__(self) -> None:
        self.session: bytes | None = None

    def put(self, key: str, session: bytes, /) -> None:
        self.session = session

    def take(self, key: str, /) -> bytes | None:
        return self.session


class QuicLink:
    def __init__(self, connection: AsyncConnection) -> None:
        self.connection = connection

    async def open(self) -> tuple[Read, Write]:
        return ends(await self.connection.open_stream())

    async def send_datagram(self, data: bytes) -> None:
        while not self.connection.send_datagram(data):
            await asyncio.sleep(0)

    async def receive_datagram(self) -> bytes:
        return await self.connection.receive_datagram()

    async def close(self) -> None:
        self.connection.close()
        await self.connection.wait_closed()

    def facts(self) -> dict[str, int]:
        return facts_of(self.connection.engine.stats().counters)

    def resumed(self) -> bool:
        return self.connection.engine.session_resumed


class H3Link(QuicLink):
    def __init__(self, client: H3Client, stack: Any) -> None:
        super().__init__(client.session.connection)
        self.client = client
        self.stack = stack

    async def open(self) -> tuple[Read, Write]:
        """The request begins with the first write; what is written before its end is its content."""
        pieces: asyncio.Queue[bytes | None] | None = None
        response: Any = None
        left = b""

        async def content(pieces: asyncio.Queue[bytes | None]) -> Any:
            while (piece := await pieces.get()) is not None:
                yield piece

        async def write(data: bytes, end: bool) -> None:
            nonlocal pieces, response
            if pieces is None:
                if end:
                    response = await self.client.post("/", data)
                    return
                pieces = asyncio.Queue(maxsize=4)
                response = asyncio.ensure_future(self.client.post("/", content(pieces)))
            await pieces.put(data)
            if end:
                await pieces.put(None)

        async def read(n: int) -> bytes:
            nonlocal left, response
            if isinstance(response, asyncio.Future):
                response = await response
            if not left:
                left = await anext(aiter(response), b"")
            data, left = left[:n], left[n:]
            return data

        return read, write

    async def close(self) -> None:
        await self.stack.__aexit__(None, None, None)


class WtLink(QuicLink):
    def __init__(self, client: WebTransportClient, session: WebTransportSession) -> None:
        self.client = client
        self.session = session

    async def open(self) -> tuple[Read, Write]:
        stream: Any = await self.session.create_bidirectional_stream()
        return ends(stream)

    async def send_datagram(self, data: bytes) -> None:
        while not await self.session.datagrams.send(data):
            await asyncio.sleep(0)

    async def receive_datagram(self) -> bytes:
        return await self.session.datagrams.receive()

    async def close(self) -> None:
        await self.session.close()
        await self.client.close()

    def facts(self) -> dict[str, int]:
        return facts_of(self.session.connection.stats().counters)


def facts_of(counters: Counters) -> dict[str, int]:
    names = ("packets_sent", "packets_received", "trains_sent", "trains_received")
    return {name: getattr(counters, name) for name in names}


def connector(port: int, layer: str, resuming: bool) -> Connect:
    sessions: SessionStore | None = NewestSession() if resuming else None
    settings: dict[str, Any] = {"trust": Trust.insecure(), "session_store": sessions}

    async def connect_layer() -> Any:
        if layer == "quic":
            return QuicLink(await connect("127.0.0.1", port, configuration=wanted, options=OPTIONS))
        if layer == "h3":
            context = H3Client.connect("127.0.0.1", port, configuration=wanted, options=OPTIONS)
            return H3Link(await context.__aenter__(), context)
        client = WebTransportClient(config=ClientConfig.create(verify_mode=ssl.CERT_NONE, quic=SETTINGS))
        await client.__aenter__()
        return WtLink(client, await client.connect(f"https://127.0.0.1:{port}/"))

    wanted = configuration(layer, **settings)
    return connect_layer


if __name__ == "__main__":
    workloads.main(serve_layer, connector)
