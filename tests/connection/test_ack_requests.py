"""ACK_FREQUENCY and IMMEDIATE_ACK as they are sent (draft-ietf-quic-ack-frequency §3, §4, §7)."""

from __future__ import annotations

import pytest
from peer import Pair, Peer

from quicstack.config import AckFrequency
from quicstack.errors import ConfigurationError
from quicstack.wire.frame_study import Frame

SELDOM = AckFrequency(threshold=9, max_ack_delay=0.1, reordering_threshold=3)
OFTEN = AckFrequency(threshold=0, max_ack_delay=0.005)


def requests(frames: list[Frame]) -> list[tuple[object, ...]]:
    return [tuple(frame.fields.values()) for frame in frames if frame.name == "ACK_FREQUENCY"]


def pto(peer: Peer) -> float:
    """The probe timeout, without what the round trip contributes."""
    recovery = peer.engine._state.recovery
    return round(recovery.pto_duration(2) - recovery.rtt.pto, 6)


def engine(plays: str = "client", **settings: object) -> Peer:
    """A peer that has acknowledged everything so far."""
    peer = Peer(plays, **settings)
    peer.hears(ack=True)
    return peer


@pytest.mark.parametrize("ask", [None, SELDOM], ids=["no", "yes"])
@pytest.mark.parametrize("listens", [True, False])
@pytest.mark.conformance("T158", "AF06")
def test_only_who_listens_is_asked(ask: AckFrequency | None, listens: bool) -> None:
    """§3: and only if the configuration says so; both sides alike."""
    least = 0.001 if listens else None
    pair = Pair(
        client={"ack_frequency": ask, "min_ack_delay": least}, server={"ack_frequency": ask, "min_ack_delay": least}
    )
    pair.exchange()
    for connection in (pair.client, pair.server):
        acks = connection._state.spaces[2].acks
        obeys = ask is not None and listens
        assert (acks.threshold, round(acks.max_ack_delay, 6), acks.reordering_threshold) == (
            (9, 0.1, 3) if obeys else (1, 0.025, 1)
        )
        assert connection._state.ack_requests.are_made == obeys
        assert connection.ask_for_acks(OFTEN) == listens


def test_before_the_handshake() -> None:
    assert not Pair().client.ask_for_acks(SELDOM)


@pytest.mark.parametrize("plays", ["client", "server"])
def test_what_it_says(plays: str) -> None:
    """§4: microseconds, and a sequence number that rises."""
    peer = engine(plays)
    for sequence, wanted in enumerate((SELDOM, OFTEN, SELDOM)):
        assert peer.engine.ask_for_acks(wanted)
        expected = (sequence, wanted.threshold, int(wanted.max_ack_delay * 1e6), wanted.reordering_threshold)
        assert requests(peer.hears(ack=True)) == [expected]


def test_no_less_than_the_peer_can_do() -> None:
    """§4: less would be a violation."""
    pair = Pair(server={"min_ack_delay": 0.02})
    pair.exchange()
    pair.client.ask_for_acks(OFTEN)
    pair.exchange()
    assert pair.server._state.spaces[2].acks.max_ack_delay == 0.02
    assert pair.client._state.recovery.max_ack_delay == 0.02
    assert pair.client.closed is None


@pytest.mark.conformance("AF07")
@pytest.mark.parametrize("wanted", [(0.005,), (0.1,), (0.2, 0.005), (0.005, 0.1, 0.01)])
def test_the_probe_timeout_waits_for_the_slowest(wanted: tuple[float, ...]) -> None:
    """§7: the largest of what is in force and all that is on its way, until the newest is acknowledged."""
    peer = engine()
    assert pto(peer) == 0.025
    longest = 0.025
    for delay in wanted:
        peer.engine.ask_for_acks(AckFrequency(max_ack_delay=delay))
        longest = max(longest, delay)
        assert pto(peer) == longest
        heard = set(peer.received)
        assert len(requests(peer.hears())) == 1
        assert pto(peer) == longest
    newest = max(peer.received)
    older = {number for number in peer.received - heard if number < newest}
    if older:
        peer.acknowledges(*older)
    assert pto(peer) == longest
    peer.acknowledges(newest)
    assert pto(peer) == wanted[-1]


def test_a_request_that_is_lost_is_made_again() -> None:
    """§4: with the newest values; here a timeout brings it back."""
    peer = engine()
    peer.engine.ask_for_acks(SELDOM)
    assert len(requests(peer.hears())) == 1
    assert (0, 9, 100_000, 3) in requests(peer.advance(2.0))


def test_a_probe_asks_for_an_answer_at_once() -> None:
    """§7: a peer that is in no hurry is told that this one matters; others see a PING."""
    for wanted, name in ((None, "PING"), (SELDOM, "IMMEDIATE_ACK")):
        peer = engine()
        if wanted is not None:
            peer.engine.ask_for_acks(wanted)
            peer.hears(ack=True)
        peer.engine.send_datagram(b"never acknowledged")
        peer.hears()
        assert name in [frame.name for frame in peer.advance(2.0)]


def test_fewer_acknowledgements() -> None:
    """What it is good for: a tenth of the packets that carry nothing else."""
    sent = []
    for ask in (None, SELDOM):
        pair = Pair(client={"ack_frequency": ask, "pacing": False})
        pair.exchange()
        before = pair.server.stats().counters.packets_sent
        for _ in range(100):
            pair.client.send_datagram(bytes(900))
            pair.to_server(pair.from_client())
            pair.to_client(pair.from_server())
        sent.append(pair.server.stats().counters.packets_sent - before)
    assert sent[1] <= 12 and 48 <= sent[0] <= 52


@pytest.mark.parametrize("wrong", [{"threshold": -1}, {"max_ack_delay": 16.384}, {"reordering_threshold": -1}])
def test_what_cannot_be_asked(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError):
        AckFrequency(**wrong)  # type: ignore[arg-type]
