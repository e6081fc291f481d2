"""HTTP/3 with aioquic, each as client and as server: content both ways, many requests, all cipher suites."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest

from h3.client import H3Client
from h3.server import Reply, Request, serve
from quicstack.config import Configuration
from quicstack.tls.certificate import CertificateKey, CertificateStore
from quicstack.tls.trust import Trust

pytestmark = pytest.mark.peer

try:
    import aioquic.asyncio
    from aioquic.asyncio.protocol import QuicConnectionProtocol
    from aioquic.h3.connection import H3_ALPN, H3Connection
    from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
    from aioquic.quic.configuration import QuicConfiguration
    from aioquic.quic.events import ConnectionTerminated, ProtocolNegotiated, QuicEvent
    from aioquic.tls import CipherSuite
except ImportError:
    pytest.skip("aioquic is not installed: pip install aioquic", allow_module_level=True)

SUITES = {
    0x1301: CipherSuite.AES_128_GCM_SHA256,
    0x1302: CipherSuite.AES_256_GCM_SHA384,
    0x1303: CipherSuite.CHACHA20_POLY1305_SHA256,
}
TEN_MEBIBYTES = bytes(range(256)) * 4 * 10240


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class AioquicClient(QuicConnectionProtocol):
    """Requests with headers and content as lists and bytes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic)
        self.responses: dict[int, tuple[list[tuple[bytes, bytes]], bytearray, asyncio.Future[None]]] = {}

    async def request(
        self, method: str, path: str, body: bytes = b"", trailers: list[tuple[bytes, bytes]] | None = None
    ) -> tuple[dict[bytes, bytes], bytes]:
        stream_id = self._quic.get_next_available_stream_id()
        fields = [(b":method", method.encode()), (b":scheme", b"https"), (b":authority", b"localhost")]
        self.http.send_headers(stream_id, [*fields, (b":path", path.encode()), (b"x-echo", b"abc")])
        self.http.send_data(stream_id, body, end_stream=trailers is None)
        if trailers is not None:
            self.http.send_headers(stream_id, trailers, end_stream=True)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.responses[stream_id] = ([], bytearray(), done)
        self.transmit()
        await asyncio.wait_for(done, 60)
        fields, content, _ = self.responses.pop(stream_id)
        return dict(fields), bytes(content)

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, ConnectionTerminated):
            for *_, done in self.responses.values():
                done.set_exception(ConnectionError(f"{event.error_code:#x} {event.reason_phrase}"))
        for h3_event in self.http.handle_event(event):
            self.http_event_received(h3_event)

    def http_event_received(self, event: H3Event) -> None:
        if isinstance(event, HeadersReceived | DataReceived):
            fields, content, done = self.responses[event.stream_id]
            if isinstance(event, HeadersReceived):
                fields.extend(event.headers)
            else:
                content += event.data
            if event.stream_ended:
                done.set_result(None)


