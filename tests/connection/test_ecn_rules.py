"""ECN as the peer sees it: marks that go out, counts that come back, counts that are reported (RFC 9000 §13.4)."""

from __future__ import annotations

import pytest
from peer import HANDSHAKE, INITIAL, ONE_RTT, TO_CLIENT, Pair, Peer, long_packet
from wire import Listener

from quicstack.train import Train
from quicstack.wire import frame as f
from quicstack.wire.ranges import RangeSet

ECT1, ECT0, CE = 1, 2, 3


class Marked:
    """A peer that has seen every mark so far and reports what a test wants."""

    def __init__(self) -> None:
        self.peer = peer = Peer()
        self.counts = list(peer.state.spaces[ONE_RTT].acks.ecn)
        peer.hears(ack=False)
        assert self.mark() == ECT0
        self.confirm()
        assert self.mark() == ECT0

    def pings(self, count: int) -> list[int]:
        """Marked packets; their numbers."""
        numbers = []
        for _ in range(count):
            self.peer.engine.ping()
            self.peer.pair.now += 0.002
            train = self.peer.endpoint.next_train(self.peer.now)
            assert train is not None and train.ecn == ECT0
            numbers.append(self.peer.opens(train.data)[0])
            self.peer.received.add(numbers[-1])
        return numbers

    def mark(self) -> int:
        """Of the next packet."""
        self.peer.engine.ping()
        self.peer.pair.now += 0.002
        train = self.peer.endpoint.next_train(self.peer.now)
        assert train is not None
        self.peer.received.add(self.peer.opens(train.data)[0])
        return train.ecn

    def acknowledges(self, numbers: list[int], counts: tuple[int, int, int] | None) -> None:
        """An ACK of these packets; with the counts before plus these, or without counts."""
        ranges = RangeSet()
        for number in numbers:
            ranges.add(number, number + 1)
        before = self.counts
        ecn = None if counts is None else tuple(a + b for a, b in zip(before, counts, strict=True))
        written = f.write_ack([(start, stop - 1) for start, stop in reversed(list(ranges))], 0, ecn)  # type: ignore[arg-type]
        self.peer.sends(written)

    def confirm(self) -> None:
        """Everything sent so far arrived with its mark."""
        sent = self.peer.engine._state.recovery.ecn._sent[ONE_RTT]
        self.acknowledges(sorted(self.peer.received), (sent - self.counts[0], 0, 0))
        self.counts = [sent, 0, 0]


@pytest.mark.parametrize(
    ("newly", "counts", "goes_on"),
    [
        pytest.param(6, None, False, marks=pytest.mark.conformance("T102"), id="no counts"),
        pytest.param(6, (6, 1, 0), False, marks=pytest.mark.conformance("T102"), id="ECT(1), which is never sent"),
        pytest.param(6, (5, 1, 0), False, marks=pytest.mark.conformance("T102"), id="ECT(1) instead of ECT(0)"),
        pytest.param(6, (5, 0, 0), False, marks=pytest.mark.conformance("T103"), id="one mark less"),
        pytest.param(6, (0, 0, 0), False, marks=pytest.mark.conformance("T103"), id="no mark"),
        pytest.param(6, (4, 0, 1), False, marks=pytest.mark.conformance("T103"), id="one less, CE included"),
        pytest.param(6, (6, 0, 0), True, marks=pytest.mark.conformance("T103"), id="every mark"),
        pytest.param(6, (4, 0, 2), True, marks=pytest.mark.conformance("T103"), id="some of them CE"),
        pytest.param(3, (6, 0, 0), True, marks=pytest.mark.conformance("T103"), id="more than are acknowledged"),
    ],
)
def test_counts_that_come_back(newly: int, counts: tuple[int, int, int] | None, goes_on: bool) -> None:
    """§13.4.2.1, §13.4.2.2: what does not add up ends the marking, for good."""
    marked = Marked()
    marked.confirm()
    numbers = marked.pings(6)
    marked.acknowledges(numbers[-newly:], counts)
    assert [marked.mark() for _ in range(12)] == [ECT0 if goes_on else 0] * 12
    assert marked.peer.engine.closed is None


