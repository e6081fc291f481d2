"""Targets with state: a connection in the middle of its life is given what a peer with the right keys could send.

An input is a list of pieces (``upper.pieces``). Whatever they are, a connection may close, with any code but
INTERNAL_ERROR; nothing may be raised.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Protocol

from peer import TO_CLIENT, TO_SERVER, Pair, Peer, client_configuration, environment, long_packet, server_configuration
from served import Http3
from upper import pieces

from quicstack.connection.connection import Connection
from quicstack.endpoint import Endpoint
from quicstack.environment import Environment
from quicstack.errors import QuicstackError
from quicstack.simulator import VIRTUAL_EPOCH, configurations
from quicstack.train import Path, Train
from quicstack.transport.packet_protection import retry_integrity_tag
from quicstack.wire.frame import write_crypto
from quicstack.wire.packet import write_version_negotiation
from quicstack.wire.version import VERSIONS

__all__ = ["CONNECTIONS", "Web", "sound"]

SIZE = 1200


def sound(*connections: Connection) -> None:
    """No defect of ours showed."""
    for connection in connections:
        if connection.internal_error is not None:
            raise connection.internal_error


def drain(endpoint: Endpoint, now: float) -> None:
    """Send and forget, for as long as there is something; look at what is ready."""
    for _ in range(1000):
        for connection in endpoint.take_ready():
            connection.take_ready()
        if endpoint.next_train(now) is None:
            return
    raise AssertionError("the endpoint does not fall silent")


def use(connection: Connection, number: int) -> None:
    """The application does something too."""
    with suppress(QuicstackError):
        match number % 6:
            case 0:
                connection.open_stream(unidirectional=bool(number & 64)).write(bytes(number))
            case 1:
                for stream in list(connection._state.streams.streams.values()):
                    if stream.can_receive:
                        stream.read(number)
            case 2:
                for stream in list(connection._state.streams.streams.values()):
                    if stream.can_send:
                        stream.write(bytes(3000), fin=bool(number & 64))
            case 3:
                for stream in list(connection._state.streams.streams.values()):
                    if stream.can_send:
                        stream.reset(number, number % 7)
                    elif stream.can_receive:
                        stream.stop_sending(number)
            case 4:
                connection.send_datagram(bytes(number))
            case 5:
                connection.ping()


def one_rtt(plays: str, data: bytes) -> None:
    """Decrypted payloads of 1-RTT packets, time, and an application that lives meanwhile."""
    peer = Peer(plays=plays)
    for number, payload in pieces(data):
        if number < 160:
            peer.sends(payload)
        elif number < 224:
            use(peer.engine, number)
        elif number < 240:
            peer.pair.now += (number - 223) ** 2 / 100
            peer.endpoint.handle_timeout(peer.now)
        else:
            datagram, _ = peer.packet(payload, first_byte=0x40 | number << 3 & 0x18)
            peer.delivers(datagram, Path(("198.51.100.3", 50000 + number)) if plays == "client" else None)
        sound(peer.engine)
        drain(peer.endpoint, peer.now)
    sound(peer.engine)


def server_one_rtt(data: bytes) -> None:
    one_rtt("client", data)


def client_one_rtt(data: bytes) -> None:
    one_rtt("server", data)


def server_initial(data: bytes) -> None:
    """The payload of a client's first packet, and of those that follow."""
    pair = Pair()
    state = pair.client._state
    for number, (_, payload) in enumerate(pieces(data)[:8]):
        packet = long_packet(state, 0, payload[:SIZE], number=number, pad_to=SIZE)
        pair.to_server([Train(packet, len(packet), TO_CLIENT)])
        sound(*pair.server_endpoint.connections)
        drain(pair.server_endpoint, pair.now)


