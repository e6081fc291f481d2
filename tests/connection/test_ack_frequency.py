"""ACK_FREQUENCY and IMMEDIATE_ACK as they are received and obeyed (draft-ietf-quic-ack-frequency-12)."""

from __future__ import annotations

import pytest
from peer import Pair, Peer, opens_long

from quicstack.connection import handshake
from quicstack.errors import TransportErrorCode
from quicstack.transport.crypto_stream import CryptoStream
from quicstack.wire import frame as f
from quicstack.wire.varint import encode_varint

E = TransportErrorCode
PING = b"\x01"


def quiet(sequence: int, *, threshold: int = 9, delay: int = 200_000, reordering: int = 1, **settings: object) -> Peer:
    """A peer that has asked for this and heard the answer."""
    peer = Peer(**settings)
    ask(peer, sequence, threshold, delay, reordering)
    return peer


def ask(peer: Peer, sequence: int, threshold: int, delay: int, reordering: int = 1) -> None:
    peer.hears(ack=True)
    peer.sends(f.write_ack_frequency(sequence, threshold, delay, reordering), b"\x1f")
    assert acks(peer) == 1


def acks(peer: Peer) -> int:
    return sum(frame.name in ("ACK", "ACK_ECN") for frame in peer.hears())


def pings(peer: Peer, count: int) -> int:
    """One after the other; how many ACK frames come in between."""
    heard = 0
    for _ in range(count):
        peer.sends(PING)
        heard += acks(peer)
    return heard


@pytest.mark.conformance("AF04")
@pytest.mark.parametrize(("threshold", "expected"), [(0, 40), (1, 20), (9, 4), (19, 2), (39, 1), (40, 0)])
def test_the_threshold(threshold: int, expected: int) -> None:
    """§4, §6: an ACK for more than so many packets."""
    assert pings(quiet(0, threshold=threshold, delay=2_000_000), 40) == expected


@pytest.mark.conformance("AF04")
def test_the_delay() -> None:
    """§6: a single packet is acknowledged when the requested delay is over."""
    peer = quiet(0, delay=200_000)
    peer.sends(PING)
    assert not peer.advance(0.19)
    assert [frame.name for frame in peer.advance(0.02)] == ["ACK_ECN"]


@pytest.mark.conformance("AF03")
def test_old_frames_are_ignored() -> None:
    """§4: what is not newer than the newest changes nothing."""
    peer = quiet(5, threshold=9, delay=2_000_000)
    for sequence in (4, 5):
        ask(peer, sequence, 0, 2_000_000)
    assert pings(peer, 40) == 4
    ask(peer, 6, 3, 2_000_000)
    assert pings(peer, 40) == 10


@pytest.mark.conformance("AF02")
@pytest.mark.parametrize(("delay", "fine"), [(999, False), (1000, True), (16_383_999, True), (16_384_000, False)])
def test_delays_that_nobody_may_ask_for(delay: int, fine: bool) -> None:
    """§4: below what we announced, or more than max_ack_delay can be."""
    peer = Peer(min_ack_delay=0.001)
    peer.sends(f.write_ack_frequency(0, 1, delay, 1))
    assert peer.closed_with() == (None if fine else E.PROTOCOL_VIOLATION)


@pytest.mark.conformance("AF05")
@pytest.mark.parametrize(
    ("threshold", "packets", "answered"),
    [
        (3, [0, 1, 3, 4, 5, 8, 9, 10], [5, 9, 10]),
        (5, [0, 1, 3, 5, 6, 7, 8, 9], [7, 9]),
        (0, [0, 2, 4, 6, 8, 10], []),
        (1, [0, 2, 3, 5], [2, 5]),
    ],
    ids=["Table 1", "Table 2", "never", "at once"],
)
def test_reordering(threshold: int, packets: list[int], answered: list[int]) -> None:
    """§6.2, §6.2.1."""
    peer = quiet(0, threshold=1000, delay=10_000_000, reordering=threshold)
    base = peer.sends(PING, b"\x1f") + 1
    assert acks(peer) == 1
    found = []
    for number in packets:
        peer.sends(PING, number=base + number)
        if acks(peer):
            found.append(number)
    assert found == answered


def test_congestion_is_reported_when_it_begins() -> None:
    """§6.3."""
    peer = quiet(0, threshold=1000, delay=10_000_000)
    heard = []
    for ecn in (2, 3, 3, 2, 3):
        peer.sends(PING, ecn=ecn)
        heard.append(acks(peer))
    assert heard == [0, 1, 0, 0, 1]


@pytest.mark.conformance("AF06")
def test_immediate_ack() -> None:
    """§5: before threshold and delay; many in one packet are answered once."""
    peer = quiet(0, threshold=1000, delay=10_000_000)
    peer.sends(PING)
    assert acks(peer) == 0
    peer.sends(*[b"\x1f"] * 500)
    assert acks(peer) == 1


@pytest.mark.conformance("T158")
def test_not_announced() -> None:
    """RFC 9000 §12.4: from a peer that was not told of them they are unknown frames."""
    for frame in (b"\x1f", f.write_ack_frequency(0, 1, 20_000, 1)):
        peer = Peer(min_ack_delay=None)
        peer.sends(frame)
        assert peer.closed_with() == E.FRAME_ENCODING_ERROR


@pytest.mark.conformance("AF01")
def test_more_than_max_ack_delay() -> None:
    """§3: microseconds here, milliseconds there."""
    pair = Pair(client={"min_ack_delay": None, "max_ack_delay": 0.025})
    state = pair.client._state
    state.local_parameters.reserved[0xFF04DE1B] = encode_varint(25_001)
    state.spaces[0].crypto = CryptoStream()
    handshake.start(state, pair.now)
    pair.to_server(pair.from_client())
    found = [one for train in pair.from_server() for _, frames in opens_long(state, train.data) for one in frames]
    closes = [one.fields["error_code"] for one in found if one.name == "CONNECTION_CLOSE"]
    assert closes == [E.TRANSPORT_PARAMETER_ERROR]
