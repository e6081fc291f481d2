"""When and what to acknowledge (RFC 9000 §13.2)."""

from quicstack.transport.ack_tracker import MAX_RANGES, AckTracker
from quicstack.wire.frame import read_ack


def tracker(immediate: bool = False) -> AckTracker:
    return AckTracker(immediate=immediate)


def ranges(acks: AckTracker, capacity: int = 1000) -> list[tuple[int, int]]:
    frame = acks.write(1.0, 3, capacity)
    assert frame is not None
    return read_ack(frame, 1, frame[0])[0]


def receive(acks: AckTracker, *numbers: int, now: float = 1.0, ecn: int = 0) -> None:
    for number in numbers:
        acks.on_packet(number, True, now, ecn)
    acks.end_of_read(now)


def test_one_packet_waits_for_max_ack_delay() -> None:
    acks = tracker()
    receive(acks, 0)
    assert not acks.ack_due
    assert acks.ack_deadline == 1.0 + 0.025
    acks.on_timeout(1.02)
    assert not acks.ack_due
    acks.on_timeout(1.025)
    assert acks.ack_due


def test_a_read_that_leaves_two_is_answered() -> None:
    """§13.2.2."""
    acks = tracker()
    receive(acks, 0)
    receive(acks, 1)
    assert acks.ack_due


def test_handshake_packets_are_acknowledged_at_once() -> None:
    """§13.2.1."""
    acks = tracker(immediate=True)
    receive(acks, 0)
    assert acks.ack_due


def test_reordering_and_gaps_are_reported_at_once() -> None:
    """§13.2.1."""
    for numbers in ([0, 2], [5, 3]):
        acks = tracker()
        receive(acks, numbers[0])
        acks.on_ack_sent()
        receive(acks, numbers[1])
        assert acks.ack_due, numbers


def test_congestion_is_reported_at_once() -> None:
    """§13.2.1: a packet marked CE."""
    acks = tracker()
    receive(acks, 0, ecn=2)
    assert not acks.ack_due
    receive(acks, 1, ecn=3)
    assert acks.ack_due
    frame = acks.write(1.0, 3, 500)
    assert frame is not None
    assert read_ack(frame, 1, frame[0])[2] == (1, 0, 1)


def test_an_ack_does_not_elicit_an_ack() -> None:
    acks = tracker()
    acks.on_packet(0, False, 1.0, 0)
    acks.end_of_read(1.0)
    assert acks.ack_deadline is None
    assert not acks.ack_due


def test_ranges_come_from_the_largest_down() -> None:
    acks = tracker()
    receive(acks, 0, 1, 2, 7, 5, 9)
    assert ranges(acks) == [(9, 9), (7, 7), (5, 5), (0, 2)]


def test_delay_is_scaled() -> None:
    acks = tracker()
    receive(acks, 0, now=1.0)
    frame = acks.write(1.008, 3, 500)
    assert frame is not None
    assert read_ack(frame, 1, frame[0])[1] == 999 or read_ack(frame, 1, frame[0])[1] == 1000


def test_duplicates() -> None:
    acks = tracker()
    receive(acks, 0, 1, 5)
    assert [acks.is_duplicate(n) for n in range(7)] == [True, True, False, False, False, True, False]


def test_every_second_packet_number_costs_a_bounded_ack() -> None:
    """A peer that skips every other number makes neither memory nor ACK frames grow without end."""
    acks = tracker()
    receive(acks, *range(0, 4 * MAX_RANGES, 2))
    assert len(acks._ranges) == MAX_RANGES
    # What was forgotten counts as received: it is never processed twice.
    assert all(acks.is_duplicate(n) for n in range(0, acks.floor))
    for capacity in (60, 100, 200, 1000):
        frame = acks.write(1.0, 3, capacity)
        assert frame is None or len(frame) <= capacity
    assert ranges(acks, 100)[0] == (4 * MAX_RANGES - 2, 4 * MAX_RANGES - 2)


def test_what_the_peer_knows_is_not_repeated() -> None:
    """§13.2.4; and a packet that arrives late after all is reported."""
    acks = tracker()
    receive(acks, 0, 2, 4)
    assert ranges(acks) == [(4, 4), (2, 2), (0, 0)]
    acks.on_ack_acked(4)
    receive(acks, 6)
    assert ranges(acks) == [(6, 6)]
    receive(acks, 1)
    assert ranges(acks) == [(6, 6), (4, 4), (0, 2)]