def client_hello(data: bytes) -> None:
    """The handshake message by itself, in as many packets as it takes."""
    pair = Pair()
    state = pair.client._state
    for number, start in enumerate(range(0, min(len(data), 8000), 1000)):
        packet = long_packet(state, 0, write_crypto(start, data[start : start + 1000]), number=number, pad_to=SIZE)
        pair.to_server([Train(packet, len(packet), TO_CLIENT)])
    sound(*pair.server_endpoint.connections)
    drain(pair.server_endpoint, pair.now)


def server_flight(data: bytes) -> None:
    """A client in the handshake hears Initial (even first byte) and Handshake packets of its server."""
    pair = Pair()
    pair.to_server(pair.from_client())
    genuine = pair.from_server()
    state = pair.server._state
    if data and data[0] & 0x80:
        pair.to_client(genuine[:1])
    for number, (kind, payload) in enumerate(pieces(data)[:8]):
        packet = long_packet(state, kind & 1, payload[:1100], number=100 + number, pad_to=0 if kind & 1 else SIZE)
        pair.client_endpoint.receive(Train(packet, len(packet), TO_SERVER), pair.now)
        sound(pair.client)
        drain(pair.client_endpoint, pair.now)


def server_hello(data: bytes) -> None:
    """The first handshake message of a server, by itself."""
    pair = Pair()
    pair.to_server(pair.from_client())
    packet = long_packet(pair.server._state, 0, write_crypto(0, data[:1100]), number=100, pad_to=SIZE)
    pair.client_endpoint.receive(Train(packet, len(packet), TO_SERVER), pair.now)
    sound(pair.client)
    drain(pair.client_endpoint, pair.now)


def encrypted_flight(data: bytes) -> None:
    """What a server says after its ServerHello: EncryptedExtensions, Certificate, CertificateVerify, Finished."""
    pair = Pair()
    pair.to_server(pair.from_client())
    (first, *_) = pair.from_server()
    initial = first.data[: first.segment_size]
    pair.to_client([Train(initial_only(initial), SIZE, TO_SERVER)])
    packet = long_packet(pair.server._state, 1, write_crypto(0, data[:1100]), number=100)
    pair.client_endpoint.receive(Train(packet, len(packet), TO_SERVER), pair.now)
    sound(pair.client)
    drain(pair.client_endpoint, pair.now)


def initial_only(datagram: bytes) -> bytes:
    """The Initial at the beginning of a datagram, and bytes that no key opens."""
    from quicstack.wire.packet import read_long_header

    return datagram[: read_long_header(datagram, 0, VERSIONS[1]).end].ljust(SIZE, b"\x00")


