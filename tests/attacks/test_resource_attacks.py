"""A peer that keeps the handshake's rules and then wants our memory or our time by way of frames."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from measure import calls, size_of
from peer import HANDSHAKE, INITIAL, ONE_RTT, TO_CLIENT, Pair, Peer, long_packet

from quicstack.connection import handshake
from quicstack.errors import TransportErrorCode
from quicstack.tls.messages import HandshakeType, NewSessionTicket, handshake_message
from quicstack.train import Path, Train
from quicstack.transport.crypto_stream import CryptoStream
from quicstack.transport.path import MAX_RESPONSES
from quicstack.wire import frame as f

E = TransportErrorCode


def stream(stream_id: int, data: bytes, offset: int = 0, fin: bool = False) -> bytes:
    return f.stream_header(stream_id, offset, len(data), fin) + data


def deaf(peer: Peer) -> None:
    """The window of the engine is full and stays so: the peer acknowledges nothing."""
    opened = peer.engine.open_stream(unidirectional=True)
    opened.write(bytes(100_000))
    for _ in range(20):
        peer.hears()
    assert peer.engine._state.recovery.send_allowance(peer.now) == 0


@pytest.mark.attack("CVE-2024-22189", "CVE-2024-1410")
def test_retirements_that_nobody_acknowledges() -> None:
    """RFC 9000 §5.1.2: each new ID asks all before it back, and the window is full."""
    peer = Peer()
    deaf(peer)
    queued = 0
    for n in range(10, 1000):
        peer.sends(f.write_new_connection_id(n, n, n.to_bytes(8, "big"), bytes(16)))
        queued = max(queued, len(peer.engine._state.outbox.control))
        if peer.engine.closed is not None:
            break
    assert getattr(peer.engine.closed, "code", None) == E.CONNECTION_ID_LIMIT_ERROR
    assert 10 <= queued <= 20 and len(peer.engine._state.peer_cids._retiring) <= 20


@pytest.mark.attack("CVE-2025-7054")
def test_retiring_and_sending_do_not_chase_each_other() -> None:
    """The hundredth ID that replaces all others costs what the second one did, to take in and to answer."""
    peer = Peer()
    costs = []
    for n in range(10, 310, 3):
        three = [f.write_new_connection_id(n + i, n, (n + i).to_bytes(8, "big"), bytes(16)) for i in range(3)]
        costs.append(calls(lambda three=three: (peer.sends(*three), peer.hears(ack=True))))
    assert peer.engine.closed is None
    assert max(costs[2:]) < 2 * min(costs[2:]) + 200
    assert len(peer.engine._state.peer_cids._retired) <= 2


@pytest.mark.attack("CVE-2023-49295")
def test_challenges_while_nothing_can_be_answered() -> None:
    """RFC 9000 §8.2.2: from one address or from many, the newest few of each path are kept, and few paths are."""
    peer = Peer()
    deaf(peer)
    peer.sends(b"\x1a" + bytes(8))
    before = size_of(peer.engine._state)
    for n in range(500):
        path = Path((f"198.51.100.{n % 200}", 1 + n % 7)) if n % 2 else TO_CLIENT
        peer.sends(*[b"\x1a" + (100 * n + i).to_bytes(8, "big") for i in range(50)], path=path)
    state = peer.engine._state
    assert sum(len(path.responses) for path in (state.path, *state.other_paths)) <= 4 * MAX_RESPONSES
    assert size_of(state) - before < 20_000
    assert peer.engine.closed is None


def ticket(size: int = 16) -> bytes:
    return NewSessionTicket(7200, 0, b"", bytes(size), {}).write()


def flood_of_crypto(peer: Peer, messages: Callable[[int], bytes], most: int) -> int:
    """CRYPTO data in order until the connection is closed; how many bytes that took."""
    offset = peer.engine._state.spaces[ONE_RTT].crypto.incoming.end
    data = b""
    for n in range(most):
        data += messages(n)
        while len(data) >= 1000 and peer.engine.closed is None:
            peer.sends(f.write_crypto(offset, data[:1000]))
            offset, data = offset + 1000, data[1000:]
        if peer.engine.closed is not None:
            break
    return offset


@pytest.mark.attack("CVE-2024-1765")
def test_crypto_data_after_the_handshake_ends() -> None:
    """Tickets that are as right as they are long: the bytes of a connection's life are counted."""
    peer = Peer("server")
    taken = flood_of_crypto(peer, lambda n: ticket(60_000), 40)
    assert getattr(peer.engine.closed, "code", None) == E.CRYPTO_BUFFER_EXCEEDED
    assert 1 << 19 < taken <= (1 << 20) + 1000


@pytest.mark.attack("CVE-2026-56862 / CVE-2026-32283")
@pytest.mark.parametrize("plays", ["client", "server"])
def test_post_handshake_messages_do_not_go_on_for_ever(plays: str) -> None:
    """RFC 9001 §6: a KeyUpdate is fatal, the first of many in one frame; tickets are for clients, and are counted."""
    update = handshake_message(HandshakeType.KEY_UPDATE, b"\x00")
    peer = Peer(plays)
    peer.sends(f.write_crypto(peer.engine._state.spaces[ONE_RTT].crypto.incoming.end, update * 50))
    assert peer.closed_with() == 0x10A
    peer = Peer(plays)
    taken = flood_of_crypto(peer, lambda n: ticket(), 20_000)
    assert peer.closed_with() == 0x10A
    assert taken < 100_000


