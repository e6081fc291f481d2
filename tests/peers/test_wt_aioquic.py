"""WebTransport (draft-02) with aioquic, each as client and as server: datagrams, streams of all kinds, both ends of a
session, and codes."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

import pytest

from webtransport import (
    ClientConfig,
    CloseInfo,
    ServerApp,
    ServerConfig,
    SessionRejected,
    StreamReset,
    WebTransportClient,
    WebTransportSession,
)
from webtransport.codes import http_code

pytestmark = pytest.mark.peer

try:
    import aioquic.asyncio
    from aioquic.asyncio.protocol import QuicConnectionProtocol
    from aioquic.h3.connection import H3_ALPN, H3Connection
    from aioquic.h3.events import (
        DatagramReceived,
        DataReceived,
        H3Event,
        HeadersReceived,
        WebTransportStreamDataReceived,
    )
    from aioquic.quic.configuration import QuicConfiguration
    from aioquic.quic.events import QuicEvent, StreamDataReceived
    from aioquic.quic.events import StreamReset as AioquicStreamReset
except ImportError:
    pytest.skip("aioquic is not installed: pip install aioquic", allow_module_level=True)

MEBIBYTE = bytes(range(256)) * 4096
CLOSE_7_BYE = bytes.fromhex("68430700000007") + b"bye"


class Peer(QuicConnectionProtocol):
    """What both of aioquic's roles have: an H3Connection, and what came in on each stream."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic, enable_webtransport=True)
        self.received: dict[int, bytearray] = defaultdict(bytearray)
        self.ended: set[int] = set()
        self.opened: set[int] = set()
        self.resets: dict[int, int] = {}
        self.headers: dict[int, dict[bytes, bytes]] = {}
        self.datagrams: list[bytes] = []
        self.news = asyncio.Event()

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, AioquicStreamReset):
            self.resets[event.stream_id] = event.error_code
        if isinstance(event, StreamDataReceived) and event.stream_id in self.opened:
            # aioquic's h3 looks for frames here, although the one who opens a stream writes its only header
            self.received[event.stream_id] += event.data
            if event.end_stream:
                self.ended.add(event.stream_id)
        else:
            for h3_event in self.http.handle_event(event):
                self.http_event_received(h3_event)
        self.news.set()

    def open_stream(self, session_id: int) -> int:
        stream_id: int = self.http.create_webtransport_stream(session_id)
        self.opened.add(stream_id)
        return stream_id

    def http_event_received(self, event: H3Event) -> None:
        if isinstance(event, HeadersReceived):
            self.headers[event.stream_id] = dict(event.headers)
        elif isinstance(event, DatagramReceived):
            self.datagrams.append(event.data)
        elif isinstance(event, DataReceived | WebTransportStreamDataReceived):
            self.received[event.stream_id] += event.data
            if event.stream_ended:
                self.ended.add(event.stream_id)

    async def until(self, condition: Any) -> Any:
        """What ``condition()`` returns, once that is true."""
        async with asyncio.timeout(20):
            while not (value := condition()):
                self.news.clear()
                await self.news.wait()
        return value


class EchoServer(Peer):
    """Accepts ``/echo``; sends datagrams and streams back; answers a one-way stream on one of its own."""

    def http_event_received(self, event: H3Event) -> None:
        super().http_event_received(event)
        if isinstance(event, HeadersReceived):
            found = dict(event.headers)[b":path"] == b"/echo"
            answer = [(b":status", b"200" if found else b"404"), (b"sec-webtransport-http3-draft", b"draft02")]
            self.http.send_headers(event.stream_id, answer, end_stream=not found)
        elif isinstance(event, DatagramReceived):
            self.http.send_datagram(event.stream_id, event.data)
        elif isinstance(event, WebTransportStreamDataReceived):
            if event.stream_id & 2:
                if event.stream_ended:
                    back = self.http.create_webtransport_stream(event.session_id, is_unidirectional=True)
                    self._quic.send_stream_data(back, bytes(self.received[event.stream_id]), end_stream=True)
            elif bytes(self.received[event.stream_id]).startswith(b"reset"):
                self._quic.reset_stream(event.stream_id, http_code(77))
            else:
                self._quic.send_stream_data(event.stream_id, event.data, end_stream=event.stream_ended)
        elif isinstance(event, DataReceived) and bytes(self.received[event.stream_id]).endswith(b"please close"):
            self._quic.send_stream_data(event.stream_id, b"\x00\x0a" + CLOSE_7_BYE, end_stream=True)
        self.transmit()


