"""Loss, probes and the congestion window as they show on the wire (RFC 9002 §6, §7)."""

from __future__ import annotations

import pytest
from peer import HANDSHAKE, INITIAL, ONE_RTT, TO_CLIENT, Pair, Peer, opens_long

from quicstack.train import Train
from quicstack.wire.frame_study import Frame
from quicstack.wire.packet import LONG_HEADER, read_long_header
from quicstack.wire.version import VERSIONS, PacketType

NOT_ELICITING = {"ACK", "ACK_ECN", "PADDING", "CONNECTION_CLOSE"}


def sends_now(peer: Peer) -> list[tuple[int, list[Frame]]]:
    """Number and frames of each datagram that the engine sends without time going by."""
    found = []
    peer.endpoint.handle_timeout(peer.now)
    while (sent := peer.endpoint.next_train(peer.now)) is not None:
        for datagram in sent.datagrams():
            found.append(peer.opens(datagram))
            peer.received.add(found[-1][0])
    return found


def fills_the_window(peer: Peer) -> int:
    """The engine sends as long as window and pacer let it; how many bytes are in flight then."""
    recovery = peer.engine._state.recovery
    for _ in range(25):
        peer.pair.now += 0.001
        sends_now(peer)
    assert recovery.congestion_controller.congestion_window - recovery.bytes_in_flight < 1200
    return recovery.bytes_in_flight


def until_the_timer(peer: Peer) -> list[tuple[int, list[Frame]]]:
    """The loss detection timer expires; what is sent at that moment."""
    due = peer.engine._state.recovery.loss_detection_timer
    assert due is not None
    peer.pair.now = due
    return sends_now(peer)


def expires(pair: Pair, side: str) -> list[bytes]:
    """The same for one side of a pair; datagrams."""
    endpoint = getattr(pair, f"{side}_endpoint")
    due = getattr(pair, side)._state.recovery.loss_detection_timer
    assert due is not None
    pair.now = due
    endpoint.handle_timeout(pair.now)
    return [datagram for sent in getattr(pair, f"from_{side}")() for datagram in sent.datagrams()]


def train(datagram: bytes) -> Train:
    return Train(datagram, len(datagram), TO_CLIENT)


def streams(packets: list[tuple[int, list[Frame]]]) -> list[tuple[object, object]]:
    return [(frame.fields["offset"], len(bytes(frame.fields["data"])))  # type: ignore[arg-type]
            for _, frames in packets for frame in frames if frame.name == "STREAM"]  # fmt: skip


@pytest.mark.conformance("R04")
def test_three_packets_later_is_lost_at_once() -> None:
    peer = Peer()
    peer.hears(ack=True)
    numbers = []
    for stream in (peer.engine.open_stream() for _ in range(4)):
        stream.write(b"data")
        peer.pair.now += 0.004
        ((number, _),) = sends_now(peer)
        numbers.append(number)
    peer.acknowledges(numbers[2])
    peer.pair.now += 0.003  # for the pacer
    assert streams(sends_now(peer)) == []
    peer.acknowledges(numbers[3])
    again = sends_now(peer)
    assert len(streams(again)) == 1 and peer.engine.stats().counters.packets_lost == 1


@pytest.mark.conformance("R08")
def test_the_first_timeout_comes_after_a_second() -> None:
    pair = Pair()
    pair.from_client()
    started = pair.now
    again = expires(pair, "client")
    assert pair.now - started == pytest.approx(0.999)
    assert again and all(datagram[0] & LONG_HEADER for datagram in again)


@pytest.mark.conformance("R09a")
def test_a_server_out_of_credit_waits_and_then_hurries() -> None:
    """§6.2.2.1: five silent seconds within three times what came; the next datagram is answered at once."""
    pair = Pair()
    sent = pair.from_client()
    pair.to_server(sent)
    received = sum(len(train.data) for train in sent)
    total = sum(len(train.data) for train in pair.from_server())
    start = pair.now
    while pair.server._state.recovery.loss_detection_timer is not None:
        total += sum(map(len, expires(pair, "server")))
        assert total <= 3 * received
    assert pair.now < start + 5
    assert total > 2 * received
    pair.now = start + 5
    pair.server_endpoint.handle_timeout(pair.now)
    assert not pair.from_server()
    pair.client_endpoint.handle_timeout(pair.now)
    more = pair.from_client()[:1]
    pair.to_server(more)
    answer = pair.from_server()
    deadline = pair.server_endpoint.next_timeout()
    assert deadline is not None and deadline <= pair.now  # overdue
    pair.server_endpoint.handle_timeout(pair.now)
    answer += pair.from_server()
    frames = [frame.name for train in answer for _, found in opens_long(pair.client._state, train.data)
              for frame in found]  # fmt: skip
    assert "CRYPTO" in frames
    assert sum(len(train.data) for train in answer) <= 3 * sum(len(train.data) for train in more)


