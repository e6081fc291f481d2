"""A peer that lies about what it has received, or says it when it likes (RFC 9000 §21.4, RFC 9002 §8)."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import pytest
from measure import calls, size_of
from peer import HANDSHAKE, INITIAL, ONE_RTT, TO_CLIENT, Pair, Peer, long_packet

from quicstack.connection import handshake
from quicstack.errors import TransportErrorCode
from quicstack.observe.qlog import QlogTrace
from quicstack.recovery.ecn import EcnValidation
from quicstack.train import Path, Train
from quicstack.transport.crypto_stream import CryptoStream
from quicstack.wire import frame as f
from quicstack.wire.varint import MAX_VARINT, encode_varint

E = TransportErrorCode
ELSEWHERE = Path(("203.0.113.9", 50000))


def traced() -> tuple[io.StringIO, list[QlogTrace], dict[str, object]]:
    """Where a qlog goes, the traces that write it, and the setting for that."""
    output = io.StringIO()
    traces: list[QlogTrace] = []

    def factory(odcid: bytes, is_client: bool) -> QlogTrace:
        traces.append(QlogTrace(output, odcid=odcid, is_client=is_client))
        return traces[-1]

    output.close = lambda: None  # type: ignore[method-assign]
    return output, traces, {"trace_factory": factory}


def records(output: io.StringIO, name: str) -> Iterator[str]:
    for record in output.getvalue().split("\x1e"):
        if record and json.loads(record).get("name") == f"quic:{name}":
            yield record


@pytest.mark.attack("CVE-2025-4820")
def test_acknowledging_what_cannot_have_arrived_yet() -> None:
    """RFC 9000 §21.4: sooner or later that is a number that was never used, long before the window is large."""
    peer = Peer()
    space = peer.engine._state.spaces[ONE_RTT]
    upload = peer.engine.open_stream(unidirectional=True)
    upload.send.limit = peer.engine._state.streams.send_window.limit = 1 << 40  # type: ignore[union-attr]
    sent = 0
    while peer.engine.closed is None and space.next_packet_number < 20_000:
        upload.write(bytes(1 << 20))
        peer.pair.now += 0.001
        peer.endpoint.handle_timeout(peer.now)
        while (train := peer.endpoint.next_train(peer.now)) is not None:
            sent += len(train.data)
        peer.sends(f.write_ack([(0, space.next_packet_number - 1)], 0))
    assert getattr(peer.engine.closed, "code", None) == E.PROTOCOL_VIOLATION
    assert space.next_packet_number < 2000


@pytest.mark.attack("CVE-2025-4821")
@pytest.mark.parametrize("space", [INITIAL, HANDSHAKE, ONE_RTT])
def test_acknowledging_what_was_never_sent(space: int) -> None:
    """RFC 9000 §13.1: in each space by itself."""
    if space == ONE_RTT:
        peer = Peer()
        beyond = peer.engine._state.spaces[ONE_RTT].next_packet_number
        peer.sends(f.write_ack([(beyond, beyond)], 0))
        assert peer.closed_with() == E.PROTOCOL_VIOLATION
        return
    pair = Pair()
    pair.to_server(pair.from_client())
    pair.to_client(pair.from_server())
    pair.server._state.spaces[ONE_RTT].next_packet_number = 1000  # of another space: does not matter
    window = pair.server._state.recovery.congestion_controller.congestion_window
    ack = f.write_ack([(30, 40), (0, 20)], 0)
    packet = long_packet(pair.client._state, space, ack, number=50, pad_to=1200)
    pair.to_server([Train(packet, len(packet), TO_CLIENT)])
    assert getattr(pair.server.closed, "code", None) == E.PROTOCOL_VIOLATION
    assert pair.server._state.recovery.congestion_controller.congestion_window == window


@pytest.mark.attack("c: huge ACK range count")
def test_an_ack_frame_that_promises_ranges_without_end() -> None:
    """RFC 9000 §19.3.1: as many are read as there are bytes, and then the frame is malformed."""
    peer = Peer()
    frame = b"\x02" + encode_varint(5000) + b"\x00" + encode_varint(MAX_VARINT) + b"\x00"
    datagram, _ = peer.packet(frame + bytes(1000))
    assert calls(lambda: peer.delivers(datagram)) < 500 + 5 * 1000
    assert peer.closed_with() == E.FRAME_ENCODING_ERROR


@pytest.mark.attack("CVE-2024-52811")
def test_the_log_of_an_ack_that_lies() -> None:
    """What a packet says is logged before it is judged: the record is as long as the packet allows, and not longer."""
    output, traces, setting = traced()
    peer = Peer(**setting)
    many = f.write_ack([(MAX_VARINT - 1 - 4 * n, MAX_VARINT - 4 * n) for n in range(200)], MAX_VARINT, (1, 2, 3))
    lie = b"\x02" + encode_varint(MAX_VARINT) + b"\x00" + encode_varint(MAX_VARINT) + encode_varint(5)
    for frames in (many, b"\x01" + lie):
        before = len(output.getvalue())
        datagram, _ = peer.packet(frames)
        peer.delivers(datagram)
        assert len(output.getvalue()) - before < 60 * len(datagram)
    assert getattr(peer.engine.closed, "code", None) == E.PROTOCOL_VIOLATION
    assert traces[0].failed is None
    assert '"unknown"' in list(records(output, "packet_received"))[-1]


@pytest.mark.attack("CVE-2026-40170")
def test_the_log_of_parameters_that_are_as_large_as_can_be() -> None:
    """Unknown transport parameters of 1,000 bytes, and the largest integers: no line of the log grows with them."""
    output, traces, setting = traced()
    pair = Pair(server=setting)
    parameters = pair.client._state.local_parameters
    parameters.reserved = {31 * n + 27: bytes(1000) for n in range(6)}
    for name in ("initial_max_data", "initial_max_stream_data_uni", "max_udp_payload_size", "max_datagram_frame_size"):
        setattr(parameters, name, MAX_VARINT)
    parameters.max_idle_timeout = MAX_VARINT // 1000
    parameters.active_connection_id_limit = MAX_VARINT
    pair.client._state.spaces[INITIAL].crypto = CryptoStream()
    handshake.start(pair.client._state, pair.now)
    pair.exchange()
    assert pair.server.handshake_confirmed and pair.server.internal_error is None
    assert traces[0].failed is None
    lines = [line for line in records(output, "parameters_set") if '"remote"' in line]
    assert len(lines) == 1 and len(lines[0]) < 2000 and str(MAX_VARINT) in lines[0]
    assert len(pair.server.local_cids) <= 4


@pytest.mark.attack("CVE-2025-29785")
@pytest.mark.parametrize("order", ["at once", "after the path was given up", "backwards and twice"])
def test_acknowledging_path_probes(order: str) -> None:
    """RFC 9000 §8.2: they are packets like any other, in the same books, whatever became of their path."""
    peer = Peer()
    for n in range(4):
        path = Path((f"203.0.113.{n}", 50000))
        datagram, _ = peer.packet(b"\x1a" + n.to_bytes(8, "big"), bytes(1180))
        peer.delivers(datagram, path)
    probes = []
    for _ in range(3):
        peer.pair.now += 0.01
        while (train := peer.endpoint.next_train(peer.now)) is not None:
            number, frames = peer.opens(train.data)
            peer.received.add(number)
            probes += [number] if any(frame.name == "PATH_CHALLENGE" for frame in frames) else []
    assert len(probes) >= 3
    if order == "after the path was given up":
        peer.advance(20)
        assert not peer.engine._state.other_paths
    for number in probes if order == "at once" else [*reversed(probes), *probes]:
        peer.acknowledges(number)
        peer.engine.ping()
        peer.hears(ack=True)
    assert peer.engine.closed is None and peer.engine.internal_error is None
    assert peer.engine._state.recovery.bytes_in_flight == 0


def samples(peer: Peer, rtt: float, delay: float, count: int) -> None:
    """Round trips as the peer makes them, with its own word about its delay."""
    for _ in range(count):
        peer.engine.ping()
        train = peer.endpoint.next_train(peer.now)
        assert train is not None
        number, _ = peer.opens(train.data)
        peer.received.add(number)
        peer.pair.now += rtt
        peer.sends(f.write_ack([(number, number)], int(delay * 1e6) >> 3))


@pytest.mark.attack("c: ACK-delay lies")
def test_what_a_peer_says_about_its_delay() -> None:
    """RFC 9002 §5.3: at most max_ack_delay is believed, and never so much that the sample falls below min_rtt."""
    peer = Peer()
    samples(peer, 0.02, 0, 1)
    rtt = peer.engine._state.recovery.rtt
    lowest = rtt.min_rtt
    samples(peer, 0.1, 0.07, 60)
    assert rtt.smoothed_rtt > 0.1 - 0.025 - 0.001 and rtt.min_rtt == lowest
    parameters = peer.engine._state.peer_parameters
    assert parameters is not None
    parameters.ack_delay_exponent = 20
    samples(peer, 0.02, 2**40, 60)
    assert lowest - 1e-9 <= rtt.smoothed_rtt and rtt.pto < 1
    assert peer.engine.closed is None


@pytest.mark.attack("c: ECN lies")
@pytest.mark.parametrize("counts", [(2, 0, 0), (1, 0, 2), (MAX_VARINT, 0, 0), (3, 0, MAX_VARINT), (3, 1, 0)], ids=str)
def test_counts_of_marks_that_cannot_be(counts: tuple[int, int, int]) -> None:
    """RFC 9000 §13.4.2.1: validation fails, marking ends, and the window is what it was."""
    peer = Peer()
    peer.hears(ack=True)
    recovery = peer.engine._state.recovery
    recovery.ecn._counts[ONE_RTT], recovery.ecn._sent[ONE_RTT] = (2, 0, 0), 20
    assert recovery.ecn.validation is not EcnValidation.FAILED
    window = recovery.congestion_controller.congestion_window
    peer.engine.ping()
    train = peer.endpoint.next_train(peer.now)
    assert train is not None
    number, _ = peer.opens(train.data)
    peer.sends(f.write_ack([(number, number)], 0, counts))
    assert recovery.ecn.validation is EcnValidation.FAILED and recovery.ecn.mark() == 0
    assert recovery.congestion_controller.congestion_window == window
    assert peer.engine.closed is None


@pytest.mark.attack("c: ACK withholding / MinRTT inflation")
def test_a_peer_that_is_alive_and_acknowledges_nothing() -> None:
    """RFC 9002 §6.2.4, §7: what is in flight stays within the window, probes become rare, and nothing piles up."""
    peer = Peer()
    upload = peer.engine.open_stream(unidirectional=True)
    upload.write(bytes(200_000))
    for _ in range(20):
        peer.hears()
    recovery = peer.engine._state.recovery
    before = size_of(peer.engine._state)
    sent = peer.engine.stats().counters.packets_sent
    for _ in range(600):
        peer.sends(b"\x01", bytes(100))
        peer.advance(1)
        peer.sends(b"\x1a" + peer.now.hex().encode()[-8:])
    assert peer.engine.closed is None
    eliciting = len(recovery._spaces[ONE_RTT].sent_packets)
    assert eliciting <= recovery.congestion_controller.congestion_window // 1200 + 2 * 16  # timeouts double
    assert peer.engine.stats().counters.packets_sent - sent < 3 * 600
    assert size_of(peer.engine._state) - before < 150_000
    assert len(recovery._spaces[ONE_RTT].ack_only_packets) <= 256


@pytest.mark.attack("c: spurious PTO amplification")
@pytest.mark.parametrize("garbage", [0, 700])
def test_probes_count_against_three_times(garbage: int) -> None:
    """RFC 9000 §8.1, RFC 9002 §6.2.2.1: a client that never answers hears no more for all the probe timeouts."""
    pair = Pair(server={"handshake_timeout": 60.0, "initial_rtt": 0.05})
    first = pair.from_client()
    pair.to_server(first)
    received = len(first[0].data)
    sent = 0
    for step in range(2000):
        pair.now += 0.02
        pair.server_endpoint.handle_timeout(pair.now)
        sent += sum(len(train.data) for train in pair.from_server())
        assert sent <= 3 * received
        if garbage and step == 500:
            state = pair.client._state
            head = b"\xe0\0\0\0\1\x08" + state.peer_cids.current.cid + b"\x08" + state.local_cids.first
            pair.to_server([Train(head + bytes(garbage), len(head) + garbage, TO_CLIENT)])
            received += len(head) + garbage
    assert sent > 1.5 * len(first[0].data)


@pytest.mark.attack("c: persistent congestion not applied")
def test_a_path_that_carried_nothing_for_long() -> None:
    """RFC 9002 §7.6: all was lost from the first to the last of more than three probe timeouts: the least window."""
    peer = Peer()
    samples(peer, 0.05, 0, 4)
    controller = peer.engine._state.recovery.congestion_controller
    upload = peer.engine.open_stream(unidirectional=True)
    upload.write(bytes(50_000))
    peer.hears()
    assert controller.congestion_window > 4 * 1200
    start, last = peer.now, max(peer.received)
    while peer.now < start + 2 or max(peer.received) == last:
        last = max(peer.received)
        peer.advance(0.01)
    peer.acknowledges(max(peer.received))
    assert controller.congestion_window == 2 * 1200
    assert peer.engine.closed is None
