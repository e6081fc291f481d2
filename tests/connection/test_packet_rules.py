"""Packets, acknowledgements and datagrams, rule by rule (RFC 9000 §12 to §14, §21.4; RFC 9221)."""

from __future__ import annotations

import pytest
from peer import ONE_RTT, TO_CLIENT, Pair, Peer, opens_long

from quicstack.errors import ConfigurationError, TransportErrorCode
from quicstack.train import Path, Train
from quicstack.wire import frame as f
from quicstack.wire.packet import read_long_header
from quicstack.wire.version import VERSIONS

E = TransportErrorCode


def stream(stream_id: int, data: bytes, offset: int = 0, fin: bool = False) -> bytes:
    return f.stream_header(stream_id, offset, len(data), fin) + data


def train(datagram: bytes, path: Path = TO_CLIENT, ecn: int = 0) -> Train:
    return Train(datagram, len(datagram), path, ecn)


def named(peer: Peer, name: str) -> list[dict[str, object]]:
    return [frame.fields for frame in peer.hears() if frame.name == name]


def data(peer: Peer) -> dict[object, int]:
    """Bytes heard of each stream."""
    found: dict[object, int] = {}
    for frame in peer.hears():
        if frame.name == "STREAM":
            payload = frame.fields["data"]
            assert isinstance(payload, bytes | bytearray)
            found[frame.fields["stream_id"]] = found.get(frame.fields["stream_id"], 0) + len(payload)
    return found


# -- packets and acknowledgements (§12, §13) -----------------------------------------------------------------------


def test_a_replayed_packet() -> None:
    """§12.3."""
    peer = Peer()
    datagram, _ = peer.packet(f.write_datagram(b"once"))
    for _ in range(3):
        peer.delivers(datagram)
    assert peer.engine.receive_datagram() == b"once"
    assert peer.engine.receive_datagram() is None
    assert peer.engine.stats().counters.packets_duplicate == 2


def test_a_packet_that_fails_is_not_acknowledged() -> None:
    """§13.1."""
    peer = Peer()
    peer.hears(ack=True)
    before = peer.engine._state.spaces[ONE_RTT].acks.largest
    peer.sends(b"\x01", b"\x3f")
    assert peer.engine._state.spaces[ONE_RTT].acks.largest == before


def test_acknowledgements_of_acknowledgements() -> None:
    """§13.2.1: two peers go quiet."""
    pair = Pair()
    pair.exchange(rounds=50)
    for _ in range(20):
        pair.now += 0.05
        for endpoint in (pair.client_endpoint, pair.server_endpoint):
            endpoint.handle_timeout(pair.now)
            assert endpoint.next_train(pair.now) is None


def test_one_packet_waits_two_do_not() -> None:
    """§13.2.1, §13.2.2."""
    peer = Peer()
    peer.hears(ack=True)
    peer.sends(b"\x01")
    assert peer.endpoint.next_train(peer.now) is None
    assert any(frame.name.startswith("ACK") for frame in peer.advance(0.026))
    peer.sends(b"\x01")
    peer.sends(b"\x01")
    assert peer.endpoint.next_train(peer.now) is not None


@pytest.mark.parametrize("what", ["gap", "late", "CE"])
def test_acknowledged_at_once(what: str) -> None:
    """§13.2.1: what tells of loss or congestion."""
    peer = Peer()
    peer.hears(ack=True)
    if what == "late":
        late, _ = peer.packet(b"\x01")
        peer.sends(b"\x01")
        peer.hears()
        peer.delivers(late)
    elif what == "gap":
        peer.packet(b"\x01")
        peer.sends(b"\x01")
    else:
        peer.sends(b"\x01", ecn=3)
    assert peer.endpoint.next_train(peer.now) is not None


def test_ecn_counts_are_reported() -> None:
    """§13.4.1: once for each packet, not for duplicates."""
    peer = Peer()
    peer.hears(ack=True)
    before = list(peer.engine._state.spaces[ONE_RTT].acks.ecn)
    datagram, _ = peer.packet(b"\x01")
    peer.delivers(datagram, ecn=2)
    peer.delivers(datagram, ecn=2)
    peer.sends(b"\x01", ecn=3)
    (ack,) = named(peer, "ACK_ECN")
    assert ack["ecn"] == (before[0] + 1, before[1], before[2] + 1)


@pytest.mark.attack("aioquic #549")
def test_every_second_packet_number() -> None:
    """§13.2.3: ranges are forgotten, the lowest first, and the frame fits a packet."""
    peer = Peer()
    for _ in range(2000):
        peer.packet(b"\x01")
        peer.sends(b"\x01")
        peer.pair.now += 0.001
        while (sent := peer.endpoint.next_train(peer.now)) is not None:
            assert all(len(datagram) <= 1200 for datagram in sent.datagrams())
    assert len(peer.engine._state.spaces[ONE_RTT].acks._ranges) <= 256
    assert peer.engine.closed is None


