"""Integers, lengths and bits that are meant to be misread, before and after packet protection."""

from __future__ import annotations

import pytest
from measure import calls, size_of
from peer import HANDSHAKE, INITIAL, ONE_RTT, TO_CLIENT, TO_SERVER, Pair, Peer, long_packet

from quicstack.errors import TransportErrorCode
from quicstack.train import Train
from quicstack.wire import frame as f
from quicstack.wire.varint import MAX_VARINT, encode_varint

E = TransportErrorCode
HUGE = encode_varint(MAX_VARINT)
MOST = MAX_VARINT


def stream(stream_id: int, data: bytes, offset: int = 0, fin: bool = False) -> bytes:
    return f.stream_header(stream_id, offset, len(data), fin) + data


LARGEST = {
    "STREAM length": (b"\x0a\x00" + HUGE + b"x", E.FRAME_ENCODING_ERROR),
    "STREAM offset and length": (b"\x0e\x00" + HUGE + b"\x01x", E.FRAME_ENCODING_ERROR),
    "STREAM offset": (b"\x0e\x00" + HUGE + b"\x00", E.FLOW_CONTROL_ERROR),
    "STREAM ID": (b"\x0a" + encode_varint(MOST - 3) + b"\x00", E.STREAM_LIMIT_ERROR),
    "CRYPTO length": (b"\x06\x00" + HUGE + b"x", E.FRAME_ENCODING_ERROR),
    "CRYPTO offset and length": (b"\x06" + HUGE + b"\x01x", E.FRAME_ENCODING_ERROR),
    "CRYPTO offset": (b"\x06" + encode_varint(MOST - 1) + b"\x01x", E.CRYPTO_BUFFER_EXCEEDED),
    "NEW_TOKEN length": (b"\x07" + HUGE + b"x", E.FRAME_ENCODING_ERROR),
    "reason length": (b"\x1c\x00\x00" + HUGE + b"x", E.FRAME_ENCODING_ERROR),
    "connection ID length": (b"\x18\x09\x00\xff" + bytes(60), E.FRAME_ENCODING_ERROR),
    "sequence number": (f.write_limit(f.RETIRE_CONNECTION_ID, MOST), E.PROTOCOL_VIOLATION),
    "DATAGRAM length": (b"\x31" + HUGE + b"x", E.FRAME_ENCODING_ERROR),
    "final size": (f.write_reset_stream(0, 0, MOST), E.FLOW_CONTROL_ERROR),
    "stream count": (f.write_limit(f.MAX_STREAMS_BIDI, MOST), E.FRAME_ENCODING_ERROR),
    "packet number": (f.write_ack([(MOST, MOST)], 0), E.PROTOCOL_VIOLATION),
}


@pytest.mark.attack("c: varint 2^62-1 in length, offset, count")
@pytest.mark.parametrize("what", LARGEST)
def test_the_largest_integer_anywhere(what: str) -> None:
    """RFC 9000 §16, §19: more than there is, or more than is allowed; nothing is set aside for it."""
    frame, code = LARGEST[what]
    peer = Peer()
    before = size_of(peer.engine._state)
    datagram, _ = peer.packet(frame)
    assert calls(lambda: peer.delivers(datagram)) < 2000
    assert peer.closed_with() == code
    assert size_of(peer.engine._state) - before < 4000


@pytest.mark.attack("c: varint 2^62-1 in length, offset, count")
def test_the_largest_limits_are_only_numbers() -> None:
    """RFC 9000 §19.9: what may be sent is bounded by our own buffers then."""
    peer = Peer(send_buffer=5000)
    before = size_of(peer.engine._state)
    peer.sends(f.write_limit(f.MAX_DATA, MOST), f.write_limit(f.MAX_STREAMS_BIDI, 1 << 60), f.write_limit(0x14, MOST))
    assert size_of(peer.engine._state) - before < 1000
    opened = peer.engine.open_stream()
    peer.sends(f.write_limit(f.MAX_STREAM_DATA, opened.id, MOST))
    assert opened.write(bytes(10_000)) == 5000
    assert peer.engine.closed is None


