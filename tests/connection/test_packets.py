"""Packets in datagrams, numbers on packets, frames in packets, and what comes of bad ones (RFC 9000 §12, §14.1)."""

from __future__ import annotations

import pytest
from peer import HANDSHAKE, INITIAL, ONE_RTT, TO_CLIENT, TO_SERVER, Pair, Peer, long_packet
from scene import CLOSE, SCENES, Scene
from wire import Listener

from quicstack.errors import TransportErrorCode
from quicstack.train import Train
from quicstack.wire import frame as f
from quicstack.wire.packet import read_long_header
from quicstack.wire.version import VERSIONS

E = TransportErrorCode

# -- coalesced packets (§12.2) -------------------------------------------------------------------------------------


@pytest.mark.conformance("T83")
@pytest.mark.parametrize("garbage", ["does not open", "of another version", "0-RTT"])
def test_a_packet_behind_garbage(garbage: str) -> None:
    """§12.2: the handshake goes on with the rest of the datagram."""
    pair = Pair()
    pair.to_server(pair.from_client())
    (flight,) = pair.from_server()
    initial_end = read_long_header(flight.data, 0, VERSIONS[1]).end
    pair.to_client([Train(flight.data[:initial_end], initial_end, TO_SERVER)])
    assert not pair.client.handshake_complete
    bad = bytearray(long_packet(pair.server._state, HANDSHAKE, b"\x01", number=30))
    if garbage == "does not open":
        bad[-1] ^= 1
    elif garbage == "of another version":
        bad[1:5] = (0x6B3343CF).to_bytes(4, "big")
    else:
        bad[0] = bad[0] & 0xCF | 0x10
    datagram = bytes(bad) + flight.data[initial_end:]
    pair.to_client([Train(datagram, len(datagram), TO_SERVER)])
    assert pair.client.handshake_complete
    pair.exchange()
    assert pair.server.handshake_confirmed


@pytest.mark.conformance("T83")
@SCENES
def test_a_packet_for_another_connection_id_behind_the_first(to: str, space: int) -> None:
    """§12.2: discarded, although its keys are right."""
    scene = Scene(to, space)
    first = long_packet(scene.script, space, b"\x01", number=30, pad_to=100)
    scene.delivers(first + scene.sealed(CLOSE, dcid=b"somebody"))
    scene.still_works()


@pytest.mark.conformance("T83")
def test_a_short_packet_for_another_connection_id_behind_a_long_one() -> None:
    """§12.2: even when both IDs are ours."""
    peer = Peer()
    cids = list(peer.engine._state.local_cids.active.values())
    datagram, _ = peer.packet(f.write_datagram(b"heard"))
    for cid, heard in ((cids[1], None), (cids[0], b"heard")):
        first = b"\xe0\x00\x00\x00\x01\x08" + cid + b"\x08" + bytes(8) + b"\x20" + bytes(32)
        peer.delivers(first + datagram)
        assert peer.engine.receive_datagram() == heard


@pytest.mark.conformance("T84")
@SCENES
def test_a_length_beyond_the_end_of_the_datagram(to: str, space: int) -> None:
    """§12.2: the packet is discarded, even if it would open; the one before it is not."""
    scene = Scene(to, space)
    first = long_packet(scene.script, space, b"\x01", number=30, pad_to=100)
    datagram = first + scene.sealed(CLOSE, longer=1)
    assert len(datagram) >= 1200
    scene.delivers(datagram)
    sent = scene.endpoint.next_train(scene.pair.now)
    assert sent is not None
    acks = [ranges for packet in scene.listener.reads([sent]) for ranges in packet.acks]
    assert (30, 30) in acks[0] and (40, 40) not in acks[0]
    scene.still_works()


# -- packet numbers (§12.3) ----------------------------------------------------------------------------------------


@pytest.mark.conformance("T85")
def test_a_replayed_packet_has_no_effect() -> None:
    """§12.3: nothing is delivered, acknowledged or answered a second time."""
    peer = Peer()
    peer.hears(ack=True)
    datagram, _ = peer.packet(f.write_datagram(b"once"), b"\x1a12345678")
    peer.delivers(datagram)
    assert {"PATH_RESPONSE", "ACK_ECN"} <= {frame.name for frame in peer.hears(ack=True)}
    for _ in range(3):
        peer.delivers(datagram)
    assert peer.advance(5) == []
    assert peer.engine.receive_datagram() == b"once" and peer.engine.receive_datagram() is None


