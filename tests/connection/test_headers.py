"""Headers of packets, bit by bit (RFC 9000 §17)."""

from __future__ import annotations

import pytest
from peer import INITIAL, TO_SERVER, Pair, Peer
from scene import CLOSE, SCENES, Scene
from wire import Listener

from quicstack.errors import TransportErrorCode
from quicstack.train import Train
from quicstack.transport.packet_protection import retry_integrity_tag
from quicstack.wire.packet import write_retry
from quicstack.wire.version import VERSIONS

E = TransportErrorCode

# -- bits of the first byte (§17.2, §17.3) --------------------------------------------------------------------------


@pytest.mark.conformance("T110")
@SCENES
def test_a_long_packet_without_the_fixed_bit(to: str, space: int) -> None:
    """§17.2: discarded, although it would open, unless it was said that the bit is free (RFC 9287)."""
    scene = Scene(to, space, grease=False)
    scene.delivers(scene.sealed(CLOSE, bits=0x40))
    scene.still_works()


@pytest.mark.conformance("T110")
def test_a_short_packet_without_the_fixed_bit() -> None:
    """§17.3.1: neither acknowledged nor obeyed."""
    peer = Peer(grease=False)
    peer.hears(ack=True)
    peer.delivers(peer.packet(b"\x01", CLOSE, first_byte=0x00)[0])
    assert peer.engine.closed is None and peer.advance(1) == []


@pytest.mark.conformance("T111")
@pytest.mark.parametrize("bits", [0x04, 0x08, 0x0C])
@SCENES
def test_reserved_bits_of_a_long_header(to: str, space: int, bits: int) -> None:
    """§17.2."""
    scene = Scene(to, space)
    scene.delivers(scene.sealed(b"\x01", bits=bits))
    assert scene.answer() == [(0x1C, E.PROTOCOL_VIOLATION)]


@pytest.mark.conformance("T112")
@SCENES
def test_reserved_bits_of_a_forged_long_header(to: str, space: int) -> None:
    """§17.2: looked at only once the packet is known to be the peer's."""
    scene = Scene(to, space)
    packet = bytearray(scene.sealed(b"\x01", bits=0x0C))
    packet[-1] ^= 1
    scene.delivers(bytes(packet))
    assert scene.answer() == []
    scene.still_works()


@pytest.mark.conformance("T112")
def test_reserved_bits_of_a_forged_short_header() -> None:
    """§17.3.1."""
    peer = Peer()
    peer.hears(ack=True)
    packet, _ = peer.packet(b"\x01", first_byte=0x58)
    peer.delivers(packet[:-1] + bytes([packet[-1] ^ 1]))
    assert peer.engine.closed is None and peer.advance(1) == []


@pytest.mark.conformance("T113")
def test_a_token_in_an_initial_of_the_server() -> None:
    """§17.2.2: discarded."""
    scene = Scene("client", INITIAL)
    scene.delivers(scene.sealed(CLOSE, token=b"token"))
    scene.still_works()


def _retry_that_changes_nothing(pair: Pair) -> None:
    state = pair.client._state
    packet = write_retry(VERSIONS[1], state.local_cids.first, state.original_dcid, b"a token")
    retry = packet + retry_integrity_tag(VERSIONS[1], state.original_dcid, packet)
    pair.to_client([Train(retry, len(retry), TO_SERVER)])


@pytest.mark.conformance("T116")
def test_a_retry_that_chooses_the_connection_id_that_the_client_chose() -> None:
    """§17.2.5.1: no second Initial, and the handshake goes on with the first."""
    pair = Pair()
    first = pair.from_client()
    _retry_that_changes_nothing(pair)
    assert pair.from_client() == []
    pair.to_server(first)
    pair.exchange()
    assert pair.client.handshake_confirmed


# -- packet numbers on the wire (§17.1) ----------------------------------------------------------------------------


@pytest.mark.conformance("T109a")
def test_packet_numbers_are_whole_before_the_first_acknowledgement() -> None:
    """§17.1: with nothing acknowledged, the receiver may know of no packet of the space."""
    pair = Pair()
    pair.to_server(pair.from_client())
    pair.to_client(pair.from_server())
    pair.to_server(pair.from_client())
    listener = Listener(pair.server)
    numbers, wire = [], []
    for _ in range(330):
        pair.server.ping()
        pair.now += 0.001
        for packet in listener.reads(pair.from_server()):
            if packet.level == "1RTT":
                numbers.append(packet.number)
                wire.append(int.from_bytes(packet.header[-packet.pn_length :], "big"))
    assert numbers[-1] > 300 and wire == numbers