class AioquicServer(QuicConnectionProtocol):
    """Answers with what it got, and with the request's trailers as trailers."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.http: H3Connection | None = None
        self.requests: dict[int, tuple[list[tuple[bytes, bytes]], bytearray]] = {}

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, ProtocolNegotiated):
            self.http = H3Connection(self._quic)
        if self.http is not None:
            for h3_event in self.http.handle_event(event):
                self.http_event_received(self.http, h3_event)

    def http_event_received(self, http: H3Connection, event: H3Event) -> None:
        if not isinstance(event, HeadersReceived | DataReceived):
            return
        fields, content = self.requests.setdefault(event.stream_id, ([], bytearray()))
        if isinstance(event, HeadersReceived):
            fields.extend(event.headers)
        else:
            content += event.data
        if event.stream_ended:
            http.send_headers(event.stream_id, [(b":status", b"200"), (b"x-path", dict(fields)[b":path"])])
            http.send_data(event.stream_id, bytes(content), end_stream=False)
            http.send_headers(event.stream_id, [(b"x-sum", sha256_of(content).encode())], end_stream=True)
            self.transmit()


@contextlib.asynccontextmanager
async def our_server(certificate_files: Any) -> AsyncIterator[int]:
    async def handler(request: Request) -> Reply:
        content = await request.read()
        headers = [("x-path", request.path), ("x-echo", request.headers.get("x-echo", ""))]
        return Reply(200, headers, content, trailers=request.trailers or ())

    store = CertificateStore(CertificateKey.load(*map(str, certificate_files)))
    configuration = Configuration(alpn_protocols=("h3",), certificates=store)
    async with await serve("127.0.0.1", 0, handler, configuration) as server:
        yield server.server.addresses[0][1]


@contextlib.asynccontextmanager
async def aioquic_client(port: int, suite: int | None = None) -> AsyncIterator[AioquicClient]:
    configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, verify_mode=ssl.CERT_NONE)
    if suite is not None:
        configuration.cipher_suites = [SUITES[suite]]
    async with aioquic.asyncio.connect(
        "127.0.0.1", port, configuration=configuration, create_protocol=AioquicClient
    ) as client:
        assert isinstance(client, AioquicClient)
        yield client


@contextlib.asynccontextmanager
async def aioquic_server(certificate_files: Any) -> AsyncIterator[int]:
    configuration = QuicConfiguration(is_client=False, alpn_protocols=H3_ALPN)
    configuration.load_cert_chain(*certificate_files)
    server = await aioquic.asyncio.serve("127.0.0.1", 0, configuration=configuration, create_protocol=AioquicServer)
    try:
        yield server._transport.get_extra_info("sockname")[1]
    finally:
        server.close()


@contextlib.asynccontextmanager
async def our_client(port: int, suite: int | None = None) -> AsyncIterator[H3Client]:
    suites = {} if suite is None else {"cipher_suites": (suite,)}
    configuration = Configuration(alpn_protocols=("h3",), trust=Trust.insecure(), **suites)
    async with H3Client.connect("127.0.0.1", port, configuration=configuration) as client:
        yield client


async def test_aioquic_client_sends_and_gets_ten_mebibytes(certificate_files: Any) -> None:
    async with our_server(certificate_files) as port, aioquic_client(port) as client:
        fields, content = await client.request("POST", "/big", TEN_MEBIBYTES)
        assert (fields[b":status"], fields[b"x-echo"]) == (b"200", b"abc")
        assert sha256_of(content) == sha256_of(TEN_MEBIBYTES)


async def test_our_client_sends_and_gets_ten_mebibytes_from_aioquic(certificate_files: Any) -> None:
    async with aioquic_server(certificate_files) as port, our_client(port) as client:
        response = await client.post("/big", TEN_MEBIBYTES)
        content = await response.read()
        assert sha256_of(content) == sha256_of(TEN_MEBIBYTES) == dict(response.trailers or ())["x-sum"]


async def test_ten_requests_of_aioquic_at_once(certificate_files: Any) -> None:
    async with our_server(certificate_files) as port, aioquic_client(port) as client:
        bodies = [bytes([n]) * 50_000 for n in range(10)]
        answers = await asyncio.gather(*(client.request("POST", f"/{n}", body) for n, body in enumerate(bodies)))
        assert [content for _, content in answers] == bodies
        assert [fields[b"x-path"] for fields, _ in answers] == [b"/%d" % n for n in range(10)]


async def test_ten_of_our_requests_at_once(certificate_files: Any) -> None:
    async with aioquic_server(certificate_files) as port, our_client(port) as client:
        bodies = [bytes([n]) * 50_000 for n in range(10)]

        async def one(n: int) -> tuple[str | None, bytes]:
            response = await client.post(f"/{n}", bodies[n])
            return response.headers.get("x-path"), await response.read()

        assert await asyncio.gather(*map(one, range(10))) == [(f"/{n}", bodies[n]) for n in range(10)]


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: SUITES[suite].name)
async def test_cipher_suites(certificate_files: Any, suite: int) -> None:
    async with our_server(certificate_files) as port, aioquic_client(port, suite) as client:
        assert (await client.request("POST", "/", b"x" * 5000))[1] == b"x" * 5000
    async with aioquic_server(certificate_files) as port, our_client(port, suite) as client:
        response = await client.post("/", b"x" * 5000)
        assert await response.read() == b"x" * 5000
        assert client.session.h3.quic.cipher_suite_name is not None


async def test_trailers_of_aioquic_come_back(certificate_files: Any) -> None:
    async with our_server(certificate_files) as port, aioquic_client(port) as client:
        fields, content = await client.request("POST", "/", b"abc", trailers=[(b"x-sum", b"1")])
        assert (content, fields[b"x-sum"]) == (b"abc", b"1")


async def test_the_dynamic_table_in_use_both_ways(certificate_files: Any) -> None:
    """Hundreds of requests with the same and with new fields: the QPACK tables of both stay in step."""
    async with our_server(certificate_files) as port, aioquic_client(port) as client:
        for n in range(150):
            fields, _ = await client.request("GET", f"/{n % 7}/{n}")
            assert fields[b"x-path"] == f"/{n % 7}/{n}".encode()
    async with aioquic_server(certificate_files) as port, our_client(port) as client:
        for n in range(150):
            response = await client.get(f"/{n}", headers=[("x-same", "value"), (f"x-new-{n % 5}", str(n))])
            assert await response.read() == b"" and response.headers.get("x-path") == f"/{n}"


async def test_a_certificate_that_is_not_trusted_names_the_check(certificate_files: Any) -> None:
    async with aioquic_server(certificate_files) as port:
        trusted = Trust.roots(str(certificate_files.certificate))
        async with H3Client.connect("localhost", port, trust=trusted) as client:
            assert (await client.get("/")).status == 200