@pytest.mark.conformance("R11")
def test_probes_pass_a_full_window_and_bring_something_new() -> None:
    """§6.2.4: one datagram or two, each ack-eliciting; with new data if there is any and the oldest again."""
    peer = Peer()
    peer.hears(ack=True)
    stream = peer.engine.open_stream()
    stream.write(bytes(100_000))
    full = fills_the_window(peer)
    assert sends_now(peer) == []
    assert stream.send is not None
    sent = stream.send.buffer.next
    probes = until_the_timer(peer)
    assert 1 <= len(probes) <= 2
    assert all(any(frame.name not in NOT_ELICITING for frame in frames) for _, frames in probes)
    offsets = [offset for offset, _ in streams(probes)]
    assert offsets[0] == 0 and sent in offsets
    assert peer.engine._state.recovery.bytes_in_flight > full
    assert sends_now(peer) == []


@pytest.mark.conformance("R11", "R06a")
def test_with_nothing_new_the_probes_bring_the_old_again() -> None:
    """And nothing counts as lost (§6.2)."""
    peer = Peer()
    peer.hears(ack=True)
    stream = peer.engine.open_stream()
    stream.write(b"once", fin=True)
    sends_now(peer)
    window = peer.engine._state.recovery.congestion_controller.congestion_window
    probes = until_the_timer(peer)
    assert [offset for offset, _ in streams(probes)] == [0]
    assert len(probes) == 2
    assert all(any(frame.name not in NOT_ELICITING for frame in frames) for _, frames in probes)
    assert peer.engine.stats().counters.packets_lost == 0
    assert peer.engine._state.recovery.congestion_controller.congestion_window == window


@pytest.mark.conformance("R12")
def test_a_probe_covers_every_level() -> None:
    """§6.2.4: Initial, Handshake and 1-RTT data of a server are lost; the timeout sends all of it, coalesced."""
    pair = Pair()
    pair.to_server(pair.from_client())
    stream = pair.server.open_stream(unidirectional=True)
    stream.write(b"early")
    assert pair.from_server()
    probes = expires(pair, "server")
    kinds = set()
    first = probes[0]
    while first and first[0] & LONG_HEADER:
        header = read_long_header(first, 0, VERSIONS[1])
        kinds.add(header.packet_type)
        first = first[header.end :]
    assert kinds == {PacketType.INITIAL, PacketType.HANDSHAKE}
    pair.to_client([train(datagram) for datagram in probes[:2]])
    assert pair.client.handshake_complete
    received = pair.client.stream(3)
    assert received is not None and received.read() == b"early"
    for datagram in probes:
        for _, frames in opens_long(pair.client._state, datagram):
            assert any(frame.name not in NOT_ELICITING for frame in frames)


@pytest.mark.conformance("R15", "R15a", "R20")
def test_nobody_acknowledges_anything() -> None:
    """§7: what is sent into a black hole is an initial window, and two datagrams for each timeout."""
    peer = Peer()
    peer.hears(ack=True)
    recovery = peer.engine._state.recovery
    peer.engine.open_stream().write(bytes(200_000))
    largest = 0
    window = recovery.congestion_controller.congestion_window
    assert window <= 14_720
    timeouts = 0
    for _ in range(3000):
        peer.pair.now += 0.001
        before = recovery.pto_count
        burst = len(sends_now(peer))
        timeouts += recovery.pto_count - before
        largest = max(largest, burst)
        assert recovery.bytes_in_flight <= window + 2 * 1200 * timeouts
    assert timeouts >= 2
    assert 2 <= largest <= 10
    assert recovery.bytes_in_flight > window
    assert peer.engine._state.recovery.congestion_controller.congestion_window == window


@pytest.mark.conformance("R13")
def test_discarded_keys_leave_nothing_in_flight() -> None:
    """§6.4: also what was sent again and never acknowledged."""
    pair = Pair()
    pair.from_client()
    for _ in range(2):
        sent = expires(pair, "client")
    recovery = pair.client._state.recovery
    assert recovery.pto_count == 2 and recovery.bytes_in_flight >= 3 * 1200
    pair.to_server([train(datagram) for datagram in sent])
    pair.to_client(pair.from_server())
    handshake = pair.from_client()
    assert list(recovery.outstanding(INITIAL)) == [] and recovery.pto_count == 0
    assert recovery.bytes_in_flight == sum(
        packet.size for space in (HANDSHAKE, ONE_RTT) for packet in recovery.outstanding(space)
    )
    pair.to_server(handshake)
    pair.exchange()
    assert recovery.bytes_in_flight == 0


@pytest.mark.conformance("R21")
def test_a_window_that_is_not_used_does_not_grow() -> None:
    """§7.8: held back by the application."""
    peer = Peer()
    peer.hears(ack=True)
    recovery = peer.engine._state.recovery
    window = recovery.congestion_controller.congestion_window
    stream = peer.engine.open_stream()
    for _ in range(30):
        stream.write(bytes(2000))
        numbers = []
        for _ in range(6):
            peer.pair.now += 0.004
            numbers += [number for number, _ in sends_now(peer)]
        peer.acknowledges(*numbers)
        assert recovery.congestion_controller.congestion_window == window