def server_datagrams(data: bytes) -> None:
    """Datagrams as they come from anywhere."""
    endpoint = Endpoint(server_configuration(versions=(1, 0x6B3343CF)), environment=environment(2), server=True)
    for number, payload in pieces(data):
        datagram = payload.ljust(SIZE, b"\x00") if number & 1 else payload
        endpoint.receive(Train(datagram, max(1, len(datagram) // (1 + number % 3)), TO_CLIENT), 100.0)
        sound(*endpoint.connections)
        drain(endpoint, 100.0)


def client_datagrams(data: bytes) -> None:
    """Version Negotiation, Retry and anything else for a client that waits for its server's first packet."""
    configuration = client_configuration(versions=(1, 0x6B3343CF), groups=(0x1D,))
    endpoint = Endpoint(configuration, environment=environment(1), server=False)
    connection = endpoint.connect(TO_SERVER, 100.0)
    drain(endpoint, 100.0)
    dcid, scid = connection.original_dcid, connection.local_cids[0]
    for number, payload in pieces(data):
        if number % 4 == 0:
            versions = [int.from_bytes(payload[i : i + 4]) for i in range(0, len(payload) // 4 * 4, 4)]
            datagram = write_version_negotiation(scid, dcid, versions, 0xC0 | number)
        elif number % 4 == 1:
            head = bytes((0xF0,)) + (1).to_bytes(4) + bytes((len(scid),)) + scid
            datagram = head + payload
            datagram += retry_integrity_tag(VERSIONS[1], dcid, datagram)
        elif number % 4 == 2:
            datagram = bytes((0x80 | number,)) + (1).to_bytes(4) + bytes((len(scid),)) + scid + payload
        else:
            datagram = payload
        if datagram:
            endpoint.receive(Train(datagram, len(datagram), TO_SERVER), 100.0)
        sound(connection)
        drain(endpoint, 100.0)


class Ready(Protocol):
    """What looks at a connection that has changed."""

    def ready(self, connection: Connection) -> None: ...


class Web:
    """A side under test with its application, and a QUIC connection opposite, raw unless it has one too."""

    def __init__(self, *, server: bool, application: Ready | None = None, opposite: Ready | None = None) -> None:
        self.now = 1000.0
        self.application = application or Http3()
        self.opposite = opposite
        settings = configurations(alpn_protocols=("h3",))
        self.endpoints = tuple(
            Endpoint(settings[side], environment=self._environment(side), server=bool(side)) for side in (0, 1)
        )
        self.endpoints[0].connect(Path(TO_SERVER.remote, TO_CLIENT.remote), self.now)
        self.under_test = int(server)
        self.exchange()
        self.ours, self.puppet = (
            next(iter(self.endpoints[side].connections)) for side in (int(server), int(not server))
        )
        assert self.ours.handshake_complete and self.puppet.handshake_complete

    @staticmethod
    def _environment(seed: int) -> Environment:
        return Environment(random=Random(seed).randbytes, wall_time=lambda: VIRTUAL_EPOCH, simulation=True)

    def exchange(self, rounds: int = 6) -> None:
        for _ in range(rounds):
            self.now += 0.005
            for side, endpoint in enumerate(self.endpoints):
                endpoint.handle_timeout(self.now)
                there = (TO_SERVER.remote, TO_CLIENT.remote)[side], (TO_CLIENT.remote, TO_SERVER.remote)[side]
                for connection in endpoint.take_ready():
                    application = self.application if side == self.under_test else self.opposite
                    if application is not None:
                        application.ready(connection)
                    else:
                        connection.take_ready()
                while (train := endpoint.next_train(self.now)) is not None:
                    arriving = Train(train.data, train.segment_size, Path(there[1], there[0]))
                    self.endpoints[1 - side].receive(arriving, self.now)


def http3(data: bytes, *, server: bool) -> None:
    """Bytes on streams of any kind, and datagrams, for an HTTP/3 connection with WebTransport on."""
    web = Web(server=server)
    streams = []
    for number, payload in pieces(data)[:12]:
        with suppress(QuicstackError):
            if number % 8 < 2:
                streams.append(web.puppet.open_stream(unidirectional=number % 8 == 1))
                streams[-1].write(payload, fin=bool(number & 64))
            elif number % 8 < 5:
                known = streams + [one for one in web.puppet._state.streams.streams.values() if one not in streams]
                stream = known[number // 8 % len(known)] if known else web.puppet.open_stream()
                if stream.can_send:
                    stream.write(payload, fin=bool(number & 128))
            elif number % 8 == 5:
                web.puppet.send_datagram(payload[:1000])
            elif streams:
                stream = streams[number // 8 % len(streams)]
                if number % 8 == 6 and stream.can_send:
                    stream.reset(len(payload), number % 5)
                elif stream.can_receive:
                    stream.stop_sending(len(payload))
        web.exchange()
        sound(web.ours, web.puppet)


def h3_server(data: bytes) -> None:
    http3(data, server=True)


def h3_client(data: bytes) -> None:
    http3(data, server=False)


_ALL: tuple[Callable[[bytes], None], ...] = (
    server_one_rtt,
    client_one_rtt,
    server_initial,
    client_hello,
    server_flight,
    server_hello,
    encrypted_flight,
    server_datagrams,
    client_datagrams,
    h3_server,
    h3_client,
)
CONNECTIONS = {target.__name__: target for target in _ALL}