@pytest.mark.conformance("T85")
def test_packet_numbers_rise_and_never_come_again() -> None:
    """§12.3: in each space, with losses and probes in between."""
    pair = Pair()
    client, server = Listener(pair.client), None
    numbers: dict[tuple[str, str], list[int]] = {}
    for step in range(60):
        sent, back = pair.from_client(), pair.from_server()
        if step % 7 not in (1, 2):
            pair.to_server(sent)
            pair.to_client(back)
        server = server or (Listener(pair.server) if pair.server_endpoint.connections else None)
        for who, listener, trains in (("client", client, sent), ("server", server, back)):
            for packet in listener.reads(trains) if listener is not None else ():
                numbers.setdefault((who, packet.level), []).append(packet.number)
        if pair.client.handshake_complete and step % 5 == 0:
            pair.client.open_stream().write(bytes(3000))
        pair.now += 0.05
        pair.client_endpoint.handle_timeout(pair.now)
        pair.server_endpoint.handle_timeout(pair.now)
    assert len(numbers) == 6 and len(numbers["client", "1RTT"]) > 20
    for found in numbers.values():
        assert found == sorted(set(found))


@pytest.mark.conformance("T86")
@pytest.mark.parametrize("closing", [False, True])
def test_the_end_of_the_packet_numbers(closing: bool) -> None:
    """§12.3: sending stops before 2^62-1, without a CONNECTION_CLOSE."""
    peer = Peer()
    space = peer.engine._state.spaces[ONE_RTT]
    space.next_packet_number = (1 << 62) - 200
    space.largest_acked = space.next_packet_number - 1
    listener = Listener(peer.engine)
    listener.expects(space.next_packet_number)
    numbers = []
    for _ in range(300):
        if not peer.engine.closed:
            peer.engine.ping()
        elif not peer.engine.terminated:
            peer.sends(b"\x01")
        peer.pair.now += 0.001
        train = peer.endpoint.next_train(peer.now)
        packets = listener.reads([train] if train is not None else [])
        numbers += [packet.number for packet in packets]
        assert closing or not any(packet.closes for packet in packets)
        if closing and len(numbers) == 20:
            peer.engine.close(1, now=peer.now)
            peer.engine._state.spaces[ONE_RTT].next_packet_number = (1 << 62) - 3
    assert len(numbers) >= 20 and numbers[0] >= (1 << 62) - 200 and numbers[-1] < (1 << 62) - 1
    assert peer.engine.terminated and peer.engine.closed is not None


# -- frames in packets (§12.4, §12.5) ------------------------------------------------------------------------------


@pytest.mark.conformance("T87")
@SCENES
def test_a_long_packet_without_frames(to: str, space: int) -> None:
    """§12.4."""
    scene = Scene(to, space)
    scene.delivers(scene.sealed(b""))
    assert scene.answer() == [(0x1C, E.PROTOCOL_VIOLATION)]


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        pytest.param(b"", E.PROTOCOL_VIOLATION, marks=pytest.mark.conformance("T87"), id="no frame"),
        pytest.param(b"\x1f", 0, id="IMMEDIATE_ACK is known"),
        pytest.param(b"\x20", E.FRAME_ENCODING_ERROR, marks=pytest.mark.conformance("T88"), id="type 0x20"),
        pytest.param(b"\x52\x34", E.FRAME_ENCODING_ERROR, marks=pytest.mark.conformance("T88"), id="two bytes"),
        pytest.param(b"\xff" * 8, E.FRAME_ENCODING_ERROR, marks=pytest.mark.conformance("T88"), id="eight bytes"),
        pytest.param(b"\x40\x01", E.PROTOCOL_VIOLATION, marks=pytest.mark.conformance("T90"), id="PING in two bytes"),
        pytest.param(b"\x80\0\0\x0a\0\1x", E.PROTOCOL_VIOLATION, marks=pytest.mark.conformance("T90"), id="STREAM"),
    ],
)
def test_what_a_packet_must_not_hold(payload: bytes, code: int) -> None:
    """§12.4."""
    peer = Peer()
    peer.sends(payload)
    assert peer.closed_with() == (code or None)


@pytest.mark.conformance("T88")
@SCENES
def test_an_unknown_frame_in_the_handshake(to: str, space: int) -> None:
    """§12.4: the same in every packet."""
    scene = Scene(to, space)
    scene.delivers(scene.sealed(b"\x3f"))
    assert scene.answer() == [(0x1C, E.FRAME_ENCODING_ERROR)]


HANDSHAKE_FRAMES = {f.PADDING, f.PING, f.ACK, f.ACK_ECN, f.CRYPTO, f.CONNECTION_CLOSE}