def test_the_wait_for_keys_is_part_of_the_ack_delay() -> None:
    """§13.2.5."""
    pair = Pair()
    pair.to_server(pair.from_client())
    trains = pair.from_server()
    header = read_long_header(trains[0].data, 0, VERSIONS[1])
    pair.to_client([train(trains[0].data[header.end :])])
    pair.now += 0.2
    pair.to_client([train(trains[0].data[: header.end])])
    acks = [frame.fields["ack_delay"] for sent in pair.from_client()
            for kind, frames in opens_long(pair.server._state, sent.data) if kind == 2
            for frame in frames if frame.name.startswith("ACK")]  # fmt: skip
    assert acks and acks[0] == int(0.2 * 1e6) >> 3


def test_a_peer_that_acknowledges_nothing_is_asked() -> None:
    """§13.2.4: so that ACK ranges can be forgotten, and not in every packet."""
    peer = Peer()
    kinds = []
    for _ in range(300):
        peer.sends(b"\x01", b"\x01")
        peer.sends(b"\x01")
        kinds += [frame.name for frame in peer.hears()]
    assert 1 <= kinds.count("PING") <= 10


@pytest.mark.conformance("T108")
def test_varints_may_be_longer_than_they_need() -> None:
    """§16: everywhere but in frame types."""
    peer = Peer()
    peer.sends(b"\x0a\x40\x00\x80\x00\x00\x02hi")
    received = peer.engine.stream(0)
    assert received is not None and received.read() == b"hi"


@pytest.mark.attack("c: short packet for HP sample")
@pytest.mark.conformance("C16")
@pytest.mark.parametrize(("size", "opens"), [(2, False), (3, True)])
def test_packets_too_short_for_a_sample(size: int, opens: bool) -> None:
    """RFC 9001 §5.4.2: 19 bytes behind the connection ID are dropped, 20 are processed."""
    peer = Peer()
    space = peer.state.spaces[ONE_RTT]
    number = space.next_packet_number
    assert space.seal_keys is not None
    header = b"\x40" + peer.state.peer_cids.current.cid + bytes([number])
    body = space.seal_keys._seal((space.seal_keys.iv ^ number).to_bytes(12, "big"), b"\x01" * size, header)
    sample = body[3:19].ljust(16, b"\0")
    mask = space.seal_keys.masks(sample)
    peer.delivers(bytes([header[0] ^ mask[0] & 0x1F]) + header[1:-1] + bytes([number ^ mask[1]]) + body)
    assert (peer.engine._state.spaces[ONE_RTT].acks.largest == number) == opens
    assert peer.engine.closed is None


# -- packets -------------------------------------------------------------------------------------------------------


@pytest.mark.conformance("T106")
def test_packets_are_no_larger_than_the_peer_takes() -> None:
    """§14.2, §18.2: max_udp_payload_size limits us once we know it."""
    pair = Pair(client={"max_datagram_size": 1400}, server={"max_udp_payload_size": 1250, "max_datagram_size": 1400})
    pair.exchange()
    pair.client.open_stream().write(bytes(20_000))
    sizes = [len(datagram) for train in pair.from_client() for datagram in train.datagrams()]
    assert max(sizes) == 1250
    assert pair.client.stats().max_datagram_size == 1250
    pair.server.open_stream().write(bytes(20_000))
    assert max(len(datagram) for train in pair.from_server() for datagram in train.datagrams()) == 1400


def test_packet_numbers_are_left_out() -> None:
    """§21.4: an optimistic receiver acknowledges one that was never sent."""
    peer = Peer()
    space = peer.engine._state.spaces[ONE_RTT]
    for _ in range(600):
        peer.engine.ping()
        peer.hears(ack=True)
    assert space.skipped > 0
    assert space.skipped not in peer.received
    assert peer.engine.closed is None
    peer.sends(f.write_ack([(space.skipped - 3, space.next_packet_number - 1)], 0))
    assert peer.closed_with() == E.PROTOCOL_VIOLATION


@pytest.mark.conformance("C02")
def test_handshake_done_until_it_is_acknowledged() -> None:
    """RFC 9000 §13.3: lost with everything else, and sent again."""
    pair = Pair()
    pair.to_server(pair.from_client())
    pair.to_client(pair.from_server())
    pair.to_server(pair.from_client())
    pair.from_server()
    assert pair.server.handshake_confirmed and not pair.client.handshake_confirmed
    pair.now += 1.0
    pair.server_endpoint.handle_timeout(pair.now)
    pair.to_client(pair.from_server())
    assert pair.client.handshake_confirmed


