"""The QUIC bit, which no packet needs (RFC 9287): who takes packets without it, and who sends them when."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from peer import (
    INITIAL,
    TO_SERVER,
    Pair,
    Peer,
    client_configuration,
    environment,
    long_packet,
    opens_long,
    server_configuration,
)

from quicstack.connection import handshake
from quicstack.endpoint import Endpoint
from quicstack.environment import Environment
from quicstack.errors import TransportErrorCode
from quicstack.train import Train
from quicstack.transport.crypto_stream import CryptoStream
from quicstack.transport.packet_protection import retry_integrity_tag
from quicstack.wire import frame as f
from quicstack.wire.packet import FIXED_BIT, LONG_HEADER, read_long_header, write_retry
from quicstack.wire.version import VERSIONS

WEEK = 604_800
HEADS = 1 << 64
"""As random bits: every one clears the bit that it decides on."""


def bits(trains: list[Train]) -> set[bool]:
    """The QUIC bits of all packets. No header protection hides them."""
    found = set()
    for train in trains:
        for datagram in train.datagrams():
            pos = 0
            while pos < len(datagram):
                found.add(bool(datagram[pos] & FIXED_BIT))
                if not datagram[pos] & LONG_HEADER:
                    break
                version = VERSIONS[int.from_bytes(datagram[pos + 1 : pos + 5], "big")]
                pos = read_long_header(datagram, pos, version).end
    return found


class World(Pair):
    """A pair whose random bits fall as the test wants, and whose client has a calendar."""

    def __init__(self, client: dict[str, object] | None = None, server: dict[str, object] | None = None) -> None:
        super().__init__(server=server)
        self.wall = 1_800_000_000.0
        env = Environment(random.Random(5).randbytes, lambda: self.wall, simulation=True)
        self.client_endpoint = Endpoint(
            client_configuration(groups=(0x1D,), **(client or {})), environment=env, server=False
        )
        self.connect()

    def connect(self, **settings: object) -> None:
        configuration = replace(self.client_endpoint.configuration, **settings)  # type: ignore[arg-type]
        self.client = self.client_endpoint.connect(TO_SERVER, self.now, configuration=configuration)

    def heads(self) -> None:
        for endpoint in (self.client_endpoint, self.server_endpoint):
            for connection in endpoint.connections:
                connection._state.coins = HEADS

    def round(self) -> tuple[set[bool], set[bool]]:
        """What client and server send, once each."""
        self.now += 0.03
        for endpoint in (self.client_endpoint, self.server_endpoint):
            endpoint.handle_timeout(self.now)
        self.heads()
        sent = self.from_client()
        self.to_server(sent)
        self.heads()
        answers = self.from_server()
        self.to_client(answers)
        return bits(sent), bits(answers)

    def finish(self) -> None:
        self.exchange()
        assert self.client.handshake_confirmed
        self.client.close(now=self.now)
        self.exchange()
        self.advance(10)


@pytest.mark.conformance("B01")
@pytest.mark.parametrize("value", [b"", b"\x00"], ids=["empty", "one byte"])
def test_the_parameter_has_no_value(value: bytes) -> None:
    """§3."""
    pair = Pair(client={"grease": False})
    state = pair.client._state
    state.local_parameters.reserved[0x2AB2] = value
    state.spaces[INITIAL].crypto = CryptoStream()
    handshake.start(state, pair.now)
    pair.to_server(pair.from_client())
    frames = [frame for train in pair.from_server() for _, found in opens_long(state, train.data) for frame in found]
    codes = [frame.fields["error_code"] for frame in frames if frame.name == "CONNECTION_CLOSE"]
    assert codes == ([TransportErrorCode.TRANSPORT_PARAMETER_ERROR] if value else [])


@pytest.mark.conformance("B02")
@pytest.mark.parametrize("greases", [True, False])
def test_packets_without_the_bit(greases: bool) -> None:
    """§3: taken from the first Initial on by those who have said so, and by nobody else (RFC 9000 §17.2)."""
    pair = World(client={"grease": greases}, server={"grease": greases})
    pair.client._state.may_clear_quic_bit = True
    sent, _ = pair.round()
    assert sent == {False}
    assert bool(pair.server_endpoint.counters.connections_accepted) == greases
    if greases:
        for _ in range(8):
            pair.round()
        assert pair.client.handshake_confirmed and pair.server.handshake_confirmed
        stream = pair.client.open_stream()
        stream.write(b"without", fin=True)
        assert pair.round()[0] == {False}
        received = pair.server.stream(0)
        assert received is not None and received.read() == b"without"


@pytest.mark.conformance("B02")
@pytest.mark.parametrize("plays", ["client", "server"])
@pytest.mark.parametrize("greases", [True, False])
def test_short_headers_without_the_bit(plays: str, greases: bool) -> None:
    peer = Peer(plays, grease=greases)
    datagram, _ = peer.packet(f.write_datagram(b"taken"), first_byte=0)
    peer.delivers(datagram)
    assert peer.engine.receive_datagram() == (b"taken" if greases else None)
    datagram, _ = peer.packet(b"\x01", first_byte=0x08)
    peer.delivers(datagram)  # the reserved bits are another matter
    assert peer.closed_with() == (TransportErrorCode.PROTOCOL_VIOLATION if greases else None)


@pytest.mark.conformance("B02")
@pytest.mark.parametrize("greases", [True, False])
def test_a_retry_without_the_bit(greases: bool) -> None:
    """§3.1 lets servers do that which have read the client's parameters."""
    pair = World(client={"grease": greases})
    pair.from_client()
    state = pair.client._state
    packet = write_retry(state.version, state.local_cids.first, b"retry me", b"token")
    packet = bytes([packet[0] & ~FIXED_BIT]) + packet[1:]
    datagram = packet + retry_integrity_tag(state.version, state.original_dcid, packet)
    pair.to_client([Train(datagram, len(datagram), TO_SERVER)])
    assert state.token == (b"token" if greases else b"")