@pytest.mark.conformance("T89", "T91", "T115")
@pytest.mark.parametrize("kind", sorted(set(f.FRAMES) - HANDSHAKE_FRAMES), ids=lambda kind: f"{kind:#04x}")
@SCENES
def test_frames_that_the_handshake_does_not_know(to: str, space: int, kind: int) -> None:
    """§12.4, Table 3; §17.2.2, §17.2.4: whatever stands behind the type."""
    scene = Scene(to, space)
    scene.delivers(scene.sealed(bytes((kind,)) + bytes(60) if kind < 0x40 else f.write_ack_frequency(0, 1, 25_000, 1)))
    assert scene.answer() == [(0x1C, E.PROTOCOL_VIOLATION)]
    assert scene.target.stream(0) is None


@pytest.mark.conformance("T93")
@pytest.mark.parametrize("bad", [b"\x3f", b"\x0a\x03\x01x", b"\x06\x80\xff\xff\xff\x01x"])
def test_a_packet_that_fails_is_never_acknowledged(bad: bytes) -> None:
    """§13.1: not even by what goes out with the CONNECTION_CLOSE."""
    peer = Peer()
    peer.hears(ack=True)
    number = peer.sends(b"\x01", bad)
    heard = peer.hears()
    assert [frame.name for frame in heard if frame.name.startswith("CONNECTION_CLOSE")]
    assert not any(frame.name.startswith("ACK") for frame in heard)
    assert peer.engine._state.spaces[ONE_RTT].acks.largest < number


@pytest.mark.conformance("T93")
def test_a_packet_that_waits_for_its_keys_is_not_acknowledged() -> None:
    """§13.1: a server takes no 1-RTT packet before the client's Finished, and does not say that it has one."""
    pair = Pair()
    pair.to_server(pair.from_client())
    pair.to_client(pair.from_server())
    listener = Listener(pair.server)
    (finished,) = pair.from_client()
    space = pair.client._state.spaces[ONE_RTT]
    assert space.seal_keys is not None
    header = b"\x43" + pair.client._state.peer_cids.current.cid + (33).to_bytes(4, "big")
    early = space.seal_keys.seal(header, 4, 33, b"\x01" * 8)
    pair.to_server([Train(early, len(early), TO_CLIENT)])
    pair.now += 0.5
    pair.server_endpoint.handle_timeout(pair.now)
    assert not [packet for packet in listener.reads(pair.from_server()) if packet.level == "1RTT" and packet.acks]
    pair.to_server([finished])
    acks = [packet.acks[0] for packet in listener.reads(pair.from_server()) if packet.level == "1RTT" and packet.acks]
    assert acks[0][0] == (33, 33)


# -- sizes (§14.1) -------------------------------------------------------------------------------------------------


@pytest.mark.conformance("T104")
def test_an_initial_in_a_datagram_of_1199_bytes() -> None:
    """§14.1: neither an answer nor a connection; one byte more and there are both."""
    for size in (1199, 1200):
        pair = Pair()
        pair.from_client()
        data = bytes(pair.client._state.spaces[0].crypto.outgoing.get(0, 300))
        packet = long_packet(pair.client._state, INITIAL, f.write_crypto(0, data), number=9, pad_to=size)
        assert len(packet) == size
        pair.to_server([Train(packet, size, TO_CLIENT)])
        assert len(pair.from_server()) == len(pair.server_endpoint.connections) == (size == 1200)
        assert pair.server_endpoint.counters.datagrams_dropped == (size < 1200)


@pytest.mark.conformance("T104")
def test_a_small_initial_in_a_connection() -> None:
    """§14.1: no answer either."""
    scene = Scene("server", INITIAL)
    packet = long_packet(scene.script, INITIAL, CLOSE, number=41, pad_to=1199)
    scene.endpoint.receive(Train(packet, len(packet), TO_CLIENT), scene.pair.now)
    assert scene.endpoint.next_train(scene.pair.now) is None
    scene.still_works()


@pytest.mark.conformance("T105")
def test_a_server_fills_datagrams_with_initials_that_ask_for_an_answer() -> None:
    """§14.1: the first flight and every repetition."""
    pair = Pair()
    pair.to_server(pair.from_client())
    listener = Listener(pair.server)
    sizes = []
    for _ in range(6):
        for packet in listener.reads(pair.from_server()):
            if packet.level == "initial" and packet.named("CRYPTO"):
                sizes.append(packet.datagram)
        if (deadline := pair.server_endpoint.next_timeout()) is not None:
            pair.now = max(pair.now, deadline)
            pair.server_endpoint.handle_timeout(pair.now)
    assert len(sizes) >= 2 and min(sizes) >= 1200