def test_data_of_the_server_before_the_handshake_is_complete() -> None:
    """RFC 9001 §5.7: 0.5-RTT data goes in 1-RTT packets, behind the handshake; lost, it comes again."""
    pair = Pair()
    pair.to_server(pair.from_client())
    stream = pair.server.open_stream(unidirectional=True)
    stream.write(b"early", fin=True)
    lost = pair.from_server()
    assert any(not train.data[0] & 0x80 or len(train.data) > 1000 for train in lost)
    pair.advance(1.0)
    for _ in range(100):
        pair.exchange(rounds=1, delay=0.05)
    received = pair.client.stream(3)
    assert received is not None and received.read() == b"early" and received.at_end


def test_a_small_initial_is_dropped_within_a_connection_too() -> None:
    """§14.1: 1199 bytes."""
    pair = Pair()
    trains = pair.from_client()
    pair.to_server(trains[:1])
    before = pair.server.stats().counters.packets_dropped
    pair.now += 2
    pair.client_endpoint.handle_timeout(pair.now)
    (again, *_) = pair.from_client()
    assert opens_long(pair.server._state, again.data)
    header = again.data[:-20]
    pair.to_server([Train(header, len(header), TO_CLIENT)])
    assert pair.server.stats().counters.packets_dropped > before


def test_a_peer_without_room_is_not_asked_in_a_loop() -> None:
    """§13.2.1, §8.1: an ACK is due, the path has no room for it, and no deadline stays in the past."""
    peer = Peer()
    peer.hears(ack=True)
    path = peer.engine._state.path
    peer.sends(b"\x01")
    path.validated, path.bytes_received, path.bytes_sent = False, 0, 10_000
    peer.pair.now += 0.1
    for _ in range(3):
        peer.endpoint.handle_timeout(peer.now)
        assert peer.endpoint.next_train(peer.now) is None
    deadline = peer.endpoint.next_timeout()
    assert deadline is not None and deadline > peer.now


# -- datagrams (RFC 9221) ------------------------------------------------------------------------------------------


@pytest.mark.conformance("D04", "D07")
def test_datagrams_to_the_end_of_the_packet_and_empty_ones() -> None:
    """RFC 9221 §4."""
    peer = Peer()
    peer.sends(f.write_datagram(b""), b"\x30to the end")
    assert [peer.engine.receive_datagram() for _ in range(3)] == [b"", b"to the end", None]


@pytest.mark.conformance("D04")
def test_a_datagram_longer_than_its_packet() -> None:
    """RFC 9221 §4."""
    peer = Peer()
    peer.sends(b"\x31\x10short")
    assert peer.closed_with() == E.FRAME_ENCODING_ERROR


# -- datagrams -----------------------------------------------------------------------------------------------------


def test_the_largest_datagram_does_not_wait_for_an_acknowledgement() -> None:
    """RFC 9221 §5: an ACK that may wait must not take its room."""
    peer = Peer()
    peer.hears(ack=True)
    peer.sends(b"\x01")
    peer.engine.send_datagram(bytes(peer.engine.max_datagram_payload))
    train = peer.endpoint.next_train(peer.now)
    assert train is not None
    assert [frame.name for frame in peer.opens(train.data)[1]] == ["DATAGRAM"]


def test_datagrams_do_not_hold_up_control_frames() -> None:
    peer = Peer()
    peer.hears(ack=True)
    for _ in range(5):
        peer.engine.send_datagram(bytes(1000))
    peer.sends(f.write_limit(f.RETIRE_CONNECTION_ID, 1))
    train = peer.endpoint.next_train(peer.now)
    assert train is not None
    first = train.datagrams()[0]
    assert "NEW_CONNECTION_ID" in [frame.name for frame in peer.opens(first)[1]]


@pytest.mark.conformance("D01a")
@pytest.mark.parametrize("limit", [0, 1])
def test_not_even_an_empty_datagram(limit: int) -> None:
    """RFC 9221 §3: none is sent to a peer that takes none."""
    pair = Pair(server={"max_datagram_frame_size": limit})
    pair.exchange()
    with pytest.raises(ConfigurationError, match="no datagrams"):
        pair.client.send_datagram(b"")


@pytest.mark.conformance("D01a")
def test_datagrams_within_a_small_limit() -> None:
    """RFC 9221 §3: type and length count."""
    pair = Pair(server={"max_datagram_frame_size": 100})
    pair.exchange()
    size = pair.client.max_datagram_payload
    assert len(f.write_datagram(bytes(size))) <= 100
    with pytest.raises(ConfigurationError):
        pair.client.send_datagram(bytes(size + 1))
    pair.client.send_datagram(bytes(size))
    pair.client.send_datagram(b"")
    pair.exchange()
    assert [len(pair.server.receive_datagram() or b"") for _ in range(2)] == [size, 0]