@contextlib.asynccontextmanager
async def aioquic_server(files: Any) -> AsyncIterator[tuple[int, list[EchoServer]]]:
    protocols: list[EchoServer] = []

    def create(*args: Any, **kwargs: Any) -> EchoServer:
        protocols.append(EchoServer(*args, **kwargs))
        return protocols[-1]

    configuration = QuicConfiguration(is_client=False, alpn_protocols=H3_ALPN, max_datagram_frame_size=65536)
    configuration.load_cert_chain(files.certificate, files.key)
    server = await aioquic.asyncio.serve("127.0.0.1", 0, configuration=configuration, create_protocol=create)
    try:
        yield server._transport.get_extra_info("sockname")[1], protocols
    finally:
        server.close()


async def test_our_client(certificate_files: Any) -> None:
    config = ClientConfig.create(ca_certs=certificate_files.certificate)
    async with aioquic_server(certificate_files) as (port, _), WebTransportClient(config) as client:
        session = await client.connect(f"https://127.0.0.1:{port}/echo")
        assert session.dialect == "draft-02"
        await session.datagrams.send(b"datagram")
        assert await session.datagrams.receive() == b"datagram"
        for data in (b"Hello", b"", MEBIBYTE):
            stream = await session.create_bidirectional_stream()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(stream.write_all(data))
                assert await stream.read_all() == data
        sending = await session.create_unidirectional_stream()
        await sending.write_all(b"one way")
        assert await (await session.accept_unidirectional_stream()).read_all() == b"one way"
        stream = await session.create_bidirectional_stream()
        await stream.write(b"reset me")
        with pytest.raises(StreamReset) as error:
            await stream.read()
        assert error.value.code == 77


async def test_our_client_is_refused(certificate_files: Any) -> None:
    config = ClientConfig.create(ca_certs=certificate_files.certificate)
    async with aioquic_server(certificate_files) as (port, _), WebTransportClient(config) as client:
        with pytest.raises(SessionRejected, match="404"):
            await client.connect(f"https://127.0.0.1:{port}/nothing")


async def test_our_client_closes(certificate_files: Any) -> None:
    config = ClientConfig.create(ca_certs=certificate_files.certificate)
    async with aioquic_server(certificate_files) as (port, protocols), WebTransportClient(config) as client:
        session = await client.connect(f"https://127.0.0.1:{port}/echo")
        await session.close(7, "bye")
        server = protocols[0]
        await server.until(lambda: 0 in server.ended)
        assert bytes(server.received[0]) == CLOSE_7_BYE


async def test_our_client_is_closed(certificate_files: Any) -> None:
    config = ClientConfig.create(ca_certs=certificate_files.certificate)
    async with aioquic_server(certificate_files) as (port, protocols), WebTransportClient(config) as client:
        session = await client.connect(f"https://127.0.0.1:{port}/echo")
        # a capsule of a reserved type: 0x29 * 0 + 0x17
        session.core.exchange.send_capsule(0x17, b"please close")
        session.link.touch()
        assert await session.wait_closed() == CloseInfo(7, "bye", by_peer=True)


@contextlib.asynccontextmanager
async def our_server(files: Any, seen: asyncio.Queue[Any]) -> AsyncIterator[int]:
    app = ServerApp(ServerConfig.create(files.certificate, files.key))

    @app.route("/echo")
    async def handler(session: WebTransportSession) -> None:
        seen.put_nowait(session)
        async with asyncio.TaskGroup() as tasks:

            async def datagrams() -> None:
                async for data in session.datagrams:
                    await session.datagrams.send(data)

            async def one_way() -> None:
                async for stream in session.incoming_unidirectional_streams():
                    back = await session.create_unidirectional_stream()
                    await back.write_all(await stream.read_all())

            async def both_ways() -> None:
                async for stream in session.incoming_streams():
                    try:
                        await stream.write_all(await stream.read_all())
                    except StreamReset as error:
                        seen.put_nowait(error)

            tasks.create_task(datagrams())
            tasks.create_task(one_way())
            tasks.create_task(both_ways())
        seen.put_nowait(session.close_info)

    async with app.serve() as server:
        yield server.port