@pytest.mark.conformance("B03")
def test_the_server_waits_for_the_parameters() -> None:
    """§3.1: what it sends before it has read them has the bit, whatever the client said in another connection."""
    pair = World()
    pair.finish()
    pair.connect()
    state = pair.client._state
    ping = long_packet(state, INITIAL, b"\x01", number=9, pad_to=1200)
    pair.to_server([Train(ping, len(ping), TO_SERVER)])
    pair.heads()
    early = pair.from_server()
    assert early and bits(early) == {True}
    _, answers = pair.round()
    assert answers == {False}


@pytest.mark.conformance("B03")
def test_the_server_does_not_remember() -> None:
    """§3.1: a client that has said it once does not say it any more."""
    pair = World()
    pair.finish()
    pair.connect(grease=False)
    assert pair.client._state.token
    for _ in range(6):
        _, answers = pair.round()
        assert answers <= {True}
    assert pair.client.handshake_confirmed


@pytest.mark.conformance("B04")
@pytest.mark.parametrize(
    ("how", "clears"),
    [
        ("a token of yesterday", True),
        ("a token of last week", False),
        ("a token from a server that did not say so", False),
        ("no token", False),
        ("another version", False),
        ("a Retry", False),
        ("not any more", False),
    ],
)
def test_the_client_and_its_token(how: str, clears: bool) -> None:
    """§3.1: before it has the server's parameters, only a token says that the server takes such packets."""
    servers = {"a token from a server that did not say so": {"grease": False}, "a Retry": {"retry": "always"}}
    versions = (1, 0x6B3343CF) if how == "another version" else (1,)
    pair = World(client={"versions": versions}, server=servers.get(how))
    if how != "no token":
        pair.finish()
    pair.wall += WEEK if how == "a token of last week" else WEEK - 1
    pair.connect(grease=how != "not any more", versions=versions[::-1])
    if how == "a Retry":
        pair.client._state.token = b""
        pair.to_server(pair.from_client())
        (retry,) = pair.from_server()
        pair.client._state.may_clear_quic_bit = True
        pair.to_client([retry])
    pair.heads()
    sent = pair.from_client()
    assert sent and bits(sent) == {not clears}
    pair.to_server(sent)
    pair.exchange()
    assert pair.client.handshake_confirmed


@pytest.mark.conformance("B04")
def test_a_server_that_was_configured_anew() -> None:
    """§3.1: the token allowed it until the server's parameters came, which do not."""
    pair = World()
    pair.finish()
    settings = server_configuration(grease=False, token_key=bytes(32))
    pair.server_endpoint = Endpoint(settings, environment=environment(9), server=True)
    pair.connect()
    state = pair.client._state
    assert state.may_clear_quic_bit
    state.coins = 2 * HEADS - 1  # it happens to set the bit, so the server answers
    pair.to_server(pair.from_client())
    pair.to_client(pair.from_server())
    assert pair.client.handshake_complete
    assert pair.round()[0] == {True}


@pytest.mark.conformance("B04a")
@pytest.mark.parametrize("plays", ["client", "server"])
def test_a_peer_that_did_not_ask_for_it(plays: str) -> None:
    """§3.1: a thousand packets, handshake included, and in every one the bit is set."""
    other = "server" if plays == "client" else "client"
    pair = World(**{other: {"grease": False}})
    sent: set[bool] = set()
    for _ in range(5):
        from_client, from_server = pair.round()
        sent |= from_client if plays == "client" else from_server
    engine = pair.client if plays == "client" else pair.server
    assert engine.handshake_confirmed
    start = engine.stats().counters.packets_sent
    while engine.stats().counters.packets_sent - start < 1000:
        engine.ping()
        from_client, from_server = pair.round()
        sent |= from_client if plays == "client" else from_server
    assert sent == {True}


def test_the_bit_is_unpredictable() -> None:
    """§3.1: towards a peer that agrees about half of the trains have it."""
    pair = Pair()
    pair.exchange()
    counts = [0, 0]
    for _ in range(400):
        pair.client.ping()
        pair.now += 0.03
        for train in pair.from_client():
            counts[bool(train.data[0] & FIXED_BIT)] += 1
            pair.to_server([train])
        pair.to_client(pair.from_server())
    assert counts[0] > 120 and counts[1] > 120