FINAL_SIZES = {
    "FIN, then a longer RESET": ([stream(0, b"abc", fin=True), f.write_reset_stream(0, 0, 4)], E.FINAL_SIZE_ERROR),
    "FIN, then a shorter RESET": ([stream(0, b"abc", fin=True), f.write_reset_stream(0, 0, 2)], E.FINAL_SIZE_ERROR),
    "FIN, then more": ([stream(0, b"abc", fin=True), stream(0, b"d", 3)], E.FINAL_SIZE_ERROR),
    "FIN, then another": ([stream(0, b"", 9, fin=True), stream(0, b"", 8, fin=True)], E.FINAL_SIZE_ERROR),
    "data, then a FIN below": ([stream(0, b"x", 50), stream(0, b"", 20, fin=True)], E.FINAL_SIZE_ERROR),
    "data, then a RESET below": ([stream(0, b"x", 50), f.write_reset_stream(0, 0, 20)], E.FINAL_SIZE_ERROR),
    "RESET, then another": ([f.write_reset_stream(0, 0, 5), f.write_reset_stream(0, 0, 6)], E.FINAL_SIZE_ERROR),
    "RESET beyond the stream's credit": ([f.write_reset_stream(0, 0, (1 << 18) + 1)], E.FLOW_CONTROL_ERROR),
    "FIN beyond the stream's credit": ([stream(0, b"", (1 << 18) + 1, fin=True)], E.FLOW_CONTROL_ERROR),
    "RESETs beyond the connection's": (
        [f.write_reset_stream(4 * n, 0, 1 << 18) for n in range(5)], E.FLOW_CONTROL_ERROR,
    ),
}  # fmt: skip


@pytest.mark.attack("c: final size tricks")
@pytest.mark.parametrize("case", FINAL_SIZES)
def test_final_sizes_that_do_not_agree(case: str) -> None:
    """RFC 9000 §4.5, §4.1: a final size stands, and it costs its credit whether the bytes came or not."""
    frames, code = FINAL_SIZES[case]
    peer = Peer()
    for frame in frames[:-1]:
        peer.sends(frame)
        assert peer.engine.closed is None
    peer.sends(frames[-1])
    assert peer.closed_with() == code


@pytest.mark.attack("c: non-minimal frame types")
@pytest.mark.parametrize("written", [b"\x40\x01", b"\x80\x00\x00\x01", b"\xc0" + bytes(6) + b"\x01", b"\x40\x06"])
def test_frame_types_longer_than_they_need_to_be(written: bytes) -> None:
    """RFC 9000 §12.4."""
    peer = Peer()
    peer.sends(written + bytes(20))
    assert peer.closed_with() == E.PROTOCOL_VIOLATION


@pytest.mark.attack("c: reserved bits checked before AEAD")
@pytest.mark.parametrize("level", [INITIAL, HANDSHAKE, ONE_RTT])
def test_bits_of_packets_that_nobody_sealed(level: int) -> None:
    """RFC 9000 §17.2, §17.3: whatever bits garbage has after unmasking, it is dropped like other garbage."""
    if level == ONE_RTT:
        peer = Peer()
        for first in range(0x40, 0x80):
            datagram, _ = peer.packet(b"\x01", first_byte=first & 0x58)
            peer.delivers(bytes((datagram[0],)) + datagram[1:-1] + bytes((datagram[-1] ^ 1,)))
            if first != datagram[0]:
                peer.delivers(bytes((first,)) + datagram[1:])
        assert peer.engine.closed is None and peer.engine._state.key_phase.failures >= 64
        datagram, _ = peer.packet(b"\x01", first_byte=0x58)
        peer.delivers(datagram)
        assert peer.closed_with() == E.PROTOCOL_VIOLATION  # sealed by the peer, so the peer's fault
        return
    pair = Pair()
    pair.to_server(pair.from_client())
    pair.to_client(pair.from_server())
    for first in range(16):
        packet = long_packet(pair.client._state, level, b"\x01", number=20 + first, pad_to=1200)
        forged = bytes((packet[0] ^ first,)) + packet[1:-1] + bytes((packet[-1] ^ 1,))
        pair.to_server([Train(forged, len(forged), TO_CLIENT)])
    assert pair.server.closed is None
    pair.exchange()
    assert pair.server.handshake_confirmed


