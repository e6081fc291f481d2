"""Two engines in one process, and a peer that puts bytes on streams by hand."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from h3.client import H3Client
from h3.connection import H3Connection, H3Ready
from h3.errors import H3ErrorCode
from h3.exchange import Exchange
from h3.frames import FrameType, StreamType, encode_frame
from h3.qpack import FieldEncoder, Fields
from h3.server import H3Server, serve
from h3.settings import encode_settings
from quicstack.config import Configuration
from quicstack.connection.connection import Connection
from quicstack.endpoint import Endpoint
from quicstack.environment import Environment
from quicstack.errors import ConnectionClosed
from quicstack.tls.certificate import CertificateKey, CertificateStore
from quicstack.tls.trust import Trust
from quicstack.train import Path, Train
from quicstack.transport.stream import Stream
from quicstack.wire.varint import encode_varint

CLIENT, SERVER = ("192.0.2.1", 50000), ("192.0.2.2", 443)
DELAY = 0.01


def self_signed() -> CertificateKey:
    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=9))
        .sign(key, None)
    )
    return CertificateKey((certificate,), key)


class Pair:
    """A client and a server, connected by a wire with a delay. ``run`` lets them talk until both are silent."""

    def __init__(self, **knobs: Any) -> None:
        seeded = random.Random(1)
        environment = Environment(random=seeded.randbytes, wall_time=lambda: datetime.datetime.now().timestamp())
        store = CertificateStore(self_signed())
        configuration = Configuration(alpn_protocols=("h3",), certificates=store, trust=Trust.insecure(), **knobs)
        self.now = 1000.0
        self.endpoints = {
            CLIENT: Endpoint(configuration, environment=environment, server=False),
            SERVER: Endpoint(configuration, environment=environment, server=True),
        }
        self.client = self.endpoints[CLIENT].connect(Path(SERVER, CLIENT), self.now)
        self.protocols: dict[Connection, Callable[[Any], None]] = {}
        self.run()
        self.server = next(iter(self.endpoints[SERVER].connections))
        assert self.client.handshake_confirmed and self.server.handshake_complete

    def run(self, steps: int = 20_000) -> None:
        """Until nothing is on the wire and no timer is near; timers of seconds (idle, closing) are left alone."""
        wire: list[tuple[float, int, tuple[str, int], Train]] = []
        numbers = itertools.count()
        for _ in range(steps):
            for here, endpoint in self.endpoints.items():
                while (train := endpoint.next_train(self.now)) is not None:
                    arriving = Train(train.data, train.segment_size, Path(here, train.path.remote), 0)
                    wire.append((self.now + DELAY, next(numbers), train.path.remote, arriving))
                for connection in endpoint.take_ready():
                    ready = connection.take_ready()
                    if connection in self.protocols:
                        self.protocols[connection](ready)
            deadlines = [at for at, *_ in wire[:1]]
            deadlines += [
                at for e in self.endpoints.values() if (at := e.next_timeout()) is not None and at < self.now + 0.5
            ]
            if not deadlines:
                return
            self.now = max(self.now, min(deadlines))
            for endpoint in self.endpoints.values():
                if (at := endpoint.next_timeout()) is not None and at <= self.now:
                    endpoint.handle_timeout(self.now)
            while wire and wire[0][0] <= self.now:
                _, _, there, train = wire.pop(0)
                self.endpoints[there].receive(train, self.now)
        raise AssertionError("the two never fall silent")


class Side:
    """An H3Connection in a pair, with everything that its ``process`` returned."""

    def __init__(self, pair: Pair, quic: Connection, **arguments: Any) -> None:
        self.pair = pair
        self.quic = quic
        self.h3 = H3Connection(quic, **arguments)
        self.exchanges: list[Exchange] = []
        self.webtransport: list[tuple[int, Stream]] = []
        self.settings_received = 0
        self.goaways: list[int] = []
        self.on_exchange: Callable[[Exchange], None] | None = None
        pair.protocols[quic] = self.process

    def process(self, ready: Any) -> None:
        result: H3Ready = self.h3.process(ready)
        for exchange in result.exchanges:
            if exchange not in self.exchanges:
                self.exchanges.append(exchange)
            if self.on_exchange is not None:
                self.on_exchange(exchange)
        for session_id, stream in result.webtransport_streams:
            assert stream.owner is None
            stream.owner = self
            self.webtransport.append((session_id, stream))
        self.settings_received += result.settings_received
        if result.goaway is not None:
            self.goaways.append(result.goaway)


class ScriptedPeer:
    """The other side of a pair: raw streams, no HTTP/3 of its own beyond what the test writes."""

    def __init__(self, pair: Pair, quic: Connection) -> None:
        self.pair = pair
        self.quic = quic
        self.encoder = FieldEncoder()
        self.received: dict[int, bytearray] = {}
        pair.protocols[quic] = self.process

    def process(self, ready: Any) -> None:
        for stream in ready.streams:
            if stream.can_receive and stream.reset_code is None:
                self.received.setdefault(stream.id, bytearray()).extend(stream.read())

    def opens(self, data: bytes, *, unidirectional: bool = False, fin: bool = False) -> Stream:
        """Open a stream, write, and let it arrive."""
        stream = self.quic.open_stream(unidirectional=unidirectional)
        return self.writes(stream, data, fin=fin)

    def writes(self, stream: Stream, data: bytes, *, fin: bool = False) -> Stream:
        assert stream.write(data, fin) == len(data)
        self.pair.run()
        return stream

    def opens_control(self, settings: dict[int, int] | None = None) -> Stream:
        """The control stream with SETTINGS."""
        frame = encode_frame(FrameType.SETTINGS, encode_settings(settings or {}))
        return self.opens(encode_varint(StreamType.CONTROL) + frame, unidirectional=True)

    def headers(self, fields: Fields) -> bytes:
        """A HEADERS frame that needs no dynamic table."""
        return encode_frame(FrameType.HEADERS, self.encoder.encode(0, fields)[1])

    def sees_close(self, code: H3ErrorCode) -> None:
        """Assert that the connection was closed with this code."""
        self.pair.run()
        closed = self.quic.closed
        assert isinstance(closed, ConnectionClosed), f"still open; {code.name} was expected"
        assert (H3ErrorCode(closed.code), closed.by_peer, closed.transport) == (code, True, False), closed

    def sees_stream_error(self, stream: Stream, code: H3ErrorCode) -> None:
        """Assert that a stream was reset and stopped, where it was still open, and the connection was not closed."""
        self.pair.run()
        assert self.quic.closed is None, self.quic.closed
        assert H3ErrorCode(stream.reset_code or 0) == code
        assert stream.send_done or stream.stop_code == code


@pytest.fixture
def make_pair() -> type[Pair]:
    return Pair


@pytest.fixture
def scripted() -> Callable[..., tuple[Side, ScriptedPeer]]:
    """Makes the side under test ("client" or "server") and the scripted peer opposite."""

    def make(role: str, knobs: dict[str, Any] | None = None, **arguments: Any) -> tuple[Side, ScriptedPeer]:
        pair = Pair(**(knobs or {}))
        ours, theirs = (pair.client, pair.server) if role == "client" else (pair.server, pair.client)
        peer = ScriptedPeer(pair, theirs)
        side = Side(pair, ours, **arguments)
        pair.run()
        return side, peer

    return make


@pytest.fixture
def both() -> Callable[..., tuple[Side, Side]]:
    """Makes a client and a server that both speak HTTP/3."""

    def make(knobs: dict[str, Any] | None = None, **arguments: Any) -> tuple[Side, Side]:
        pair = Pair(**(knobs or {}))
        client, server = Side(pair, pair.client, **arguments), Side(pair, pair.server, **arguments)
        pair.run()
        return client, server

    return make


@pytest.fixture
def certificate() -> CertificateKey:
    return self_signed()


@pytest.fixture
def serving(certificate: CertificateKey) -> Callable[..., Any]:
    """``async with serving(handler) as (client, server)``: a server on a real socket, and a client connected to it."""

    @contextlib.asynccontextmanager
    async def run(handler: Any, **knobs: Any) -> AsyncIterator[tuple[H3Client, H3Server]]:
        configuration = Configuration(alpn_protocols=("h3",), certificates=CertificateStore(certificate), **knobs)
        client_configuration = Configuration(alpn_protocols=("h3",), trust=Trust.insecure(), **knobs)
        async with await serve("127.0.0.1", 0, handler, configuration) as server:
            port = server.server.addresses[0][1]
            async with H3Client.connect("127.0.0.1", port, configuration=client_configuration) as client:
                yield client, server

    return run