@contextlib.asynccontextmanager
async def aioquic_client(port: int, path: bytes = b"/echo") -> AsyncIterator[tuple[Peer, int]]:
    configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, max_datagram_frame_size=65536)
    configuration.verify_mode = 0  # type: ignore[assignment]
    async with aioquic.asyncio.connect(
        "127.0.0.1", port, configuration=configuration, create_protocol=Peer
    ) as protocol:
        assert isinstance(protocol, Peer)
        await protocol.until(lambda: protocol.http.received_settings)
        session_id = protocol._quic.get_next_available_stream_id()
        fields = [(b":method", b"CONNECT"), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", path)]
        fields += [(b":protocol", b"webtransport"), (b"sec-webtransport-http3-draft02", b"1")]
        protocol.http.send_headers(session_id, fields)
        protocol.transmit()
        await protocol.until(lambda: session_id in protocol.headers)
        yield protocol, session_id


async def test_our_server(certificate_files: Any) -> None:
    seen: asyncio.Queue[Any] = asyncio.Queue()
    async with our_server(certificate_files, seen) as port, aioquic_client(port) as (client, session_id):
        assert client.headers[session_id] == {b":status": b"200", b"sec-webtransport-http3-draft": b"draft02"}
        session = await seen.get()
        assert session.dialect == "draft-02"
        client.http.send_datagram(session_id, b"datagram")
        client.transmit()
        await client.until(lambda: client.datagrams == [b"datagram"])
        for data in (b"Hello", b"", MEBIBYTE):
            stream = client.open_stream(session_id)
            client._quic.send_stream_data(stream, data, end_stream=True)
            client.transmit()
            await client.until(lambda stream=stream: stream in client.ended)
            assert bytes(client.received[stream]) == data
        stream = client.http.create_webtransport_stream(session_id, is_unidirectional=True)
        client._quic.send_stream_data(stream, b"one way", end_stream=True)
        client.transmit()
        await client.until(lambda: b"one way" in map(bytes, client.received.values()))


async def test_our_server_sees_resets(certificate_files: Any) -> None:
    seen: asyncio.Queue[Any] = asyncio.Queue()
    async with our_server(certificate_files, seen) as port, aioquic_client(port) as (client, session_id):
        await seen.get()
        stream = client.open_stream(session_id)
        client._quic.send_stream_data(stream, b"some", end_stream=False)
        client.transmit()
        await client.ping()
        client._quic.reset_stream(stream, http_code(200))
        client.transmit()
        assert (await seen.get()).code == 200


@pytest.mark.parametrize(
    ("data", "info"),
    [(b"\x00\x0a" + CLOSE_7_BYE, CloseInfo(7, "bye", by_peer=True)), (b"", CloseInfo(by_peer=True))],
    ids=["capsule", "FIN alone"],
)
async def test_our_server_is_closed(certificate_files: Any, data: bytes, info: CloseInfo) -> None:
    seen: asyncio.Queue[Any] = asyncio.Queue()
    async with our_server(certificate_files, seen) as port, aioquic_client(port) as (client, session_id):
        session = await seen.get()
        client._quic.send_stream_data(session_id, data, end_stream=True)
        client.transmit()
        assert await session.wait_closed() == info
        await client.until(lambda: session_id in client.ended)
        assert await seen.get() == info


async def test_our_server_closes(certificate_files: Any) -> None:
    seen: asyncio.Queue[Any] = asyncio.Queue()
    async with our_server(certificate_files, seen) as port, aioquic_client(port) as (client, session_id):
        session = await seen.get()
        stream = client.open_stream(session_id)
        client._quic.send_stream_data(stream, b"unfinished", end_stream=False)
        client.transmit()
        await client.ping()
        await session.close(7, "bye")
        await client.until(lambda: session_id in client.ended and stream in client.resets)
        assert bytes(client.received[session_id]) == CLOSE_7_BYE
        assert client.resets[stream] == 0x170D7B68


async def test_our_server_refuses(certificate_files: Any) -> None:
    async with (
        our_server(certificate_files, asyncio.Queue()) as port,
        aioquic_client(port, b"/nothing") as (client, session_id),
    ):
        assert client.headers[session_id][b":status"] == b"404"
