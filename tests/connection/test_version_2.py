"""QUIC version 2 on the wire (RFC 9369), and what a server says after it refused a version (RFC 9368)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from peer import HANDSHAKE, TO_CLIENT, TO_SERVER, Pair, long_packet

from quicstack.connection import handshake
from quicstack.errors import ConnectionClosed, TransportErrorCode
from quicstack.train import Train
from quicstack.wire.packet import read_long_header, write_long_header
from quicstack.wire.transport_parameters import TransportParameters
from quicstack.wire.version import QUIC_V1, QUIC_V2, VERSIONS, PacketType

V2 = bytes.fromhex("6b3343cf")


def pair_of(version: int = QUIC_V2, **server: object) -> Pair:
    return Pair(client={"versions": (version,)}, server={"versions": (version,), **server})


def wire_types(trains: list[Train], version: int = QUIC_V2) -> set[tuple[bytes, int]]:
    """Version field, and the two bits of the type, of every long header."""
    found = set()
    for train in trains:
        pos = 0
        while pos < len(train.data) and train.data[pos] & 0x80:
            found.add((train.data[pos + 1 : pos + 5], train.data[pos] >> 4 & 3))
            pos = read_long_header(train.data, pos, VERSIONS[version]).end
    return found


@pytest.mark.conformance("V2-01", "V2-02")
def test_long_headers() -> None:
    """RFC 9369 §3.1, §3.2: Retry 0, Initial 1, 0-RTT 2, Handshake 3."""
    pair = pair_of(retry="always")
    first = pair.from_client()
    assert wire_types(first) == {(V2, 1)}
    pair.to_server(first)
    retry = pair.from_server()
    assert wire_types(retry) == {(V2, 0)}
    pair.to_client(retry)
    again = pair.from_client()
    assert wire_types(again) == {(V2, 1)}
    pair.to_server(again)
    flight = pair.from_server()
    assert wire_types(flight) == {(V2, 1), (V2, 3)}
    pair.to_client(flight)
    assert wire_types(pair.from_client()) == {(V2, 1), (V2, 3)}
    zero_rtt = write_long_header(VERSIONS[QUIC_V2], PacketType.ZERO_RTT, b"", b"", b"", 0, 0, 1)
    assert (zero_rtt[0] >> 4 & 3, zero_rtt[1:5]) == (2, V2)


@pytest.mark.conformance("V2-08")
@pytest.mark.parametrize("to", ["client", "server"])
@pytest.mark.parametrize("negotiated", [QUIC_V1, QUIC_V2])
def test_a_handshake_packet_of_another_version(to: str, negotiated: int) -> None:
    """RFC 9369 §4.1: dropped, although its keys are right; the same packet of the right version closes."""
    other = QUIC_V1 if negotiated == QUIC_V2 else QUIC_V2
    both = (negotiated, other)
    for version, closes in ((other, False), (negotiated, True)):
        pair = Pair(client={"versions": both[::-1]}, server={"versions": both})
        pair.to_server(pair.from_client())
        pair.to_client(pair.from_server())
        assert pair.client.version == negotiated
        source, target = (pair.client, pair.server) if to == "server" else (pair.server, pair.client)
        state = source._state
        state.version = VERSIONS[version]
        datagram = long_packet(state, HANDSHAKE, b"\x3f", number=40)
        state.version = VERSIONS[negotiated]
        if to == "server":
            pair.to_server([Train(datagram, len(datagram), TO_CLIENT)])
        else:
            pair.to_client([Train(datagram, len(datagram), TO_SERVER)])
        assert (target.closed is not None) == closes


@pytest.mark.parametrize(
    ("client", "server", "says", "code"),
    [
        pytest.param(
            (QUIC_V2, QUIC_V1),
            (QUIC_V1,),
            None,
            None,
            marks=pytest.mark.conformance("V05"),
            id="nothing, in version 1: that is {1}",
        ),
        pytest.param(
            (QUIC_V1, QUIC_V2),
            (QUIC_V2,),
            None,
            TransportErrorCode.VERSION_NEGOTIATION_ERROR,
            marks=pytest.mark.conformance("V05"),
            id="nothing, in version 2",
        ),
        pytest.param(
            (QUIC_V2, QUIC_V1),
            (QUIC_V1,),
            (QUIC_V1,),
            TransportErrorCode.VERSION_NEGOTIATION_ERROR,
            marks=pytest.mark.conformance("V05"),
            id="an empty list, in version 1",
        ),
        pytest.param(
            (QUIC_V1, QUIC_V2),
            (QUIC_V2,),
            (QUIC_V2,),
            TransportErrorCode.VERSION_NEGOTIATION_ERROR,
            marks=pytest.mark.conformance("V05"),
            id="an empty list, in version 2",
        ),
        pytest.param(
            (QUIC_V1, QUIC_V2),
            (QUIC_V2,),
            (QUIC_V2, QUIC_V2, 0x1A2A3A4A),
            None,
            id="what it speaks, and a reserved one",
        ),
    ],
)
def test_what_a_server_says_that_refused_a_version(
    client: tuple[int, ...],
    server: tuple[int, ...],
    says: tuple[int, ...] | None,
    code: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """RFC 9368 §4, §8."""
    pair = Pair(client={"versions": client}, server={"versions": server})
    real = handshake.write_transport_parameters

    def written(parameters: TransportParameters) -> bytes:
        is_server = parameters.original_destination_connection_id is not None
        return real(replace(parameters, version_information=says) if is_server else parameters)

    monkeypatch.setattr(handshake, "write_transport_parameters", written)
    pair.exchange()
    assert pair.client.version == server[0]
    if code is None:
        assert pair.client.handshake_confirmed and pair.client.closed is None
    else:
        for connection in (pair.client, pair.server):  # the server has read it
            assert isinstance(connection.closed, ConnectionClosed) and connection.closed.code == code


def test_a_reserved_version_is_announced() -> None:
    """RFC 9000 §15: so that peers keep ignoring what they do not know; `grease` switches it off."""
    for grease in (True, False):
        pair = Pair(client={"grease": grease}, server={"grease": grease})
        pair.exchange()
        for connection in (pair.client, pair.server):
            parameters = connection.peer_transport_parameters
            assert parameters is not None and parameters.version_information is not None
            reserved = [version for version in parameters.version_information if version & 0x0F0F0F0F == 0x0A0A0A0A]
            assert len(reserved) == grease