@pytest.mark.attack("CVE-2023-39322")
def test_a_message_without_end() -> None:
    """RFC 9000 §7.5: what a header says is believed only up to 64 KiB; nothing is waited for beyond."""
    peer = Peer("server")
    offset = peer.engine._state.spaces[ONE_RTT].crypto.incoming.end
    peer.sends(f.write_crypto(offset, b"\x04\xff\xff\xff"))
    assert peer.closed_with() == E.CRYPTO_BUFFER_EXCEEDED


@pytest.mark.attack("aioquic #501")
@pytest.mark.parametrize("stride", [2, 10, 1000])
def test_crypto_data_with_holes(stride: int) -> None:
    """RFC 9000 §7.5: the span is bounded, and so is the number of pieces."""
    peer = Peer()
    offset = peer.engine._state.spaces[ONE_RTT].crypto.incoming.end + 1
    before = size_of(peer.engine._state)
    most = before
    for _ in range(300):
        frames = [f.write_crypto(offset + stride * i, b"x") for i in range(200)]
        offset += stride * len(frames)
        peer.sends(*frames)
        if peer.engine.closed is not None:
            break
        most = max(most, size_of(peer.engine._state))
    assert getattr(peer.engine.closed, "code", None) == E.CRYPTO_BUFFER_EXCEEDED
    assert most - before < (1 << 16) + 2 * 2200 * 48


@pytest.mark.attack("CVE-2023-50247")
def test_nothing_is_kept_of_what_is_over() -> None:
    """RFC 9000 §3, §5.1: a thousand streams, connection IDs and paths later the connection is as large as before."""
    peer = Peer()

    def live(first: int, last: int) -> None:
        for n in range(first, last):
            peer.sends(stream(4 * n, b"question", fin=True), f.write_reset_stream(4 * n + 2, 0, 0))
            for each in peer.engine.take_ready().streams:
                if each.can_receive and each.reset_code is None:
                    each.read()
                if each.can_send and not each.send.fin:  # type: ignore[union-attr]
                    each.write(b"answer", fin=True)
            known = peer.engine._state.local_cids.active
            peer.state.peer_cids.current.cid = known[max(known)]
            retired = f.write_limit(f.RETIRE_CONNECTION_ID, min(known))
            peer.sends(retired, f.write_new_connection_id(10 + n, 10 + n, n.to_bytes(8, "big"), bytes(16)))
            peer.hears(ack=True)
            peer.engine.take_ready()
            peer.hears()
            assert peer.engine.closed is None, peer.engine.closed

    live(0, 3)
    before = size_of(peer.engine._state)
    for start in range(3, 300, 3):
        live(start, start + 3)
    assert not peer.engine._state.streams.streams
    assert len(peer.engine.local_cids) == 4 and min(peer.engine._state.local_cids.active) > 290
    assert size_of(peer.engine._state) - before < 6000


@pytest.mark.attack("CVE-2024-26190 / CVE-2023-36435")
def test_handshakes_that_fail_leave_nothing() -> None:
    """RFC 9000 §7.4: transport parameters are read once, and what fails is forgotten when it has been said."""
    pair = Pair()
    endpoint = pair.server_endpoint
    sizes = []
    for n in range(40):
        client = Pair(seed=100 + n)
        client.now = pair.now
        client.client._state.local_parameters.max_udp_payload_size = 1000
        client.client._state.spaces[INITIAL].crypto = CryptoStream()
        handshake.start(client.client._state, client.now)
        pair.to_server(client.from_client())
        (connection,) = endpoint.connections
        assert getattr(connection.closed, "code", None) == E.TRANSPORT_PARAMETER_ERROR
        pair.from_server()
        pair.advance(20)
        assert not endpoint.connections
        endpoint.take_ready()
        sizes.append(size_of(endpoint))
    assert max(sizes[20:]) <= max(sizes[:20]) + 200


@pytest.mark.attack('CVE-2025-54939 "QUIC-LEAK"')
def test_later_packets_of_a_datagram_for_somebody_else() -> None:
    """RFC 9000 §12.2: they are dropped before anything is made of them, long before the handshake is done."""
    pair = Pair()
    (first,) = pair.from_client()
    pair.to_server([first])
    server = pair.server
    before = size_of(pair.server_endpoint)
    dropped = server.stats().counters.packets_dropped
    state = pair.client._state
    source = bytes((len(state.local_cids.first),)) + state.local_cids.first
    for n in range(100):
        initial = long_packet(state, INITIAL, b"\x01", number=100 + n, pad_to=1200)
        strays = b"".join(
            b"\xe0" + initial[1:5] + b"\x08" + (1000 * n + i).to_bytes(8, "big") + source + b"\x1e" + bytes(30)
            for i in range(15)
        )
        pair.to_server([Train(initial + strays, len(initial + strays), TO_CLIENT)])
    assert len(pair.server_endpoint.connections) == 1
    assert server.stats().counters.packets_dropped - dropped == 1500
    assert server._state.key_phase.failures == 0, "nothing was tried with keys"
    assert size_of(pair.server_endpoint) - before < 4000