@pytest.mark.conformance("T102")
@pytest.mark.parametrize("counts", [(2, 0, 0), (0, 0, 0), None], ids=["lower counts", "none new", "no counts at all"])
def test_an_acknowledgement_that_comes_late(counts: tuple[int, int, int] | None) -> None:
    """§13.4.2.1: one that does not raise the largest acknowledged proves nothing, also when it acknowledges packets."""
    marked = Marked()
    marked.confirm()
    numbers = marked.pings(3)  # fewer, and the first would be lost by now
    marked.acknowledges(numbers[1:], (3, 0, 0))
    marked.acknowledges(numbers[:1], counts)
    assert marked.mark() == ECT0


# -- what is reported (§13.4.1) ------------------------------------------------------------------------------------


@pytest.mark.conformance("T102a")
@pytest.mark.parametrize("marks", [True, False], ids=["marks itself", "marks nothing itself"])
def test_counts_of_what_was_received(marks: bool) -> None:
    """§13.4.1: exact, duplicates not counted, unmarked packets neither, whether our own packets bear marks or not."""
    peer = Peer(ecn=marks)
    peer.hears(ack=True)
    before = peer.engine._state.spaces[ONE_RTT].acks.ecn[:]
    datagram, _ = peer.packet(b"\x01")
    for _ in range(3):
        peer.delivers(datagram, ecn=ECT0)
    for ecn in (ECT0, ECT1, 0, ECT1, CE, 0, ECT0):
        peer.sends(b"\x01", ecn=ecn)
    acks = [frame for frame in peer.hears() if frame.frame_type in (f.ACK, f.ACK_ECN)]
    assert acks[-1].name == "ACK_ECN"
    assert acks[-1].ecn == (before[0] + 3, before[1] + 2, before[2] + 1)
    peer.engine.ping()
    sent = peer.endpoint.next_train(peer.now)
    assert sent is not None and (sent.ecn == ECT0) is marks


def test_no_marks_no_counts() -> None:
    """§13.4.1, §19.3: a plain ACK."""
    pair = Pair({"ecn": False}, {"ecn": False})
    for _ in range(6):
        to_server = pair.from_client()
        assert all(train.ecn == 0 for train in to_server)
        pair.to_server(to_server)
        listener = Listener(pair.server)
        frames = [frame for packet in listener.reads(pair.from_server()) for frame in packet.frames]
        assert "ACK_ECN" not in [frame.name for frame in frames]


def reported(listener: Listener, trains: list[Train]) -> dict[str, object]:
    """The counts that these trains report, by level."""
    return {
        packet.level: frame.ecn
        for packet in listener.reads(trains)
        for frame in packet.frames
        if frame.frame_type == f.ACK_ECN
    }


@pytest.mark.conformance("T102a")
def test_a_datagram_counts_once_for_each_of_its_packets() -> None:
    """§13.4.1, §13.4.2: in the packet number space of each."""
    pair = Pair({"ecn": False}, {"ecn": False})
    pair.to_server(pair.from_client())
    pair.to_client(pair.from_server())
    state, listener = pair.client._state, Listener(pair.server)
    cid = state.peer_cids.current.cid
    together = long_packet(state, INITIAL, b"\x01", number=60, pad_to=60)
    together += long_packet(state, INITIAL, b"\x01", number=61, pad_to=60)
    together += long_packet(state, HANDSHAKE, b"\x01", number=70, pad_to=60)
    keys = state.spaces[ONE_RTT].seal_keys
    assert keys is not None
    together += keys.seal(b"\x43" + cid + (80).to_bytes(4, "big"), 4, 80, b"\x01".ljust(1200 - len(together), b"\0"))
    (finished,) = pair.from_client()
    pair.to_server([Train(together, len(together), TO_CLIENT, CE)])
    counts = reported(listener, pair.from_server())
    assert counts["handshake"] == (0, 0, 1)
    assert counts.get("initial", (0, 0, 2)) == (0, 0, 2)  # its keys may be gone
    assert pair.server._state.spaces[INITIAL].acks.ecn == [0, 0, 2]
    pair.to_server([finished])
    assert reported(listener, pair.from_server())["1RTT"] == (0, 0, 1)