@pytest.mark.attack("c: Length field zero / < PN length")
@pytest.mark.parametrize("length", [0, 1, 3, 4, 19])
@pytest.mark.parametrize("level", [INITIAL, HANDSHAKE])
def test_lengths_that_hold_no_packet_number(length: int, level: int) -> None:
    """RFC 9000 §17.2: such a packet is dropped; the next one in the datagram is read."""
    pair = Pair()
    pair.to_server(pair.from_client())
    pair.to_client(pair.from_server())
    state = pair.client._state
    whole = long_packet(state, level, b"\x01", number=30)
    header = 7 + whole[5] + len(state.local_cids.first) + (1 if level == INITIAL else 0)
    short = whole[:header] + (0x4000 | length).to_bytes(2, "big") + bytes(length)
    good = long_packet(state, level, b"\x01", number=31, pad_to=1200)
    before = pair.server.stats().counters
    datagram = short + good
    pair.to_server([Train(datagram, len(datagram), TO_CLIENT)])
    after = pair.server.stats().counters
    assert pair.server.closed is None
    assert after.packets_dropped == before.packets_dropped + 1
    assert after.packets_received == before.packets_received + 1
    assert pair.server._state.key_phase.failures == 0, "nothing was tried with keys"


@pytest.mark.attack("c: short packet for HP sample")
@pytest.mark.parametrize("size", range(1, 29))
def test_packets_of_a_few_bytes(size: int) -> None:
    """RFC 9001 §5.4.2: without a sample they are dropped, in a train as well."""
    peer = Peer()
    cid = peer.state.peer_cids.current.cid
    datagram = (b"\x43" + cid + bytes(30))[:size]
    before = peer.engine.stats().counters.packets_received
    peer.delivers(datagram)
    peer.endpoint.receive(Train(datagram * 5, size, TO_CLIENT), peer.now)
    assert peer.engine.closed is None and peer.engine.internal_error is None
    assert peer.engine.stats().counters.packets_received == before
    assert peer.engine._state.key_phase.failures == 0, "nothing was tried with keys"
    good, _ = peer.packet(b"\x01", bytes(30))
    peer.endpoint.receive(Train(good + datagram, len(good), TO_CLIENT), peer.now)
    assert peer.engine.stats().counters.packets_received == before + 1
    assert peer.engine._state.key_phase.failures == 0 and peer.engine.internal_error is None


@pytest.mark.attack("c: coalesced garbage")
@pytest.mark.parametrize("garbage", [b"\xe0" + bytes(40), b"\xff" * 40, b"\xc0\x00\x00\x00\x01"], ids=bytes.hex)
def test_a_good_packet_stands_though_the_next_one_does_not(garbage: bytes) -> None:
    """RFC 9000 §12.2."""
    pair = Pair()
    (first,) = pair.from_client()
    pair.to_server([Train(first.data + garbage, len(first.data) + len(garbage), TO_CLIENT)])
    assert pair.server.stats().counters.packets_received == 1
    pair.exchange()
    assert pair.client.handshake_confirmed


@pytest.mark.attack("c: undecryptable flood before keys")
@pytest.mark.parametrize("kind", ["1-RTT", "Handshake", "0-RTT"])
def test_packets_without_keys_by_the_thousand(kind: str) -> None:
    """RFC 9001 §5.7: a few wait; neither the connection nor the endpoint grows with the rest."""
    pair = Pair()
    pair.from_client()
    client = pair.client
    local = client._state.local_cids.first
    head = {
        "1-RTT": b"\x43" + local,
        "Handshake": b"\xe0\x00\x00\x00\x01\x08" + local + b"\x08" + client.original_dcid + b"\x44\x00",
        "0-RTT": b"\xd0\x00\x00\x00\x01\x08" + local + b"\x08" + client.original_dcid + b"\x44\x00",
    }[kind]
    before = size_of(pair.client_endpoint)
    for n in range(2000):
        datagram = head + n.to_bytes(4, "big") * 256
        pair.to_client([Train(datagram, len(datagram), TO_SERVER)])
    assert client.closed is None
    assert size_of(pair.client_endpoint) - before < 50_000
    assert sum(len(space.waiting) for space in client._state.spaces) <= 16


@pytest.mark.attack("c: key-phase flood")
def test_garbage_in_the_other_key_phase() -> None:
    """RFC 9001 §6.3, §9.5: the next keys are there already; a flipped bit costs two attempts at most, no derivation."""
    peer = Peer()
    flood = []
    for _ in range(300):
        datagram, _ = peer.packet(b"\x01", first_byte=0x44)
        flood.append(datagram)
    derived = calls(lambda: [peer.delivers(datagram) for datagram in flood], named="next_phase")
    assert derived == 0
    assert peer.engine.closed is None and peer.engine.stats().counters.key_updates == 0
    assert peer.engine._state.key_phase.failures == 300
    assert calls(lambda: peer.delivers(flood[0]), named="open") <= 2
    peer.sends(b"\x01")
    assert peer.engine._state.spaces[ONE_RTT].acks.largest == peer.state.spaces[ONE_RTT].next_packet_number - 1
