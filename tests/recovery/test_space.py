"""Outstanding packets of one packet number space: what an ACK takes out, and at what price."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from quicstack.recovery.sent_packet import SentPacket
from quicstack.recovery.space import MAX_ACK_ONLY, Space, SpaceState, loss_time_and_space


def space_with(*numbers: int) -> SpaceState:
    state = SpaceState(Space.APPLICATION)
    for number in numbers:
        state.sent_packets[number] = SentPacket(number, float(number), 1200, True, True)
    return state


def numbers(packets: list[SentPacket]) -> list[int]:
    return [packet.packet_number for packet in packets]


def test_acked_in_the_order_sent_whatever_the_ranges() -> None:
    state = space_with(*range(10))
    assert numbers(state.detect_and_remove_acked_packets([(8, 9), (3, 5), (0, 1)])) == [0, 1, 3, 4, 5, 8, 9]
    assert list(state.sent_packets) == [2, 6, 7]
    assert state.detect_and_remove_acked_packets([(8, 9), (3, 5), (0, 1)]) == []


def test_unknown_numbers_are_ignored() -> None:
    state = space_with(5, 6)
    assert numbers(state.detect_and_remove_acked_packets([(0, 5)])) == [5]
    assert state.detect_and_remove_acked_packets([(0, 3)]) == []


class CountingDict(dict[int, SentPacket]):
    """Counts look-ups by number."""

    looked_up = 0

    def pop(self, number: int, *default: object) -> SentPacket:  # type: ignore[override]
        self.looked_up += 1
        return super().pop(number, *default)  # type: ignore[arg-type]


def test_a_huge_range_costs_what_is_outstanding() -> None:
    state = space_with()
    state.sent_packets = sent = CountingDict(space_with(0, 1 << 39, (1 << 40) - 1).sent_packets)
    assert numbers(state.detect_and_remove_acked_packets([(0, 1 << 40)])) == [0, 1 << 39, (1 << 40) - 1]
    assert sent.looked_up == 3


def test_ranges_below_the_oldest_cost_nothing() -> None:
    state = space_with()
    state.sent_packets = sent = CountingDict(space_with(*range(10_000, 10_040)).sent_packets)
    state.oldest = 10_000
    old = [(number, number) for number in range(9_998, 0, -2)]
    assert len(state.detect_and_remove_acked_packets([(10_000, 10_039), *old])) == 40
    assert sent.looked_up == 40


def test_bulk_acks_look_up_each_packet_once() -> None:
    """The receiver repeats its whole range in every ACK; only the new end of it is work."""
    state = space_with()
    state.sent_packets = sent = CountingDict()
    for train in range(100):
        for number in range(train * 40, train * 40 + 40):
            sent[number] = SentPacket(number, float(train), 1200, True, True)
        if train >= 10:
            largest = (train - 9) * 40 - 1
            state.largest_acked_packet = largest
            assert len(state.detect_and_remove_acked_packets([(0, largest)])) == 40
            assert state.detect_and_remove_lost_packets(float(train), 1000.0) == []
    assert sent.looked_up == 90 * 40


def test_after_an_ack_at_most_three_numbers_are_open_below_it() -> None:
    state = space_with(*range(1000))
    state.largest_acked_packet = 999
    state.detect_and_remove_acked_packets([(999, 999)])
    lost = state.detect_and_remove_lost_packets(now=0.0, loss_delay=10_000.0)
    assert numbers(lost) == list(range(997))
    assert state.oldest == 997


def test_ack_only_packets_are_bounded() -> None:
    state = space_with()
    for number in range(10 * MAX_ACK_ONLY):
        state.remember_ack_only(SentPacket(number, 0.0, 40, False, False))
    assert len(state.ack_only_packets) == MAX_ACK_ONLY
    largest = 10 * MAX_ACK_ONLY - 1
    acked = state.detect_and_remove_acked_ack_only([(largest - 1, largest), (largest - 5, largest - 4)])
    assert numbers(acked) == [largest, largest - 1, largest - 4, largest - 5]
    assert not state.ack_only_packets


def test_earliest_loss_time() -> None:
    spaces = [SpaceState(space) for space in Space]
    assert loss_time_and_space(spaces) == (None, 0)
    spaces[2].loss_time, spaces[1].loss_time = 4.0, 5.0
    assert loss_time_and_space(spaces) == (4.0, Space.APPLICATION)


@given(
    sent=st.sets(st.integers(0, 300), max_size=120),
    acks=st.lists(st.sets(st.integers(0, 300), min_size=1, max_size=60), max_size=8),
)
def test_matches_a_set(sent: set[int], acks: list[set[int]]) -> None:
    """Whatever is acknowledged: exactly the outstanding numbers, and losses by kPacketThreshold alone."""
    state = space_with(*sorted(sent))
    outstanding, largest_acked = set(sent), -1
    for ack in acks:
        ranges: list[tuple[int, int]] = []
        for number in sorted(ack, reverse=True):
            if ranges and ranges[-1][0] == number + 1:
                ranges[-1] = (number, ranges[-1][1])
            else:
                ranges.append((number, number))
        largest_acked = max(largest_acked, ranges[0][1])
        state.largest_acked_packet = largest_acked
        acked = numbers(state.detect_and_remove_acked_packets(ranges))
        assert acked == sorted(outstanding & ack)
        outstanding -= ack
        lost = numbers(state.detect_and_remove_lost_packets(now=0.0, loss_delay=1000.0))
        assert lost == sorted(number for number in outstanding if number + 3 <= largest_acked)
        outstanding -= set(lost)
        assert list(state.sent_packets) == sorted(outstanding)
        assert all(number >= state.oldest for number in outstanding)
