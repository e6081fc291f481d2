"""DATAGRAM frames (RFC 9221 §3, §5): when they go, and what becomes of them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from peer import HANDSHAKE, INITIAL, TO_CLIENT, TO_SERVER, Pair, Peer, long_packet, opens_long

from quicstack.errors import ConfigurationError, TransportErrorCode
from quicstack.train import Train
from quicstack.wire import frame as f


def datagrams(peer: Peer) -> list[object]:
    return [frame.fields["data"] for frame in peer.hears() if frame.name == "DATAGRAM"]


@pytest.mark.conformance("D01a")
def test_not_before_the_peers_limit_is_known() -> None:
    """§3."""
    pair = Pair()
    assert pair.client.max_datagram_payload == 0
    with pytest.raises(ConfigurationError):
        pair.client.send_datagram(b"early")
    pair.exchange()
    assert pair.client.send_datagram(b"now")
    pair.exchange()
    assert pair.server.receive_datagram() == b"now"


@pytest.mark.conformance("D05")
@pytest.mark.parametrize("space", [INITIAL, HANDSHAKE], ids=["Initial", "Handshake"])
@pytest.mark.parametrize("frame", [b"\x30x", b"\x31\x01x"], ids=["to the end", "with a length"])
@pytest.mark.parametrize("to", ["client", "server"])
def test_in_packets_of_the_handshake(space: int, frame: bytes, to: str) -> None:
    """RFC 9000 §12.4: a violation, with its code on the wire."""
    pair = Pair()
    pair.to_server(pair.from_client())
    if to == "client" or space == HANDSHAKE:
        flight = pair.from_server()
        if space == HANDSHAKE:
            pair.to_client(flight)
    source = pair.client._state if to == "server" else pair.server._state
    datagram = long_packet(source, space, frame, number=9, pad_to=1200)
    train = Train(datagram, len(datagram), TO_CLIENT if to == "server" else TO_SERVER)
    if to == "server":
        pair.to_server([train])
        answers = pair.from_server()
    else:
        pair.to_client([train])
        answers = pair.from_client()
    found = [one for answer in answers for _, frames in opens_long(source, answer.data) for one in frames]
    codes = {one.fields["error_code"] for one in found if one.name == "CONNECTION_CLOSE"}
    assert codes == {TransportErrorCode.PROTOCOL_VIOLATION}


@pytest.mark.conformance("D06")
def test_they_elicit_acknowledgements() -> None:
    """§5.2: of the peer, and of us."""
    peer = Peer()
    peer.hears(ack=True)
    peer.sends(f.write_datagram(b"one"))
    peer.sends(f.write_datagram(b"two"))
    assert [frame.name[:3] for frame in peer.hears()] == ["ACK"]
    peer.engine.send_datagram(b"three")
    assert datagrams(peer) == [b"three"]
    (sent,) = peer.engine._state.recovery.outstanding(2)
    assert sent.ack_eliciting and sent.in_flight


@pytest.mark.conformance("D06")
def test_they_are_not_sent_again() -> None:
    """§5.2: a probe timeout and a loss later the peer has them once, and something else elicits the ACK."""
    peer = Peer()
    peer.hears(ack=True)
    peer.engine.send_datagram(b"once")
    assert datagrams(peer) == [b"once"]
    frames = peer.advance(2.0)
    assert "PING" in [frame.name for frame in frames]
    for _ in range(5):  # all but the first are acknowledged, so that it is lost
        peer.engine.ping()
        peer.hears()
    lost = peer.engine.stats().counters.packets_lost
    peer.acknowledges(max(peer.received))
    assert peer.engine.stats().counters.packets_lost > lost
    assert "DATAGRAM" not in [frame.name for frame in frames + peer.advance(2.0)]


@pytest.mark.conformance("D06")
def test_they_obey_the_congestion_window() -> None:
    """§5.4: what does not fit waits in the queue."""
    peer = Peer(pacing=False)
    peer.hears(ack=True)
    window = peer.engine.stats().congestion_window
    for _ in range(40):
        assert peer.engine.send_datagram(bytes(1000))
    first = len(datagrams(peer))
    assert 5 <= first <= window // 1000
    assert peer.engine.stats().bytes_in_flight <= window
    assert datagrams(peer) == []
    peer.acknowledges(*peer.received)
    assert len(datagrams(peer)) > 0


@pytest.mark.conformance("D06")
def test_they_need_no_credit() -> None:
    """§5.3: neither MAX_DATA nor MAX_STREAM_DATA counts them, on either side."""
    pair = Pair(client={"initial_max_data": 0}, server={"initial_max_data": 0})
    pair.exchange()
    for sender, receiver in ((pair.client, pair.server), (pair.server, pair.client)):
        for _ in range(20):
            sender.send_datagram(bytes(1000))
            pair.exchange(rounds=2)
        got = 0
        while (data := receiver.receive_datagram()) is not None:
            got += len(data)
        assert got == 20_000
        assert receiver.closed is None and sender.closed is None


@pytest.mark.parametrize("sizes", [[1000] * 20, [500] * 30, [100] * 90, [1000] * 5 + [300] + [1000] * 5])
def test_datagrams_of_one_size_leave_as_a_train(sizes: list[int]) -> None:
    """Packets need not be full to travel together: the kernel cuts a train into pieces of one size."""
    pair = Pair(client={"pacing": False})
    pair.exchange()
    sent = [bytes((n,)) * size for n, size in enumerate(sizes)]
    for data in sent:
        assert pair.client.send_datagram(data)
    trains = pair.from_client()
    longest = max(trains, key=lambda train: len(train.data))
    assert len(longest.data) // longest.segment_size >= 5
    pair.to_server(trains)
    pair.exchange()
    received = []
    while (data := pair.server.receive_datagram()) is not None:
        received.append(data)
    assert received == sent


def test_a_train_of_datagrams_uses_the_window_to_its_last_byte() -> None:
    """Its packets are smaller than they may be, so there are more of them."""
    pair = Pair(client={"pacing": False})
    pair.exchange()
    for _ in range(70):
        assert pair.client.send_datagram(bytes(1000))
    allowed = pair.client._state.recovery.send_allowance(pair.now)
    train = pair.from_client()[0]
    count = len(train.data) // train.segment_size
    assert 1000 < train.segment_size < 1050
    assert count == allowed // train.segment_size > allowed // pair.client._state.max_datagram_size


@given(st.lists(st.integers(1, 1150), min_size=1, max_size=40))
@settings(max_examples=40, deadline=None)
def test_datagrams_of_any_sizes_all_leave(sizes: list[int]) -> None:
    pair = Pair()
    pair.exchange()
    for n, size in enumerate(sizes):
        assert pair.client.send_datagram(bytes((n,)) * size)
    pair.exchange(rounds=60)
    received = []
    while (data := pair.server.receive_datagram()) is not None:
        received.append(data)
    assert [(data[0], len(data)) for data in received] == list(enumerate(sizes))