CHEAP = {
    "c: PING/PADDING/ACK flood": [b"\x01"] * 1000,
    "c: zero-length STREAM": [stream(0, b"")] * 300,
    "c: DATA_BLOCKED flood": [f.write_limit(f.DATA_BLOCKED, 5)] * 400,
    "c: RESET/STOP_SENDING flood": [f.write_stop_sending(0, 1), f.write_reset_stream(0, 1, 0)] * 150,
    "more PADDING": [bytes(1100)],
    "more MAX_DATA": [f.write_limit(f.MAX_DATA, n) for n in range(1 << 21, (1 << 21) + 200)],
    "more ACK": [f.write_ack([(0, 0)], 0)] * 200,
    "more BLOCKED": [f.write_limit(f.STREAM_DATA_BLOCKED, 0, 5), f.write_limit(f.STREAMS_BLOCKED_BIDI, 5)] * 150,
}


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            "c: PING/PADDING/ACK flood", marks=pytest.mark.attack("c: PING/PADDING/ACK flood"), id="PING"
        ),
        pytest.param("c: zero-length STREAM", marks=pytest.mark.attack("c: zero-length STREAM"), id="STREAM"),
        pytest.param("c: DATA_BLOCKED flood", marks=pytest.mark.attack("c: DATA_BLOCKED flood"), id="DATA_BLOCKED"),
        pytest.param(
            "c: RESET/STOP_SENDING flood", marks=pytest.mark.attack("c: RESET/STOP_SENDING flood"), id="STOP_SENDING"
        ),
        "more PADDING", "more MAX_DATA", "more ACK", "more BLOCKED",
    ],
)  # fmt: skip
def test_frames_by_the_thousand(case: str) -> None:
    """A frame costs a few calls and no memory, and all of them together get next to no answer."""
    frames = CHEAP[case]
    peer = Peer()
    peer.sends(stream(0, b""), frames[0])
    peer.hears(ack=True)
    peer.sends(*frames)
    peer.hears(ack=True)
    peer.engine.take_ready()
    before = size_of(peer.engine._state)
    answers = 0
    for _ in range(5):
        datagram, _ = peer.packet(*frames)
        cost = calls(lambda datagram=datagram: peer.delivers(datagram))
        assert cost < 250 + 25 * len(frames)
        answers += len([frame for frame in peer.hears(ack=True) if frame.name not in ("ACK", "ACK_ECN", "PADDING")])
        assert peer.engine.take_ready().streams == []
    assert answers == 0
    assert size_of(peer.engine._state) - before < 2000
    assert peer.engine.closed is None


@pytest.mark.attack("c: flow-control hostage")
def test_what_the_peer_gives_no_credit_for_waits_at_the_application() -> None:
    """RFC 9000 §4: answers are asked for and then held up by a peer that is alive. ``write`` takes a bounded part."""
    peer = Peer(send_buffer=10_000, initial_max_streams_bidi=8)
    taken = 0
    for n in range(8):
        peer.sends(stream(4 * n, b"GET", fin=True))
        answering = peer.engine.stream(4 * n)
        assert answering is not None
        answering.send.limit = 100  # type: ignore[union-attr]
        for _ in range(100):
            taken += answering.write(bytes(5000))
    assert taken <= 8 * 10_100
    before = size_of(peer.engine._state)
    for _ in range(200):
        peer.sends(b"\x01")
        peer.hears(ack=True)
    assert size_of(peer.engine._state) - before < 2000
    assert not peer.engine._state.recovery.bytes_in_flight


@pytest.mark.attack("c: MAX_STREAMS / stream churn")
def test_streams_that_a_driver_keeps_count_as_open() -> None:
    """RFC 9000 §4.6: nobody has asked for them yet, so the peer gets no others for them."""
    peer = Peer(initial_max_streams_uni=4)
    for n in range(4):
        peer.sends(f.write_reset_stream(2 + 4 * n, 0, 0))
    kept = peer.engine.take_ready().streams
    for each in kept:
        each.hold()
    assert [frame for frame in peer.hears() if frame.name == "MAX_STREAMS"] == []
    for each in kept:
        each.let_go()
    assert [frame.fields["maximum"] for frame in peer.hears() if frame.name == "MAX_STREAMS"] == [8]


def test_unacknowledged_handshake_data_of_a_peer_that_is_gone() -> None:
    """RFC 9001 §4.9: with the keys goes what was kept for them."""
    peer = Peer()
    for index in (INITIAL, HANDSHAKE):
        space = peer.engine._state.spaces[index]
        assert not space.waiting and not space.crypto.outgoing.buffered and not space.crypto.incoming.readable
